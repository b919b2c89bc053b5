//! The gateway's configuration: types, defaults, validation, schema
