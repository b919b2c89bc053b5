//! The Waypost daemon and its command line
