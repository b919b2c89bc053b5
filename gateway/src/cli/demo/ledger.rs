//! The demo's ledger: how far the document of each file has come, and what keeps it from going on.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::progress::{Count, Step};

/// A file that was found, and its document.
#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the folder.
    pub(super) path: PathBuf,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Why the phone did not seal it.
    pub(super) skipped: Option<String>,
    /// Its document's id, once it is sealed.
    pub(super) id: Option<String>,
    /// What keeps the document from going on.
    pub(super) cause: Option<String>,
    /// Bytes of the document.
    sealed: u64,
    /// Bytes of the file that have gone to the kiosk.
    handed: u64,
    has_reached: [bool; 5],
}

impl Entry {
    /// Whether its document has come so far.
    pub(super) fn has_reached(&self, step: Step) -> bool {
        self.has_reached[step as usize]
    }
}

/// The files of a folder on their way.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The folder.
    pub(super) folder: PathBuf,
    /// One for each file, in the order in which they are sealed.
    pub(super) entries: Vec<Entry>,
    by_id: HashMap<String, usize>,
    /// Where a path, as JSON holds it, is in `entries`. Names that are not UTF-8 may look the same there.
    by_shown_path: HashMap<String, VecDeque<usize>>,
    counts: [Count; 5],
}

impl Ledger {
    /// For files of `folder`, given relative to it.
    pub(super) fn new(folder: &Path, files: Vec<PathBuf>) -> Self {
        let mut ledger = Ledger { folder: folder.to_owned(), ..Ledger::default() };
        for (at, path) in files.into_iter().enumerate() {
            let whole = folder.join(&path);
            // One that has vanished since is one that the phone cannot read either, and says so.
            let bytes = std::fs::metadata(&whole).map_or(0, |metadata| metadata.len());
            ledger.by_shown_path.entry(whole.to_string_lossy().into_owned()).or_default().push_back(at);
            ledger.entries.push(Entry {
                path,
                bytes,
                skipped: None,
                id: None,
                cause: None,
                sealed: 0,
                handed: 0,
                has_reached: [false; 5],
            });
        }
        ledger
    }

    /// What is to go the way.
    pub(super) fn total(&self) -> Count {
        let sent = self.entries.iter().filter(|entry| entry.skipped.is_none());
        sent.fold(Count::default(), |sum, entry| Count {
            documents: sum.documents + 1,
            bytes: sum.bytes + entry.bytes,
        })
    }

    /// What has come so far.
    pub(super) fn count(&self, step: Step) -> Count {
        self.counts[step as usize]
    }

    /// Bytes of files for so many bytes of documents.
    pub(super) fn of_sealed(&self, bytes: u64) -> u64 {
        let sealed: u64 = self.entries.iter().map(|entry| entry.sealed).sum();
        scale(bytes, self.count(Step::Sealed).bytes, sealed)
    }

    /// Takes up an event that the phone printed. Returns the step whose count has changed.
    pub(super) fn phone_says(&mut self, event: &Value) -> Option<Step> {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let number = |key: &str| event[key].as_u64().unwrap_or_default();
        let id = text("id");
        match text("event") {
            "added" => {
                let at = self.at_path(text("path"))?;
                self.by_id.insert(id.to_owned(), at);
                let entry = &mut self.entries[at];
                (entry.id, entry.sealed) = (Some(id.to_owned()), number("size"));
                self.reach(at, Step::Sealed)
            }
            "skipped" => {
                let at = self.at_path(text("path"))?;
                self.entries[at].skipped = Some(text("reason").to_owned());
                None
            }
            "progress" => self.handed(id, number("done"), number("size")),
            "at-kiosk" => {
                let at = *self.by_id.get(id)?;
                let entry = &mut self.entries[at];
                entry.cause = None;
                self.counts[Step::AtKiosk as usize].bytes -= std::mem::take(&mut entry.handed);
                self.reach(at, Step::AtKiosk)
            }
            "refused" => self.note(id, &format!("the kiosk does not take it: {}", text("reason"))),
            "confirmed" if text("verdict") == "opened" => {
                let at = *self.by_id.get(id)?;
                self.entries[at].cause = None;
                self.reach(at, Step::Deleted)
            }
            "confirmed" => self.note(id, &format!("the destination's verdict: {}", text("verdict"))),
            _ => None,
        }
    }

