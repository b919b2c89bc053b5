//! What a link is, frames on byte streams, and the in-memory link
