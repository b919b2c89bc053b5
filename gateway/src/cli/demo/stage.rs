//! The demo's three parties: how each is set up, started and asked.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::backhaul::Backhaul;
use super::processes::{Running, program, run_json};
use super::progress::{Progress, Step};
use crate::admin::{Answer, Request, Status};
use crate::control;

/// The collection that the demo's files go to.
const COLLECTION: &str = "demo";

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
    pub(super) fn start(work: &Path) -> anyhow::Result<Self> {
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
        run_json(&mut destination_command(&init), None, &log, |_| {})?;
        let added = run_json(&mut destination_command(&["gateways", "add", "kiosk"]), None, &log, |_| {})?;
        let listen = server.to_string();
        let mut destination = Running::start(destination_command(&["run", "--listen", &listen]), &log)?;
        destination.wait_until("the destination", || TcpStream::connect(server).is_ok())?;

        let backhaul = Backhaul::start(server)?;
        let folder = work.join("gateway");
        std::fs::create_dir_all(&folder)?;
        let token = added["token"].as_str().context("the destination gave no token")?;
        std::fs::write(folder.join("demo.token"), token)?;
        std::fs::write(folder.join("gateway.toml"), configuration(work, backhaul.address()))?;
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
        stage.phone(&["init", "--name", "demo phone"], None, |_| {})?;
        let code = stage.destination(&["phone-code"])?;
        let text = code["text"].as_str().context("the destination gave no code for phones")?;
        stage.phone(&["destination", "add", text, "--yes"], None, |_| {})?;
        Ok(stage)
    }

    /// The phone takes the gateway's code.
    pub(super) fn pair(&mut self) -> anyhow::Result<()> {
        let Answer::Code { text, .. } = self.ask(&Request::Pair)? else { bail!("the gateway gave no code") };
        let paired = self.phone(&["pair", &text], None, |_| {})?;
        self.count_link_bytes(&paired);
        Ok(())
    }

    /// Seals files of `folder` on the phone; those that it could not read, and why.
    pub(super) fn seal(
        &mut self,
        folder: &Path,
        files: &[PathBuf],
        progress: &Progress,
    ) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let mut list = Vec::new();
        for file in files {
            list.extend(folder.join(file).as_os_str().as_bytes());
            list.push(0);
        }
        let mut skipped: Vec<(PathBuf, String)> = Vec::new();
        let args = ["add", "--collection", COLLECTION, "--files-from", "-", "--base"].map(OsStr::new);
        let args = [&args[..], &[folder.as_os_str()]].concat();
        self.phone(&args, Some(list), |event| match (event["event"].as_str(), event["id"].as_str()) {
            (Some("added"), Some(id)) => progress.one(Step::Sealed, id),
            (Some("skipped"), _) => {
                // JSON holds a name that is not UTF-8 with replacements: the file that has such a name is the one.
                let shown = event["path"].as_str().unwrap_or_default();
                let is_it = |file: &&PathBuf| {
                    folder.join(file).to_string_lossy() == shown
                        && skipped.iter().all(|(known, _)| known != *file)
                };
                let path = files.iter().find(is_it).cloned().unwrap_or_else(|| shown.into());
                skipped.push((path, event["reason"].as_str().unwrap_or_default().to_owned()));
            }
            _ => {}
        })?;
        Ok(skipped)
    }

    /// The phone meets the gateway.
    pub(super) fn sync(&mut self, progress: &Progress) -> anyhow::Result<()> {
        let report =
            self.phone(&["sync"], None, |event| match (event["event"].as_str(), event["id"].as_str()) {
                (Some("at-kiosk"), Some(id)) => progress.one(Step::AtKiosk, id),
                (Some("confirmed"), Some(id)) => progress.one(Step::Deleted, id),
                _ => {}
            })?;
        self.count_link_bytes(&report);
        Ok(())
    }

    fn count_link_bytes(&mut self, report: &Value) {
        let count = |key: &str| report[key].as_u64().unwrap_or(0);
        self.link_bytes += count("bytes_in") + count("bytes_out");
    }

    /// Waits until the gateway has nothing left to upload; gives up when nothing moves for `patience`.
    pub(super) fn wait_for_uploads(&mut self, progress: &Progress, patience: Duration) -> anyhow::Result<()> {
        let mut moved = (Instant::now(), 0);
        loop {
            let status = self.status()?;
            let done = usize::try_from(status.opened + status.held + status.rejected).unwrap_or(usize::MAX);
            progress.set(Step::Uploaded, done);
            progress.set(Step::AtServer, self.at_server()?);
            if status.waiting == 0 {
                return Ok(());
            }
            let now = self.backhaul.bytes();
            if now != moved.1 {
                moved = (Instant::now(), now);
            }
            if moved.0.elapsed() > patience {
                let trouble =
                    status.destinations.iter().find_map(|one| one.trouble.clone()).unwrap_or_default();
                bail!("{} documents were not uploaded: {trouble}", status.waiting);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
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
        let listed = self.phone(&["list"], None, |_| {})?;
        listed["documents"].as_array().map(Vec::len).context("the phone gave no list of its documents")
    }

    /// Nothing may have reached the inbox.
    pub(super) fn expect_nothing_at_the_server(&self) -> anyhow::Result<()> {
        match self.at_server()? {
            0 => Ok(()),
            count => bail!("{count} files are at the server, though the backhaul is cut"),
        }
    }

    fn at_server(&self) -> anyhow::Result<usize> {
        Ok(super::files::scan(&self.inbox()).files.len())
    }

    /// Where the destination puts what it has opened.
    pub(super) fn inbox(&self) -> PathBuf {
        self.work.join("destination/inbox").join(COLLECTION)
    }

    /// Where the destination writes its confirmations as files.
    pub(super) fn confirmations(&self) -> PathBuf {
        self.work.join("destination/confirmations")
    }

    /// The destination's OpenPGP certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        certificate(&self.work)
    }

    /// Ends gateway and destination in order.
    pub(super) fn stop(&mut self) {
        self.gateway.stop();
        self.destination.stop();
    }

    fn status(&self) -> anyhow::Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            _ => bail!("the gateway gave no status"),
        }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<Answer> {
        control::ask(&self.socket, request)?.map_err(|message| anyhow::anyhow!(message))
    }

    fn phone(
        &self,
        args: &[impl AsRef<OsStr>],
        input: Option<Vec<u8>>,
        each: impl FnMut(&Value),
    ) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.phone_program);
        command.arg("--home").arg(self.work.join("phone")).arg("--json").args(args);
        run_json(&mut command, input, &self.work.join("phone.log"), each)
    }

    fn destination(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.destination_program);
        command.arg("--home").arg(self.work.join("destination")).arg("--json").args(args);
        run_json(&mut command, None, &self.work.join("destination.log"), |_| {})
    }
}

fn certificate(work: &Path) -> PathBuf {
    work.join("destination/certificate.pgp")
}

/// An address on loopback that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// The gateway's configuration, as an admin would write it.
fn configuration(work: &Path, destination: SocketAddr) -> String {
    let path = |relative: &str| format!("{:?}", work.join(relative).display().to_string());
    format!(
        "name = \"Demo kiosk\"\n\n\
         [store]\npath = {store}\n\n\
         [identity]\nkey_file = {identity}\n\n\
         [lan]\nlisten = [\"127.0.0.1:0\"]\nadvertise = false\n\n\
         [upload]\nprobe_interval = \"1s\"\nmax_backoff = \"1s\"\n\n\
         [control]\nsocket = {socket}\n\n\
         [[destination]]\nname = \"demo\"\nurl = \"https://{destination}\"\ncertificate = {certificate}\n\
         token_file = {token}\nca_file = {ca}\n",
        store = path("gateway/store"),
        identity = path("gateway/identity.key"),
        socket = path("gateway/control.sock"),
        certificate = format_args!("{:?}", certificate(work).display().to_string()),
        token = path("gateway/demo.token"),
        ca = path("destination/tls/ca.pem"),
    )
}
