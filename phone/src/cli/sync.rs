//! `sync`: hands documents over and fetches confirmations, telling how far it has got.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use crate::{
    Air, Ending, Gateway, LOOK, Phone, Progress, Role, Search, SyncOptions, SyncReport, WIFI_LOOK, Who,
    rejection_words, words,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::ids::MessageId;
use waypost_protocol::refusal::InLine;
use waypost_store::{DocumentEntry, Filter, Store};

use super::args::Sync;
use super::output::Out;
use super::{Done, Usage, block_on, show};

/// Between two contacts of one sync.
const AGAIN: Duration = Duration::from_secs(1);
/// So long a sync stays in the line of a kiosk that serves others, unless it was given another time.
const IN_LINE: Duration = Duration::from_secs(5 * 60);

pub(super) fn run(phone: &Phone, sync: &Sync, out: &Out) -> anyhow::Result<Done> {
    if sync.unverified && sync.address.is_none() && !sync.bluetooth.ble && !sync.wifi_direct {
        let message = "--unverified needs --address HOST:PORT, or --ble or --wifi-direct for whichever kiosk is nearest";
        return Err(Usage(message.to_owned()).into());
    }
    let other = match &sync.phone {
        Some(text) if text.trim().starts_with("waypost://") => Some(phone.introduce(text, Role::Phone)?),
        Some(name) => Some(phone.gateway(name)?),
        None => sync.to.as_deref().map(|name| phone.gateway(name)).transpose()?,
    };
    let until = sync.wait.map(|wait| Instant::now() + wait);
    let in_line = Instant::now() + sync.timeout.unwrap_or(IN_LINE);
    let in_line = until.map_or(in_line, |until| until.max(in_line));
    let mut view = View::new(phone, *out)?;
    let mut report: Option<SyncReport> = None;
    let wifi = sync.radio.use_of(sync.auto || sync.wifi);
    let wifi = wifi.as_ref();
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
        let options =
            SyncOptions { wait: left, timeout: sync.timeout, carry: false, until_accepted: false, wifi };
        let contact = contact(phone, sync, other.as_ref(), options, &mut view)?;
        let may_go_on = !matches!(contact.ending, Ending::TurnedAway | Ending::Failed);
        let is_over = !may_go_on || awaited(phone, &contact)? == 0;
        let (place, again) = (contact.place, contact.again);
        report = Some(match report.take() {
            // That it is out of reach by now does not undo what went before.
            Some(before) if contact.ending == Ending::NotReached => before,
            Some(before) => before.followed_by(contact),
            None => contact,
        });
        if let Some(again) = again
            && Instant::now() + Duration::from_secs(again.into()) <= in_line
        {
            view.show(Progress::InLine { place, again });
            std::thread::sleep(Duration::from_secs(again.into()));
            continue;
        }
        if is_over || until.is_none_or(|until| until <= Instant::now() + AGAIN) {
            break;
        }
        std::thread::sleep(AGAIN);
    }
    view.end();
    phone.tidy()?;
    let report = report.unwrap_or_else(|| SyncReport::not_begun("", Ending::NotReached, ""));
    tell(phone, sync, &report, out)
}

