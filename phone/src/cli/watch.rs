//! `listen` and `run`: being there for others, and in the background.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use crate::{Bell, CODE_VALID, Ending, Means, OnAir, Phone, SyncReport, addresses_of};
use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use waypost_lan::Listener;
use waypost_link::Link;

use super::args::{ANYWHERE, Listen, Run};
use super::output::Out;
use super::sync::{View, summary};
use super::{Done, block_on, told_to_stop};

pub(super) fn listen(phone: &Phone, listen: &Listen, out: &Out) -> anyhow::Result<Done> {
    let done = block_on(async {
        let (source, addresses, _on_air) = match listen.bluetooth.ble {
            true => {
                let (source, on_air) = air(phone, listen, out).await?;
                (source, Vec::new(), Some(on_air))
            }
            false => {
                let (source, addresses) = lan(&listen.listen).await?;
                (source, addresses, None)
            }
        };
        let show = || match listen.kiosk {
            true => {
                waiting(out);
                Ok(())
            }
            false => invite(phone, &addresses, listen.bluetooth.ble, out),
        };
        let mut door = Door::open(source, CODE_VALID, show)?;
        let serve = async {
            loop {
                let link = door.next().await?;
                let mut view = View::new(phone, *out)?;
                let report = match listen.kiosk {
                    true => phone.serve_kiosk(link, &mut |event| view.show(event)).await?,
                    false => phone.serve_link(link, &mut |event| view.show(event)).await?,
                };
                view.end();
                tell(&report, out);
                if listen.once && report.key.is_some() {
                    return Ok(match report.ending.is_whole() {
                        true => Done::Whole,
                        false => Done::Partly,
                    });
                }
                door.served(&report)?;
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
        let mut source = match &run.listen {
            Some(address) => Some(lan(address).await?),
            None => None,
        };
        let is_any = !run.bluetooth.ble && !run.wifi_direct && !run.lan;
        let means = Means {
            air: (is_any || run.bluetooth.ble).then(|| run.bluetooth.adapter.clone()),
            wifi: run.radio.use_of(is_any || run.wifi_direct),
        };
        let news = RefCell::new(News::default());
        let contact = |report: &SyncReport| {
            if news.borrow_mut().is_in(report) {
                tell(report, out);
            }
        };
        let serve = async {
            let Some((source, addresses)) = source.take() else { return std::future::pending().await };
            let mut door = Door::open(source, CODE_VALID, || invite(phone, &addresses, false, out))?;
            loop {
                let link = door.next().await?;
                let report = phone.serve_link(link, &mut |_| {}).await?;
                contact(&report);
                door.served(&report)?;
            }
        };
        let mut told = &contact;
        out.say("running; stop with Ctrl-C");
        tokio::select! {
            ended = phone.attend(bell.as_ref(), &means, &mut told) => ended.map_err(anyhow::Error::from),
            ended = serve => ended,
            stopped = told_to_stop() => stopped.map_err(anyhow::Error::from),
        }
    })??;
    Ok(Done::Whole)
}

/// Where links come from.
enum Source {
    Lan(Listener),
    Air(mpsc::Receiver<Link>),
}

impl Source {
    /// Whoever comes next.
    async fn next(&mut self) -> Link {
        loop {
            match self {
                Source::Lan(listener) => match listener.accept().await {
                    Ok(link) => return link,
                    Err(error) => {
                        log::warn!("a connection failed: {error}");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
                Source::Air(links) => match links.recv().await {
                    Some(link) => return link,
                    // Its sender goes on for as long as the phone is on the air.
                    None => std::future::pending().await,
                },
            }
        }
    }
}

/// Links from the network, and the addresses that others come to.
async fn lan(address: &str) -> anyhow::Result<(Source, Vec<String>)> {
    let bound = match Listener::bind(address).await {
        // No IPv6 on this machine.
        Err(_) if address == ANYWHERE => Listener::bind("0.0.0.0:0").await,
        bound => bound,
    };
    let listener = bound.with_context(|| format!("--listen {address}"))?;
    let addresses = addresses_of(&listener).context("this machine's addresses")?;
    Ok((Source::Lan(listener), addresses))
}

/// Links from the air, for as long as what is returned with them lives.
async fn air(phone: &Phone, listen: &Listen, out: &Out) -> anyhow::Result<(Source, OnAir)> {
    let (links_in, links) = mpsc::channel(4);
    let mut on_air = phone.be_visible(&listen.bluetooth.adapter, listen.gatt, links_in)?;
    on_air.ready().await.map_err(anyhow::Error::msg)?;
    out.say("others can find this phone over Bluetooth");
    Ok((Source::Air(links), on_air))
}

/// Says that a kiosk may come.
fn waiting(out: &Out) {
    out.say("waiting for a kiosk that calls phones; stop with Ctrl-C");
    out.object(&json!({ "event": "listening", "for": "kiosk" }));
}

/// Makes a code for one other phone and shows it.
fn invite(phone: &Phone, addresses: &[String], ble: bool, out: &Out) -> anyhow::Result<()> {
    let text = phone.invite(addresses.to_vec())?.to_text();
    if let Ok(code) = QrCode::new(text.as_bytes()) {
        out.say(code.render::<Dense1x2>().build());
    }
    out.say(&text);
    let minutes = CODE_VALID.as_secs() / 60;
    let how = if ble { " --ble" } else { "" };
    out.say(format!("for one other phone, within {minutes} minutes: waypost-phone sync{how} --phone TEXT"));
    out.object(&json!({ "event": "listening", "text": text, "addresses": addresses }));
    Ok(())
}

/// Where other phones come in: a code lies before it, a new one once a phone has come or the last is over.
struct Door<S> {
    source: Source,
    valid: Duration,
    show: S,
    until: Instant,
}

impl<S: FnMut() -> anyhow::Result<()>> Door<S> {
    /// Shows the first code. Each is valid for so long.
    fn open(source: Source, valid: Duration, show: S) -> anyhow::Result<Self> {
        let mut door = Door { source, valid, show, until: Instant::now() };
        door.renew()?;
        Ok(door)
    }

    fn renew(&mut self) -> anyhow::Result<()> {
        (self.show)()?;
        self.until = Instant::now() + self.valid;
        Ok(())
    }

    /// Whoever comes next.
    async fn next(&mut self) -> anyhow::Result<Link> {
        loop {
            match tokio::time::timeout_at(self.until, self.source.next()).await {
                Ok(link) => return Ok(link),
                Err(_) => self.renew()?,
            }
        }
    }

    /// Somebody has been there. Who has shown a key has used the code up, unless it came without.
    fn served(&mut self, report: &SyncReport) -> anyhow::Result<()> {
        if report.key.is_some() { self.renew() } else { Ok(()) }
    }
}

/// What is worth a line in the background: each contact that did something, and any other outcome the first time.
#[derive(Default)]
struct News {
    /// How it last went, by peer.
    last: HashMap<String, String>,
}

impl News {
    /// Strangers have names without number.
    const MAX_PEERS: usize = 256;

    fn is_in(&mut self, report: &SyncReport) -> bool {
        let mut outcome = match report.ending.is_whole() {
            true => String::new(),
            false => format!("{}: {}", report.ending, report.why),
        };
        report.refused.iter().for_each(|one| outcome += &format!("; {} {}", one.id, one.reason));
        report
            .not_served
            .iter()
            .for_each(|one| outcome += &format!("; {} {}", one.destination, one.documents));
        if self.last.len() >= Self::MAX_PEERS {
            self.last.clear();
        }
        let before = self.last.insert(report.with.clone(), outcome.clone());
        report.moved() || before != Some(outcome)
    }
}

/// One plain line for a contact.
fn tell(report: &SyncReport, out: &Out) {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn report(ending: Ending, why: &str) -> SyncReport {
        SyncReport::not_begun("Kiosk", ending, why)
    }

    #[test]
    fn a_code_is_renewed_when_it_is_over_also_while_strangers_come_and_go() {
        let begun = Instant::now();
        let served = block_on(async {
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_address().unwrap();
            let shown = Cell::new(0u128);
            let show = || {
                shown.set(shown.get() + 1);
                Ok(())
            };
            let mut door = Door::open(Source::Lan(listener), Duration::from_millis(200), show).unwrap();
            assert_eq!(shown.get(), 1);
            let stay = async {
                loop {
                    drop(door.next().await.unwrap());
                    door.served(&report(Ending::Failed, "a stranger")).unwrap();
                }
            };
            let strangers = async {
                for _ in 0..14 {
                    drop(tokio::net::TcpStream::connect(address).await.unwrap());
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                () = stay => {}
                () = strangers => {}
            }
            shown.get()
        });
        let (shown, took) = (served.unwrap(), begun.elapsed());
        let most = 1 + took.as_millis() / 200;
        assert!(shown >= 2 && shown <= most, "{shown} codes in {took:?}, each valid for 200 ms");
    }

    #[test]
    fn nothing_new_and_a_lasting_failure_are_told_once_and_what_moved_always() {
        let mut news = News::default();
        let moved = SyncReport { transferred: 1, ..report(Ending::Finished, "") };
        let away = report(Ending::TurnedAway, "busy");
        let told = [
            (report(Ending::NothingNew, ""), true),
            (report(Ending::NothingNew, ""), false),
            (moved.clone(), true),
            (moved, true),
            (report(Ending::NothingNew, ""), false),
            (away.clone(), true),
            (away, false),
            (report(Ending::NothingNew, ""), true),
            (SyncReport { with: "Other".into(), ..report(Ending::NothingNew, "") }, true),
        ];
        for (at, (report, expected)) in told.into_iter().enumerate() {
            assert_eq!(news.is_in(&report), expected, "contact {at}");
        }
    }
}
