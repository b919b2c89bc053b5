//! What a server does beside answering: it tells the webhook, tries again what failed, and goes on with what other processes
//! left behind.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::watch;

use crate::api::Shared;
use crate::clock::now;
use crate::store::{Notice, StoreError};
use crate::webhook::{Webhook, wait_after};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests of the webhook under way at a time.
const REQUESTS: usize = 8;
/// Longer than any of these requests takes, each of which may wait for those before it.
const LEASE: Duration = Duration::from_secs(120);
/// The shortest time between two looks for what other processes left behind.
const SHORTEST_ROUND: Duration = Duration::from_secs(2);

/// The shortest time between two looks for unfinished uploads, and content of logs, that nobody goes on with.
const SWEEP: Duration = Duration::from_secs(60);

/// Goes on until it is told to stop. Blocking; for a thread of its own. `takeover` is after how long other processes' work
/// is taken over, where there may be others.
pub(crate) fn run(
    shared: &Shared,
    webhook: Option<&Webhook>,
    takeover: Option<Duration>,
    stopped: &mut watch::Receiver<bool>,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return log::error!("no thread for the webhook and for what failed; restart the server");
    };
    let round = takeover.map(|takeover| (takeover / 2).max(SHORTEST_ROUND));
    let mut last_round = Instant::now();
    let mut last_sweep = None;
    loop {
        let pause = async { tokio::time::timeout(PAUSE, stopped.changed()).await };
        if runtime.block_on(pause).is_ok() {
            return;
        }
        let intake = shared.intake();
        if let Err(error) = intake.finish() {
            log::warn!("{error}");
        }
        intake.retry_unplaced();
        if round.is_some_and(|round| last_round.elapsed() >= round) {
            last_round = Instant::now();
            if let Err(error) = intake.recover(false) {
                log::warn!("what other servers left behind is looked at again later: {error}");
            }
        }
        if last_sweep.is_none_or(|last: Instant| last.elapsed() >= SWEEP) {
            last_sweep = Some(Instant::now());
            if let Err(error) = intake.partials().sweep() {
                log::warn!("unfinished uploads that nobody goes on with cannot be removed: {error}");
            }
            if let Err(error) = intake.logs().tidy() {
                log::warn!("room for content of remote logs that never came is freed later: {error}");
            }
        }
        if let Some(webhook) = webhook
            && let Err(error) = tell(shared, webhook, &runtime, stopped)
        {
            log::warn!("{error}");
        }
    }
}

/// Tells what is due, a few at a time, until there is nothing more or the server ends.
fn tell(
    shared: &Shared,
    webhook: &Webhook,
    runtime: &tokio::runtime::Runtime,
    stopped: &watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let records = shared.intake().store();
    while !*stopped.borrow() {
        let limit = u32::try_from(REQUESTS).unwrap_or(1);
        let notices = records.claim_notices(limit, now(), LEASE)?;
        if notices.is_empty() {
            return Ok(());
        }
        let told = async |notice: Notice| {
            let result = webhook.tell(&notice, now()).await;
            (notice, result)
        };
        let told = stream::iter(notices).map(told).buffer_unordered(REQUESTS).collect::<Vec<_>>();
        let mut is_failing = false;
        for (notice, result) in runtime.block_on(told) {
            match &result {
                Ok(()) => shared.metrics().webhook_told(),
                Err(error) => {
                    is_failing = true;
                    shared.metrics().webhook_failed();
                    let wait = wait_after(notice.tries).as_secs();
                    log::warn!(
                        "the webhook is not told of document {}: {error}; again in {wait} s",
                        notice.id
                    );
                }
            }
            let again = result.is_err().then(|| wait_after(notice.tries));
            records.note_notice(notice.seq, now(), again)?;
        }
        if is_failing {
            // A pause for a receiver in trouble, and for the rest of the chores.
            return Ok(());
        }
    }
    Ok(())
}
