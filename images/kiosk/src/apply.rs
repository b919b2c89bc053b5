//! Takes up what the boot partition's files say, in an order of steps after each of which the power may go.
//!
//! Secrets are durable in `secrets.toml` before the file is written without them; a generation is durable, whole, before
//! `current` leads to it. Whatever was left half done is done again at the next start.

use std::io;
use std::path::Path;

use waypost_config::{MAX_FILE, Origin, Problem, Severity};

use crate::boot_partition::{BootPartition, Change};
use crate::disk::{Disk, Readers, folder_of, read_if_there, replace};
use crate::errors::{self, ERRORS, Holds};
use crate::machine::Machine;
use crate::plan::{BOOT_FILE, Files, NETWORK_CONFIG, Plan, SETTINGS, USER_DATA, Wanted, plan};
use crate::render::{File, Settings, keyfile};
use crate::secrets::Kept;
use crate::users;

/// Where everything is kept, on the data partition.
pub const STATE: &str = "/var/lib/waypost-kiosk";
const GENERATIONS: &str = "/var/lib/waypost-kiosk/generations";
/// The link to the generation that holds.
pub const CURRENT: &str = "/var/lib/waypost-kiosk/current";
const SECRETS: &str = "/var/lib/waypost-kiosk/secrets.toml";
/// A generation's own record of which files of the boot partition it was made from, and the hash of all that is in it.
const MADE_OF: &str = "made-of.json";
/// What Windows' editors make of the boot file's name.
const HIDDEN_NAME: &str = "waypost.toml.txt";
const BLANK: &str = "waypost.toml is empty, perhaps because the card was taken out too early; copy the file again and eject the \
                     card before it is taken out; to start over with defaults, write a file that holds only a #";
const FORGETS: &str = "the card's data partition is not there, so that nothing can be kept: this start goes by the files as they \
                       are, and secrets stay in waypost.toml until the partition is there; see whether the card is sound";
const UNREADABLE: &str = "the secrets that this kiosk keeps cannot be read, so that nothing new is taken up; start it once more, and where it stays so, \
     write the secrets themselves in place of each \"(kept)\", and see whether the card is sound";
/// Where the gateway looks for drop-ins; there also where there is nothing to say.
const GATEWAY_FOLDERS: [&str; 2] = ["gateway", "gateway.d"];

/// Why nothing could be applied.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be written: {source}; see whether the data partition is mounted and sound")]
pub struct ApplyError {
    what: &'static str,
    source: io::Error,
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ApplyError {
    move |source| ApplyError { what, source }
}

/// What came of it.
#[derive(Debug)]
pub struct Applied {
    /// What is wrong in the files.
    pub problems: Vec<Problem>,
    /// What holds.
    pub holds: Holds,
    /// Whether a new generation was written.
    pub is_new: bool,
    /// Whether nothing was kept, as it would be gone with the power: this start goes by [`in_memory`].
    pub is_forgotten: bool,
    /// Why the boot partition could not be written, where it could not: errors are then told by the journal and the screen.
    pub unwritten: Option<io::Error>,
}

/// What the boot partition's files come to, with the problems of reading them.
pub struct Read {
    plan: Plan,
    kept: Kept,
    there: There,
    forgets: bool,
}

/// Which of the boot partition's files there are, or were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct There {
    boot_file: bool,
    user_data: bool,
    network_config: bool,
}

impl There {
    fn of(files: &Files) -> Self {
        There {
            boot_file: files.boot_file.is_some(),
            user_data: files.user_data.is_some(),
            network_config: files.network_config.is_some(),
        }
    }

    /// The first file that was there and is missed now: a card that lost its file is not a kiosk that was meant to forget
    /// everything. With a boot file, what it says and what is beside it is all there shall be.
    fn missed(self, before: There) -> Option<&'static str> {
        let pairs = [
            (BOOT_FILE, self.boot_file, before.boot_file),
            (USER_DATA, self.user_data, before.user_data),
            (NETWORK_CONFIG, self.network_config, before.network_config),
        ];
        let gone = pairs.into_iter().find(|(_, is_there, was_there)| *was_there && !is_there);
        gone.filter(|_| !self.boot_file).map(|(name, ..)| name)
    }
}

#[derive(PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct MadeOf {
    #[serde(flatten)]
    there: There,
    digest: String,
}

