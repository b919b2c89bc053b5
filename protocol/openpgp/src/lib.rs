//! OpenPGP for Waypost: sealing, opening, confirmations, certificates
