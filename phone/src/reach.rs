//! Finding peers and meeting them: known addresses first, then whoever answers on the local network.

use std::time::Duration;

use waypost_ble::HangUp;
use waypost_lan::{Found, browse, connect};
use waypost_link::Link;
use waypost_protocol::refusal::Goodbye;
use waypost_protocol::session::Introduction;

use crate::Phone;
use crate::bluetooth;
use crate::contact::{SyncError, SyncOptions};
use crate::gateway::{Gateway, Role};
use crate::report::{Ending, Progress, SyncReport};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(4);
/// How long the local network is asked for kiosks.
pub const BROWSE: Duration = Duration::from_secs(2);

/// Where to look for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search<'a> {
    /// At the addresses that are known, then on the local network.
    Everywhere,
    /// Only at the addresses that are known.
    Known,
    /// Only at this address.
    At(&'a str),
}

/// A link that was opened, and what has to end after it.
pub(crate) struct Opened {
    pub(crate) link: Link,
    pub(crate) after: Option<HangUp>,
}

impl Phone {
    /// Meets one peer wherever it is found, and syncs with it. An error is of this phone itself; that nobody was
    /// reached, or turned the phone away, is in the report.
    pub async fn sync_with(
        &self,
        gateway: &Gateway,
        search: Search<'_>,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let known = match search {
            Search::At(address) => vec![address.to_owned()],
            Search::Known | Search::Everywhere => gateway.addresses.clone(),
        };
        let mut last = not_reached(gateway, &known);
        for address in &known {
            match self.meet(gateway, address, options, progress).await? {
                report if report.key.is_some() => return Ok(report),
                report => last = report,
            }
        }
        if search == Search::Everywhere {
            for address in nearby(&gateway.name).await {
                if known.contains(&address) {
                    continue;
                }
                match self.meet(gateway, &address, options, progress).await? {
                    report if report.key.is_some() => return Ok(report),
                    // Somebody else's kiosk: that it is not ours says nothing about ours.
                    _ => {}
                }
            }
        }
        Ok(last)
    }

    /// Meets the kiosks that are known, the last met first: until one that serves everything is reached, or with `all`
    /// each of them. None reached: no report.
    pub async fn sync_known(
        &self,
        all: bool,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<SyncReport>, SyncError> {
        let mut kiosks = self.gateways()?;
        kiosks.retain(|gateway| gateway.role == Role::Kiosk);
        let mut reports = Vec::new();
        let reached = |report: &SyncReport| report.ending != Ending::NotReached;
        for kiosk in &kiosks {
            let report = self.sync_with(kiosk, Search::Known, options, progress).await?;
            if reached(&report) {
                reports.push(report);
            }
            let is_enough = |report: &SyncReport| report.key.is_some() && report.not_served.is_empty();
            if !all && reports.last().is_some_and(is_enough) {
                return Ok(reports);
            }
        }
        if reports.iter().any(|report| report.key.is_some()) || kiosks.is_empty() {
            return Ok(reports);
        }
        for address in nearby("").await {
            for kiosk in kiosks.iter().filter(|kiosk| !kiosk.addresses.contains(&address)) {
                let report = self.sync_with(kiosk, Search::At(&address), options, progress).await?;
                if report.key.is_some() {
                    return Ok(vec![report]);
                }
            }
        }
        Ok(reports)
    }

    /// Tries each way of opening a session at one address.
    async fn meet(
        &self,
        gateway: &Gateway,
        address: &str,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let open = async || match connect(address, CONNECT).await {
            Ok(link) => Ok(Opened { link, after: None }),
            Err(error) => Err(error.to_string()),
        };
        self.meet_by(gateway, options, progress, open).await
    }

    /// Tries each way of opening a session, each over a link of its own.
    pub(crate) async fn meet_by(
        &self,
        gateway: &Gateway,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
        mut open: impl AsyncFnMut() -> Result<Opened, String>,
    ) -> Result<SyncReport, SyncError> {
        let options = SyncOptions { carry: options.carry || gateway.role == Role::Phone, ..options };
        let mut last = None;
        for introduction in gateway.introductions() {
            let Opened { link, after } = match open().await {
                Ok(opened) => opened,
                Err(why) => {
                    return Ok(last.unwrap_or_else(|| {
                        SyncReport::not_begun(&gateway.label(), Ending::NotReached, why)
                    }));
                }
            };
            let mut report = self.sync_over(link, &introduction, options, progress).await?;
            if report.with.is_empty() {
                report.with = gateway.label();
            }
            let code_failed = matches!(introduction, Introduction::Code(..))
                && (report.hung_up || report.goodbye == Some(Goodbye::BadCode));
            if !code_failed {
                // Of a code that failed and a key that is not known, the code is what its user can do something about.
                return Ok(match (last, report.ending.is_whole()) {
                    (Some(code), false) if report.goodbye.is_none_or(|why| why == Goodbye::NotPaired) => code,
                    _ => report,
                });
            }
            if report.hung_up && report.ending == Ending::Failed {
                report.why = Goodbye::BadCode.to_string();
            }
            last = Some(report);
            bluetooth::end(after).await;
        }
        Ok(last.unwrap_or_else(|| not_reached(gateway, &[])))
    }

    /// Syncs with whoever answers at `address`, without knowing who that is: sealed documents only.
    pub async fn sync_unverified(
        &self,
        address: &str,
        options: SyncOptions<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<SyncReport, SyncError> {
        let link: Link = match connect(address, CONNECT).await {
            Ok(link) => link,
            Err(error) => return Ok(SyncReport::not_begun(address, Ending::NotReached, error.to_string())),
        };
        self.sync_over(link, &Introduction::Open, SyncOptions { carry: false, ..options }, progress).await
    }
}

fn not_reached(gateway: &Gateway, tried: &[String]) -> SyncReport {
    let why = match tried {
        [] => "no address of it is known, and nobody answered on this network; go nearer, or give --address"
            .to_owned(),
        some => format!("it did not answer at {}; go nearer, or give --address", some.join(", ")),
    };
    SyncReport::not_begun(&gateway.label(), Ending::NotReached, why)
}

/// Addresses of kiosks on the local network, those with the right name first; the handshake tells who is who.
async fn nearby(name: &str) -> Vec<String> {
    let mut found = match browse(BROWSE).await {
        Ok(found) => found,
        Err(error) => {
            log::info!("{error}");
            Vec::new()
        }
    };
    let is_other = |one: &Found| one.name != name;
    found.sort_by_key(is_other);
    found.iter().flat_map(|one| &one.addresses).map(ToString::to_string).collect()
}