/// One contact, with whom the command line names.
fn contact(
    phone: &Phone,
    sync: &Sync,
    other: Option<&Gateway>,
    options: SyncOptions<'_>,
    view: &mut View,
) -> anyhow::Result<SyncReport> {
    let mut show = |event| view.show(event);
    if sync.direct {
        return deliver(phone, &mut show);
    }
    if sync.auto {
        return by_any(phone, sync, other, options, &mut show);
    }
    if sync.bluetooth.ble {
        return over_air(phone, sync, other, options, &mut show);
    }
    if sync.wifi_direct {
        return over_wifi(phone, sync, other, options, &mut show);
    }
    let search = sync.address.as_deref().map_or(Search::Everywhere, Search::At);
    match (other, &sync.address) {
        (Some(other), _) => Ok(block_on(phone.sync_with(other, search, options, &mut show))??),
        (None, Some(address)) if sync.unverified => {
            Ok(block_on(phone.sync_unverified(address, options, &mut show))??)
        }
        (None, Some(address)) => {
            let mut last = None;
            for kiosk in phone.gateways()?.iter().filter(|one| one.role == Role::Kiosk) {
                let report = block_on(phone.sync_with(kiosk, search, options, &mut show))??;
                if report.key.is_some() {
                    return Ok(report);
                }
                last = Some(report);
            }
            let hint = "no kiosk is known yet; pair with it, or give --unverified";
            Ok(last.unwrap_or_else(|| SyncReport::not_begun(address, Ending::NotReached, hint)))
        }
        (None, None) => {
            let reports = block_on(phone.sync_known(false, options, &mut show))??;
            if let Some(all) = reports.into_iter().reduce(SyncReport::followed_by) {
                return Ok(all);
            }
            let why = match phone.gateways()?.iter().any(|one| one.role == Role::Kiosk) {
                true => "no known kiosk answers here; go nearer, or give --address",
                false => "no kiosk is known yet; pair with one: waypost-phone pair TEXT",
            };
            if sync.lan {
                return Ok(SyncReport::not_begun("", Ending::NotReached, why));
            }
            let can_deliver = phone.destinations()?.iter().any(|one| one.url.is_some());
            if !can_deliver || phone.store().counts()?.waiting == 0 {
                return Ok(SyncReport::not_begun("", Ending::NotReached, why));
            }
            let mut report = deliver(phone, &mut show)?;
            if !report.ending.is_whole() {
                // Either way would do, and its user can do something about either.
                report.why = format!("{why}; straight to {}: {}", report.with, report.why);
            }
            Ok(report)
        }
    }
}

/// One contact by whatever finds a kiosk: what costs least comes first.
fn by_any(
    phone: &Phone,
    sync: &Sync,
    other: Option<&Gateway>,
    options: SyncOptions<'_>,
    show: &mut dyn FnMut(Progress),
) -> anyhow::Result<SyncReport> {
    let on_network = match other {
        Some(other) => Some(block_on(phone.sync_with(other, Search::Everywhere, options, show))??),
        None => {
            block_on(phone.sync_known(false, options, show))??.into_iter().reduce(SyncReport::followed_by)
        }
    };
    let mut why = Vec::new();
    let mut is_met = |report: &SyncReport| {
        why.push(report.why.clone());
        report.key.is_some()
    };
    if let Some(report) = on_network.filter(|report| is_met(report)) {
        return Ok(report);
    }
    let over_bluetooth = over_air(phone, sync, other, options, show)?;
    if is_met(&over_bluetooth) {
        return Ok(over_bluetooth);
    }
    let mut last = over_wifi(phone, sync, other, options, show)?;
    if !is_met(&last) {
        why.retain(|one| !one.is_empty());
        last.why = why.join("; ");
    }
    Ok(last)
}

/// Whom the command line names, for what `flag` switches on; the report of a contact with nobody, where nobody is known.
fn wanted(
    phone: &Phone,
    sync: &Sync,
    other: Option<&Gateway>,
    flag: &str,
) -> anyhow::Result<Result<Vec<Gateway>, SyncReport>> {
    let wanted: Vec<Gateway> = match other {
        Some(other) => vec![other.clone()],
        None => phone.gateways()?.into_iter().filter(|one| one.role == Role::Kiosk).collect(),
    };
    if wanted.is_empty() && !sync.unverified {
        let why = format!(
            "no kiosk is known yet; pair with one: waypost-phone pair TEXT {flag}, or give --unverified"
        );
        return Ok(Err(SyncReport::not_begun("", Ending::NotReached, why)));
    }
    Ok(Ok(wanted))
}

fn who<'a>(sync: &Sync, wanted: &'a [Gateway]) -> Who<'a> {
    if sync.unverified { Who::Stranger } else { Who::Any(wanted) }
}

/// One contact by Wi-Fi Direct.
fn over_wifi(
    phone: &Phone,
    sync: &Sync,
    other: Option<&Gateway>,
    options: SyncOptions<'_>,
    show: &mut dyn FnMut(Progress),
) -> anyhow::Result<SyncReport> {
    let wanted = match wanted(phone, sync, other, "--wifi-direct")? {
        Ok(wanted) => wanted,
        Err(nobody) => return Ok(nobody),
    };
    let wifi = match sync.radio.of_radio() {
        Ok(wifi) => wifi,
        Err(error) => return Ok(SyncReport::not_begun("", Ending::NotReached, error.to_string())),
    };
    let who = who(sync, &wanted);
    Ok(block_on(phone.sync_over_wifi(&wifi, who, sync.pin.as_ref(), WIFI_LOOK, options, show))??)
}

