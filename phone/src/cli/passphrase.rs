//! `passphrase set|change|remove`, and where every command has the passphrase from: a file, or the terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use crate::{KeysError, LockError, OpenError, Passphrase, Phone};
use anyhow::Context as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::PassphraseCommand;
use super::output::Out;
use super::{Done, Usage};

/// Longer than any passphrase.
const MAX_FILE: u64 = 2 << 10;

/// Opens the phone, with its passphrase where it has one.
pub(super) fn open(home: &Path, file: Option<&Path>) -> anyhow::Result<Phone> {
    let has_passphrase = Phone::has_passphrase(home);
    let opened = match file.is_some() || has_passphrase {
        true => Phone::open_with_passphrase(home, &known(file)?),
        false => Phone::open(home),
    };
    match opened {
        Err(OpenError::Keys(error)) if is_usage(&error) => Err(usage(error)),
        other => other.with_context(|| format!("the phone in {} cannot be opened", home.display())),
    }
}

pub(super) fn run(
    home: &Path,
    file: Option<&Path>,
    command: PassphraseCommand,
    out: &Out,
) -> anyhow::Result<Done> {
    let (has_passphrase, said) = match command {
        PassphraseCommand::Set => {
            if Phone::has_passphrase(home) {
                return Err(usage(KeysError::AlreadyLocked));
            }
            Phone::set_passphrase(home, &chosen(file, "--passphrase-file")?).map_err(usage)?;
            (
                true,
                "this phone has a passphrase now; without it nobody reads what is here, and you do not, either",
            )
        }
        PassphraseCommand::Change { new_passphrase_file } => {
            let old = needed(home, file)?;
            let new = chosen(new_passphrase_file.as_deref(), "--new-passphrase-file")?;
            Phone::change_passphrase(home, &old, &new).map_err(usage)?;
            (true, "this phone has another passphrase now")
        }
        PassphraseCommand::Remove => {
            Phone::remove_passphrase(home, &needed(home, file)?).map_err(usage)?;
            (false, "this phone has no passphrase any more")
        }
    };
    out.say(said);
    out.object(&json!({ "passphrase": has_passphrase }));
    Ok(Done::Whole)
}

fn is_usage(error: &KeysError) -> bool {
    use KeysError::{AlreadyLocked, Lock, Needed, NotLocked};
    matches!(error, AlreadyLocked | NotLocked | Needed | Lock { source: LockError::Wrong, .. })
}

fn usage(error: KeysError) -> anyhow::Error {
    if is_usage(&error) { Usage(error.to_string()).into() } else { error.into() }
}

/// The passphrase of a phone that must have one.
fn needed(home: &Path, file: Option<&Path>) -> anyhow::Result<Passphrase> {
    if !Phone::has_passphrase(home) {
        return Err(usage(KeysError::NotLocked));
    }
    known(file)
}

fn known(file: Option<&Path>) -> anyhow::Result<Passphrase> {
    match file {
        Some(path) => read(path),
        None => typed("Passphrase: ")?.ok_or_else(|| usage(KeysError::Needed)),
    }
}

/// A new one; typed twice, since nobody sees it.
fn chosen(file: Option<&Path>, option: &str) -> anyhow::Result<Passphrase> {
    if let Some(path) = file {
        return read(path);
    }
    let Some(passphrase) = typed("New passphrase: ")? else {
        let message =
            format!("name a file that has the new passphrase with {option}, or type it on a terminal");
        return Err(Usage(message).into());
    };
    match typed("The same again: ")? {
        Some(again) if again == passphrase => Ok(passphrase),
        _ => Err(Usage("these are two passphrases; nothing was changed".into()).into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Passphrase> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 << 10));
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.with_context(|| format!("the passphrase's file {}", path.display()))?;
    fit(&bytes)
}

/// `None` where there is no terminal.
fn typed(question: &str) -> anyhow::Result<Option<Passphrase>> {
    if !io::stderr().is_terminal() {
        return Ok(None);
    }
    fit(Zeroizing::new(rpassword::prompt_password(question)?).as_bytes()).map(Some)
}

fn fit(bytes: &[u8]) -> anyhow::Result<Passphrase> {
    Passphrase::new(bytes)
        .ok_or_else(|| Usage("a passphrase is not empty, and has 1024 bytes at most".into()).into())
}
