//! Taking a bundle in: confirmations first, each verified; then documents, admitted as a phone's deposits are.
//!
//! A bundle is not authenticated, so nothing in it deletes anything here but a verified confirmation, and what was
//! deleted here does not come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use waypost_bundle::{Bundle, Damage, DocumentFile, Kind, Listed, Place};
use waypost_protocol::document::Document;
use waypost_protocol::ids::MessageId;
use waypost_protocol::refusal::Reason;
use waypost_protocol::sync::{Accepts, Holdings as _, Standing};
use waypost_store::{Applied, Change, ChangeError, NewDocument, StoreError};

use super::report::{Report, Shown};
use super::{Gateway, WorkError};
use crate::daemon::largest_body;

/// Documents up to this size are stored whole, several in one transaction; larger ones in pieces, in bytes.
const SMALL: u64 = 256 * 1024;
/// So many small ones at a time.
const GROUP: usize = 64;
/// Bytes of a large body that are made durable at once.
const PIECE: usize = 1 << 20;

/// Takes in what there is in the bundle in `folder`. May be repeated: what is here is passed over.
pub(super) fn import(gateway: &Gateway, folder: &Path, shown: &Shown) -> Result<Report, WorkError> {
    let bundle = Bundle::open(folder)?;
    let mut import = Import {
        gateway,
        bundle: &bundle,
        report: Report::new("import", folder),
        asked: Vec::new(),
        group: Vec::new(),
    };
    import.confirmations(shown)?;
    import.documents(shown)?;
    Ok(import.report)
}

struct Import<'g> {
    gateway: &'g Gateway,
    bundle: &'g Bundle,
    report: Report,
    /// Notes of documents that are to be asked about, for a common transaction.
    asked: Vec<Change>,
    /// Small documents that wait for a common transaction.
    group: Vec<(PathBuf, NewDocument)>,
}

