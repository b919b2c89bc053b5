//! `pair` and `gateways`.

use std::time::Duration;

use crate::{Air, Gateway, LOOK, Nearby, Phone, Role, Search, SyncOptions, WIFI_LOOK, Who, words};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use waypost_protocol::advertising::Advertisement;

use super::args::{Gateways, GatewaysCommand, Pair};
use super::output::Out;
use super::sync::View;
use super::{Done, block_on, picture, show};

/// Pairing waits for so long at most.
const PAIRING: Duration = Duration::from_secs(60);

pub(super) fn pair(phone: &Phone, pair: &Pair, out: &Out) -> anyhow::Result<Done> {
    let text = picture::text_of(&pair.text)?;
    let gateway = phone.introduce(&text, Role::Kiosk)?;
    phone.ring();
    if pair.later {
        out.say(format!("remembered: {}; the first sync pairs", show::gateway(&gateway)));
        out.object(&json!({ "gateway": show::gateway_object(&gateway) }));
        return Ok(Done::Whole);
    }
    let search = pair.address.as_deref().map_or(Search::Everywhere, Search::At);
    let options = SyncOptions { timeout: Some(PAIRING), until_accepted: true, ..SyncOptions::default() };
    let mut view = View::new(phone, *out)?;
    let mut show = |event| view.show(event);
    let report = match pair.bluetooth.ble {
        false if pair.wifi_direct => {
            let wifi = pair.radio.of_radio()?;
            let who = Who::Any(std::slice::from_ref(&gateway));
            block_on(phone.sync_over_wifi(&wifi, who, pair.pin.as_ref(), WIFI_LOOK, options, &mut show))??
        }
        true => block_on(async {
            let air = Air::open(&pair.bluetooth.adapter, false).await?;
            let who = Who::Any(std::slice::from_ref(&gateway));
            anyhow::Ok(phone.sync_over_air(&air, who, LOOK, options, &mut show).await?)
        })??,
        false => block_on(phone.sync_with(&gateway, search, options, &mut show))??,
    };
    view.end();
    let gateway = phone.gateway_by_key(&gateway.key)?.unwrap_or(gateway);
    let why =
        Some(&report.why).filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
    let name = gateway.label();
    let done = match (gateway.is_paired(), report.is_passing()) {
        (true, _) => Done::Whole,
        (false, true) => Done::Partly,
        (false, false) => Done::Not,
    };
    match done {
        Done::Whole => out.say(format!("paired with {name}")),
        Done::Partly => {
            out.say(format!("not paired with {name} yet{why}; it is remembered, the first sync pairs"))
        }
        Done::Not => out.say(format!("not paired with {name}{why}")),
    }
    out.object(&json!({ "gateway": show::gateway_object(&gateway), "report": report }));
    Ok(done)
}

pub(super) fn run(phone: &Phone, gateways: Gateways, out: &Out) -> anyhow::Result<Done> {
    if let Some(GatewaysCommand::Forget { gateway }) = &gateways.command {
        let gateway = phone.gateway(gateway)?;
        phone.forget_gateway(&gateway.key)?;
        out.say(format!("forgotten: {}", gateway.label()));
        out.object(&json!({ "forgotten": gateway.key }));
        return Ok(Done::Whole);
    }
    let known = phone.gateways()?;
    for gateway in &known {
        out.say(show::gateway(gateway));
    }
    if known.is_empty() {
        out.say("no kiosk is known yet; next: waypost-phone pair TEXT");
    }
    let mut near: Vec<Value> = Vec::new();
    if gateways.lan {
        let span = Duration::from_secs(gateways.seconds.min(60));
        for found in block_on(waypost_lan::browse(span))?? {
            let name = words::plain(&found.name);
            let is_known = known.iter().any(|one| one.name == name);
            let at: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
            let hint = if is_known { "" } else { ", not known here: scan its QR code to pair" };
            out.say(format!("near: {name} at {}{hint}", at.join(", ")));
            near.push(json!({
                "name": name, "version": words::plain(&found.version), "addresses": at, "known_name": is_known,
            }));
        }
        if near.is_empty() {
            out.say("near: no kiosk answers on this network");
        }
    }
    if gateways.bluetooth.ble {
        near.extend(over_air(phone, &gateways, out)?);
    }
    if gateways.wifi_direct {
        near.extend(over_wifi(&known, &gateways, out)?);
    }
    let known: Vec<_> = known.iter().map(show::gateway_object).collect();
    out.object(&json!({ "known": known, "near": near }));
    Ok(Done::Whole)
}

