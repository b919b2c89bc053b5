//! Which networks lead outward, learned from the kernel (rtnetlink(7)) as links, addresses and routes come and go; and
//! which of them is used, by the configuration's order, hours and budgets.

mod choose;
mod kernel;
mod ledger;
mod networks;

pub use choose::{Choice, Closed, Line, Situation, budget, choose};
pub use kernel::Watch;
pub use ledger::{Budget, Ledger, Moment};
pub use networks::{Network, Networks, Route};
