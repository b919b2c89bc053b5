//! The durable store of gateway and phone, on LMDB
