//! From the files on the boot partition to what the kiosk shall be: texts in, a generation's files out, no IO.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use waypost_config::boot::{
    self, BootCredentials, BootFile, BootLoaded, Kind, Material, Secret, check_drop_in,
};
use waypost_config::{Name, Origin, Problem, Severity, Source, nearest, printable};

use crate::cloud_init::{CloudInit, read_network_config, read_user_data};
use crate::disk::Readers;
use crate::machine::Machine;
use crate::render::gateway::Beside;
use crate::render::{File, Settings, gateway, host_name, keyfile};
use crate::secrets::{self, Kept, place};
use crate::users::{self, User};

/// The boot file's name.
pub const BOOT_FILE: &str = "waypost.toml";
/// cloud-init's files beside it.
pub const USER_DATA: &str = "user-data";
/// The same, for networks.
pub const NETWORK_CONFIG: &str = "network-config";
/// Where a generation has its [`Settings`].
pub const SETTINGS: &str = "settings.json";

/// What a kiosk is set up from. Each file is absent where it is not there.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// `waypost.toml`.
    pub boot_file: Option<Vec<u8>>,
    /// `user-data`.
    pub user_data: Option<Vec<u8>>,
    /// `network-config`.
    pub network_config: Option<Vec<u8>>,
}

/// What came of the files.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is wrong, the boot file's first.
    pub problems: Vec<Problem>,
    /// What the kiosk shall be; absent where what it is now stays.
    pub wanted: Option<Wanted>,
    /// Whether the boot file goes by secrets that are kept.
    pub needs_kept: bool,
    /// Whether kiosks are named by MAC addresses and this is none of them, perhaps because its interface is not there yet.
    pub awaits_interface: bool,
}

/// What the kiosk shall be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A generation's files.
    pub files: Vec<File>,
    /// The same as one hash, in hexadecimal digits.
    pub digest: String,
    /// What is done at each boot besides.
    pub settings: Settings,
    /// Secrets that are kept.
    pub kept: Kept,
    /// The boot file with secrets taken out; absent where it has none.
    pub without_secrets: Option<String>,
}

/// Reads the files.
pub fn plan(files: &Files, beside: &Beside<'_>, kept: &Kept, machine: &Machine) -> Plan {
    let mut problems = Vec::new();
    let text = |name: &str, bytes: &Option<Vec<u8>>, problems: &mut Vec<Problem>| {
        decode(name, bytes.as_deref()?).map_err(|problem| problems.push(problem)).ok()
    };
    let boot_text = text(BOOT_FILE, &files.boot_file, &mut problems).unwrap_or_default();
    let source = Source::new(BOOT_FILE, boot_text.as_str());
    let found = secrets::find(&source, machine);
    let sections = secrets::sections(&boot_text);
    let own = machine.own(&sections);
    let needs_kept = !found.says_kept.is_empty();
    let awaits_interface = own.is_empty() && sections.iter().any(|id| id.len() == 12);
    let mut loaded = boot::read(&source, &|id| own.contains(id));
    problems.append(&mut loaded.problems);
    let mut all = kept.clone();
    all.extend(found.given.clone());
    fill_in(&mut loaded, &all, &mut problems);
    let mut cloud = CloudInit::default();
    if let Some(text) = text(USER_DATA, &files.user_data, &mut problems) {
        read_user_data(&text, USER_DATA.into(), &mut cloud, &mut problems);
    }
    if let Some(text) = text(NETWORK_CONFIG, &files.network_config, &mut problems) {
        read_network_config(&text, NETWORK_CONFIG.into(), &mut cloud, &mut problems);
    }
    if problems.iter().any(|problem| problem.severity == Severity::Fatal) {
        return Plan { problems, wanted: None, needs_kept, awaits_interface };
    }
    let BootLoaded { mut file, origins, .. } = loaded;
    let zone_origin = origins.get("time_zone");
    check_zone(&mut file, &cloud, zone_origin, machine, &mut problems);
    take_cloud_init(&mut file, &mut cloud);
    let (settings, users) = settings(&file, cloud, machine);
    let name = file.name.clone().or_else(|| Name::new(&settings.host_name)).or_else(|| Name::new("waypost"));
    let mut made = keyfile::files(&file.network);
    made.extend(users::records(&users));
    if let Some(name) = name {
        made.extend(gateway::files(&file, &name, beside, &mut problems));
    }
    problems.extend(second_look(&made));
    let json = serde_json::to_vec_pretty(&settings).unwrap_or_default();
    made.push(File { path: SETTINGS.to_owned(), content: json, readers: Readers::All });
    made.sort_by(|a, b| a.path.cmp(&b.path));
    // While none of the sections is this machine's, one of them may be that cannot be told yet.
    let is_stranger = own.is_empty() && !sections.is_empty();
    let still = |key: &String| {
        let is_anothers = is_stranger && key.starts_with("kiosk/");
        is_anothers || found.given.contains_key(key) || found.says_kept.contains(key)
    };
    // A mistake may be in what a secret is kept for: a name, the word before a list.
    if problems.iter().all(|problem| problem.severity == Severity::Warning) {
        all.retain(|key, _| still(key));
    }
    let digest = digest(&made);
    let wanted = Wanted { digest, files: made, settings, kept: all, without_secrets: found.without };
    Plan { problems, wanted: Some(wanted), needs_kept, awaits_interface }
}

