//! What the kiosk's own screen shows: name, addresses, state, notices, and the code that pairs a phone.

mod qr;
mod screen;
mod session;

pub use qr::Qr;
pub use screen::{Size, frame};
pub use session::{Session, is_seen};
