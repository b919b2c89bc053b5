//! The end of a session: what each side received, told to both.

use bytes::Bytes;

use super::MAX_REPORTED_COLLECTIONS;
use super::payload::{Filling, cost_of};
use super::types::{CollectionReport, Event, Report};
use crate::ids::GroupId;
use crate::mvds;

/// Counts what comes, and leads or follows the exchange of reports: the initiator reports when it has nothing left to
/// do, the responder when it has nothing left either; whoever has news begins again.
pub(super) struct Reporting {
    leads: bool,
    ours: Report,
    sent: bool,
    theirs: Option<Report>,
    heard_last: bool,
    told: bool,
}

impl Reporting {
    pub(super) fn new(leads: bool) -> Self {
        Reporting {
            leads,
            ours: Report::default(),
            sent: false,
            theirs: None,
            heard_last: false,
            told: false,
        }
    }

    /// A payload with something else than a report goes out.
    pub(super) fn active(&mut self) {
        (self.sent, self.told) = (false, false);
    }

    /// A payload came.
    pub(super) fn heard(&mut self, payload: &mvds::Payload) {
        self.heard_last = payload.report.is_some();
        match &payload.report {
            Some(report) => self.theirs = Some(parse(report)),
            None => (self.sent, self.told) = (false, false),
        }
    }

    /// Adds our report, when it is time.
    pub(super) fn fill(&mut self, filling: &mut Filling, idle: bool) {
        if !idle || self.sent || !(self.leads || self.heard_last) {
            return;
        }
        let report = self.to_wire();
        filling.take(cost_of(&report).max(1));
        filling.payload().report = Some(report);
        self.sent = true;
    }

    /// Says once that both sides have finished.
    pub(super) fn finished(&mut self, idle: bool) -> Option<Event> {
        if !idle || !self.sent || !self.heard_last || self.told {
            return None;
        }
        self.told = true;
        let theirs = self.theirs.clone().unwrap_or_default();
        Some(Event::Finished { ours: self.ours.clone(), theirs })
    }

    pub(super) fn stored(&mut self, group: GroupId, size: u64) {
        self.ours.stored += 1;
        self.ours.bytes += size;
        self.count(Some(group), |line| {
            line.stored += 1;
            line.bytes += size;
        });
    }

    pub(super) fn already_held(&mut self, group: Option<GroupId>) {
        self.ours.already_held += 1;
        self.count(group, |line| line.already_held += 1);
    }

    pub(super) fn refused(&mut self, group: Option<GroupId>) {
        self.ours.refused += 1;
        self.count(group, |line| line.refused += 1);
    }

    pub(super) fn confirmation(&mut self) {
        self.ours.confirmations += 1;
    }

    fn count(&mut self, group: Option<GroupId>, change: impl FnOnce(&mut CollectionReport)) {
        let lines = &mut self.ours.collections;
        let room = lines.len() < MAX_REPORTED_COLLECTIONS;
        let group = group.filter(|group| room || lines.iter().any(|(known, _)| *known == Some(*group)));
        let at = lines.iter().position(|(known, _)| *known == group).unwrap_or_else(|| {
            lines.push((group, CollectionReport::default()));
            lines.len() - 1
        });
        change(&mut lines[at].1);
    }

    fn to_wire(&self) -> mvds::Report {
        let line = |(group, line): &(Option<GroupId>, CollectionReport)| mvds::CollectionReport {
            group_id: group.map(|group| Bytes::copy_from_slice(group.as_bytes())).unwrap_or_default(),
            stored: small(line.stored),
            bytes: line.bytes,
            already_held: small(line.already_held),
            refused: small(line.refused),
            conflicts: 0,
        };
        mvds::Report {
            collections: self.ours.collections.iter().map(line).collect(),
            confirmations: small(self.ours.confirmations),
        }
    }
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn parse(wire: &mvds::Report) -> Report {
    let mut report = Report { confirmations: u64::from(wire.confirmations), ..Default::default() };
    for line in wire.collections.iter().take(MAX_REPORTED_COLLECTIONS + 1) {
        let parsed = CollectionReport {
            stored: u64::from(line.stored),
            bytes: line.bytes,
            already_held: u64::from(line.already_held),
            refused: u64::from(line.refused),
        };
        report.stored += parsed.stored;
        report.bytes = report.bytes.saturating_add(parsed.bytes);
        report.already_held += parsed.already_held;
        report.refused += parsed.refused;
        report.collections.push((GroupId::from_slice(&line.group_id).ok(), parsed));
    }
    report
}
