//! The command line of a kiosk's own set-up: `waypost-kiosk apply`, `status`, `console`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::{LevelFilter, error, info, warn};
use terminal_size::terminal_size;
use waypost_config::{MAX_FILE, Severity};

use crate::activate::{self, NoSystem, RUN, Running, System, activate};
use crate::apply;
use crate::boot_partition::{BootPartition, Change};
use crate::console::{Session, Size, is_seen};
use crate::disk::{Disk as _, Readers, RealDisk};
use crate::errors::{self, ERRORS, Holds};
use crate::gateway::Gateway;
use crate::machine::Machine;
use crate::overview::{Mistakes, Overview, REPAIRS, is_clock_synchronized};
use crate::plan::SETTINGS;
use crate::status::{self, Clock, STATUS};

/// Sets up a Waypost kiosk from waypost.toml on its card's boot partition, and shows how it is.
#[derive(Debug, Parser)]
#[command(name = "waypost-kiosk", version)]
struct Args {
    /// Folder that stands for the root of the file system; with another one than / nothing of the running system is changed.
    #[arg(long, global = true, default_value = "/")]
    root: PathBuf,
    /// Where the boot partition is mounted, below the root.
    #[arg(long, global = true, default_value = "/boot/firmware")]
    boot: String,
    /// Write the boot partition as it is mounted, in place of mounting it anew for that.
    #[arg(long, global = true)]
    no_remount: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take up what the boot partition's files say, and put what holds where the system reads it. At each boot, by root.
    Apply,
    /// Write how the kiosk is beside that file, if that has changed. By root.
    Status {
        /// The gateway's command.
        #[arg(long, default_value = "/usr/bin/waypost")]
        waypost: PathBuf,
    },
    /// Show how the kiosk is on a terminal, with the code that pairs a phone, until it is told to stop.
    Console {
        /// The gateway's command.
        #[arg(long, default_value = "/usr/bin/waypost")]
        waypost: PathBuf,
        /// The terminal that this is shown on. Where nobody can see it, no code is made.
        #[arg(long, default_value = "/dev/tty1")]
        terminal: String,
        /// Draw once and end.
        #[arg(long)]
        once: bool,
    },
}

impl Args {
    fn disk(&self) -> RealDisk {
        RealDisk::new(&self.root)
    }

    fn is_running_system(&self) -> bool {
        self.root == Path::new("/")
    }

    fn boot_partition(&self) -> BootPartition {
        let remounts = !self.no_remount && self.is_running_system();
        let mount = PathBuf::from(&self.boot);
        BootPartition {
            folder: self.boot.trim_end_matches('/').to_owned(),
            remount: remounts.then(|| (mount, Path::new(RUN).join("boot.lock"))),
        }
    }
}

