//! A kiosk from its image: a card that forgets what was not flushed, in an emulated machine (QEMU's `virt` board; no Raspberry
//! Pi is emulated well enough to try this often), and the guide that leads an admin there.

mod card;
mod guide;
mod machine;

pub use card::Card;
pub use guide::Guide;
pub use machine::{Admin, Machine, Reach};
