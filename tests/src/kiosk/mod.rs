//! A kiosk from its image: a card that forgets what was not flushed, in an emulated machine, and the guide that leads an admin
//! there.

mod board;
mod card;
mod guide;
mod machine;
mod tools;

pub use board::{Board, FAILED, LOOKED_AT, SERIAL, extra_unit};
pub use card::{Card, mend_data};
pub use guide::Guide;
pub use machine::{Admin, Machine, Reach};
pub use tools::{python, tool};