/// One contact over Bluetooth.
fn over_air(
    phone: &Phone,
    sync: &Sync,
    other: Option<&Gateway>,
    options: SyncOptions<'_>,
    show: &mut dyn FnMut(Progress),
) -> anyhow::Result<SyncReport> {
    let wanted = match wanted(phone, sync, other, "--ble")? {
        Ok(wanted) => wanted,
        Err(nobody) => return Ok(nobody),
    };
    let (adapter, who) = (&sync.bluetooth.adapter, who(sync, &wanted));
    Ok(block_on(async {
        let air = match Air::open(adapter, sync.gatt).await {
            Ok(air) => air,
            Err(error) => return Ok(SyncReport::not_begun("", Ending::NotReached, error.to_string())),
        };
        phone.sync_over_air(&air, who, LOOK, options, show).await
    })??)
}

fn deliver(phone: &Phone, show: &mut dyn FnMut(Progress)) -> anyhow::Result<SyncReport> {
    let mut all: Option<SyncReport> = None;
    for destination in phone.destinations()?.iter().filter(|one| one.url.is_some()) {
        let report = phone.deliver(destination, show)?;
        all = Some(match all {
            Some(before) if !before.ending.is_whole() => report.followed_by(before),
            Some(before) => before.followed_by(report),
            None => report,
        });
    }
    let why = "no destination has a url; give it one with `waypost-phone destination set --url`";
    Ok(all.unwrap_or_else(|| SyncReport::not_begun("", Ending::NotReached, why)))
}

/// Documents of this phone that the destination has not spoken on, and that the peer of this contact may bring the
/// answer to: it serves their destination, and has not refused them for good.
fn awaited(phone: &Phone, contact: &SyncReport) -> anyhow::Result<usize> {
    let is_hopeless = |entry: &DocumentEntry| {
        let refused = contact.refused.iter().any(|one| one.id == entry.description.id && !one.is_temporary);
        refused || contact.not_served.iter().any(|one| one.destination == entry.header.destination)
    };
    Ok(phone.own_documents(Filter::Waiting)?.iter().filter(|entry| !is_hopeless(entry)).count())
}

/// Documents of this phone that the destination has not spoken on.
fn unconfirmed(phone: &Phone) -> anyhow::Result<usize> {
    Ok(phone.own_documents(Filter::Waiting)?.len())
}

fn tell(phone: &Phone, sync: &Sync, report: &SyncReport, out: &Out) -> anyhow::Result<Done> {
    let left = unconfirmed(phone)?;
    let mut object = serde_json::to_value(report)?;
    object["event"] = json!("report");
    object["unconfirmed"] = json!(left);
    out.object(&object);
    for line in summary(report) {
        out.say(line);
    }
    if report.ending == Ending::NotReached || !report.why.is_empty() && !report.ending.is_whole() {
        out.say(format!("{}: {}", report.ending, report.why));
    } else {
        out.say(report.ending.to_string());
    }
    let all_taken = report.refused.is_empty() && report.not_served.is_empty() && report.not_proven == 0;
    let moved = report.transferred + report.confirmations > 0;
    Ok(match report.ending.is_whole() {
        true if all_taken && (left == 0 || sync.wait.is_none()) => Done::Whole,
        true => Done::Partly,
        false if moved => Done::Partly,
        false => Done::Not,
    })
}

/// What happened, in lines for people.
pub(super) fn summary(report: &SyncReport) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |number: u64, noun: &str, rest: &str| {
        if number > 0 {
            lines.push(format!("{} {rest}", words::count(number, noun)));
        }
    };
    let with = if report.with.is_empty() { &report.address } else { &report.with };
    line(report.transferred, "document", &format!("handed to {with} ({})", words::size(report.bytes)));
    line(report.already_held, "document", "there already");
    line(report.carried, "document", "of another phone taken along");
    line(report.received, "document", "received; next: waypost-phone open ID");
    line(report.opened, "document", "at the server, deleted here");
    line(report.held, "document", "at the server, not opened yet");
    line(report.rejected, "document", "not wanted by the destination; `waypost-phone list` says why");
    line(report.not_proven, "confirmation", "did not verify; nothing was deleted for it");
    let refused = u64::try_from(report.refused.len()).unwrap_or(u64::MAX);
    line(refused, "document", "not taken; `waypost-phone list` says why");
    if report.bytes_in + report.bytes_out > 0 {
        let (bytes_in, bytes_out) = (words::size(report.bytes_in), words::size(report.bytes_out));
        lines.push(format!("link: {bytes_out} out, {bytes_in} in, {:.1} s", report.seconds));
    }
    lines
}

