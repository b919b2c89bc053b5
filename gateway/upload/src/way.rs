//! The way that connections take out of this device, and who pays for their bytes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::detour::Detours;

/// So many bytes are asked for at once.
const LEASE: u64 = 256 << 10;
/// Names, the three packets that open a connection and the four that close it.
pub(crate) const CONNECTION: u64 = 600;

/// How one connection leaves the device, and who pays for its bytes as long as it lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The network interface that the connection is bound to; `None`: the system's routes decide.
    pub interface: Option<String>,
    /// Whose budget its bytes are taken from; `None`: nobody counts them.
    pub account: Option<String>,
    /// Whether its bytes cost money: then what can wait is asked for rarely.
    pub metered: bool,
}

/// Decides over connections and their bytes. Called from the thread that sends; may wait for a disk.
pub trait Way: Send + Sync + std::fmt::Debug {
    /// The routes that a connection made now may take, the preferred one first. An error says why none may be made, and
    /// what to do.
    fn routes(&self) -> Result<Vec<Route>, String>;

    /// Leave to move this many bytes more, or fewer, both ways on `route`; an error where nothing may be moved.
    fn lease(&self, route: &Route, bytes: u64) -> Result<u64, String>;

    /// Leave that was had for `route` and not used.
    fn give_back(&self, route: &Route, bytes: u64);
}

/// The system's routes, without bounds.
#[derive(Debug, Clone, Copy)]
pub struct AnyWay;

impl Way for AnyWay {
    fn routes(&self) -> Result<Vec<Route>, String> {
        Ok(vec![Route::default()])
    }

    fn lease(&self, _: &Route, _: u64) -> Result<u64, String> {
        Ok(u64::MAX / 2)
    }

    fn give_back(&self, _: &Route, _: u64) {}
}

/// Why nothing may be moved; travels inside an IO error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Closed(pub(crate) String);

/// Chooses the route of one client, which has one connection at a time, and pays for its bytes.
#[derive(Debug)]
pub(crate) struct Toll {
    way: Arc<dyn Way>,
    purse: Mutex<Purse>,
    detours: Mutex<Detours>,
    /// A line has failed, and another one may work.
    turned: AtomicBool,
}

/// What was leased and not used so far, and the route that it is for.
#[derive(Debug, Default)]
struct Purse {
    route: Route,
    left: u64,
}

impl Toll {
    pub(crate) fn new(way: Arc<dyn Way>) -> Self {
        Toll { way, purse: Mutex::default(), detours: Mutex::default(), turned: AtomicBool::new(false) }
    }

    /// The route that a connection made now takes.
    pub(crate) fn route(&self) -> Result<Route, String> {
        let routes = self.way.routes()?;
        let route = self.detours().pick(&routes, Instant::now()).cloned();
        route.ok_or_else(|| "no backhaul is connected".to_owned())
    }

    /// Whether there is another line that may work, so that this one need not be waited for.
    pub(crate) fn has_others(&self) -> bool {
        let (taken, now) = (self.taken(), Instant::now());
        let (routes, detours) = (self.way.routes().unwrap_or_default(), self.detours());
        routes.iter().any(|route| *route != taken && detours.is_open(route, now))
    }

    /// The route that is paid for.
    pub(crate) fn taken(&self) -> Route {
        self.purse().route.clone()
    }

    /// The destination has answered over the route that is paid for.
    pub(crate) fn worked(&self) {
        let taken = self.taken();
        self.detours().worked(&taken);
    }

    /// A request failed over this route, and the line can be the reason.
    pub(crate) fn failed(&self, route: &Route) {
        let (routes, now) = (self.way.routes().unwrap_or_default(), Instant::now());
        let mut detours = self.detours();
        detours.failed(route, now);
        if routes.iter().any(|other| other != route && detours.is_open(other, now)) {
            self.turned.store(true, Ordering::Relaxed);
        }
    }

    /// Networks have changed.
    pub(crate) fn forget_failures(&self) {
        self.detours().forget();
    }

    /// Whether a line has failed since this was last asked while another one may work: then it is tried again at once, and
    /// after that the other one.
    pub(crate) fn has_turned(&self) -> bool {
        self.turned.swap(false, Ordering::Relaxed)
    }

    /// From now on `route` is paid for; what was leased for another one goes back to where it came from.
    pub(crate) fn take(&self, route: Route) {
        self.settle();
        self.purse().route = route;
    }

    /// Whether a connection made now would take the route that is paid for.
    pub(crate) fn is_current(&self) -> bool {
        self.route().is_ok_and(|route| route == self.taken())
    }

