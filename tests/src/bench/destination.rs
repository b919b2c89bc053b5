//! A real `waypost-destination` behind an emulated wide area network, and what clients need to know of it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use waypost_openpgp::Certificate;
use waypost_protocol::invite;
use waypost_upload::{Client, Settings, Token};

use super::workload::Addressee;
use super::{Bench, Outcome};
use crate::process::{Process, program};
use crate::wan::{Conditions, Side, Wan};

const PORT: u16 = 8443;
const START: Duration = Duration::from_secs(20);

/// The server on the far side of a network.
pub(super) struct Destination {
    pub(super) wan: Wan,
    pub(super) addressee: Addressee,
    pub(super) url: String,
    pub(super) token: String,
    pub(super) ca: String,
    pub(super) folder: TempDir,
    _process: Process,
}

impl Destination {
    pub(super) fn start(bench: &Bench) -> Outcome<Self> {
        let wan = Wan::new(Conditions::default())?;
        for side in [wan.near(), wan.far()] {
            forget_metrics(side)?;
        }
        let folder = bench.folder("destination")?;
        let address = wan.far().address();
        let url = format!("https://{address}:{PORT}");
        let home = folder.path().join("home");
        let command = |mut command: Command, arguments: &[&str]| {
            command.arg("--home").arg(&home).args(["--json", "--log", "warn"]).args(arguments);
            command
        };
        let program = program("waypost-destination")?;
        let ask = |arguments: &[&str]| json(command(Command::new(&program), arguments));
        ask(&["init", "--name", "Bench", "--url", &url, "--self-signed", &address.to_string()])?;
        let added = ask(&["gateways", "add", "kiosk"])?;
        let code = invite::Destination::parse(text(&ask(&["phone-code"])?, "text")?)?;
        let certificate = std::fs::read(text(&added, "certificate_file")?)?;
        let addressee = Addressee {
            certificate: Certificate::from_bytes(&certificate)?,
            collection_key: code.collection_key,
        };
        let listen = format!("{}:{PORT}", Ipv4Addr::UNSPECIFIED);
        let run = command(wan.far().command(&program), &["run", "--listen", &listen]);
        let mut process = Process::start(run, folder.path().join("log"))?;
        process.wait_for("\"ready\":true", START)?;
        let (token, ca) = (text(&added, "token")?.to_owned(), text(&added, "ca_file")?.to_owned());
        Ok(Destination { wan, addressee, url, token, ca, folder, _process: process })
    }

    /// A client as the gateway makes it.
    pub(super) fn client(&self) -> Outcome<Client> {
        let mut settings = Settings::new(&self.url, Some(self.addressee.fingerprint()));
        settings.token = Some(Token::new(&self.token));
        settings.ca_pem = Some(std::fs::read(&self.ca)?);
        Ok(Client::new(&settings)?)
    }
}

/// Each connection begins as the first one to that server does, not with what the kernel remembers of the last one.
fn forget_metrics(side: &Side) -> std::io::Result<()> {
    side.namespace().run(|| {
        std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno")?;
        std::fs::write("/proc/sys/net/ipv4/tcp_no_metrics_save", "1")
    })
}

fn json(mut command: Command) -> Outcome<Value> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Outcome<&'v str> {
    value[key].as_str().ok_or_else(|| format!("the destination told no {key}").into())
}
