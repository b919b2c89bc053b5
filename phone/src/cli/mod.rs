//! Commands of `waypost-phone`, and how they end: 0 done, 1 failed, 2 wrong usage, 3 done in part.

mod add;
mod args;
mod destination;
mod documents;
mod gateways;
mod open;
mod output;
mod passphrase;
mod picture;
mod reader;
mod show;
mod status;
mod sync;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::Phone;
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use nix::sys::signal::{SigSet, Signal, raise};
use tokio::signal::unix::{SignalKind, signal};

use self::args::{Args, Command};
use self::output::Out;

/// How long leaving a network may hold up a program that was told to end.
const LEAVE: Duration = Duration::from_secs(5);

/// How a command ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Whole,
    Partly,
    /// It failed, and has said so.
    Not,
}

/// The command with all that it takes: for its manual pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let out = Out { json: args.json };
    let level = if args.verbose { log::LevelFilter::Debug } else { log::LevelFilter::Error };
    // It fails where a logger is there already, which is then as good.
    let _ = env_logger::Builder::new()
        .filter_level(level.min(log::LevelFilter::Warn))
        .filter_module("waypost", level)
        .format_target(false)
        .format_timestamp(None)
        .try_init();
    match dispatch(args, &out) {
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::Partly) => ExitCode::from(3),
        Ok(Done::Not) => ExitCode::FAILURE,
        Err(error) => match error.downcast::<Usage>() {
            Ok(Usage(message)) => {
                out.error(&message);
                ExitCode::from(2)
            }
            Err(error) => {
                out.error(&words_of(&error));
                ExitCode::FAILURE
            }
        },
    }
}

/// An error and its causes in one line. Many an error tells its cause in its own words: that is not said again.
pub(crate) fn words_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        before => format!("{before}: {cause}"),
    })
}

/// What was asked for makes no sense as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

fn dispatch(args: Args, out: &Out) -> anyhow::Result<Done> {
    let home = args.home.map_or_else(default_home, Ok)?;
    let is_new = !Phone::exists(&home);
    anyhow::ensure!(
        !is_new || args.command.may_make_a_phone(),
        "there is no phone in {0}; give its folder with --home, or make one: waypost-phone --home {0} init",
        home.display()
    );
    let passphrase_file = args.passphrase_file.as_deref();
    let open = || passphrase::open(&home, passphrase_file);
    if let Command::Sync(_) | Command::Pair(_) = args.command {
        leave_wifi_on_signals()?;
    }
    match args.command {
        Command::Init(init) => status::init(&open()?, is_new, &init, out),
        Command::Destination(command) => destination::run(&open()?, command, out),
        Command::Pair(pair) => gateways::pair(&open()?, &pair, out),
        Command::Gateways(gateways) => gateways::run(&open()?, gateways, out),
        Command::Add(add) => add::run(&open()?, &add, out),
        Command::Send { ids } => documents::send(&open()?, &ids, out),
        Command::Sync(sync) => sync::run(&open()?, &sync, out),
        Command::Listen(listen) => watch::listen(&open()?, &listen, out),
        Command::Run(run) => watch::run(&open()?, &run, out),
        Command::List { all } => documents::list(&open()?, all, out),
        Command::Delete { ids } => documents::delete(&open()?, &ids, out),
        Command::Subscribe(wanted) => reader::subscribe(&open()?, &wanted, out),
        Command::Unsubscribe(wanted) => reader::unsubscribe(&open()?, &wanted, out),
        Command::Reader(command) => reader::run(&open()?, command, out),
        Command::Open(wanted) => open::run(&open()?, &wanted, out),
        Command::Status => status::status(&open()?, out),
        Command::Passphrase(command) => passphrase::run(&home, passphrase_file, command, out),
        Command::Confirmations(wanted) => documents::confirmations(&open()?, &wanted, out),
    }
}

fn default_home() -> anyhow::Result<PathBuf> {
    if let Some(data) = std::env::var_os("XDG_DATA_HOME").filter(|data| !data.is_empty()) {
        return Ok(PathBuf::from(data).join("waypost-phone"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.context("there is no HOME; say where the phone's folder is with --home")?;
    Ok(PathBuf::from(home).join(".local/share/waypost-phone"))
}

/// Runs what waits for links.
pub(crate) fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(async {
        let output = future.await;
        // What was dropped half done, as where this was told to stop.
        waypost_wifi_direct::leave_all().await;
        output
    });
    // The last words on a link have a moment to be written; an upload under way may be left.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(output)
}

/// The signals that this program was told to ignore, as `nohup` does: the bits of `proc_pid_status(5)`, "SigIgn".
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Has SIGTERM, SIGINT and SIGHUP end this program only after it has left what it has joined by Wi-Fi. Called before there are
/// other threads, which have the same signals blocked then.
fn leave_wifi_on_signals() -> anyhow::Result<()> {
    let ignored = ignored_signals();
    let heeded = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter();
    let signals = SigSet::from_iter(heeded.filter(|signal| ignored >> (*signal as i32 - 1) & 1 == 0));
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        let leaving = async { tokio::time::timeout(LEAVE, waypost_wifi_direct::leave_all()).await };
        if let Err(error) = block_on(leaving) {
            log::warn!("{error}");
        }
        // As if this had never been here.
        let ended = signals.thread_unblock().and_then(|()| raise(signal));
        log::error!("this program does not end by a signal: {ended:?}");
    })?;
    Ok(())
}

/// Ends with SIGTERM, SIGINT or SIGHUP.
pub(crate) async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
