//! The workspace's programs for scenarios: found, known to be those of these sources, and run for their JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::Value;

const BUILD: &str = "cargo build --workspace (same profile and target folder as the tests)";

/// The path of a program of the workspace, which must have been built from the sources as they are.
///
/// # Panics
///
/// When it is missing, older than one of its sources, or built from another checkout.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    static CHECKED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let path = match crate::process::program(name) {
        Ok(path) => path,
        Err(error) => panic!("{error}\nbuild the programs first: {BUILD}"),
    };
    let known = CHECKED.lock().unwrap().contains(&path);
    if !known {
        if let Err(why) = check(&path) {
            panic!("{} is not of these sources: {why}\nbuild the programs first: {BUILD}", path.display());
        }
        CHECKED.lock().unwrap().push(path.clone());
    }
    path
}

/// Compares a program with its sources, which cargo lists beside it.
fn check(program: &Path) -> Result<(), String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let Ok(list) = std::fs::read_to_string(program.with_extension("d")) else { return Ok(()) };
    let built = modified(program).ok_or("it cannot be read")?;
    for source in sources(&list) {
        if !source.starts_with(own) {
            return Err(format!("it was built from {}, these are {}", source.display(), own.display()));
        }
        match modified(&source) {
            Some(at) if at > built => return Err(format!("{} is newer", source.display())),
            Some(_) => {}
            None => return Err(format!("{} is gone", source.display())),
        }
    }
    Ok(())
}

/// The files that a dependency list of cargo names: `target: source source …`, spaces within names escaped.
fn sources(list: &str) -> Vec<PathBuf> {
    let line = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let whole = line.replace("\\ ", "\0");
    whole
        .split(' ')
        .filter(|part| !part.is_empty())
        .map(|part| PathBuf::from(part.replace('\0', " ")))
        .collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// What a command that ended has said.
#[derive(Debug)]
pub struct Ran {
    /// How it ended: 0 done, 1 failed, 2 wrong usage, 3 done in part.
    pub status: ExitStatus,
    /// The JSON objects that it printed.
    pub said: Vec<Value>,
    /// What it printed to standard error.
    pub errors: String,
}

impl Ran {
    /// The last object.
    #[track_caller]
    pub fn last(&self) -> &Value {
        self.said.last().unwrap_or_else(|| panic!("it said nothing: {self:?}"))
    }

    /// The objects that tell of one kind of event.
    pub fn events<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.said.iter().filter(move |one| one["event"] == event)
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// When it cannot be started.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ran { status: output.status, said, errors: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run_well(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!(ran.status.success(), "{command:?} failed: {ran:#?}");
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_cargos_list_of_them() {
        let list = "/t/debug/waypost: /src/a\\ b/lib.rs /src/main.rs\n";
        assert_eq!(sources(list), [PathBuf::from("/src/a b/lib.rs"), PathBuf::from("/src/main.rs")]);
    }

    #[test]
    fn a_program_that_is_older_than_a_source_or_of_another_checkout_is_told_from_a_fresh_one() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let list = |source: &Path| {
            let text = format!("{}: {}\n", program.display(), source.display());
            std::fs::write(program.with_extension("d"), text).unwrap();
        };
        std::fs::write(&program, "").unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
        list(&source);
        assert_eq!(check(&program), Ok(()));
        list(&folder.path().join("elsewhere.rs"));
        assert!(check(&program).unwrap_err().contains("it was built from"));
        list(&source);
        std::fs::File::open(&program).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(check(&program).unwrap_err().contains("is newer"));
    }
}