impl Import<'_> {
    fn confirmations(&mut self, shown: &Shown) -> Result<(), WorkError> {
        shown.step("confirmations");
        let bundle = self.bundle;
        let report = &mut self.report;
        for found in bundle.walk(Kind::Confirmations) {
            let place = match found {
                Ok(place) => place,
                Err(fault) => {
                    report.damaged.fault(&fault);
                    continue;
                }
            };
            shown.file(&place.id)?;
            if self.gateway.store.confirmation(&place.id)?.is_some() {
                report.confirmations_already += 1;
                continue;
            }
            let confirmation = match bundle.confirmation(&place) {
                Ok(kept) => kept.confirmation,
                Err(damage) => {
                    report.damaged.fault(&place.fault(damage));
                    continue;
                }
            };
            if self.gateway.destinations.get(&confirmation.statement.destination()).is_none() {
                // Of others who use the stick, too; nothing here waits for it.
                report.confirmations_already += 1;
                continue;
            }
            if let Err(error) = (self.gateway.verify)(&confirmation) {
                report.refused.note(place.path().display(), error);
                continue;
            }
            let freeing = self.gateway.destinations.freeing(&confirmation);
            let change = Change::Confirmation { confirmation: Box::new(confirmation), freeing, from: None };
            match self.gateway.store.apply_one(change)? {
                Applied::Verdicts { new: true, changed } => {
                    report.confirmations += 1;
                    report.settled += changed.len() as u64;
                }
                _ => report.confirmations_already += 1,
            }
        }
        Ok(())
    }

    fn documents(&mut self, shown: &Shown) -> Result<(), WorkError> {
        shown.step("documents");
        let limit_of = |destination: &_| largest_body(&self.gateway.store, destination);
        // Who made the bundle is not looked at: its documents are those of gateways.
        let accepts = self.gateway.destinations.accepts(self.gateway.max_document, true, limit_of);
        let (mut listing, faults) = self.bundle.listing();
        faults.iter().for_each(|fault| self.report.damaged.fault(fault));
        let mut missing = Vec::new();
        for found in self.bundle.walk(Kind::Documents) {
            let place = match found {
                Ok(place) => place,
                Err(fault) => {
                    self.report.damaged.fault(&fault);
                    continue;
                }
            };
            shown.file(&place.id)?;
            let listed = listing.of_document(&place.id, |listed| missing.push(listed));
            self.missing(&mut missing)?;
            let age = listed.map_or(0, |listed| listed.age);
            if let Err(damage) = self.document(&place, age, &accepts, shown)? {
                self.report.damaged.fault(&place.fault(damage));
            }
        }
        while let Some(listed) = listing.next_document(None) {
            missing.push(listed);
            self.missing(&mut missing)?;
        }
        self.store_group()
    }

    /// What is listed and not there matters where nothing is known of it: its destination may have confirmed it since.
    fn missing(&mut self, listed: &mut Vec<Listed>) -> Result<(), WorkError> {
        for listed in listed.drain(..) {
            let standing = self.gateway.store.standing(&listed.id, None);
            if matches!(standing.map_err(holdings)?, Standing::Unknown) {
                let by: Vec<String> = listed.by.iter().map(ToString::to_string).collect();
                let why = format!("listed by {}, and not there", by.join(", "));
                self.report.missing.note(Kind::Documents.path(&listed.id).display(), why);
            }
        }
        Ok(())
    }

    fn document(
        &mut self,
        place: &Place,
        age: u64,
        accepts: &Accepts,
        shown: &Shown,
    ) -> Result<Result<(), Damage>, WorkError> {
        let mut file = match self.bundle.document(place) {
            Ok(file) => file,
            Err(damage) => return Ok(Err(damage)),
        };
        let destination = file.header().destination;
        match self.gateway.store.standing(&place.id, Some(&destination)).map_err(holdings)? {
            Standing::Held => self.report.already += 1,
            Standing::Confirmed(_) => self.report.confirmed += 1,
            Standing::Gone(reason) => self.refuse(&place.id, reason),
            Standing::Unknown => {
                let description = *file.description();
                if let Err(reason) = accepts.check_header(file.header(), &description.group, description.size)
                {
                    self.refuse(&place.id, reason);
                } else if let Err(damage) = file.verify() {
                    return Ok(Err(damage));
                } else if description.size > SMALL {
                    return self.large(&file, age, shown);
                } else {
                    return self.small(place, &file, age);
                }
            }
        }
        Ok(Ok(()))
    }

    fn refuse(&mut self, id: &MessageId, reason: Reason) {
        self.report.refused.note(id, reason);
    }

    fn small(
        &mut self,
        place: &Place,
        file: &DocumentFile,
        age: u64,
    ) -> Result<Result<(), Damage>, WorkError> {
        let description = file.description();
        let body = match file.body(0, usize::try_from(SMALL).unwrap_or(usize::MAX)) {
            Ok(body) => body,
            Err(error) => return Ok(Err(error.into())),
        };
        let document = match Document::new(description.group, description.timestamp, body) {
            Ok(document) if document.id() == place.id => document,
            Ok(other) => return Ok(Err(Damage::Hash(other.id()))),
            Err(error) => return Ok(Err(error.into())),
        };
        let header = file.header().clone();
        let new = NewDocument { document, header, age, depositor: None, draft: false, note: None };
        self.group.push((place.path(), new));
        if self.group.len() >= GROUP {
            self.store_group()?;
        }
        Ok(Ok(()))
    }

    fn store_group(&mut self) -> Result<(), WorkError> {
        let group = std::mem::take(&mut self.group);
        let sizes: Vec<_> =
            group.iter().map(|(_, new)| (new.document.id(), new.document.body().len() as u64)).collect();
        let changes = group.into_iter().map(|(_, new)| Change::Document(Box::new(new))).collect();
        for ((id, size), outcome) in sizes.into_iter().zip(self.gateway.store.apply(changes)) {
            self.outcome(&id, size, outcome)?;
        }
        self.note_asked()
    }

    fn note_asked(&mut self) -> Result<(), WorkError> {
        for outcome in self.gateway.store.apply(std::mem::take(&mut self.asked)) {
            outcome?;
        }
        Ok(())
    }

    /// In pieces: an import that is interrupted goes on at the last one that is durable.
    fn large(
        &mut self,
        file: &DocumentFile,
        age: u64,
        shown: &Shown,
    ) -> Result<Result<(), Damage>, WorkError> {
        let description = *file.description();
        let header = Arc::new(file.header().clone());
        let (mut offset, mut begun_anew) = (0, false);
        loop {
            shown.go_on()?;
            let bytes: Bytes = match file.body(offset, PIECE) {
                Ok(bytes) => bytes,
                Err(error) => return Ok(Err(error.into())),
            };
            let piece =
                Change::Piece { description, header: header.clone(), offset, bytes, age, depositor: None };
            match self.gateway.store.apply_one(piece) {
                Ok(Applied::Partial { committed }) if committed > offset => offset = committed,
                Err(ChangeError::Gap { committed, .. }) if !begun_anew => {
                    (offset, begun_anew) = (committed, true);
                }
                Err(ChangeError::Refused(Reason::WrongHash)) if !begun_anew => {
                    // The file was verified: what an earlier import had stored of it was not whole.
                    (offset, begun_anew) = (0, true);
                }
                outcome => {
                    self.outcome(&description.id, description.size, outcome)?;
                    self.note_asked()?;
                    return Ok(Ok(()));
                }
            }
        }
    }

    fn outcome(
        &mut self,
        id: &MessageId,
        size: u64,
        outcome: Result<Applied, ChangeError>,
    ) -> Result<(), WorkError> {
        match outcome {
            Ok(Applied::Stored { .. }) => {
                self.report.documents += 1;
                self.report.bytes += size;
                // Whoever exported it may have delivered it since: that is asked before it is uploaded.
                self.asked.push(Change::Attempted { id: *id });
            }
            Ok(Applied::Confirmed(_)) => self.report.confirmed += 1,
            Ok(_) => self.report.already += 1,
            Err(ChangeError::Storage(error @ (StoreError::Broken | StoreError::Io(_)))) => {
                return Err(error.into());
            }
            Err(error) => self.refuse(id, error.reason()),
        }
        Ok(())
    }
}

fn holdings(error: waypost_protocol::sync::HoldingsError) -> WorkError {
    WorkError::Store(StoreError::Database(error.to_string()))
}