    /// What keeps a document from going on.
    pub(super) fn note(&mut self, id: &str, cause: &str) -> Option<Step> {
        let at = *self.by_id.get(id)?;
        self.entries[at].cause = Some(cause.to_owned());
        None
    }

    fn handed(&mut self, id: &str, done: u64, size: u64) -> Option<Step> {
        let entry = &mut self.entries[*self.by_id.get(id)?];
        if entry.has_reached(Step::AtKiosk) {
            return None;
        }
        let before = std::mem::replace(&mut entry.handed, scale(done, entry.bytes, size));
        let bytes = &mut self.counts[Step::AtKiosk as usize].bytes;
        *bytes = *bytes - before + entry.handed;
        Some(Step::AtKiosk)
    }

    /// The same document counts once.
    fn reach(&mut self, at: usize, step: Step) -> Option<Step> {
        let entry = &mut self.entries[at];
        if std::mem::replace(&mut entry.has_reached[step as usize], true) {
            return None;
        }
        let count = &mut self.counts[step as usize];
        (count.documents, count.bytes) = (count.documents + 1, count.bytes + entry.bytes);
        Some(step)
    }

    fn at_path(&mut self, shown: &str) -> Option<usize> {
        self.by_shown_path.get_mut(shown)?.pop_front()
    }
}

/// `done` of `size`, as a part of `bytes`.
fn scale(done: u64, bytes: u64, size: u64) -> u64 {
    let part = u128::from(done.min(size)) * u128::from(bytes) / u128::from(size.max(1));
    u64::try_from(part).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let files = ["one", "two", "three"].map(PathBuf::from).to_vec();
        files.iter().for_each(|file| std::fs::write(folder.path().join(file), [0; 1_000]).unwrap());
        let mut ledger = Ledger::new(folder.path(), files);
        for (id, file) in [("1", "one"), ("2", "two"), ("3", "three")] {
            let path = folder.path().join(file);
            ledger.phone_says(&json!({ "event": "added", "id": id, "path": path, "size": 2_000 }));
        }
        (folder, ledger)
    }

    #[test]
    fn documents_and_bytes_are_counted_once_for_each_step() {
        let (_folder, mut ledger) = ledger();
        assert_eq!(ledger.count(Step::Sealed), Count { documents: 3, bytes: 3_000 });
        let half = json!({ "event": "progress", "id": "1", "done": 1_000, "size": 2_000 });
        ledger.phone_says(&half);
        assert_eq!(ledger.count(Step::AtKiosk), Count { documents: 0, bytes: 500 });
        for _ in 0..2 {
            ledger.phone_says(&json!({ "event": "at-kiosk", "id": "1" }));
            ledger.phone_says(&half);
            assert_eq!(ledger.count(Step::AtKiosk), Count { documents: 1, bytes: 1_000 });
        }
        assert_eq!(ledger.of_sealed(3_000), 1_500);
    }

    #[test]
    fn only_what_the_destination_has_opened_counts_as_deleted() {
        let (_folder, mut ledger) = ledger();
        for (id, verdict) in [("1", "opened"), ("2", "held"), ("3", "rejected: too-large")] {
            ledger.phone_says(&json!({ "event": "confirmed", "id": id, "verdict": verdict }));
        }
        assert_eq!(ledger.count(Step::Deleted), Count { documents: 1, bytes: 1_000 });
        let causes: Vec<_> = ledger.entries.iter().map(|entry| entry.cause.clone()).collect();
        let said = |verdict: &str| Some(format!("the destination's verdict: {verdict}"));
        assert_eq!(causes, [None, said("held"), said("rejected: too-large")]);
    }

    #[test]
    fn a_refusal_of_the_kiosk_is_the_cause_until_it_takes_the_document_after_all() {
        let (_folder, mut ledger) = ledger();
        ledger.phone_says(&json!({ "event": "refused", "id": "2", "reason": "too large" }));
        assert_eq!(ledger.entries[1].cause.as_deref(), Some("the kiosk does not take it: too large"));
        ledger.phone_says(&json!({ "event": "at-kiosk", "id": "2" }));
        assert_eq!(ledger.entries[1].cause, None);
    }
}
