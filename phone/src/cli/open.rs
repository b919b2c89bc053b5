//! `open`: received documents as files or on standard output, with who wrote them, as far as that is proven.

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use crate::{OpenedDocument, Phone, WrittenBy, words};
use anyhow::Context as _;
use serde_json::{Value, json};
use waypost_protocol::ids::MessageId;

use super::args::Open;
use super::output::Out;
use super::{Done, Usage, show, words_of};

/// The longest name of a file that is written, in bytes, without the beginning of the id before it.
const MAX_NAME: usize = 150;

pub(super) fn run(phone: &Phone, wanted: &Open, out: &Out) -> anyhow::Result<Done> {
    let Some(folder) = &wanted.to else { return print(phone, wanted, out) };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (mut opened, mut failed) = (Vec::new(), Vec::new());
    let mut open = |id: MessageId| match write(phone, &id, folder) {
        Ok((document, path)) => {
            out.say(format!("{path}  {}", who(&document)));
            opened.push(object(&document, Some(&path)));
        }
        Err(error) => {
            let reason = words_of(&error);
            out.error(&format!("{}: {reason}", show::short(&id)));
            failed.push(json!({ "id": id, "reason": reason }));
        }
    };
    match wanted.all {
        true => phone.received()?.iter().for_each(|one| open(one.id)),
        false => {
            for text in &wanted.ids {
                open(phone.find_document(text)?);
            }
        }
    }
    if opened.is_empty() && failed.is_empty() {
        out.say("nothing was received yet; next: waypost-phone sync");
    }
    out.object(&json!({ "opened": opened, "failed": failed }));
    Ok(match (failed.is_empty(), opened.is_empty()) {
        (true, _) => Done::Whole,
        (false, true) => Done::Not,
        (false, false) => Done::Partly,
    })
}

/// One document to standard output; who wrote it goes to standard error, so that the two cannot be taken for each other.
fn print(phone: &Phone, wanted: &Open, out: &Out) -> anyhow::Result<Done> {
    let [text] = wanted.ids.as_slice() else {
        return Err(Usage("several documents are written to files; say where with --to DIR".into()).into());
    };
    if out.json {
        return Err(Usage("--json needs --to DIR: the content goes to a file".into()).into());
    }
    let id = phone.find_document(text)?;
    // Nothing is shown before its end has verified, and nothing that is decrypted is kept on the way, however large it is.
    phone.open_received(&id, io::sink())?;
    let mut shown = Shown { stdout: io::stdout().lock(), reader_is_gone: false };
    let opened = phone.open_received(&id, &mut shown);
    let document = match (opened, shown.reader_is_gone) {
        (Err(_), true) => return Ok(Done::Whole),
        (opened, _) => opened?,
    };
    shown.stdout.flush()?;
    let _ = writeln!(io::stderr(), "{}", who(&document));
    Ok(Done::Whole)
}

/// Standard output, whose reader may have had enough.
struct Shown {
    stdout: StdoutLock<'static>,
    reader_is_gone: bool,
}

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.stdout.write(bytes);
        self.reader_is_gone |= written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

fn write(phone: &Phone, id: &MessageId, folder: &Path) -> anyhow::Result<(OpenedDocument, String)> {
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    let document = phone.open_received(id, &mut file)?;
    file.as_file().sync_all()?;
    let path = folder.join(safe_name(&document));
    match file.persist_noclobber(&path) {
        Ok(_) => Ok((document, path.display().to_string())),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            anyhow::bail!("{} is there already; it was left as it is", path.display())
        }
        Err(error) => Err(error.error).with_context(|| path.display().to_string()),
    }
}

/// The beginning of the id, then what is left of the author's name for it: a name on this disk and nothing else.
fn safe_name(document: &OpenedDocument) -> String {
    let given = document.file_name.as_deref().unwrap_or_default();
    let last = given.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name: String =
        words::file_name(last).chars().map(|c| if matches!(c, '/' | '\\') { '_' } else { c }).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    let id = show::short(&document.id);
    if name.is_empty() { id } else { format!("{id}-{name}") }
}

/// Who wrote it, in words that cannot be mistaken for proof where there is none.
fn who(document: &OpenedDocument) -> String {
    let name = &document.destination_name;
    match &document.written_by {
        WrittenBy::Destination { time } => {
            format!("signed by the destination {name} ({}) at {time}", show::grouped(&document.destination))
        }
        WrittenBy::Unproven(why) => format!("NOT PROVEN who wrote it: {why}"),
    }
}

fn object(document: &OpenedDocument, path: Option<&str>) -> Value {
    let (signed_by, signed_at, not_proven) = match &document.written_by {
        WrittenBy::Destination { time } => (Some(document.destination), Some(time.to_string()), None),
        WrittenBy::Unproven(why) => (None, None, Some(why)),
    };
    json!({
        "id": document.id, "path": path, "destination": document.destination, "collection": document.collection,
        "record": document.record, "time": document.time.map(|time| time.to_string()),
        "name": document.file_name.as_deref().map(words::file_name),
        "signed_by": signed_by, "signed_at": signed_at, "not_proven": not_proven,
    })
}