/// The text of a file. Windows' editors put a mark before it.
fn decode(name: &str, bytes: &[u8]) -> Result<String, Problem> {
    let fatal = |line, message: &str| {
        let origin = Origin { file: name.into(), line, column: 1 };
        Problem::new(Severity::Fatal, Some(origin), None, message)
    };
    if bytes.len() > waypost_config::MAX_FILE {
        return Err(fatal(1, "file is larger than 1 MiB; nothing of it is used"));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        fatal(line, "expected UTF-8 text; save the file as UTF-8; nothing of it is used")
    })
}

/// Puts kept secrets in their places. An entry whose secret is not there is left out.
fn fill_in(loaded: &mut BootLoaded, kept: &Kept, problems: &mut Vec<Problem>) {
    let missing =
        "says \"(kept)\", but this kiosk has kept none for it; write the secret itself in its place";
    let networks_from = loaded.networks_from.clone();
    loaded.file.network.retain_mut(|network| {
        let name = network.name.as_str().to_owned();
        let is_wifi = matches!(network.kind, Kind::Wifi { .. });
        let slots: Vec<(&str, &mut Option<Secret>)> = match &mut network.kind {
            Kind::Wifi { password, .. } => vec![("password", password)],
            Kind::Mobile { pin, password, .. } => vec![("pin", pin), ("password", password)],
            Kind::Ethernet(_) => Vec::new(),
        };
        let mut lacks = None;
        for (key, slot) in slots.into_iter().filter(|(_, slot)| **slot == Some(Secret::Kept)) {
            // It may have been kept for a network of this name that was of another kind.
            let fits = |secret: &&String| !is_wifi || boot::is_wifi_password(secret);
            match kept.get(&place(networks_from.as_deref(), "network", &name, key)).filter(fits) {
                Some(secret) => *slot = Some(Secret::Given(secret.clone())),
                None => lacks = Some(key),
            }
        }
        problems.extend(lacks.map(|key| {
            network.problem(Severity::Error, key, &format!("{missing}; the network is left out"))
        }));
        lacks.is_none()
    });
    let destinations_from = loaded.destinations_from.clone();
    loaded.file.destination.retain_mut(|destination| {
        let name = destination.name.as_str().to_owned();
        let (key, slot) = match &mut destination.credentials {
            BootCredentials::Token(secret) => ("token", secret),
            BootCredentials::Certificate { key: Material::Inline(secret), .. } => ("client_key", secret),
            _ => return true,
        };
        if *slot != Secret::Kept {
            return true;
        }
        match kept.get(&place(destinations_from.as_deref(), "destination", &name, key)) {
            Some(secret) => {
                *slot = Secret::Given(secret.clone());
                true
            }
            None => {
                let message = format!("{missing}; the destination is left out");
                problems.push(destination.problem(Severity::Error, key, &message));
                false
            }
        }
    });
}

