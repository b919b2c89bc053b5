//! `add`: seals files; one that cannot be read is reported and holds back nothing else.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use crate::{AddError, Phone, Sending, document_name, words};
use anyhow::Context as _;
use serde_json::json;
use waypost_openpgp::SealError;
use waypost_protocol::document::Description;

use super::args::Add;
use super::output::Out;
use super::{Done, Usage};

type Outcome = (PathBuf, Vec<u8>, Result<Description, AddError>);

pub(super) fn run(phone: &Phone, add: &Add, out: &Out) -> anyhow::Result<Done> {
    let destination = match &add.destination {
        Some(text) => phone.destination(text)?,
        None => phone.destination_for(add.collection.as_deref())?,
    };
    if add.name.is_some() && (add.files.len() != 1 || add.files_from.is_some()) {
        return Err(Usage("--name needs exactly one file".into()).into());
    }
    let replaces =
        add.replaces.iter().map(|text| phone.find_document(text)).collect::<Result<Vec<_>, _>>()?;
    let sending = Sending {
        destination: &destination,
        collection: add.collection.as_deref(),
        record: add.record.as_deref(),
        replaces: &replaces,
        lifetime: add.lifetime.unwrap_or_default(),
        priority: add.priority,
        draft: add.draft,
    };
    let (sender, outcomes) = mpsc::channel::<Outcome>();
    let mut tally = Tally { out, draft: add.draft, added: 0, bytes: 0, skipped: Vec::new() };
    for path in paths(add)? {
        let path = path?;
        match seal(phone, add, &path, &sending) {
            Ok((name, sealed)) => {
                let sender = sender.clone();
                phone.store_sealed(sealed, move |outcome| {
                    // The receiver outlives the loop.
                    let _ = sender.send((path, name, outcome));
                });
            }
            Err(error) if concerns_all(&error) => return Err(error.into()),
            Err(error) => tally.skip(&path, &error),
        }
        outcomes.try_iter().for_each(|outcome| tally.count(outcome));
    }
    drop(sender);
    outcomes.iter().for_each(|outcome| tally.count(outcome));
    phone.ring();
    Ok(tally.end())
}

fn seal(
    phone: &Phone,
    add: &Add,
    path: &Path,
    sending: &Sending<'_>,
) -> Result<(Vec<u8>, crate::Sealed), AddError> {
    let name = match &add.name {
        Some(name) => name.as_bytes().to_vec(),
        None => document_name(path, add.base.as_deref())?,
    };
    let sealed = phone.seal_file(path, &name, sending)?;
    Ok((name, sealed))
}

/// Whether every other file would fail for the same reason.
fn concerns_all(error: &AddError) -> bool {
    matches!(
        error,
        AddError::Collection { .. }
            | AddError::OtherRecord(_)
            | AddError::Envelope(_)
            | AddError::Seal(SealError::NoRecipient | SealError::NoEncryptionKey(_))
    )
}

/// Files named on the command line, then those named in --files-from, read as they are needed.
fn paths(add: &Add) -> anyhow::Result<impl Iterator<Item = anyhow::Result<PathBuf>>> {
    let listed: Option<Box<dyn BufRead>> = match &add.files_from {
        None => None,
        Some(path) if path.as_os_str() == "-" => Some(Box::new(BufReader::new(io::stdin()))),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("--files-from {}", path.display()))?;
            Some(Box::new(BufReader::new(file)))
        }
    };
    let listed = listed.into_iter().flat_map(|list| list.split(0)).map(|name| {
        let name = name.context("--files-from")?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(name)))
    });
    let is_name =
        |path: &anyhow::Result<PathBuf>| path.as_ref().map_or(true, |path| !path.as_os_str().is_empty());
    Ok(add.files.iter().cloned().map(Ok).chain(listed.filter(is_name)))
}

struct Tally<'o> {
    out: &'o Out,
    draft: bool,
    added: u64,
    bytes: u64,
    skipped: Vec<serde_json::Value>,
}

impl Tally<'_> {
    fn count(&mut self, (path, name, outcome): Outcome) {
        match outcome {
            Ok(Description { id, size, .. }) => {
                self.added += 1;
                self.bytes += size;
                let shown = words::file_name(&name);
                self.out.say(format!("{id}  {shown}"));
                self.out.object(&json!({
                    "event": "added", "id": id, "name": shown, "path": path.to_string_lossy(), "size": size,
                    "draft": self.draft,
                }));
            }
            Err(error) => self.skip(&path, &error),
        }
    }

    fn skip(&mut self, path: &Path, error: &AddError) {
        let shown = words::file_name(path.as_os_str().as_bytes());
        let skipped = json!({ "path": path.to_string_lossy(), "reason": error.to_string() });
        match self.out.json {
            true => self
                .out
                .object(&json!({ "event": "skipped", "path": skipped["path"], "reason": skipped["reason"] })),
            false => self.out.error(&format!("skipped {shown}: {error}")),
        }
        self.skipped.push(skipped);
    }

    fn end(self) -> Done {
        let kept = if self.draft {
            "kept as drafts; next: waypost-phone send ID"
        } else {
            "next: waypost-phone sync"
        };
        if self.added > 0 {
            let added = words::count(self.added, "document");
            self.out.say(format!("{added} sealed, {}; {kept}", words::size(self.bytes)));
        }
        self.out.object(&json!({
            "event": "report", "added": self.added, "bytes": self.bytes, "skipped": self.skipped,
        }));
        match (self.added, self.skipped.is_empty()) {
            (_, true) => Done::Whole,
            (0, false) => Done::Not,
            (_, false) => Done::Partly,
        }
    }
}
