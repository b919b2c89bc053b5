//! `list`, `send`, `delete`, `confirmations`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::{Phone, words};
use anyhow::Context as _;
use serde_json::json;
use waypost_openpgp::armor_signature;
use waypost_protocol::confirmation::Confirmation;
use waypost_protocol::ids::MessageId;

use super::args::Confirmations;
use super::output::Out;
use super::{Done, show, words_of};

pub(super) fn list(phone: &Phone, all: bool, out: &Out) -> anyhow::Result<Done> {
    let listed = phone.list(all)?;
    for one in &listed {
        let why = if one.why.is_empty() { String::new() } else { format!(" ({})", one.why) };
        let name = if one.name.is_empty() { "without a name" } else { &one.name };
        let size = words::size(one.size);
        out.say(format!("{}  {:<13}  {size:>9}  {name}{why}", show::short(&one.id), one.state));
    }
    let received = phone.received()?;
    if !received.is_empty() {
        out.say("received; next: waypost-phone open ID");
    }
    for one in &received {
        let size = words::size(one.size);
        let of = if one.collection.is_empty() {
            one.destination.clone()
        } else {
            format!("{} of {}", one.collection, one.destination)
        };
        out.say(format!("{}  {:<13}  {size:>9}  {of}", show::short(&one.id), "received"));
    }
    if listed.is_empty() && received.is_empty() {
        out.say("no documents here");
    }
    out.object(&json!({ "documents": listed, "received": received }));
    Ok(Done::Whole)
}

pub(super) fn send(phone: &Phone, ids: &[String], out: &Out) -> anyhow::Result<Done> {
    let done = each(phone, ids, out, "sent", |id| Ok(phone.release(id)?));
    phone.ring();
    done
}

pub(super) fn delete(phone: &Phone, ids: &[String], out: &Out) -> anyhow::Result<Done> {
    each(phone, ids, out, "deleted", |id| Ok(phone.delete(id)?))
}

fn each(
    phone: &Phone,
    ids: &[String],
    out: &Out,
    verb: &str,
    mut change: impl FnMut(&MessageId) -> anyhow::Result<()>,
) -> anyhow::Result<Done> {
    let (mut done, mut failed) = (Vec::new(), 0);
    for text in ids {
        let changed = phone.find_document(text).map_err(anyhow::Error::from).and_then(|id| {
            change(&id)?;
            Ok(id)
        });
        match changed {
            Ok(id) => {
                out.say(format!("{verb}: {id}"));
                done.push(id);
            }
            Err(error) => {
                failed += 1;
                out.error(&words_of(&error));
            }
        }
    }
    out.object(&json!({ verb: done, "failed": failed }));
    Ok(match (failed, done.is_empty()) {
        (0, _) => Done::Whole,
        (_, true) => Done::Not,
        (_, false) => Done::Partly,
    })
}

pub(super) fn confirmations(phone: &Phone, wanted: &Confirmations, out: &Out) -> anyhow::Result<Done> {
    let mut found: Vec<Confirmation> = Vec::new();
    let mut missing = 0;
    if wanted.ids.is_empty() {
        found = phone.all_confirmations()?;
    }
    for text in &wanted.ids {
        let id = phone.find_document(text)?;
        match phone.confirmation_on(&id)? {
            Some(confirmation) if found.contains(&confirmation) => {}
            Some(confirmation) => found.push(confirmation),
            None => {
                missing += 1;
                out.error(&format!("the destination has not spoken on {id} yet; sync again later"));
            }
        }
    }
    let mut written = Vec::new();
    for confirmation in &found {
        let name = name_of(confirmation);
        match &wanted.to {
            Some(folder) => {
                write(folder, &name, confirmation)?;
                out.say(folder.join(&name).display());
            }
            None => out.say(confirmation.statement.text()),
        }
        written.push(json!({
            "name": name, "id": confirmation.id(), "text": confirmation.statement.text(),
            "signature": armor_signature(confirmation),
            "documents": confirmation.statement.verdicts().iter().map(|(id, _)| id).collect::<Vec<_>>(),
        }));
    }
    if found.is_empty() && missing == 0 {
        out.say("no confirmations yet");
    }
    out.object(&json!({ "confirmations": written }));
    Ok(match (missing, found.is_empty()) {
        (0, _) => Done::Whole,
        (_, true) => Done::Not,
        (_, false) => Done::Partly,
    })
}

fn name_of(confirmation: &Confirmation) -> String {
    let id: String = confirmation.id().to_string().chars().take(16).collect();
    format!("confirmation-{id}.txt")
}

fn write(folder: &Path, name: &str, confirmation: &Confirmation) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        let readable = fs::Permissions::from_mode(0o644);
        let file = tempfile::Builder::new().permissions(readable).tempfile_in(folder);
        let mut file = file.with_context(|| path.display().to_string())?;
        file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
        file.persist(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok(())
    };
    put(name, confirmation.statement.text())?;
    put(&format!("{name}.asc"), armor_signature(confirmation))
}
