//! `backhaul_first_byte_s`: from the moment when a route appears until the gateway's first uploaded byte.

use std::time::{Duration, Instant};

use waypost_node::store_key;
use waypost_protocol::envelope;
use waypost_protocol::ids::PeerKey;
use waypost_store::{Change, NewDocument, Options, PeerClass, Store};

use super::destination::Destination;
use super::maths::{RUNS, median};
use super::row::Measured;
use super::workload::noise;
use super::{Bench, Outcome};
use crate::process::{Process, program};
use crate::wan::{Conditions, Direction};

/// A photo: its bytes cannot be mistaken for a handshake's.
const SIZE: usize = 200_000;
/// More than a handshake and the head of a request take.
const MORE_THAN_ASKING: u64 = 20_000;
/// How long the gateway has been without a network.
const WITHOUT: Duration = Duration::from_secs(3);
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
const PHONE: PeerKey = PeerKey([7; 32]);

pub(super) fn first_byte(bench: &Bench) -> Outcome<Measured> {
    let destination = Destination::start(bench)?;
    let mobile = Conditions { delay: Duration::from_millis(100), ..Conditions::default() };
    destination.wan.set(&mobile);
    let mut times = Vec::new();
    for seed in 0..RUNS as u64 {
        times.push(one(bench, &destination, seed)?.as_secs_f64());
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    Ok(Measured::new(median(&times))
        .beside("slowest of five", format!("{slowest:.2} s"))
        .beside("line", "200 ms there and back; TCP, TLS and server information are asked in this time"))
}

fn one(bench: &Bench, destination: &Destination, seed: u64) -> Outcome<Duration> {
    let folder = bench.folder("backhaul")?;
    let at = folder.path();
    let store = Store::open(&at.join("store"), &store_key(&at.join("store.key"))?, Options::default())?;
    store.apply_one(Change::PutPeer { peer: PHONE, class: PeerClass::Paired, label: None })?;
    let document = destination.addressee.wrap(&noise(seed, SIZE))?;
    let (header, _) = envelope::parse(document.body())?;
    let new = NewDocument { document, header, age: 0, depositor: Some(PHONE), draft: false, note: None };
    store.apply_one(Change::Document(Box::new(new)))?;
    drop(store);
    for (name, bytes) in [
        ("clinic.pgp", destination.addressee.certificate.to_bytes()),
        ("ca.pem", std::fs::read(&destination.ca)?),
        ("token", destination.token.clone().into_bytes()),
    ] {
        std::fs::write(at.join(name), bytes)?;
    }
    let configuration = format!(
        "[store]\npath = \"store\"\n[identity]\nkey_file = \"identity.key\"\n[lan]\nlisten = [\"127.0.0.1:0\"]\n\
         advertise = false\n[ble]\nenabled = false\n[control]\nsocket = \"control.sock\"\n[[destination]]\nname = \"clinic\"\nurl = \"{}\"\n\
         certificate = \"clinic.pgp\"\nca_file = \"ca.pem\"\ntoken_file = \"token\"\n",
        destination.url
    );
    std::fs::write(at.join("gateway.toml"), configuration)?;

    let near = destination.wan.near();
    near.plug(false)?;
    let mut command = near.command(program("waypost")?);
    command.arg("--config").arg(at.join("gateway.toml")).arg("run");
    let mut process = Process::start(command, at.join("log"))?;
    process.wait_for("gateway is running", PATIENCE)?;
    process.wait_for("destination is no network", PATIENCE)?;
    std::thread::sleep(WITHOUT);

    let sent = || destination.wan.counters(Direction::Out).bytes;
    let before = sent();
    near.plug(true)?;
    let begun = Instant::now();
    while sent() < before + MORE_THAN_ASKING {
        if begun.elapsed() > PATIENCE {
            return Err(format!("nothing was uploaded: {}", process.output()).into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed();
    process.wait_for("confirmed by the destination", PATIENCE)?;
    process.terminate(PATIENCE)?;
    Ok(took)
}