/// Reads the files and plans what shall be; writes nothing.
pub fn read(disk: &dyn Disk, boot: &BootPartition, machine: &Machine) -> Read {
    let mut unreadable = Vec::new();
    let mut file = |name: &str| {
        let read = read_if_there(disk, &boot.path(name), MAX_FILE);
        read.unwrap_or_else(|error| {
            let origin = Origin { file: name.into(), line: 1, column: 1 };
            let message = format!("cannot be read: {error}; nothing of it is used");
            unreadable.push(Problem::new(Severity::Fatal, Some(origin), None, &message));
            None
        })
    };
    let mut files = Files {
        boot_file: file(BOOT_FILE),
        user_data: file(USER_DATA),
        network_config: file(NETWORK_CONFIG),
    };
    let is_blank = files.boot_file.take_if(|bytes| is_blank(bytes)).is_some();
    let is_hidden = files.boot_file.is_none() && disk.read(&boot.path(HIDDEN_NAME), MAX_FILE).is_ok();
    let (kept, unknown) = match read_kept(disk) {
        Ok(kept) => (kept, None),
        Err(error) => (Kept::new(), Some(error)),
    };
    let beside = |name: &str| disk.read(&boot.path(name), MAX_FILE).map_err(|error| error.to_string());
    let mut plan = plan(&files, &beside, &kept, machine);
    let can_be_read = unreadable.iter().all(|problem: &Problem| !is_about(problem, BOOT_FILE));
    let there = There::of(&files);
    let before = current_made_of(disk).map(|made_of| made_of.there).unwrap_or_default();
    let missed = there.missed(before).filter(|_| can_be_read);
    if missed.is_some() {
        plan.wanted = None;
        // Remarks are about what would be without it.
        plan.problems.retain(|problem| problem.severity > Severity::Warning);
    }
    let gone = |name: &str| {
        let one = if name == BOOT_FILE { "one" } else { "a waypost.toml" };
        format!(
            "there is no {name} any more; put it back, or {one} that holds only a # to start over with defaults"
        )
    };
    let missing = if is_blank { Some(BLANK.to_owned()) } else { missed.map(gone) };
    plan.problems.splice(..0, missing.map(|message| Problem::new(Severity::Error, None, None, &message)));
    if !unreadable.is_empty() {
        plan.wanted = None;
        plan.problems.splice(..0, unreadable);
    }
    if let Some(error) = unknown.filter(|_| plan.needs_kept) {
        // The generation that holds has them still.
        plan.wanted = None;
        let message = format!("{UNREADABLE}: {error}");
        plan.problems.insert(0, Problem::new(Severity::Error, None, None, &message));
    }
    if is_hidden {
        let message =
            "the file is called waypost.toml.txt, of which Windows shows half; rename it to waypost.toml";
        plan.problems.push(Problem::new(Severity::Error, None, None, message));
    }
    // Where that cannot be told, writing there tells it.
    let forgets = disk.forgets(STATE).unwrap_or_default();
    if forgets {
        plan.problems.insert(0, Problem::new(Severity::Error, None, None, FORGETS));
    }
    Read { plan, kept, there, forgets }
}

/// The secrets that are kept. Ones that cannot be read are another thing than none: a card that is dying may read them next time.
fn read_kept(disk: &dyn Disk) -> io::Result<Kept> {
    let bytes = read_if_there(disk, SECRETS, MAX_FILE)?.unwrap_or_default();
    toml::from_slice(&bytes).map_err(|_| io::Error::other("the file is damaged"))
}

/// Whether a file is what FAT leaves of a copy that was cut off: no bytes at all, or room that was never written. A mark that
/// Windows' editors put before nothing, and white space, say no more than that.
fn is_blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace())
}

fn is_about(problem: &Problem, name: &str) -> bool {
    problem.origin.as_ref().is_some_and(|origin| origin.file == Path::new(name))
}

/// Applies what was read.
pub fn apply(
    disk: &mut dyn Disk,
    boot: &BootPartition,
    machine: &Machine,
    read: Read,
) -> Result<Applied, ApplyError> {
    let Read { plan: Plan { problems, mut wanted, .. }, kept, there, forgets } = read;
    if forgets {
        // The only place of what is in the file is the file.
        let holds = if wanted.is_some() { Holds::TheRest } else { Holds::Defaults };
        let said = errors::text(&problems, holds, machine);
        let unwritten = boot.change(disk, &[Change::plain(ERRORS, said)]).err();
        return Ok(Applied { problems, holds, is_new: false, is_forgotten: true, unwritten });
    }
    disk.make_folder(STATE, Readers::All).map_err(failed(STATE))?;
    disk.flush(folder_of(STATE)).map_err(failed(STATE))?;
    machine.remember(disk).map_err(failed("the list of this machine's addresses"))?;
    let made_of = current_made_of(disk);
    let holds = match (&wanted, &made_of) {
        (Some(_), _) => Holds::TheRest,
        (None, Some(_)) => Holds::LastGood,
        (None, None) => Holds::Defaults,
    };
    let mut changes = Vec::new();
    let mut is_new = false;
    if let Some(wanted) = &mut wanted {
        if wanted.kept != kept {
            let text = toml::to_string(&wanted.kept).unwrap_or_default();
            replace(disk, SECRETS, text.as_bytes(), Readers::Root).map_err(failed(SECRETS))?;
        }
        let without = wanted.without_secrets.take().map(String::into_bytes);
        changes.extend(without.map(|content| Change {
            name: BOOT_FILE.to_owned(),
            content: Some(content),
            had_secrets: true,
        }));
    }
    let wanted = match (wanted, &made_of) {
        (Some(wanted), _) => Some(wanted),
        (None, Some(_)) => None,
        (None, None) => defaults(machine),
    };
    if let Some(wanted) = wanted {
        let there = if holds == Holds::TheRest { there } else { There::default() };
        let new = MadeOf { there, digest: wanted.digest.clone() };
        if made_of.as_ref() != Some(&new) {
            write_generation(disk, &wanted.files, &new).map_err(failed(GENERATIONS))?;
            is_new = true;
        }
    }
    tidy(disk).map_err(failed(GENERATIONS))?;
    changes.push(Change::plain(ERRORS, errors::text(&problems, holds, machine)));
    let unwritten = boot.change(disk, &changes).err();
    Ok(Applied { problems, holds, is_new, is_forgotten: false, unwritten })
}

