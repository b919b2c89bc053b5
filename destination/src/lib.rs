//! Reference destination server of Waypost
