//! `init` and `status`.

use crate::{Phone, Standing, words};
use serde_json::json;

use super::args::Init;
use super::output::Out;
use super::{Done, show};

pub(super) fn init(phone: &Phone, is_new: bool, init: &Init, out: &Out) -> anyhow::Result<Done> {
    if let Some(name) = &init.name {
        phone.set_name(name)?;
    }
    let home = phone.home().display();
    out.say(format!("phone {} in {home}", if is_new { "made" } else { "was there already" }));
    out.say(format!("key: {}", phone.key()));
    if phone.destinations()?.is_empty() {
        out.say("next: waypost-phone destination add URL|CERT-FILE|CODE");
    }
    out.object(&json!({
        "home": phone.home().to_string_lossy(), "key": phone.key(), "name": phone.name()?, "new": is_new,
    }));
    Ok(Done::Whole)
}

pub(super) fn status(phone: &Phone, out: &Out) -> anyhow::Result<Done> {
    let (name, key) = (phone.name()?, phone.key());
    let destinations = phone.destinations()?;
    let gateways = phone.gateways()?;
    let listed = phone.list(true)?;
    let states = [
        Standing::Draft,
        Standing::Ready,
        Standing::AtTheKiosk,
        Standing::AtTheServer,
        Standing::Refused,
        Standing::Conflict,
    ];
    let count = |state| listed.iter().filter(|one| one.state == state).count();
    let here: u64 = listed.iter().filter(|one| one.is_here).map(|one| one.size).sum();
    let usage = phone.store().usage()?;
    out.say(format!(
        "phone     {}{key}",
        if name.is_empty() { String::new() } else { format!("{name}, key ") }
    ));
    out.say(format!("folder    {}", phone.home().display()));
    for one in &destinations {
        out.say(format!("to        {} ({})", one.name(), show::grouped(&one.fingerprint())));
    }
    if destinations.is_empty() {
        out.say("to        nobody yet; next: waypost-phone destination add URL|CERT-FILE|CODE");
    }
    let subscriptions = phone.subscriptions()?;
    for one in &subscriptions {
        out.say(format!("wants     {}", one.collection));
    }
    let reader = phone.reader()?.map(|key| key.certificate().fingerprint());
    if let Some(reader) = &reader {
        out.say(format!("reads as  {}", show::grouped(reader)));
    }
    for gateway in &gateways {
        out.say(format!("knows     {}", show::gateway(gateway)));
    }
    if gateways.is_empty() {
        out.say("knows     no kiosk yet; next: waypost-phone pair TEXT");
    }
    for state in states {
        out.say(format!("{:<9} {}", count(state), state));
    }
    out.say(format!("on disk   {} of sealed documents, {} free", words::size(here), words::size(usage.room)));
    let counts: serde_json::Map<String, serde_json::Value> = states
        .iter()
        .filter_map(|state| {
            Some((serde_json::to_value(state).ok()?.as_str()?.to_owned(), count(*state).into()))
        })
        .collect();
    out.object(&json!({
        "key": key, "name": name, "home": phone.home().to_string_lossy(), "store": phone.store().store_id(),
        "destinations": destinations.iter().map(show::destination_object).collect::<Vec<_>>(),
        "gateways": gateways.iter().map(show::gateway_object).collect::<Vec<_>>(),
        "subscriptions": subscriptions, "reader": reader,
        "documents": counts, "sealed_bytes": here, "room": usage.room,
    }));
    Ok(Done::Whole)
}
