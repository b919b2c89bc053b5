//! Which request of this process is at which upload: the newest, which ends the one before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use waypost_protocol::ids::MessageId;

/// One upload: a client's, of one document.
pub(super) type Key = (i64, MessageId);

/// Claims of requests. Waiting for one takes no thread.
#[derive(Default)]
pub(super) struct Claims {
    held: Mutex<Held>,
    released: Notify,
}

#[derive(Default)]
struct Held {
    /// Requests so far.
    count: u64,
    by_key: HashMap<Key, Holder>,
}

struct Holder {
    number: u64,
    superseded: CancellationToken,
}

/// The right to an upload, as long as it lives.
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: Key,
    superseded: CancellationToken,
}

impl Claims {
    /// Ends the request that has it and waits until that lets go of it. `None` where it does not in time, or where a later
    /// request came meanwhile.
    pub(super) async fn claim(self: &Arc<Self>, key: Key, patience: Duration) -> Option<Claim> {
        let deadline = Instant::now() + patience;
        let number = {
            let mut held = self.held();
            held.count += 1;
            held.count
        };
        loop {
            // Before the look, so that no release in between is missed.
            let released = self.released.notified();
            match self.held().by_key.entry(key) {
                Entry::Vacant(vacant) => {
                    let superseded = CancellationToken::new();
                    vacant.insert(Holder { number, superseded: superseded.clone() });
                    return Some(Claim { claims: self.clone(), key, superseded });
                }
                Entry::Occupied(holder) if holder.get().number > number => return None,
                Entry::Occupied(holder) => holder.get().superseded.cancel(),
            }
            timeout_at(deadline, released).await.ok()?;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Told when a later request wants the upload.
    pub(super) fn superseded(&self) -> &CancellationToken {
        &self.superseded
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.held().by_key.remove(&self.key);
        self.claims.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (1, MessageId([7; 32]));
    const SOON: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn whoever_comes_later_ends_the_earlier_request_and_of_several_the_latest_gets_it() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim(KEY, SOON).await.unwrap();
        assert!(claims.claim((2, KEY.1), SOON).await.is_some(), "another client's is another upload");
        let later: Vec<_> = (0..20)
            .map(|_| {
                let claims = claims.clone();
                tokio::spawn(async move {
                    let claim = claims.claim(KEY, Duration::from_secs(20)).await?;
                    claim.superseded().cancelled().await;
                    Some(())
                })
            })
            .collect();
        while claims.held().count < 22 {
            tokio::task::yield_now().await;
        }
        assert!(first.superseded().is_cancelled());
        drop(first);
        let last = claims.claim(KEY, Duration::from_secs(20)).await.unwrap();
        for task in later {
            // Each was ended, or gave way.
            task.await.unwrap();
        }
        assert!(!last.superseded().is_cancelled());
    }

    #[tokio::test]
    async fn a_request_that_does_not_let_go_is_waited_for_only_so_long() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim(KEY, SOON).await.unwrap();
        assert!(claims.claim(KEY, SOON).await.is_none());
        drop(first);
        assert!(claims.claim(KEY, SOON).await.is_some());
    }
}
