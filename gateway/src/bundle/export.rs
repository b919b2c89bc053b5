//! Writing a bundle: what waits for a destination goes out, with the confirmations that other gateways may need; what is
//! confirmed goes from the stick. Nothing changes here by it: a document on a stick is not delivered.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use bytes::Bytes;
use nix::sys::statvfs::fstatvfs;
use waypost_bundle::{Bundle, Entry, Fault, Kind, Listed, Place, WriteError, Writer, Written};
use waypost_protocol::ids::Seq;
use waypost_protocol::sync::{Holdings as _, HoldingsError, Standing};
use waypost_store::{DocumentEntry, Filter, State};

use super::report::{Report, Shown};
use super::{Gateway, WorkError, kiosk, stick};

/// Documents and confirmations that are looked at together.
const PAGE: usize = 256;
/// So many of the newest confirmations go out even where nothing on the stick asks for them: another kiosk may hold the
/// same documents.
const NEWEST: usize = 1_000;
/// Room that is left on the stick for index and folders, in bytes.
const SPARE: u64 = 1 << 20;

/// Writes what waits into the bundle in `folder`, which is made where it is missing.
pub(super) fn export(
    gateway: &Gateway,
    folder: &Path,
    identity: bool,
    shown: &Shown,
) -> Result<Report, WorkError> {
    let bundle = Bundle::create(folder)?;
    bundle.remove_parts().map_err(stick(bundle.path()))?;
    let report = Report::new("export", folder);
    let mut export = Export { gateway, bundle: &bundle, report, removable: Vec::new() };
    if identity {
        shown.step("identity");
        kiosk::send(gateway, &bundle)?;
        export.report.identity = true;
    }
    export.settle(shown)?;
    export.confirmations(identity, shown)?;
    export.flush()?;
    export.documents(shown)?;
    export.flush()?;
    export.index(shown)?;
    export.flush()?;
    Ok(export.report)
}

struct Export<'g> {
    gateway: &'g Gateway,
    bundle: &'g Bundle,
    report: Report,
    /// What goes from the stick once that which takes its place is durable there.
    removable: Vec<Place>,
}

