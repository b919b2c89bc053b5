//! cloud-init's files on the boot partition, as far as a kiosk has use for them: `user-data` here, `network-config` beside.
//! Raspberry Pi Imager writes both. What is not understood is named.

mod network;
pub mod yaml;

use std::path::PathBuf;

use waypost_config::boot::{Country, Network, SshKey, TimeZone};
use waypost_config::{Origin, Problem, Severity, printable};

use crate::users::{DEFAULT_USER, Sudo, User};
use yaml::{Node, Value};

pub use network::read as read_network_config;

/// At most so many users.
const MAX_USERS: usize = 16;

/// What cloud-init's files say.
#[derive(Debug, Clone, Default)]
pub struct CloudInit {
    /// Host name, as it is written.
    pub host_name: Option<String>,
    /// Time zone.
    pub time_zone: Option<TimeZone>,
    /// Wi-Fi country.
    pub country: Option<Country>,
    /// Users.
    pub users: Vec<User>,
    /// Whether users may log in over SSH by their passwords.
    pub password_login: bool,
    /// Networks, Ethernet first.
    pub networks: Vec<Network>,
}

/// Where problems of one file go.
pub(crate) struct Notes<'a> {
    pub(crate) file: PathBuf,
    pub(crate) problems: &'a mut Vec<Problem>,
}

impl Notes<'_> {
    pub(crate) fn warn(&mut self, line: usize, message: &str) {
        self.push(Severity::Warning, line, message);
    }

    fn push(&mut self, severity: Severity, line: usize, message: &str) {
        if severity == Severity::Fatal || self.problems.len() < waypost_config::MAX_PROBLEMS {
            let origin = Origin { file: self.file.clone(), line, column: 1 };
            self.problems.push(Problem::new(severity, Some(origin), None, message));
        }
    }

    fn not_understood(&mut self, line: usize, key: &str) {
        let key: String = key.chars().take(60).collect();
        self.warn(line, &format!("`{}` is not understood here and is passed over", printable(&key)));
    }
}

/// Reads the YAML of a file; a mistake in it is fatal, since nobody knows what was meant by the rest.
pub(crate) fn read_yaml(text: &str, notes: &mut Notes<'_>) -> Option<Node> {
    match yaml::read(text) {
        Ok(root) => root.filter(|root| root.value != Value::Null),
        Err(error) => {
            notes.push(Severity::Fatal, error.line, &error.to_string());
            None
        }
    }
}

/// Reads `user-data`.
pub fn read_user_data(text: &str, file: PathBuf, out: &mut CloudInit, problems: &mut Vec<Problem>) {
    let mut notes = Notes { file, problems };
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first.starts_with("#!")
        || first.starts_with("## template:")
        || first.starts_with("#include")
        || first.starts_with("Content-Type:")
    {
        return notes.warn(1, "only #cloud-config is understood; this file is passed over");
    }
    let Some(root) = read_yaml(text, &mut notes) else { return };
    let Some(map) = root.map() else {
        return notes.warn(root.line, "expected keys and values; this file is passed over");
    };
    let mut keys = Vec::new();
    for (key, value) in map {
        let line = value.line;
        match key.as_str() {
            "hostname" | "fqdn" => match value.text() {
                Some(name) if key == "hostname" || out.host_name.is_none() => {
                    out.host_name = Some(name.split('.').next().unwrap_or_default().to_owned());
                }
                _ => {}
            },
            "timezone" => match value.text().and_then(TimeZone::parse) {
                Some(zone) => out.time_zone = Some(zone),
                None => notes.warn(line, "`timezone` is none such as Africa/Kampala; it is passed over"),
            },
            "ssh_pwauth" => out.password_login = value.truth() == Some(true),
            "ssh_authorized_keys" => keys = read_keys(value, &mut notes),
            "user" => out.users.extend(read_user(value, true, &mut notes)),
            "users" => {
                for user in value.list().into_iter().flatten().take(MAX_USERS) {
                    out.users.extend(read_user(user, false, &mut notes));
                }
            }
            "runcmd" if is_imagers(value) => {}
            "packages" if is_only_avahi(value) => {}
            // Of no use, and no loss, on a kiosk.
            "manage_etc_hosts" | "manage_resolv_conf" | "preserve_hostname" | "apt" | "keyboard"
            | "locale" | "enable_ssh" | "package_update" | "package_upgrade" | "ssh_deletekeys"
            | "disable_root" => {}
            other => notes.not_understood(line, other),
        }
    }
    if !keys.is_empty() {
        match out.users.first_mut() {
            Some(user) => user.keys.extend(keys),
            None => out.users.push(User { keys, ..User::admin(Vec::new()) }),
        }
    }
}

