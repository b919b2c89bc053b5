//! The backhauls that uploads may take: chosen when networks, hours or budgets change, paid for byte by byte.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, tz::TimeZone};
use tokio::sync::mpsc;
use waypost_backhaul::{Budget, Choice, Closed, Ledger, Line, Moment, Network, Situation, budget, choose};
use waypost_config::Backhaul;
use waypost_store::{Change, Store, Writer};
use waypost_upload::way::{Route, Way};

use super::time::TrustedTime;
use super::uploads::UploadNews;
use crate::admin::BackhaulStatus;

/// Where the ledger is kept among the store's settings.
const LEDGER: &str = "backhaul/ledger";

/// What all uploaders share.
pub(super) struct Backhauls {
    inner: Mutex<Inner>,
    /// Held while the ledger is saved, so that what is on the disk only ever gets newer.
    saving: Mutex<()>,
    store: Store,
    writer: Writer,
    time: TrustedTime,
    news: mpsc::Sender<UploadNews>,
}

struct Inner {
    configured: Vec<Backhaul>,
    outward: Vec<Network>,
    ledger: Ledger,
    choice: Choice,
    /// Whether the kernel has told of its networks, or never will: before that one that costs money might be used.
    is_known: bool,
}

impl Backhauls {
    pub(super) fn new(
        configured: Vec<Backhaul>,
        store: Store,
        writer: Writer,
        time: TrustedTime,
        news: mpsc::Sender<UploadNews>,
    ) -> Self {
        let ledger = store.setting(LEDGER).ok().flatten();
        let ledger = ledger.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let inner =
            Inner { configured, outward: Vec::new(), ledger, choice: Choice::System, is_known: false };
        Backhauls { inner: Mutex::new(inner), saving: Mutex::new(()), store, writer, time, news }
    }

    /// Looks again, after networks or the configuration have changed or time has passed. Whether another one is used, or
    /// the same under other conditions.
    pub(super) fn look(&self, configured: Option<Vec<Backhaul>>, outward: Option<Vec<Network>>) -> bool {
        let now = self.now();
        let mut inner = self.inner();
        inner.is_known |= outward.is_some();
        let is_new = configured.as_ref().is_some_and(|new| *new != inner.configured);
        inner.configured = configured.unwrap_or_else(|| std::mem::take(&mut inner.configured));
        inner.outward = outward.unwrap_or_else(|| std::mem::take(&mut inner.outward));
        let situation =
            Situation { outward: &inner.outward, ledger: &inner.ledger, now, minute: self.minute_of_day() };
        let choice = choose(&inner.configured, situation);
        let before = std::mem::replace(&mut inner.choice, choice.clone());
        drop(inner);
        let is_another = !is_same(&before, &choice);
        if is_another {
            log::info!("backhaul: {}", words(&choice));
        }
        is_another || is_new
    }

    /// Whether hours or budgets are configured, so that the choice may change as time passes.
    pub(super) fn depends_on_time(&self) -> bool {
        let bounded = |one: &Backhaul| !one.windows.is_empty() || one.day.is_some() || one.month.is_some();
        self.inner().configured.iter().any(bounded)
    }

    /// For `waypost status`; `taken`: the interfaces of the destinations' last connections.
    pub(super) fn status(&self, taken: &[String]) -> Vec<BackhaulStatus> {
        let now = self.now();
        let inner = self.inner();
        let lines: &[Line] = if let Choice::Lines(lines) = &inner.choice { lines } else { &[] };
        let is_taken = |line: &Line| taken.contains(&line.interface);
        let first = lines.iter().position(is_taken).unwrap_or(0);
        let closed: BTreeMap<&str, String> = match &inner.choice {
            Choice::Closed { backhaul, why } => {
                BTreeMap::from([(backhaul.as_str(), closed_words(backhaul, *why))])
            }
            _ => BTreeMap::new(),
        };
        let status = |one: &Backhaul| {
            let name = one.name.as_str();
            let [day, month] = inner.ledger.spent(name, now);
            let is_connected = inner.outward.iter().any(|network| one.has(&network.interface));
            let is_its = |line: &Line| line.backhaul.as_deref() == Some(name);
            BackhaulStatus {
                name: name.to_owned(),
                state: match (lines.iter().rposition(is_its), closed.get(name)) {
                    (Some(at), _)
                        if at == first || lines.iter().any(|line| is_its(line) && is_taken(line)) =>
                    {
                        "in use".to_owned()
                    }
                    (Some(at), _) if at < first => "connected, but leads nowhere".to_owned(),
                    (_, Some(why)) => why.clone(),
                    _ if is_connected => "connected".to_owned(),
                    _ => "not connected".to_owned(),
                },
                cost: one.cost.to_string(),
                day,
                day_budget: one.day.map(|size| size.bytes()),
                month,
                month_budget: one.month.map(|size| size.bytes()),
            }
        };
        inner.configured.iter().map(status).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment { uptime: self.store.uptime(), trusted: self.time.vouched_for().map(|time| time.0) }
    }