/// What holds where nothing was ever read.
fn defaults(machine: &Machine) -> Option<Wanted> {
    plan(&Files::default(), &|_| Err("there is none".to_owned()), &Kept::new(), machine).wanted
}

/// Files and settings of what holds where nothing can be written: what was read now, else last, else safe defaults.
pub fn in_memory(disk: &dyn Disk, read: &Read, machine: &Machine) -> Option<(Vec<File>, Settings)> {
    let of = |wanted: Wanted| (wanted.files, wanted.settings);
    let last = || current_files(disk).ok().zip(current_settings(disk));
    read.plan.wanted.clone().map(of).or_else(last).or_else(|| defaults(machine).map(of))
}

/// Whether nothing can be kept, as the data partition is not there.
pub fn forgets(read: &Read) -> bool {
    read.forgets
}

/// Whether this machine may be called otherwise in a moment, and the files then come to something else.
pub fn awaits_interface(read: &Read) -> bool {
    read.plan.awaits_interface
}

/// Problems of what was read.
pub fn problems(read: &Read) -> &[Problem] {
    &read.plan.problems
}

/// The settings of the generation that holds.
pub fn current_settings(disk: &dyn Disk) -> Option<Settings> {
    settings_in(disk, CURRENT)
}

/// The settings that are in a folder.
pub fn settings_in(disk: &dyn Disk, folder: &str) -> Option<Settings> {
    let bytes = disk.read(&format!("{folder}/{SETTINGS}"), MAX_FILE).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn current_made_of(disk: &dyn Disk) -> Option<MadeOf> {
    let bytes = disk.read(&format!("{CURRENT}/{MADE_OF}"), MAX_FILE).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The number of the generation that `current` leads to; 0 where there is none.
fn current_number(disk: &dyn Disk) -> u32 {
    let target = disk.read_link(CURRENT).unwrap_or_default();
    target.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Writes a generation, makes all of it durable, and only then lets `current` lead to it.
fn write_generation(disk: &mut dyn Disk, files: &[File], made_of: &MadeOf) -> io::Result<()> {
    let number = current_number(disk).saturating_add(1);
    let folder = format!("{GENERATIONS}/{number:06}");
    disk.make_folder(GENERATIONS, Readers::All)?;
    // Left by a cut before `current` led there.
    disk.remove(&folder)?;
    disk.make_folder(&folder, Readers::All)?;
    let mut folders = Vec::new();
    for name in GATEWAY_FOLDERS {
        folders.push(format!("{folder}/{name}"));
        disk.make_folder(&format!("{folder}/{name}"), Readers::Gateway)?;
    }
    let made_of = File {
        path: MADE_OF.to_owned(),
        content: serde_json::to_vec(made_of).unwrap_or_default(),
        readers: Readers::All,
    };
    for file in files.iter().chain([&made_of]) {
        let path = format!("{folder}/{}", file.path);
        let parent = folder_of(&path).to_owned();
        if parent != folder && !folders.contains(&parent) {
            disk.make_folder(&parent, Readers::Root)?;
            folders.push(parent);
        }
        disk.write(&path, &file.content, file.readers)?;
        disk.flush(&path)?;
    }
    for folder in folders.iter().map(String::as_str).chain([folder.as_str(), GENERATIONS, STATE]) {
        disk.flush(folder)?;
    }
    let new = format!("{CURRENT}.new");
    disk.remove(&new)?;
    disk.link(&format!("generations/{number:06}"), &new)?;
    disk.rename(&new, CURRENT)?;
    disk.flush(STATE)
}

/// Removes generations but the one that holds: what was before has secrets that may not hold any more.
fn tidy(disk: &mut dyn Disk) -> io::Result<()> {
    let current = current_number(disk);
    for name in disk.list(GENERATIONS).unwrap_or_default() {
        if name.parse() != Ok(current) {
            disk.remove(&format!("{GENERATIONS}/{name}"))?;
        }
    }
    Ok(())
}

/// All files of the generation that holds, for [`crate::activate`].
pub fn current_files(disk: &dyn Disk) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for folder in [keyfile::FOLDER, users::FOLDER, users::KEYS_FOLDER] {
        for name in disk.list(&format!("{CURRENT}/{folder}")).unwrap_or_default() {
            let path = format!("{folder}/{name}");
            let content = disk.read(&format!("{CURRENT}/{path}"), MAX_FILE)?;
            let is_secret = folder == keyfile::FOLDER || name.ends_with("-privileged");
            let readers = if is_secret { Readers::Root } else { Readers::All };
            files.push(File { path, content, readers });
        }
    }
    Ok(files)
}
