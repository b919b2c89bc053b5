//! `subscribe`, `unsubscribe` and `reader new|import|export-certificate`.

use std::io::{Read as _, Write as _};

use crate::{Destination, Phone};
use anyhow::Context as _;
use serde_json::json;
use waypost_openpgp::{Certificate, MAX_CERTIFICATE};
use zeroize::Zeroizing;

use super::args::{ReaderCommand, Subscribe};
use super::output::Out;
use super::{Done, show};

pub(super) fn subscribe(phone: &Phone, wanted: &Subscribe, out: &Out) -> anyhow::Result<Done> {
    let destination = destination(phone, wanted)?;
    let subscription = phone.subscribe(&destination, &wanted.collection)?;
    out.say(format!("subscribed to {} of {}", subscription.collection, destination.name()));
    out.say(format!("kiosks know the collection as {}", subscription.group));
    match phone.reader()? {
        None => out.say("to read its documents this phone needs a key; next: waypost-phone reader new"),
        Some(_) => out.say("next: waypost-phone sync"),
    }
    out.object(&json!({ "subscribed": subscription }));
    phone.ring();
    Ok(Done::Whole)
}

pub(super) fn unsubscribe(phone: &Phone, wanted: &Subscribe, out: &Out) -> anyhow::Result<Done> {
    let destination = destination(phone, wanted)?;
    let was = phone.unsubscribe(&destination, &wanted.collection)?;
    let name = destination.name();
    out.say(match was {
        true => format!(
            "unsubscribed from {} of {name}; what is here stays until you delete it",
            wanted.collection
        ),
        false => format!("there was no subscription to {} of {name}", wanted.collection),
    });
    out.object(&json!({
        "unsubscribed": wanted.collection, "destination": destination.fingerprint(), "was_subscribed": was,
    }));
    Ok(Done::Whole)
}

fn destination(phone: &Phone, wanted: &Subscribe) -> anyhow::Result<Destination> {
    Ok(match &wanted.destination {
        Some(text) => phone.destination(text)?,
        None => phone.destination_for(Some(&wanted.collection))?,
    })
}

pub(super) fn run(phone: &Phone, command: ReaderCommand, out: &Out) -> anyhow::Result<Done> {
    match command {
        ReaderCommand::New { name } => made(&phone.make_reader(&name)?, out),
        ReaderCommand::Import { file } => {
            let mut bytes = Zeroizing::new(Vec::new());
            let limit = MAX_CERTIFICATE as u64 + 1;
            match file.as_os_str() == "-" {
                true => {
                    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("standard input")?
                }
                false => {
                    let opened = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
                    opened.take(limit).read_to_end(&mut bytes).with_context(|| file.display().to_string())?
                }
            };
            made(&phone.import_reader(&bytes)?, out)
        }
        ReaderCommand::ExportCertificate { to } => {
            let key =
                phone.reader()?.context("this phone has no reader's key; next: waypost-phone reader new")?;
            let certificate = key.certificate();
            match &to {
                Some(path) => {
                    std::fs::write(path, certificate.to_armor())
                        .with_context(|| path.display().to_string())?;
                    out.say(format!("written: {}", path.display()));
                }
                None if !out.json => std::io::stdout().lock().write_all(certificate.to_armor().as_bytes())?,
                None => {}
            }
            out.object(&json!({
                "fingerprint": certificate.fingerprint(), "certificate": certificate.to_armor(),
            }));
            Ok(Done::Whole)
        }
    }
}

fn made(certificate: &Certificate, out: &Out) -> anyhow::Result<Done> {
    out.say(format!("reader's key: {}", show::grouped(&certificate.fingerprint())));
    out.say("next: waypost-phone reader export-certificate --to FILE, for the destination's operator");
    out.object(&json!({ "fingerprint": certificate.fingerprint() }));
    Ok(Done::Whole)
}