/// What happens, as it happens: a bar on a terminal, lines elsewhere, objects for programs.
pub(super) struct View {
    out: Out,
    store: Store,
    bar: Option<ProgressBar>,
    done: HashMap<MessageId, u64>,
}

impl View {
    pub(super) fn new(phone: &Phone, out: Out) -> anyhow::Result<Self> {
        let waiting = phone.own_documents(Filter::Waiting)?;
        let total: u64 = waiting.iter().map(|entry| entry.description.size).sum();
        let visible = !out.json && total > 0 && std::io::stderr().is_terminal();
        let bar = visible.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Ok(View { out, store: phone.store().clone(), bar, done: HashMap::new() })
    }

    pub(super) fn show(&mut self, event: Progress) {
        self.out.object(&event);
        match &event {
            Progress::Connected { name, key, address } => {
                let key = key.map(|key| key.to_string().chars().take(12).collect::<String>());
                let who = if name.is_empty() { key.unwrap_or_else(|| address.clone()) } else { name.clone() };
                self.say(format!("connected with {who}"));
            }
            Progress::Progress { id, done, .. } => self.advance(id, *done),
            Progress::AtKiosk { id } => self.arrived(id, "at the kiosk"),
            Progress::WithPhone { id } => self.arrived(id, "with the other phone"),
            Progress::Confirmed { id, verdict } => {
                let words = match verdict {
                    Verdict::Opened => "at the server".to_owned(),
                    Verdict::Held => "at the server, not opened yet".to_owned(),
                    Verdict::Rejected(why) => format!("refused: {}", rejection_words(*why)),
                };
                self.say(format!("{}: {words}", self.name(id)));
            }
            Progress::Joining => self.say("much is left: joining the kiosk's Wi-Fi".to_owned()),
            Progress::Moved { .. } => self.say("going on over Wi-Fi".to_owned()),
            Progress::NotMoved { why } => self.say(format!("going on over Bluetooth, not Wi-Fi: {why}")),
            Progress::Refused { id, reason } => self.say(format!("{}: not taken: {reason}", self.name(id))),
            Progress::InLine { place, again } => {
                let line = InLine { place: place.unwrap_or(0), again: *again };
                self.say(format!("{line}, by itself"));
            }
            Progress::Received { id, size } => {
                self.say(format!("received: {}, {}", show::short(id), words::size(*size)));
            }
            Progress::Carried { size, .. } => self.say(format!("taken along: {}", words::size(*size))),
            Progress::NotServed { name, documents, .. } => {
                let stay = if *documents == 1 { "stays" } else { "stay" };
                let documents = words::count(*documents, "document");
                self.say(format!("it takes nothing for {name}; {documents} {stay} here: try another kiosk"));
            }
            Progress::NotProven { why } => {
                self.say(format!("a confirmation does not verify ({why}); nothing was deleted for it"));
            }
        }
    }

    fn arrived(&mut self, id: &MessageId, words: &str) {
        if let Ok(Some(entry)) = self.store.document(id) {
            self.advance(id, entry.description.size);
        }
        self.say(format!("{}: {words}", self.name(id)));
    }

    fn advance(&mut self, id: &MessageId, done: u64) {
        if let Some(bar) = &self.bar {
            let before = self.done.insert(*id, done).unwrap_or(0);
            bar.inc(done.saturating_sub(before));
            bar.set_message(self.name(id));
        }
    }

    fn name(&self, id: &MessageId) -> String {
        let note = self.store.document(id).ok().flatten().and_then(|entry| entry.note);
        note.filter(|note| !note.is_empty()).unwrap_or_else(|| show::short(id))
    }

    fn say(&self, line: String) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.say(line)),
            None => self.out.say(line),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