/// The command line itself, for what is made of it: manual pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs it. Exit status: 0 done, also where a file of the admin's is wrong, which is told beside it; 1 failed; 2 wrong usage.
pub fn main() -> ExitCode {
    start_log();
    let args = Args::parse();
    let done = match &args.command {
        Command::Apply => run_apply(&args),
        Command::Status { waypost } => write_status(&args, waypost),
        Command::Console { waypost, terminal, once } => show(&args, waypost, terminal, *once),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A bad file never makes this fail: it is told by the journal, by the file beside it, and by the screen.
fn run_apply(args: &Args) -> anyhow::Result<()> {
    let (mut disk, boot) = (args.disk(), args.boot_partition());
    let mut system: Box<dyn System> =
        if args.is_running_system() { Box::new(Running) } else { Box::new(NoSystem) };
    std::fs::create_dir_all(disk.path(RUN)).with_context(|| format!("{RUN} cannot be made"))?;
    let (machine, read) = read_patiently(&disk, &boot);
    for problem in apply::problems(&read) {
        match problem.severity {
            Severity::Warning => warn!("{}", errors::line(problem)),
            _ => error!("{}", errors::line(problem)),
        }
    }
    let repairs = disk.read(&boot.path(REPAIRS), MAX_FILE).unwrap_or_default();
    let repairs = String::from_utf8_lossy(&repairs);
    let mistakes = Mistakes::of(apply::problems(&read), apply::forgets(&read), &repairs);
    let mistakes = serde_json::to_vec(&mistakes)?;
    disk.write(&Mistakes::path(), &mistakes, Readers::All)?;
    let fallback = apply::in_memory(&disk, &read, &machine);
    let held = match apply::apply(&mut disk, &boot, &machine, read) {
        Ok(applied) => {
            match (applied.holds, applied.is_new) {
                (Holds::TheRest, _) if applied.is_forgotten => {
                    info!("goes by what the boot partition's files say until the power goes");
                }
                (Holds::TheRest, true) => info!("took up what the boot partition's files say"),
                (Holds::TheRest, false) => info!("the boot partition's files say what holds already"),
                (Holds::LastGood, _) => error!("nothing of the files is used; what was read last holds"),
                (Holds::Defaults, _) => error!("nothing of the files is used; safe defaults hold"),
            }
            if let Some(error) = applied.unwritten {
                error!("the boot partition cannot be written: {error}; {ERRORS} there may be out of date");
            }
            let settings = apply::current_settings(&disk).filter(|_| !applied.is_forgotten);
            apply::current_files(&disk).ok().zip(settings)
        }
        Err(error) => {
            error!("{error}; this start goes by the files as they are, or by what held before");
            None
        }
    };
    let (files, settings) = held.or(fallback).context("there is nothing to go by")?;
    // For the screen, which has nothing else to know the name from where nothing could be kept.
    disk.write(&format!("{RUN}/{SETTINGS}"), &serde_json::to_vec(&settings)?, Readers::All)?;
    for failure in activate(&mut disk, system.as_mut(), &files, &settings) {
        error!("not set up: {failure}");
    }
    info!("this kiosk is {}; connections are in {}", settings.host_name, activate::CONNECTIONS);
    Ok(())
}

/// USB adapters and radios that wait for their firmware come late: where one of them may be what the file calls this kiosk by,
/// it is waited for.
fn read_patiently(disk: &RealDisk, boot: &BootPartition) -> (Machine, apply::Read) {
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(500);
    let since = Instant::now();
    loop {
        let machine = Machine::read(disk);
        let read = apply::read(disk, boot, &machine);
        if !apply::awaits_interface(&read) || since.elapsed() >= PATIENCE {
            return (machine, read);
        }
        std::thread::sleep(PAUSE);
    }
}

fn write_status(args: &Args, waypost: &Path) -> anyhow::Result<()> {
    let (mut disk, boot) = (args.disk(), args.boot_partition());
    let machine = Machine::read(&disk);
    let gateway = Gateway { program: waypost.to_owned() };
    let overview = Overview { gateway: Some(gateway.status()), ..Overview::of_machine(&disk) };
    let clock =
        Clock { now: Timestamp::now(), zone: TimeZone::system(), synchronized: is_clock_synchronized() };
    let text = status::text(&overview, &machine, &clock);
    let before = disk.read(&boot.path(STATUS), MAX_FILE).ok();
    let before = before.as_deref().map(String::from_utf8_lossy);
    // By what the kernel counts, since the clock may be set meanwhile.
    let (uptime, stamp) = (seconds(&disk, "/proc/uptime"), format!("{RUN}/status-written"));
    let since = uptime.zip(seconds(&disk, &stamp)).map(|(now, then)| now.saturating_sub(then));
    if !status::is_due(before.as_deref(), &text, since) {
        return Ok(());
    }
    let change = Change::plain(STATUS, Some(text));
    boot.change(&mut disk, &[change]).with_context(|| format!("{STATUS} cannot be written"))?;
    let Some(uptime) = uptime else { return Ok(()) };
    disk.make_folder(RUN, Readers::All)?;
    disk.write(&stamp, uptime.as_secs().to_string().as_bytes(), Readers::All)
        .with_context(|| format!("{stamp} cannot be written"))
}

/// The whole seconds that a file begins with.
fn seconds(disk: &RealDisk, path: &str) -> Option<Duration> {
    let bytes = disk.read(path, 64).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split(['.', ' ', '\n']).next()?.parse().ok().map(Duration::from_secs)
}

/// Every ten seconds something may have changed; it is drawn if it has, and now and then all the same.
fn show(args: &Args, waypost: &Path, terminal: &str, once: bool) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_secs(10);
    let (disk, gateway) = (args.disk(), Gateway { program: waypost.to_owned() });
    let (mut session, mut before) = (Session::default(), None);
    loop {
        let size = terminal_size().map_or(Size { columns: 80, rows: 25 }, |(width, height)| Size {
            columns: usize::from(width.0),
            rows: usize::from(height.0),
        });
        if before.replace(size) != Some(size) {
            session.forget_screen();
        }
        let is_seen = is_seen(&disk, terminal);
        let rows = session.turn(Overview::of_machine(&disk), &gateway, is_seen, size, Instant::now());
        if let Some(rows) = rows {
            draw(&rows).context("the terminal cannot be written")?;
        }
        if once {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// White on black, without a cursor; each row is put in its place, since a line end in the last one would scroll.
fn draw(rows: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "\x1b[0;97;40m\x1b[?25l\x1b[2J")?;
    for (at, row) in rows.iter().enumerate() {
        write!(out, "\x1b[{};1H{row}", at + 1)?;
    }
    out.flush()
}

/// To the journal under systemd, else to standard error.
fn start_log() {
    let journal = systemd_journal_logger::connected_to_journal();
    let is_journal =
        journal && systemd_journal_logger::JournalLog::new().is_ok_and(|log| log.install().is_ok());
    if !is_journal {
        env_logger::builder()
            .filter_level(LevelFilter::Info)
            .format_timestamp(None)
            .format_target(false)
            .init();
    }
    log::set_max_level(LevelFilter::Info);
}
