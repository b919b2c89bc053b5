//! The command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's results are its standard output")]

mod access;
mod check;
mod confirm;
mod import;
mod key;
mod publish;
mod setup;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Home, Server, logger};
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::{Value, json};

/// The reference destination server of Waypost.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    /// The server's folder: settings, keys, store, inbox [default: $XDG_DATA_HOME/waypost-destination or ~/.local/share/waypost-destination]
    #[arg(long, global = true, env = "WAYPOST_DESTINATION_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print JSON: one object, or one a line where there is more to come.
    #[arg(long, global = true)]
    json: bool,
    /// Least important messages to log: error, warn, info, debug, trace, off.
    #[arg(long, global = true, env = "WAYPOST_LOG", default_value = "info")]
    log: log::LevelFilter,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the folder: OpenPGP key, TLS certificate, settings.
    Init(setup::InitArguments),
    /// Serve.
    Run {
        /// Address and port; port 0 lets the system choose. Default: the one in the settings.
        #[arg(long)]
        listen: Option<String>,
    },
    /// Say which gateways may upload.
    #[command(subcommand)]
    Gateways(access::GatewaysCommand),
    /// Print the code with which phones add this destination.
    PhoneCode {
        /// Also make a token of this name, with which phones upload by themselves.
        #[arg(long, value_name = "NAME")]
        token: Option<String>,
    },
    /// Open held documents with the decryption key and confirm them anew.
    Open {
        /// The secret key, OpenPGP; default: the folder's own.
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Confirmations as files.
    #[command(subcommand)]
    Confirmations(confirm::ConfirmationsCommand),
    /// Take documents from a USB stick that a gateway exported to, and write their confirmations onto it.
    Import(import::ImportArguments),
    /// Write documents to a collection's readers: gateways fetch them and hand them to phones that subscribe.
    Publish(publish::PublishArguments),
    /// Print the OpenPGP certificate.
    Certificate,
    /// Test any server that implements the API: each requirement, passed or failed. Leaves some documents in its inbox.
    Check(check::CheckArguments),
    /// The OpenPGP key: new subkeys, successors, revocations.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Say what there is.
    Status,
}

fn default_home() -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    data.unwrap_or_default().join("waypost-destination")
}

/// The command with all that it takes: for its manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logger::start(arguments.log);
    // One line in the log: what a stranger's bytes bring about shall not fill it with backtraces.
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    let as_json = arguments.json;
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain(&error, as_json);
            ExitCode::FAILURE
        }
    }
}

/// What a command says: for people, and for programs.
struct Said {
    text: String,
    json: Value,
}

impl Said {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Said { text: text.into(), json }
    }

    fn print(&self, as_json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match as_json {
            true => writeln!(out, "{}", self.json)?,
            false => writeln!(out, "{}", self.text.trim_end())?,
        }
        out.flush()
    }
}

/// Says what went wrong, for programs on standard output as well.
fn complain(error: &anyhow::Error, as_json: bool) {
    let message = words_of(error);
    if as_json {
        let _ = Said::new("", json!({ "error": message })).print(true);
    }
    // A reader who has gone is no reason to say more.
    let _ = writeln!(std::io::stderr().lock(), "waypost-destination: {message}");
}

/// An error and its causes in one line. Many an error tells its cause in its own words: that is not said again.
fn words_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        before => format!("{before}: {cause}"),
    })
}

/// Exit status where something was passed over.
const SKIPPED: u8 = 3;

/// Does what the arguments say. Exit status: 0 done, 3 (`import`) some files were passed over, 1 (`check`) a requirement is not met.
fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { home, json: as_json, command, .. } = arguments;
    let path = home.unwrap_or_else(default_home);
    if let Command::Init(init) = command {
        setup::init(&path, init)?.print(as_json)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Of any server, also where there is none here.
    if let Command::Check(arguments) = command {
        let (said, passed) = check::run(arguments)?;
        said.print(as_json)?;
        return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let home = Home::open(&path)?;
    let said = match command {
        Command::Init(_) | Command::Check(_) => return Ok(ExitCode::SUCCESS),
        Command::Run { listen } => return serve(&home, listen, as_json).map(|()| ExitCode::SUCCESS),
        Command::Gateways(command) => access::gateways(&home, command)?,
        Command::PhoneCode { token } => access::phone_code(&home, token)?,
        Command::Open { key } => confirm::open(&home, key)?,
        Command::Confirmations(command) => confirm::confirmations(&home, command)?,
        Command::Import(arguments) => {
            let (said, whole) = import::import(&home, &arguments)?;
            said.print(as_json)?;
            return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(SKIPPED) });
        }
        Command::Certificate => {
            let certificate = home.certificate();
            let fingerprint = certificate.fingerprint();
            let json = json!({ "fingerprint": fingerprint, "certificate": certificate.to_armor() });
            Said::new(certificate.to_armor(), json)
        }
        Command::Publish(arguments) => publish::publish(&home, arguments)?,
        Command::Key(command) => key::key(&home, command)?,
        Command::Status => confirm::status(&home)?,
    };
    said.print(as_json)?;
    Ok(ExitCode::SUCCESS)
}

/// Until SIGTERM or SIGINT.
fn serve(home: &Home, listen: Option<String>, as_json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listen = listen.unwrap_or_else(|| home.settings().listen.clone());
        // A database elsewhere is waited for.
        let starting = home.clone();
        let start = tokio::task::spawn_blocking(move || Server::start(&starting, &listen));
        let server = start.await?.context("the server does not start")?;
        let address = server.address();
        let url = home.settings().url.clone().unwrap_or_else(|| format!("https://{address}"));
        let json = json!({
            "ready": true,
            "address": address,
            "url": url,
            "fingerprint": home.destination(),
            "inbox": home.inbox(),
            "metrics": server.metrics_address().map(|address| format!("http://{address}/metrics")),
        });
        let mut text = format!("ready on {address} as {url}\ninbox: {}", home.inbox());
        if let Some(address) = server.metrics_address() {
            text += &format!("\nmetrics: http://{address}/metrics");
        }
        Said::new(text, json).print(as_json)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("ending");
        tokio::task::spawn_blocking(move || server.stop()).await?;
        Ok(())
    })
}
