//! The demo's three parties: how each is set up, started and asked.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;
use toml::{Table, Value as Setting};

use super::backhaul::Backhaul;
use super::processes::{Ended, Heard, Running, program, run_json};
use super::progress::Count;
use crate::admin::{Answer, Request, Status};
use crate::control;

/// The collection that the demo's files go to.
pub(super) const COLLECTION: &str = "demo";
/// What destination and kiosk take, in bytes, unless the reader wants to see documents refused: all that the disk holds.
const ANY_SIZE: u64 = 1 << 40;

/// Destination, gateway and phone.
pub(super) struct Stage {
    pub(super) work: PathBuf,
    pub(super) backhaul: Backhaul,
    /// Frame bytes between phone and gateway, both ways.
    pub(super) link_bytes: u64,
    gateway: Running,
    destination: Running,
    phone_program: PathBuf,
    destination_program: PathBuf,
    socket: PathBuf,
}

impl Stage {
    /// Sets all three up below `work` and starts destination and gateway; the backhaul is cut.
    /// The destination takes documents up to `max_document` bytes.
    pub(super) fn start(work: &Path, max_document: Option<u64>) -> anyhow::Result<Self> {
        let destination_program = program("waypost-destination")?;
        let phone_program = program("waypost-phone")?;
        let home = work.join("destination");
        let log = work.join("destination.log");
        let server = free_address()?;
        let destination_command = |args: &[&str]| {
            let mut command = Command::new(&destination_program);
            command.arg("--home").arg(&home).arg("--json").args(args);
            command
        };
        let url = format!("https://127.0.0.1:{}", server.port());
        let init = [
            "init",
            "--name",
            "Demo",
            "--url",
            &url,
            "--self-signed",
            "127.0.0.1",
            "--collection",
            COLLECTION,
        ];
        run_json(&mut destination_command(&init), None, &log, |_| {})?.done()?;
        take_documents_up_to(max_document.unwrap_or(ANY_SIZE), &home.join("destination.toml"))?;
        let mut add = destination_command(&["gateways", "add", "kiosk"]);
        let added = run_json(&mut add, None, &log, |_| {})?.done()?;
        let listen = server.to_string();
        let mut destination = Running::start(destination_command(&["run", "--listen", &listen]), &log)?;
        destination.wait_until("the destination", || TcpStream::connect(server).is_ok())?;

        let backhaul = Backhaul::start(server)?;
        let folder = work.join("gateway");
        std::fs::create_dir_all(&folder)?;
        let token = added["token"].as_str().context("the destination gave no token")?;
        std::fs::write(folder.join("demo.token"), token)?;
        std::fs::write(folder.join("gateway.toml"), configuration(work, backhaul.address())?)?;
        let socket = folder.join("control.sock");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(folder.join("gateway.toml")).arg("run");
        let mut gateway = Running::start(command, &work.join("gateway.log"))?;
        gateway.wait_until("the gateway", || control::is_running(&socket))?;

        let stage = Stage {
            work: work.to_owned(),
            backhaul,
            link_bytes: 0,
            gateway,
            destination,
            phone_program,
            destination_program,
            socket,
        };
        stage.phone(&["init", "--name", "demo phone"], None, |_| {})?.done()?;
        let code = stage.destination(&["phone-code"])?;
        let text = code["text"].as_str().context("the destination gave no code for phones")?;
        stage.phone(&["destination", "add", text, "--yes"], None, |_| {})?.done()?;
        Ok(stage)
    }

    /// The phone takes the gateway's code.
    pub(super) fn pair(&mut self) -> anyhow::Result<()> {
        let Answer::Code { text, .. } = self.ask(&Request::Pair)? else { bail!("the gateway gave no code") };
        let paired = self.phone(&["pair", &text], None, |_| {})?.done()?;
        self.count_link_bytes(&paired);
        Ok(())
    }

    /// Adds the bytes of a contact that the phone reports.
    pub(super) fn count_link_bytes(&mut self, report: &Value) {
        let count = |key: &str| report[key].as_u64().unwrap_or(0);
        self.link_bytes += count("bytes_in") + count("bytes_out");
    }

    /// Documents at the gateway that wait for the backhaul.
    pub(super) fn waiting(&self) -> anyhow::Result<u64> {
        Ok(self.status()?.waiting)
    }

    /// Documents that the gateway has a confirmation of.
    pub(super) fn confirmed(&self) -> anyhow::Result<u64> {
        let status = self.status()?;
        Ok(status.opened + status.held + status.rejected)
    }

    /// Documents that are still on the phone.
    pub(super) fn left_on_phone(&self) -> anyhow::Result<usize> {
        let listed = self.phone(&["list"], None, |_| {})?.done()?;
        listed["documents"].as_array().map(Vec::len).context("the phone gave no list of its documents")
    }

