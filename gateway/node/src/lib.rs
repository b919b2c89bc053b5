//! Sessions over links, driven around the engine and the store
