//! Links over TCP on a local network, found by DNS-SD
