//! Which networks lead outward: learned from the kernel (rtnetlink(7)) as links, addresses and routes come and go.

mod kernel;
mod networks;

pub use kernel::Watch;
pub use networks::{Network, Networks, Route};
