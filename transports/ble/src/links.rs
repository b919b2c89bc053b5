//! Links that are up on each adapter of this process, whoever opened them, by the peer's address.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bluer::Address;
use tokio::sync::Notify;

/// By the adapter's name. An adapter that is set up anew finds the links of before.
static ADAPTERS: LazyLock<Mutex<HashMap<String, Arc<Links>>>> = LazyLock::new(Mutex::default);

/// The links of one adapter.
#[derive(Default)]
pub(crate) struct Links {
    up: Mutex<HashMap<Address, usize>>,
    pub(crate) changed: Notify,
}

impl Links {
    pub(crate) fn of(adapter: &str) -> Arc<Self> {
        ADAPTERS.lock().unwrap_or_else(PoisonError::into_inner).entry(adapter.to_owned()).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    /// How many one peer has.
    pub(crate) fn from(&self, address: Address) -> usize {
        self.lock().get(&address).copied().unwrap_or(0)
    }
}

/// A link that is up. Dropped with it.
pub(crate) struct Up(Arc<Links>, Address);

impl Up {
    pub(crate) fn new(links: &Arc<Links>, address: Address) -> Self {
        *links.lock().entry(address).or_default() += 1;
        links.changed.notify_one();
        Up(links.clone(), address)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        {
            let mut up = self.0.lock();
            if let Some(count) = up.get_mut(&self.1) {
                *count -= 1;
                if *count == 0 {
                    up.remove(&self.1);
                }
            }
        }
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_counted_by_address_until_they_are_dropped() {
        let links = Links::of("hci7");
        let (one, other) = (Address::new([1; 6]), Address::new([2; 6]));
        let (a, b, c) = (Up::new(&links, one), Up::new(&links, one), Up::new(&links, other));
        assert_eq!(Links::of("hci7").count(), 3);
        drop(a);
        assert_eq!((links.from(one), links.count()), (1, 2));
        drop((b, c));
        assert_eq!((links.from(one), links.from(other), links.count()), (0, 0, 0));
    }
}