/// Who is near by Wi-Fi Direct.
fn over_wifi(known: &[Gateway], gateways: &Gateways, out: &Out) -> anyhow::Result<Vec<Value>> {
    let found = block_on(gateways.radio.of_radio()?.look(WIFI_LOOK))??;
    let mut near = Vec::new();
    for one in found {
        let Some(service) = one.service else { continue };
        let name = words::plain(&service.name);
        let is_known = known.iter().any(|one| one.name == name);
        let hint = if is_known { "" } else { ", not known here: scan its QR code to pair" };
        let signal = one.peer.signal.map_or(String::new(), |signal| format!(", {signal} dBm"));
        out.say(format!("near: {name} by Wi-Fi Direct{signal}{hint}"));
        near.push(json!({
            "medium": "wifi-direct", "name": name, "version": words::plain(&service.version), "address": one.peer.address,
            "device": words::plain(&one.peer.name), "group": one.peer.is_owner, "signal": one.peer.signal,
            "known_name": is_known,
        }));
    }
    if near.is_empty() {
        out.say("near: no kiosk answers by Wi-Fi Direct");
    }
    Ok(near)
}

/// Who is near on Bluetooth.
fn over_air(phone: &Phone, gateways: &Gateways, out: &Out) -> anyhow::Result<Vec<Value>> {
    let window = Duration::from_secs(gateways.seconds.clamp(1, 60));
    let near = block_on(async {
        let air = Air::open(&gateways.bluetooth.adapter, false).await?;
        anyhow::Ok(phone.look_around(&air, window, |_, _| false).await?)
    })??;
    near.iter().for_each(|one| out.say(format!("near: {}", nearby(one))));
    if near.is_empty() {
        out.say("near: nobody answers over Bluetooth");
    }
    Ok(near.iter().map(nearby_object).collect())
}

/// Somebody near, in one line.
fn nearby(one: &Nearby) -> String {
    let name = one.name();
    let mut parts = vec![match &one.known {
        Some(known) => format!("{}, known here", known.label()),
        None if name.is_empty() => "without a name, not known here".to_owned(),
        None => format!("{name}, not known here: scan its QR code to pair"),
    }];
    parts.extend(one.sighting.signal.map(|signal| format!("{signal} dBm")));
    match &one.said {
        Some(said) => {
            let identifier = HEXLOWER.encode(said.identifier.as_bytes());
            parts.push(format!("identifier {identifier}"));
            parts.extend(
                flags(said).into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name.replace('_', " ")),
            );
        }
        None => parts.push("of another version".to_owned()),
    }
    parts.push(format!("heard {:.1} s ago", one.sighting.seen.elapsed().as_secs_f32()));
    parts.join(", ")
}

fn flags(said: &Advertisement) -> [(&'static str, bool); 4] {
    [
        ("gateway", said.is_gateway),
        ("backhaul", said.has_backhaul),
        ("wifi", said.offers_wifi),
        ("has_room", said.has_room),
    ]
}

fn nearby_object(one: &Nearby) -> Value {
    let flags: Option<serde_json::Map<String, Value>> = one
        .said
        .as_ref()
        .map(|said| flags(said).into_iter().map(|(name, is_set)| (name.to_owned(), is_set.into())).collect());
    json!({
        "medium": "ble", "name": one.name(), "address": one.sighting.address, "signal": one.sighting.signal,
        "identifier": one.said.map(|said| HEXLOWER.encode(said.identifier.as_bytes())), "flags": flags,
        "seconds_ago": one.sighting.seen.elapsed().as_secs_f32(),
        "known": one.known.as_ref().map(|known| known.key), "known_name": one.known.as_ref().map(|known| &known.name),
    })
}