    /// By the system's time zone; nothing while the wall clock is known to be wrong.
    fn minute_of_day(&self) -> Option<u16> {
        let wall = self.time.wall()?;
        let time = Timestamp::from_second(i64::try_from(wall.0).ok()?).ok()?.to_zoned(TimeZone::system());
        u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).ok()
    }

    /// Written down before the bytes are moved: a power cut in between costs bytes of the budget, never the reverse.
    fn save(&self) -> Result<(), String> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let value = serde_json::to_vec(&self.inner().ledger).map_err(|error| error.to_string())?;
        let put = Change::Put { key: LEDGER.to_owned(), value: Some(value) };
        self.writer.apply(put).map(|_| ()).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Backhauls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backhauls").field("choice", &self.inner().choice).finish_non_exhaustive()
    }
}

impl Way for Backhauls {
    fn routes(&self) -> Result<Vec<Route>, String> {
        self.time.raise_floor();
        let inner = self.inner();
        match &inner.choice {
            Choice::System if !inner.is_known && !inner.configured.is_empty() => {
                Err("the kernel has not told its networks so far".to_owned())
            }
            Choice::System => Ok(vec![Route::default()]),
            Choice::Lines(lines) => Ok(lines.iter().map(route).collect()),
            Choice::Closed { backhaul, why } => Err(closed_words(backhaul, *why)),
        }
    }

    fn lease(&self, route: &Route, bytes: u64) -> Result<u64, String> {
        let now = self.now();
        let mut inner = self.inner();
        if let Choice::Closed { backhaul, why } = &inner.choice {
            return Err(closed_words(backhaul, *why));
        }
        let Some(name) = route.account.as_deref() else { return Ok(bytes) };
        let Some(bounds) = inner.configured.iter().find(|one| one.name.as_str() == name).map(budget) else {
            return Ok(bytes);
        };
        let granted = inner.ledger.left(name, bounds, now).unwrap_or(bytes).min(bytes);
        if granted == 0 {
            let why = Closed::Spent(inner.ledger.wait(name, bounds, now));
            drop(inner);
            // The loop chooses anew; it is gone only when the daemon ends.
            let _ = self.news.try_send(UploadNews::Backhaul);
            return Err(closed_words(name, why));
        }
        inner.ledger.spend(name, granted, now);
        if bounds == Budget::default() {
            // Only shown; written down with the next that is given back.
            return Ok(granted);
        }
        drop(inner);
        match self.save() {
            Ok(()) => Ok(granted),
            Err(why) => {
                self.inner().ledger.give_back(name, granted);
                Err(format!("what is sent over {name} cannot be written down: {why}"))
            }
        }
    }

    fn give_back(&self, route: &Route, bytes: u64) {
        let Some(name) = route.account.as_deref() else { return };
        self.inner().ledger.give_back(name, bytes);
        if let Err(error) = self.save() {
            log::warn!(error = error.as_str(); "the backhauls' ledger could not be saved: {error}");
        }
    }
}

fn route(line: &Line) -> Route {
    Route { interface: Some(line.interface.clone()), account: line.backhaul.clone(), metered: line.metered }
}

/// Whether nothing has changed but how long one stays closed.
fn is_same(before: &Choice, now: &Choice) -> bool {
    match (before, now) {
        (
            Choice::Closed { backhaul: before, why: Closed::Spent(_) },
            Choice::Closed { backhaul: now, why: Closed::Spent(_) },
        ) => before == now,
        (before, now) => before == now,
    }
}

fn words(choice: &Choice) -> String {
    match choice {
        Choice::System => "the system's routes decide".to_owned(),
        Choice::Lines(lines) => {
            let words: Vec<String> = lines.iter().map(|line| route_words(&route(line))).collect();
            words.join(", then ")
        }
        Choice::Closed { backhaul, why } => closed_words(backhaul, *why),
    }
}

/// A route as people know it.
pub(super) fn route_words(route: &Route) -> String {
    match (&route.account, &route.interface) {
        (Some(name), Some(interface)) => format!("{name} ({interface})"),
        (None, Some(interface)) => format!("{interface}, which none is configured for"),
        _ => "the system's routes".to_owned(),
    }
}

fn closed_words(name: &str, why: Closed) -> String {
    match why {
        Closed::Hours => format!("{name} is outside its hours; connect another one, or change its windows"),
        Closed::Spent(seconds) => {
            let hours = seconds.div_ceil(3_600);
            format!(
                "the budget of {name} is spent, for {hours} h at most; connect another one, or raise its day or month"
            )
        }
    }
}
