//! `listen` and `run`: being there for others, and in the background.

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use waypost_lan::Listener;
use waypost_link::Link;
use waypost_phone::{Bell, CODE_VALID, Ending, Phone, SyncReport, addresses_of};

use super::args::{ANYWHERE, Listen, Run};
use super::output::Out;
use super::sync::{View, summary};
use super::{Done, block_on, told_to_stop};

pub(super) fn listen(phone: &Phone, listen: &Listen, out: &Out) -> anyhow::Result<Done> {
    let done = block_on(async {
        let listener = bind(&listen.listen).await?;
        let serve = async {
            invite(phone, &listener, out)?;
            loop {
                let Ok(link) = tokio::time::timeout(CODE_VALID, next(&listener)).await else {
                    invite(phone, &listener, out)?;
                    continue;
                };
                let mut view = View::new(phone, *out)?;
                let report = phone.serve_link(link, &mut |event| view.show(event)).await?;
                view.end();
                contact(&report, out);
                if listen.once && report.key.is_some() {
                    return Ok(match report.ending.is_whole() {
                        true => Done::Whole,
                        false => Done::Partly,
                    });
                }
                if report.key.is_some() {
                    // The code is used up now.
                    invite(phone, &listener, out)?;
                }
            }
        };
        tokio::select! {
            done = serve => done,
            stopped = told_to_stop() => stopped.map(|()| Done::Whole).map_err(anyhow::Error::from),
        }
    })??;
    phone.tidy()?;
    Ok(done)
}

pub(super) fn run(phone: &Phone, run: &Run, out: &Out) -> anyhow::Result<Done> {
    block_on(async {
        let bell = match Bell::hang(phone) {
            Ok(bell) => Some(bell),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                anyhow::bail!("another `waypost-phone run` has this phone already; stop it first");
            }
            Err(error) => {
                log::warn!("added documents are noticed at the next look only: {error}");
                None
            }
        };
        let listener = match &run.listen {
            Some(address) => {
                let listener = bind(address).await?;
                invite(phone, &listener, out)?;
                Some(listener)
            }
            None => None,
        };
        let serve = async {
            let Some(listener) = &listener else { return std::future::pending().await };
            loop {
                let link = next(listener).await;
                contact(&phone.serve_link(link, &mut |_| {}).await?, out);
            }
        };
        let mut told = |report: &SyncReport| contact(report, out);
        out.say("running; stop with Ctrl-C");
        tokio::select! {
            ended = phone.attend(bell.as_ref(), &mut told) => ended.map_err(anyhow::Error::from),
            ended = serve => ended,
            stopped = told_to_stop() => stopped.map_err(anyhow::Error::from),
        }
    })??;
    Ok(Done::Whole)
}

async fn bind(address: &str) -> anyhow::Result<Listener> {
    let bound = match Listener::bind(address).await {
        // No IPv6 on this machine.
        Err(_) if address == ANYWHERE => Listener::bind("0.0.0.0:0").await,
        bound => bound,
    };
    bound.with_context(|| format!("--listen {address}"))
}

/// Makes a code for one other phone and shows it.
fn invite(phone: &Phone, listener: &Listener, out: &Out) -> anyhow::Result<()> {
    let addresses = addresses_of(listener).context("this machine's addresses")?;
    let text = phone.invite(addresses.clone())?.to_text();
    if let Ok(code) = QrCode::new(text.as_bytes()) {
        out.say(code.render::<Dense1x2>().build());
    }
    out.say(&text);
    let minutes = CODE_VALID.as_secs() / 60;
    out.say(format!("for one other phone, within {minutes} minutes: waypost-phone sync --phone TEXT"));
    out.object(&json!({ "event": "listening", "text": text, "addresses": addresses }));
    Ok(())
}

async fn next(listener: &Listener) -> Link {
    loop {
        match listener.accept().await {
            Ok(link) => return link,
            Err(error) => {
                log::warn!("a connection failed: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

/// One plain line for a contact.
fn contact(report: &SyncReport, out: &Out) {
    let mut object = serde_json::to_value(report).unwrap_or_default();
    object["event"] = json!("report");
    out.object(&object);
    let with = if report.with.is_empty() { &report.address } else { &report.with };
    let mut parts = vec![format!("{with}: {}", report.ending)];
    match report.ending {
        Ending::Finished | Ending::NothingNew => {}
        _ => parts.push(report.why.clone()),
    }
    parts.extend(summary(report));
    out.say(parts.join("; "));
}
