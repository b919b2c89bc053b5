//! The command line: arguments, dispatch, exit status.

mod bundle;
mod check;
mod demo;
mod destinations;
mod documents;
mod live;
mod output;
mod peers;
mod picture;
mod posters;
mod rescue;
mod store;
mod support;
mod wifi;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{CommandFactory as _, Parser, Subcommand};

use self::rescue::Rescue;
use crate::admin::PosterWish;
use crate::setup::DEFAULT_CONFIG;

/// A gateway that takes sealed documents from phones, keeps them, and uploads them when there is a connection.
#[derive(Debug, Parser)]
#[command(name = "waypost", version)]
struct Args {
    /// Configuration file; files in a folder of the same name with .d are read after it.
    #[arg(long, short, global = true, default_value = DEFAULT_CONFIG, env = "WAYPOST_CONFIG")]
    config: PathBuf,
    /// Write JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,
    /// Look into the store in this folder in place of this machine's: on the card of another kiosk, say. It is copied
    /// first, as far as it can be read, and not written to. For `documents list` and `show`, `store check`, `export`.
    #[arg(long, global = true, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// The key of that store; else it lies beside it.
    #[arg(long, global = true, value_name = "FILE", requires = "store")]
    store_key: Option<PathBuf>,
    /// Where the copy of that store is made, and removed afterwards; else in the folder for temporary files.
    #[arg(long, global = true, value_name = "FOLDER", requires = "store")]
    work: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is told to stop (SIGTERM). SIGHUP reads the configuration again.
    Run,
    /// Check the configuration and name every mistake; compare it with the running gateway's.
    Check,
    /// Show how the gateway is.
    Status,
    /// Make a pairing code and show it as QR code and text.
    Pair {
        /// Also write it into a new file, as a picture to print: NAME.svg or NAME.png.
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
    },
    /// Codes to be printed and hung up, by which any phone may bring small documents.
    Posters {
        #[command(subcommand)]
        command: PostersCommand,
    },
    /// Show name and passphrase of the gateway's own Wi-Fi network, and as a QR code that phones' cameras read.
    Wifi,
    /// Make the running gateway read its configuration again.
    Reload,
    /// Documents that are here.
    Documents {
        #[command(subcommand)]
        command: DocumentsCommand,
    },
    /// Phones and gateways that are known here.
    Peers {
        #[command(subcommand)]
        command: PeersCommand,
    },
    /// Destinations of the configuration; `status` shows how they are.
    Destinations {
        #[command(subcommand)]
        command: DestinationsCommand,
    },
    /// The store on the disk.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Write documents that wait, and confirmations, into a folder: a USB stick, for another gateway or the destination.
    Export {
        /// The folder; a folder `waypost` is made in it.
        folder: PathBuf,
        /// Also write this kiosk's identity, to move it to a spare board. Secret: who has it is this kiosk.
        #[arg(long)]
        identity: bool,
    },
    /// Take in documents and confirmations from a folder that was exported to.
    Import {
        /// The folder in which the folder `waypost` is.
        folder: PathBuf,
        /// First make this board the kiosk whose identity is there. The gateway must not run, its store be new.
        #[arg(long)]
        identity: bool,
    },
    /// Write how everything is into one file, for whoever helps from afar: state, settings, journal, the system. Names and
    /// addresses of phones, and secrets, are taken out. As root it has more to say.
    Support {
        /// The file, or a folder for it; else this folder.
        to: Option<PathBuf>,
    },
    /// Show the whole way of documents on this machine: destination, gateway and phone as three processes.
    Demo(demo::DemoArgs),
}