impl Export<'_> {
    /// What is on the stick and confirmed: its confirmation takes its place. What was deleted here goes, too, unless
    /// another gateway lists it.
    fn settle(&mut self, shown: &Shown) -> Result<(), WorkError> {
        shown.step("documents on the stick");
        let own = Writer::Gateway(self.gateway.key);
        let (mut listing, faults) = self.bundle.listing();
        // This gateway's own is written anew.
        faults.iter().filter(|fault| !is_of(fault, &own)).for_each(|fault| self.report.damaged.fault(fault));
        for found in self.bundle.walk(Kind::Documents) {
            let place = match found {
                Ok(place) => place,
                Err(fault) => {
                    self.report.damaged.fault(&fault);
                    continue;
                }
            };
            shown.file(&place.id)?;
            let listed = listing.of_document(&place.id, drop);
            let destination = match self.bundle.document(&place) {
                Ok(file) => file.header().destination,
                Err(damage) => {
                    // One that waits here is about to be mended.
                    if !self.waits(&place)? {
                        self.report.damaged.fault(&place.fault(damage));
                    }
                    continue;
                }
            };
            match self.gateway.store.standing(&place.id, Some(&destination)).map_err(unreadable)? {
                Standing::Confirmed(confirmation) => {
                    match self.bundle.put_confirmation(&confirmation) {
                        Ok(written) => self.count(written),
                        Err(error) if is_full(&error) => {
                            self.report.no_room += 1;
                            continue;
                        }
                        Err(error) => return Err(stick(self.bundle.path())(error)),
                    }
                    self.removable.push(place);
                }
                Standing::Gone(_) if listed.is_some_and(|listed: Listed| listed.by == [own]) => {
                    self.removable.push(place);
                }
                _ => {}
            }
            if self.removable.len() >= PAGE {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn waits(&self, place: &Place) -> Result<bool, WorkError> {
        let row = self.gateway.store.document(&place.id)?;
        Ok(row.is_some_and(|row| row.state == State::Waiting && row.has_body))
    }

    fn count(&mut self, written: Written) {
        match written {
            Written::New | Written::Mended => self.report.confirmations += 1,
            Written::AlreadyThere => self.report.confirmations_already += 1,
        }
    }

    /// The newest; all of them where a whole kiosk moves.
    fn confirmations(&mut self, all: bool, shown: &Shown) -> Result<(), WorkError> {
        shown.step("confirmations");
        let store = &self.gateway.store;
        let mut after = if all { None } else { self.before_the_newest()? };
        loop {
            let page = store.confirmations(after, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(*last);
            for (_, confirmation) in &page {
                shown.file(&confirmation.id())?;
                if self.room()? < SPARE {
                    self.report.no_room += 1;
                    continue;
                }
                match self.bundle.put_confirmation(confirmation) {
                    Ok(written) => self.count(written),
                    Err(error) if is_full(&error) => self.report.no_room += 1,
                    Err(error) => return Err(stick(self.bundle.path())(error)),
                }
            }
        }
    }

    /// After which confirmation the newest come.
    fn before_the_newest(&self) -> Result<Option<Seq>, WorkError> {
        let (mut before, mut after) = (VecDeque::new(), None);
        loop {
            let page = self.gateway.store.confirmations(after, PAGE)?;
            if page.is_empty() {
                return Ok(before.front().copied().flatten());
            }
            for (seq, _) in &page {
                before.push_back(after);
                after = Some(*seq);
                if before.len() > NEWEST {
                    before.pop_front();
                }
            }
        }
    }

    fn documents(&mut self, shown: &Shown) -> Result<(), WorkError> {
        shown.step("documents");
        let mut after = None;
        loop {
            let page = self.gateway.store.documents(&Filter::Waiting, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.seq);
            for row in page.iter().filter(|row| row.has_body && !is_expired(row)) {
                shown.file(&row.description.id)?;
                self.document(row, shown)?;
            }
        }
    }

    fn document(&mut self, row: &DocumentEntry, shown: &Shown) -> Result<(), WorkError> {
        let description = &row.description;
        if self.room()? < description.size.saturating_add(SPARE) && !self.bundle.has_document(&description.id)
        {
            self.report.no_room += 1;
            return Ok(());
        }
        let read = |offset, most| -> Result<Bytes, Stopped> {
            shown.go_on().map_err(Stopped::Told)?;
            self.gateway.store.read_body(row.seq, offset, most).map_err(Stopped::Unreadable)
        };
        match self.bundle.put_document(description, read) {
            Ok(Written::New | Written::Mended) => {
                self.report.documents += 1;
                self.report.bytes += description.size;
            }
            Ok(Written::AlreadyThere) => self.report.already += 1,
            Err(WriteError::Source(Stopped::Told(stopped))) => return Err(stopped),
            Err(WriteError::Source(Stopped::Unreadable(error))) => {
                self.report.unreadable.note(description.id, error);
            }
            Err(WriteError::Damaged) => {
                self.report.unreadable.note(description.id, "its bytes are damaged here");
            }
            Err(WriteError::Bundle(error)) if is_full(&error) => self.report.no_room += 1,
            Err(WriteError::Bundle(error)) => return Err(stick(self.bundle.path())(error)),
        }
        Ok(())
    }

    /// What lies in the bundle and is this gateway's, in the order of the folders.
    fn index(&mut self, shown: &Shown) -> Result<(), WorkError> {
        shown.step("index");
        let failed = stick(self.bundle.path());
        let store = &self.gateway.store;
        let mut index = self.bundle.index(&Writer::Gateway(self.gateway.key)).map_err(&failed)?;
        for place in self.bundle.walk(Kind::Documents).flatten() {
            shown.go_on()?;
            let Some(row) = store.document(&place.id)?.filter(|row| row.state == State::Waiting) else {
                continue;
            };
            let entry = Entry::Document { document: place.id, size: row.description.size, age: row.age };
            index.add(&entry).map_err(&failed)?;
        }
        for place in self.bundle.walk(Kind::Confirmations).flatten() {
            if store.confirmation(&place.id)?.is_some() {
                index.add(&Entry::Confirmation { confirmation: place.id }).map_err(&failed)?;
            }
        }
        index.finish().map_err(failed)
    }

    /// Makes durable what was written, then removes what it takes the place of.
    fn flush(&mut self) -> Result<(), WorkError> {
        let failed = stick(self.bundle.path());
        self.bundle.flush().map_err(&failed)?;
        for place in self.removable.drain(..) {
            self.bundle.remove(&place).map_err(&failed)?;
            self.report.removed += 1;
        }
        Ok(())
    }

    /// Bytes that are free on the stick.
    fn room(&self) -> Result<u64, WorkError> {
        let failed = stick(self.bundle.path());
        let stat = fstatvfs(self.bundle.folder().handle().map_err(&failed)?);
        let stat = stat.map_err(|errno| failed(errno.into()))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

enum Stopped {
    Told(WorkError),
    Unreadable(HoldingsError),
}

fn unreadable(error: HoldingsError) -> WorkError {
    WorkError::Store(waypost_store::StoreError::Database(error.to_string()))
}

fn is_expired(row: &DocumentEntry) -> bool {
    row.header.lifetime > 0 && row.age >= row.header.lifetime
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn is_of(fault: &Fault, writer: &Writer) -> bool {
    fault.path.file_stem().is_some_and(|stem| stem.to_string_lossy() == writer.to_string())
}
