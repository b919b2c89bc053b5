//! `destination add|list|set|remove`: the user, and nobody else, says whom documents are sealed to.

use std::io::Read as _;
use std::path::Path;

use crate::{Destination, Phone, Reader};
use anyhow::Context as _;
use serde_json::json;
use waypost_openpgp::{Certificate, MAX_CERTIFICATE};
use waypost_protocol::ids::Fingerprint;
use zeroize::Zeroizing;

use super::args::{AddDestination, DestinationCommand, SetDestination};
use super::output::Out;
use super::{Done, Usage, show};

const CODE: &str = "waypost://destination?";
/// The longest file of authorities that is read, in bytes.
const MAX_CA: u64 = 1 << 20;

pub(super) fn run(phone: &Phone, command: DestinationCommand, out: &Out) -> anyhow::Result<Done> {
    match command {
        DestinationCommand::Add(add) => self::add(phone, &add, out),
        DestinationCommand::List => list(phone, out),
        DestinationCommand::Set(set) => self::set(phone, &set, out),
        DestinationCommand::Remove { destination } => remove(phone, &destination, out),
    }
}

fn add(phone: &Phone, add: &AddDestination, out: &Out) -> anyhow::Result<Done> {
    let expected = add.fingerprint.as_deref().map(Fingerprint::from_hex).transpose();
    let expected = expected.map_err(|error| Usage(format!("--fingerprint: {error}")))?;
    let mut destination = find(add)?;
    if !add.collection.is_empty() {
        destination.collections = add.collection.clone();
    }
    if let Some(url) = &add.url {
        destination.url = Some(url.clone());
    }
    if let Some(token) = &add.token {
        destination.token = Some(Zeroizing::new(token.clone()));
    }
    let fingerprint = destination.fingerprint();
    let known = phone.destinations()?.iter().any(|one| one.fingerprint() == fingerprint);
    match expected {
        Some(expected) => destination.expect(expected)?,
        None if add.yes || known => {}
        None if !confirmed(&destination, out)? => {
            out.error("nothing was added");
            return Ok(Done::Not);
        }
        None => {}
    }
    let kept = phone.put_destination(&destination)?;
    let verb = if known { "refreshed" } else { "added" };
    out.say(format!("destination {verb}: {}", kept.name()));
    out.say(format!("fingerprint: {}", show::grouped(&fingerprint)));
    out.say(format!("collections: {}", kept.collections.join(", ")));
    out.object(&show::destination_object(&kept));
    phone.ring();
    Ok(Done::Whole)
}

/// Shows the fingerprint to a person and asks.
fn confirmed(destination: &Destination, out: &Out) -> anyhow::Result<bool> {
    let fingerprint = show::grouped(&destination.fingerprint());
    let question = format!(
        "destination: {}\nfingerprint: {fingerprint}\nCompare it with what the destination's admin gave you. Is it the same?",
        destination.name(),
    );
    match out.ask(&question)? {
        Some(answer) => Ok(answer),
        None => Err(Usage(format!(
            "the destination's fingerprint is {fingerprint}; compare it, then give --fingerprint \"{fingerprint}\", or --yes"
        ))
        .into()),
    }
}

/// From a URL, a code, or a file or standard input with a certificate or code.
fn find(add: &AddDestination) -> anyhow::Result<Destination> {
    let ca = add.ca.as_deref().map(read_ca).transpose()?;
    let what = add.what.trim();
    if what.starts_with("https://") {
        return Ok(Destination::from_url(what, ca.as_deref())?);
    }
    if what.starts_with("http://") {
        return Err(Usage("a destination's url begins with https://".into()).into());
    }
    if what.starts_with("waypost://") {
        return Ok(Destination::from_code(what, ca.as_deref())?);
    }
    let mut bytes = Vec::new();
    let limit = MAX_CERTIFICATE as u64 + 1;
    if what == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("standard input")?;
    } else {
        let file = std::fs::File::open(what).with_context(|| {
            format!("`{what}` is no https:// url, no {CODE}… code, and no file that can be read")
        })?;
        file.take(limit).read_to_end(&mut bytes).with_context(|| what.to_owned())?;
    }
    match std::str::from_utf8(&bytes).map(str::trim) {
        Ok(text) if text.starts_with(CODE) => Ok(Destination::from_code(text, ca.as_deref())?),
        _ => {
            let certificate = Certificate::from_bytes(&bytes).with_context(|| what.to_owned())?;
            let mut destination = Destination::from_certificate(certificate);
            destination.ca_pem = ca;
            Ok(destination)
        }
    }
}