#[derive(Debug, Subcommand)]
enum PostersCommand {
    /// List them, and how many phones have come by each.
    List,
    /// Make a new one.
    Add(PosterArgs),
    /// Show the code once more.
    Show(PosterArgs),
    /// Make another code, for when the one that hangs there is in wrong hands. Phones that have come by it come again.
    Rotate(PosterArgs),
    /// Void the code, and take nothing any more from any phone that has come by it.
    Revoke {
        /// What it is called.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct PosterArgs {
    /// What it is called, here alone.
    name: String,
    /// Also write the code into a new file, as a picture to print: NAME.svg or NAME.png.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DocumentsCommand {
    /// List them.
    List {
        /// Only those that wait for their destination.
        #[arg(long)]
        waiting: bool,
    },
    /// Show one.
    Show {
        /// Its id, or at least the first 4 digits of it.
        id: String,
    },
    /// Delete one for good: it is not uploaded, and does not come back.
    Delete {
        /// Its id, or at least the first 4 digits of it.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List them.
    List,
    /// Take nothing from a peer any more, at once.
    Revoke {
        /// Its key, the first digits of it, or its label.
        peer: String,
    },
}

#[derive(Debug, Subcommand)]
enum DestinationsCommand {
    /// Forget what was learnt of one's certificates, for example a successor that a thief of its key has named. Those in
    /// the configured file stay.
    Reset {
        /// Its name in the configuration, or its first fingerprint.
        destination: String,
    },
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Open every value and compare what must agree. Exit status 1 when something is wrong.
    Check,
}

/// The command with all that it takes: for its manual pages and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the command line. Exit status: 0 done, 1 failed, 2 wrong usage, 3 (`demo`, `export`, `import`) some files were
/// skipped.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json;
    match perform(args) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error, json);
            ExitCode::FAILURE
        }
    }
}

fn perform(Args { mut config, json, store, store_key, work, command }: Args) -> anyhow::Result<ExitCode> {
    let mut _rescue = None;
    if let Some(store) = store {
        if !command.only_reads() {
            bail!("--store is for `documents list`, `documents show`, `store check` and `export`");
        }
        let copy = Rescue::copy(&store, store_key.as_deref(), work.as_deref())?;
        config = copy.config();
        _rescue = Some(copy);
    }
    match command {
        Command::Run => check::run(&config),
        Command::Check => check::check(&config, json),
        Command::Status => live::status(&config, json),
        Command::Pair { picture } => live::pair(&config, json, picture.as_deref()),
        Command::Posters { command } => match command {
            PostersCommand::List => posters::list(&config, json),
            PostersCommand::Add(args) => posters::code(&config, json, args, PosterWish::Add),
            PostersCommand::Show(args) => posters::code(&config, json, args, PosterWish::Show),
            PostersCommand::Rotate(args) => posters::code(&config, json, args, PosterWish::Rotate),
            PostersCommand::Revoke { name } => posters::revoke(&config, json, name),
        },
        Command::Wifi => wifi::show(&config, json),
        Command::Reload => live::reload(&config, json),
        Command::Documents { command: DocumentsCommand::List { waiting } } => {
            documents::list(&config, json, waiting)
        }
        Command::Documents { command: DocumentsCommand::Show { id } } => documents::show(&config, json, id),
        Command::Documents { command: DocumentsCommand::Delete { id } } => {
            documents::delete(&config, json, id)
        }
        Command::Peers { command: PeersCommand::List } => peers::list(&config, json),
        Command::Peers { command: PeersCommand::Revoke { peer } } => peers::revoke(&config, json, peer),
        Command::Destinations { command: DestinationsCommand::Reset { destination } } => {
            destinations::reset(&config, json, &destination)
        }
        Command::Store { command: StoreCommand::Check } => store::check(&config, json),
        Command::Export { folder, identity } => bundle::export(&config, json, folder, identity),
        Command::Import { folder, identity } => bundle::import(&config, json, folder, identity),
        Command::Support { to } => support::support(&config, json, to),
        Command::Demo(args) => demo::demo(&args, json),
    }
}

impl Command {
    /// Whether it looks at a store and changes nothing there.
    fn only_reads(&self) -> bool {
        match self {
            Command::Documents { command } => !matches!(command, DocumentsCommand::Delete { .. }),
            Command::Export { identity, .. } => !identity,
            Command::Store { command: StoreCommand::Check } => true,
            _ => false,
        }
    }
}
