//! Reference phone of Waypost: library and command line