fn read_ca(path: &Path) -> anyhow::Result<String> {
    let context = || format!("--ca {}", path.display());
    let file = std::fs::File::open(path).with_context(context)?;
    let mut text = String::new();
    file.take(MAX_CA).read_to_string(&mut text).with_context(context)?;
    Ok(text)
}

fn list(phone: &Phone, out: &Out) -> anyhow::Result<Done> {
    let destinations = phone.destinations()?;
    for one in &destinations {
        let url = one.url.as_deref().unwrap_or("only through kiosks");
        out.say(format!("{}\n  {}", one.name(), show::grouped(&one.fingerprint())));
        out.say(format!("  collections: {}; {url}", one.collections.join(", ")));
    }
    if destinations.is_empty() {
        out.say("no destination yet; next: waypost-phone destination add URL|CERT-FILE|CODE");
    }
    out.object(
        &json!({ "destinations": destinations.iter().map(show::destination_object).collect::<Vec<_>>() }),
    );
    Ok(Done::Whole)
}

fn set(phone: &Phone, set: &SetDestination, out: &Out) -> anyhow::Result<Done> {
    let mut destination = phone.destination(&set.destination)?;
    for name in &set.collection {
        if !destination.collections.contains(name) {
            destination.collections.push(name.clone());
        }
    }
    if let Some(url) = &set.url {
        destination.url = Some(url.clone());
    }
    if let Some(token) = &set.token {
        destination.token = Some(Zeroizing::new(token.clone()));
    }
    if let Some(ca) = &set.ca {
        destination.ca_pem = Some(read_ca(ca)?);
    }
    if let Some(delete_on) = set.delete_on {
        destination.delete_on = delete_on.into();
    }
    let mut kept = phone.put_destination(&destination)?;
    if !set.reader.is_empty() || !set.drop_reader.is_empty() {
        phone.set_readers(kept.fingerprint(), readers(&kept, set)?)?;
        kept = phone.destination(&kept.fingerprint().to_string())?;
    }
    out.say(format!("destination set: {}", kept.name()));
    for reader in &kept.readers {
        let which =
            if reader.collections.is_empty() { "all".to_owned() } else { reader.collections.join(", ") };
        out.say(format!("reader: {}, of {which}", show::grouped(&reader.certificate.fingerprint())));
    }
    out.object(&show::destination_object(&kept));
    Ok(Done::Whole)
}

/// Its readers after what was asked for.
fn readers(destination: &Destination, set: &SetDestination) -> anyhow::Result<Vec<Reader>> {
    let mut readers = destination.readers.clone();
    for text in &set.drop_reader {
        let dropped =
            Fingerprint::from_hex(text).map_err(|error| Usage(format!("--drop-reader: {error}")))?;
        let before = readers.len();
        readers.retain(|reader| reader.certificate.fingerprint() != dropped);
        if readers.len() == before {
            return Err(
                Usage(format!("--drop-reader: {dropped} is no reader of {}", destination.name())).into()
            );
        }
    }
    for name in &set.reads {
        if !destination.collections.contains(name) {
            let known = destination.collections.join(", ");
            return Err(Usage(format!("--reads: no collection `{name}` here, there are: {known}")).into());
        }
    }
    for path in &set.reader {
        let context = || format!("--reader {}", path.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).with_context(context)?;
        file.take(MAX_CERTIFICATE as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
        let certificate = Certificate::from_bytes(&bytes).with_context(context)?;
        readers.retain(|known| !known.certificate.is_same_key(&certificate));
        readers.push(Reader { certificate, collections: set.reads.clone() });
    }
    Ok(readers)
}

fn remove(phone: &Phone, text: &str, out: &Out) -> anyhow::Result<Done> {
    let destination = phone.destination(text)?;
    phone.remove_destination(destination.fingerprint())?;
    out.say(format!(
        "destination removed: {}; documents for it stay until you delete them",
        destination.name()
    ));
    out.object(&json!({ "removed": destination.fingerprint() }));
    Ok(Done::Whole)
}
