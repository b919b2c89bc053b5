//! Names to addresses by the system's resolver, which may hang: a lookup ends in time, and when another path appears.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::error::{Cause, plain};
use crate::wire::{certain, host_of};

/// Of more addresses than this none is tried.
const MAX_ADDRESSES: usize = 16;

/// The lookups of one client, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Names {
    under_way: Mutex<Option<(SyncSender<Answer>, Instant)>>,
}

/// `None` where it was given up.
type Answer = Option<io::Result<Vec<SocketAddr>>>;

impl Names {
    /// The addresses of `host:port`, or in words why there are none.
    pub(crate) fn addresses(&self, host: String, within: Duration) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let (answer, answered) = sync_channel(1);
        *self.under_way() = Some((answer.clone(), Instant::now()));
        // The system's resolver cannot be interrupted: it may outlive this call, by seconds.
        let look_up = move || drop(answer.try_send(Some(host.to_socket_addrs().map(Iterator::collect))));
        let thread = std::thread::Builder::new().name("names".into()).spawn(look_up);
        let answer = thread.map(|_| answered.recv_timeout(within));
        *self.under_way() = None;
        match answer {
            Ok(Ok(Some(Ok(addresses)))) => Ok(addresses),
            Ok(Ok(Some(Err(error)))) | Err(error) => Err(plain(&error.to_string())),
            Ok(Ok(None)) => Err("no answer before another path appeared".to_owned()),
            Ok(Err(_)) => Err("no answer in time".to_owned()),
        }
    }

    /// Gives up a lookup that has had no answer for so long.
    pub(crate) fn give_up_after(&self, span: Duration) {
        if let Some((answer, begun)) = &*self.under_way()
            && begun.elapsed() >= span
        {
            // An answer that is there already counts.
            let _ = answer.try_send(None);
        }
    }

    fn under_way(&self) -> MutexGuard<'_, Option<(SyncSender<Answer>, Instant)>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For `ureq`; failures are told apart from those of connecting.
#[derive(Debug)]
pub(crate) struct NamedResolver(pub(crate) Arc<Names>);

impl Resolver for NamedResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let failed = |detail| certain(Cause::DnsFailed { host: host_of(uri), detail });
        let host = uri.scheme().zip(uri.authority());
        let host = host.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let host = host.ok_or_else(|| failed("the url names no host".to_owned()))?;
        let found = self.0.addresses(host, *timeout.after).map_err(failed)?;
        let mut addresses = self.empty();
        found.into_iter().take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lookup_that_has_lasted_is_given_up() {
        let names = Names::default();
        let (answer, answered) = sync_channel(1);
        *names.under_way() = Some((answer, Instant::now()));
        names.give_up_after(Duration::from_secs(60));
        assert!(answered.try_recv().is_err());
        names.give_up_after(Duration::ZERO);
        assert!(answered.try_recv().unwrap().is_none());
        assert_eq!(
            names.addresses("[::1]:80".into(), Duration::ZERO).unwrap(),
            ["[::1]:80".parse().unwrap()]
        );
    }
}
