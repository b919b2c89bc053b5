//! Manual pages and completions, made from what the programs' command lines are made of.
//!
//! Nothing of the machine that makes them is in them, so that a package made twice is the same: what a value defaults to
//! must not come from the environment (`tests/pages.rs` looks for that).

use std::io::Write as _;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// What the pages are of.
const MANUAL: &str = "Waypost";

/// The programs' commands.
pub fn commands() -> [Command; 4] {
    [
        waypost_gateway::cli::command(),
        waypost_phone::cli::command(),
        waypost_destination::cli::command(),
        waypost_kiosk::cli::command(),
    ]
}

/// Writes a page of section 1 for the command and one for each of its subcommands: `waypost.1`, `waypost-pair.1`, ….
///
/// # Errors
/// Where a file cannot be written.
pub fn manual(command: &Command, date: &str, folder: &Path) -> std::io::Result<()> {
    let mut command = command.clone().disable_help_subcommand(true);
    // Subcommands learn their full names and what holds for all of them.
    command.build();
    page(&command, &command, date, folder)
}

fn page(program: &Command, command: &Command, date: &str, folder: &Path) -> std::io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        page(program, subcommand, date, folder)?;
    }
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let page = Man::new(command.clone()).manual(MANUAL).source(source).date(date);
    let mut text = Vec::new();
    page.render(&mut text)?;
    // Before possible values clap_mangen breaks the line on both sides of an empty one, which mandoc complains of.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    std::fs::write(folder.join(page.get_filename()), text)
}

/// Writes completions for bash (`PROGRAM`), zsh (`_PROGRAM`) and fish (`PROGRAM.fish`), by the names their shells look for.
///
/// # Errors
/// Where a file cannot be written.
pub fn completions(mut command: Command, folder: &Path) -> std::io::Result<()> {
    let name = command.get_name().to_owned();
    let files = [
        (Shell::Bash, name.clone()),
        (Shell::Zsh, format!("_{name}")),
        (Shell::Fish, format!("{name}.fish")),
    ];
    for (shell, file) in files {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut text);
        std::fs::File::create(folder.join(file))?.write_all(&text)?;
    }
    Ok(())
}