/// One user; `is_default` where it is cloud-init's default user under another name, who may use sudo.
fn read_user(node: &Node, is_default: bool, notes: &mut Notes<'_>) -> Option<User> {
    let named = |name: &str| User { sudo: Sudo::Password, ..User::new(name) };
    if let Some(name) = node.text() {
        return (is_default && User::is_name(name)).then(|| named(name));
    }
    let name = node.get("name").and_then(Node::text).unwrap_or(if is_default { DEFAULT_USER } else { "" });
    if !User::is_name(name) {
        notes.warn(
            node.line,
            "a user's `name` is missing, or is none of the system's; the user is passed over",
        );
        return None;
    }
    let mut user = if is_default { named(name) } else { User::new(name) };
    let mut is_locked = false;
    for (key, value) in node.map().into_iter().flatten() {
        match (key.as_str(), value.text()) {
            (
                "name" | "shell" | "homedir" | "no_create_home" | "uid" | "primary_group" | "no_user_group"
                | "system",
                _,
            ) => {}
            ("gecos", Some(text)) => user.real_name = printable(text).replace([':', ','], " "),
            ("passwd" | "hashed_passwd", Some(hash)) if User::is_hash(hash) => {
                user.password = Some(hash.to_owned())
            }
            ("passwd" | "hashed_passwd" | "plain_text_passwd", _) => {
                notes.warn(value.line, "expected a hashed password ($y$…, $6$…, $5$…); the user has none");
            }
            ("lock_passwd", _) => is_locked = value.truth() == Some(true),
            ("ssh_authorized_keys", _) => user.keys.extend(read_keys(value, notes)),
            ("groups", text) => {
                let words = text.into_iter().flat_map(|text| text.split([',', ' ']));
                let listed = value.list().into_iter().flatten().filter_map(Node::text);
                let names = words.chain(listed).map(str::trim).filter(|name| User::is_name(name));
                user.groups.extend(names.map(str::to_owned).take(64));
            }
            ("sudo", text) => {
                let rules = value.list().into_iter().flatten().filter_map(Node::text).chain(text);
                for rule in rules.filter(|rule| rule.contains("ALL")) {
                    user.sudo =
                        user.sudo.max(if rule.contains("NOPASSWD") { Sudo::Free } else { Sudo::Password });
                }
            }
            (other, _) => notes.not_understood(value.line, other),
        }
    }
    if user.groups.iter().any(|group| group == "sudo") {
        user.sudo = user.sudo.max(Sudo::Password);
    }
    // cloud-init locks passwords unless it is told otherwise; one that is written down is meant to be used.
    if is_locked {
        user.password = None;
    }
    Some(user)
}

fn read_keys(value: &Node, notes: &mut Notes<'_>) -> Vec<SshKey> {
    let mut keys = Vec::new();
    let lines = value.list().into_iter().flatten().chain(value.text().map(|_| value));
    for node in lines.take(256) {
        for line in node.text().unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
            match SshKey::parse(line) {
                Some(key) => keys.push(key),
                None => notes.warn(node.line, "expected a public key in one line; this one is passed over"),
            }
        }
    }
    keys
}

/// Whether all that is to be run is what Raspberry Pi Imager writes for its own system: switching SSH and radios on, and
/// the sudo rule that its `user` has besides.
fn is_imagers(value: &Node) -> bool {
    let is_known = |command: &Node| {
        let words: Vec<&str> = command.list().into_iter().flatten().filter_map(Node::text).collect();
        match words.as_slice() {
            ["systemctl", "enable", .., "ssh"] | ["rfkill", "unblock", ..] => true,
            ["sh", "-c", line] => {
                line.contains("/etc/sudoers.d/010_") || line.contains("/var/lib/systemd/rfkill")
            }
            ["chmod", _, path] => path.starts_with("/etc/sudoers.d/010_"),
            _ => false,
        }
    };
    value.list().is_some_and(|commands| commands.iter().all(is_known))
}

fn is_only_avahi(value: &Node) -> bool {
    value.list().is_some_and(|names| names.iter().all(|name| name.text() == Some("avahi-daemon")))
}