    /// Pays for bytes of a TCP stream, and for the headers around them: 52 bytes for a segment of 1,448,
    /// and as many for each second one that comes back.
    pub(crate) fn pay(&self, bytes: u64) -> io::Result<()> {
        let cost = cost(bytes);
        let mut purse = self.purse();
        while purse.left < cost {
            let lease = self.way.lease(&purse.route, LEASE.max(cost - purse.left));
            purse.left =
                purse.left.saturating_add(lease.map_err(|why| io::Error::other(Closed(why)))?.max(1));
        }
        purse.left -= cost;
        Ok(())
    }

    /// So many bytes of those that were paid for were not moved after all.
    pub(crate) fn refund(&self, bytes: u64) {
        self.purse().left += cost(bytes);
    }

    /// Nothing is moved for a while.
    pub(crate) fn settle(&self) {
        let mut purse = self.purse();
        let left = std::mem::take(&mut purse.left);
        if left > 0 {
            self.way.give_back(&purse.route, left);
        }
    }

    fn detours(&self) -> MutexGuard<'_, Detours> {
        self.detours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purse(&self) -> MutexGuard<'_, Purse> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 16)
}

/// Why the way is closed, where that is what an IO error says.
pub(crate) fn closed(error: &io::Error) -> Option<&Closed> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What is left of each account, and the one that is used.
    #[derive(Debug)]
    struct Accounts {
        left: Mutex<BTreeMap<String, u64>>,
        used: Mutex<&'static str>,
    }

    impl Accounts {
        fn new(accounts: &[(&str, u64)]) -> Arc<Self> {
            let left = accounts.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
            Arc::new(Accounts { left: Mutex::new(left), used: Mutex::new("") })
        }

        fn left(&self, account: &str) -> u64 {
            self.left.lock().unwrap()[account]
        }
    }

    fn account(route: &Route) -> String {
        route.account.clone().unwrap()
    }

    impl Way for Accounts {
        fn routes(&self) -> Result<Vec<Route>, String> {
            let account = Some((*self.used.lock().unwrap()).to_owned());
            Ok(vec![Route { account, ..Route::default() }])
        }

        fn lease(&self, route: &Route, bytes: u64) -> Result<u64, String> {
            let mut accounts = self.left.lock().unwrap();
            let left = accounts.get_mut(&account(route)).unwrap();
            let granted = bytes.min(*left);
            *left -= granted;
            if granted == 0 { Err("nothing is left".into()) } else { Ok(granted) }
        }

        fn give_back(&self, route: &Route, bytes: u64) {
            *self.left.lock().unwrap().get_mut(&account(route)).unwrap() += bytes;
        }
    }

    #[test]
    fn every_byte_is_paid_for_and_what_was_leased_and_not_used_comes_back() {
        let accounts = Accounts::new(&[("", 1_000_000)]);
        let toll = Toll::new(accounts.clone());
        toll.take(toll.route().unwrap());
        for _ in 0..9 {
            toll.pay(16_000).unwrap();
        }
        toll.settle();
        assert_eq!(accounts.left(""), 1_000_000 - 9 * 17_000);
        while toll.pay(16_000).is_ok() {}
        let why = toll.pay(16_000).unwrap_err();
        assert_eq!(closed(&why).unwrap().to_string(), "nothing is left");
        toll.settle();
        let spent = 1_000_000 - accounts.left("");
        assert_eq!(spent, 1_000_000 / 17_000 * 17_000, "never more than there is");
    }

    #[test]
    fn each_account_pays_for_its_own_connections_alone() {
        let accounts = Accounts::new(&[("cable", 1_000_000), ("modem", 1_000_000)]);
        *accounts.used.lock().unwrap() = "cable";
        let toll = Toll::new(accounts.clone());
        toll.take(toll.route().unwrap());
        toll.pay(16_000).unwrap();
        assert!(toll.is_current());

        *accounts.used.lock().unwrap() = "modem";
        assert!(!toll.is_current(), "the connection is to be made anew");
        toll.pay(16_000).unwrap();
        assert_eq!(accounts.left("modem"), 1_000_000, "the old connection goes on at the old one's expense");

        toll.take(toll.route().unwrap());
        assert!(toll.is_current());
        toll.pay(16_000).unwrap();
        toll.settle();
        assert_eq!(
            (accounts.left("cable"), accounts.left("modem")),
            (1_000_000 - 2 * 17_000, 1_000_000 - 17_000)
        );
    }
}
