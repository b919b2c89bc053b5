//! The texts of QR codes.

use waypost_protocol::invite::{Destination, MAX_TEXT, Pairing};
use waypost_protocol::succession::MAX_CHAIN;

/// A gateway's code or a destination's.
pub fn qr(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let pairing = Pairing::parse(text);
    if let Ok(pairing) = &pairing {
        assert!(text.trim().len() <= MAX_TEXT);
        let again = pairing.to_text();
        // What had to be replaced, since it was no UTF-8, is longer.
        if again.len() <= MAX_TEXT {
            assert!(Pairing::parse(&again).as_ref() == Ok(pairing), "{again}");
        }
    }
    let destination = Destination::parse(text);
    if let Ok(destination) = &destination {
        assert!(destination.successors.len() <= MAX_CHAIN);
        let again = destination.to_text();
        if again.len() <= MAX_TEXT {
            assert!(Destination::parse(&again).as_ref() == Ok(destination), "{again}");
        }
    }
    pairing.is_ok() || destination.is_ok()
}
