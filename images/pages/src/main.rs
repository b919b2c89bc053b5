//! `waypost-pages`: the programs' manual pages and completions, as their packages have them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

/// Writes manual pages and completions of waypost, waypost-phone and waypost-destination.
#[derive(Parser)]
struct Arguments {
    /// The folder, made where it is missing: a folder for each program is made in it
    folder: PathBuf,
    /// The day that the pages say they are of, as 2026-11-22: the sources', so that the same ones give the same pages
    #[arg(long)]
    date: String,
}

fn main() -> anyhow::Result<()> {
    let Arguments { folder, date } = Arguments::parse();
    for command in waypost_pages::commands() {
        let program = folder.join(command.get_name());
        write(command, &date, &program)
            .with_context(|| format!("cannot write into {}", program.display()))?;
    }
    Ok(())
}

fn write(command: clap::Command, date: &str, folder: &Path) -> std::io::Result<()> {
    let pages = folder.join("man");
    let completions = folder.join("completions");
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    waypost_pages::manual(&command, date, &pages)?;
    waypost_pages::completions(command, &completions)
}