/// Leaves out a time zone that the machine does not know.
fn check_zone(
    file: &mut BootFile,
    cloud: &CloudInit,
    origin: Option<&Origin>,
    machine: &Machine,
    problems: &mut Vec<Problem>,
) {
    let Some(zone) = file.time_zone.as_ref().or(cloud.time_zone.as_ref()) else { return };
    if machine.zones.is_empty() || machine.zones.contains(zone.as_str()) {
        return;
    }
    let meant = nearest(zone.as_str(), machine.zones.iter().map(String::as_str));
    let hint = meant
        .map_or("names are as in Africa/Kampala".to_owned(), |meant| format!("did you mean \"{meant}\"?"));
    let message = format!("the time zone {} is not known; {hint}; UTC holds", printable(zone.as_str()));
    problems.push(Problem::new(Severity::Error, origin.cloned(), Some("time_zone"), &message));
    file.time_zone = boot::TimeZone::parse("UTC");
}

/// Takes from cloud-init what the boot file does not say.
fn take_cloud_init(file: &mut BootFile, cloud: &mut CloudInit) {
    if file.network.is_empty() {
        file.network = std::mem::take(&mut cloud.networks);
    }
    file.country = file.country.take().or(cloud.country.take());
    file.time_zone = file.time_zone.take().or(cloud.time_zone.take());
    if file.name.is_none() {
        file.name = cloud.host_name.as_deref().and_then(Name::new);
    }
}

fn settings(file: &BootFile, cloud: CloudInit, machine: &Machine) -> (Settings, Vec<User>) {
    let mut users = cloud.users;
    users.dedup_by(|b, a| a.name == b.name);
    if !file.ssh_keys.is_empty() {
        users.retain(|user| user.name != users::DEFAULT_USER);
        users.insert(0, User::admin(file.ssh_keys.clone()));
    }
    let mut seen = std::collections::BTreeSet::new();
    users.retain(|user| seen.insert(user.name.clone()));
    let ssh_passwords = cloud.password_login && users.iter().any(|user| user.password.is_some());
    let host = file.name.as_ref().and_then(|name| host_name(name.as_str()));
    let settings = Settings {
        host_name: host.unwrap_or_else(|| machine.default_name()),
        time_zone: file.time_zone.as_ref().map(ToString::to_string),
        country: file.country.as_ref().map(ToString::to_string),
        users: users::numbers(&users),
        ssh: ssh_passwords || users.iter().any(|user| !user.keys.is_empty()),
        ssh_passwords,
    };
    (settings, users)
}

/// What the gateway itself says of its drop-in; its places are in a file that nobody sees.
fn second_look(files: &[File]) -> Vec<Problem> {
    let drop_in = files.iter().find(|file| file.path == gateway::DROP_IN);
    let text = drop_in.map(|file| String::from_utf8_lossy(&file.content).into_owned()).unwrap_or_default();
    check_drop_in(&text).into_iter().map(|problem| Problem { origin: None, ..problem }).collect()
}

/// One hash of all files: path, readers, length and content of each.
fn digest(files: &[File]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        for part in [file.path.as_bytes(), format!("{:?}", file.readers).as_bytes(), &file.content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

/// The place of a problem for people: the file's own name and a line.
pub fn place_of(problem: &Problem) -> Option<String> {
    let origin = problem.origin.as_ref()?;
    let name = Path::new(&origin.file).file_name().unwrap_or_default().to_string_lossy();
    Some(format!("{}, line {}", printable(&name), origin.line))
}