    /// Nothing may have reached the inbox.
    pub(super) fn expect_nothing_at_the_server(&self) -> anyhow::Result<()> {
        match self.at_server().documents {
            0 => Ok(()),
            count => bail!("{count} files are at the server, though the backhaul is cut"),
        }
    }

    /// Files in the inbox.
    pub(super) fn at_server(&self) -> Count {
        super::files::count(&self.inbox())
    }

    fn inbox(&self) -> PathBuf {
        inbox(&self.work)
    }

    /// Ends gateway and destination in order.
    pub(super) fn stop(&mut self) {
        self.gateway.stop();
        self.destination.stop();
    }

    /// How the gateway is.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            _ => bail!("the gateway gave no status"),
        }
    }

    /// Asks the gateway as an admin does.
    pub(super) fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        control::ask(&self.socket, request)?.map_err(|message| anyhow::anyhow!(message))
    }

    /// Runs a command of the phone.
    pub(super) fn phone(
        &self,
        args: &[impl AsRef<OsStr>],
        input: Option<Vec<u8>>,
        each: impl FnMut(Heard<'_>),
    ) -> anyhow::Result<Ended> {
        let mut command = Command::new(&self.phone_program);
        command.arg("--home").arg(self.work.join("phone")).arg("--json").args(args);
        run_json(&mut command, input, &self.work.join("phone.log"), each)
    }

    fn destination(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.destination_program);
        command.arg("--home").arg(self.work.join("destination")).arg("--json").args(args);
        run_json(&mut command, None, &self.work.join("destination.log"), |_| {})?.done()
    }
}

/// Where the destination puts what it has opened.
pub(super) fn inbox(work: &Path) -> PathBuf {
    work.join("destination/inbox").join(COLLECTION)
}

/// Where the destination writes its confirmations as files.
pub(super) fn confirmations(work: &Path) -> PathBuf {
    work.join("destination/confirmations")
}

/// The destination's OpenPGP certificate.
pub(super) fn certificate(work: &Path) -> PathBuf {
    work.join("destination/certificate.pgp")
}

/// An address on loopback that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Changes the destination's settings, as its admin would.
fn take_documents_up_to(bytes: u64, settings: &Path) -> anyhow::Result<()> {
    let mut table: Table = std::fs::read_to_string(settings)?.parse()?;
    for key in ["max_document", "max_content"] {
        table.insert(key.into(), Setting::Integer(i64::try_from(bytes)?));
    }
    std::fs::write(settings, table.to_string())
        .with_context(|| format!("cannot write {}", settings.display()))
}

/// The gateway's configuration, as an admin would write it.
fn configuration(work: &Path, destination: SocketAddr) -> anyhow::Result<String> {
    let text = |text: &str| Setting::String(text.to_owned());
    let path = |path: PathBuf| match path.to_str() {
        Some(path) => Ok(text(path)),
        None => bail!(
            "{} is no UTF-8, which a configuration must be; name another folder with --work",
            path.display()
        ),
    };
    let table = |entries: Vec<(&str, Setting)>| {
        Setting::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let gateway = work.join("gateway");
    let sections = [
        ("name", text("Demo kiosk")),
        ("store", table(vec![("path", path(gateway.join("store"))?)])),
        ("identity", table(vec![("key_file", path(gateway.join("identity.key"))?)])),
        ("limits", table(vec![("max_document", Setting::Integer(i64::try_from(ANY_SIZE)?))])),
        (
            "lan",
            table(vec![
                ("listen", Setting::Array(vec![text("127.0.0.1:0")])),
                ("advertise", Setting::Boolean(false)),
            ]),
        ),
        ("ble", table(vec![("enabled", Setting::Boolean(false))])),
        ("upload", table(vec![("probe_interval", text("1s")), ("max_backoff", text("1s"))])),
        ("control", table(vec![("socket", path(gateway.join("control.sock"))?)])),
        (
            "destination",
            Setting::Array(vec![table(vec![
                ("name", text("demo")),
                ("url", text(&format!("https://{destination}"))),
                ("certificate", path(certificate(work))?),
                ("token_file", path(gateway.join("demo.token"))?),
                ("ca_file", path(work.join("destination/tls/ca.pem"))?),
            ])]),
        ),
    ];
    Ok(toml::to_string(&table(sections.to_vec()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_holds_every_path_as_it_is() {
        for name in ["plain", "cafe\u{301}", "quo\"te's", "new\nline \u{7f}", "村 \\u0041"] {
            let work = Path::new("/tmp").join(name);
            let written = configuration(&work, SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
            let read: Table = written.parse().unwrap();
            assert_eq!(read["store"]["path"].as_str(), work.join("gateway/store").to_str());
            assert_eq!(read["destination"][0]["certificate"].as_str(), certificate(&work).to_str());
        }
    }
}
