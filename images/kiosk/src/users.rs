//! Users that may log in, as records of systemd's user database (nss-systemd(8), "Static drop-in JSON user/group records").

use serde_json::json;
use sha2::{Digest as _, Sha256};
use waypost_config::boot::SshKey;

use crate::disk::Readers;
use crate::render::File;

/// The user of `ssh_keys`.
pub const DEFAULT_USER: &str = "admin";
/// The group whose members use sudo without a password; `systemd/kiosk/sudoers.d` says so.
pub const ADMIN_GROUP: &str = "waypost-admin";
/// Its number: above those that Debian gives to users by itself, below those that systemd has other uses for.
const ADMIN_GID: u32 = 30_000;
/// The number of [`DEFAULT_USER`]; others have one of the next, below [`ADMIN_GID`].
const FIRST_UID: u32 = 1000;
const OTHERS: u32 = 20_000;
/// The folder of a generation with records for `/run/userdb`.
pub const FOLDER: &str = "users";
/// The folder of a generation with keys for the SSH server.
pub const KEYS_FOLDER: &str = "authorized_keys";
/// Where users have their files: the root file system is read-only.
pub const HOMES: &str = "/var/lib/waypost-kiosk/home";

/// Whether a user may use sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sudo {
    /// No.
    Never,
    /// With the user's password.
    Password,
    /// Without.
    Free,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name of the account.
    pub name: String,
    /// Name of the person.
    pub real_name: String,
    /// As crypt(5) has it; absent where no password fits.
    pub password: Option<String>,
    /// Keys for SSH.
    pub keys: Vec<SshKey>,
    /// Groups of the system.
    pub groups: Vec<String>,
    /// Whether the user may use sudo.
    pub sudo: Sudo,
}

impl User {
    /// A user who may do nothing in particular.
    pub fn new(name: &str) -> Self {
        User {
            name: name.to_owned(),
            real_name: String::new(),
            password: None,
            keys: Vec::new(),
            groups: Vec::new(),
            sudo: Sudo::Never,
        }
    }

    /// The user of `ssh_keys`, who may do everything.
    pub fn admin(keys: Vec<SshKey>) -> Self {
        User { keys, sudo: Sudo::Free, real_name: "Administrator".to_owned(), ..Self::new(DEFAULT_USER) }
    }

    /// Whether it can be the name of an account, and is none that the system has by itself.
    pub fn is_name(text: &str) -> bool {
        const TAKEN: [&str; 4] = ["root", "nobody", "waypost", ADMIN_GROUP];
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        (1..=31).contains(&text.len())
            && text.bytes().all(is_letter)
            && !text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
            && !TAKEN.contains(&text)
    }

    /// Whether it is a password as crypt(5) has it.
    pub fn is_hash(text: &str) -> bool {
        text.len() <= 256
            && text.starts_with('$')
            && text.matches('$').count() >= 3
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
    }
}

/// Users with their numbers. Each has the number that its name comes to, so that its files stay its own whoever is beside it; of
/// two whose names come to the same, the second has the next.
pub fn numbers(users: &[User]) -> Vec<(String, u32)> {
    let mut taken = Vec::new();
    let mut number = |user: &User| {
        let mut number = 0;
        if user.name != DEFAULT_USER {
            let [first, second, third, ..] = <[u8; 32]>::from(Sha256::digest(&user.name));
            number = 1 + u32::from_be_bytes([0, first, second, third]) % OTHERS;
            while taken.contains(&number) {
                number = 1 + number % OTHERS;
            }
            taken.push(number);
        }
        (user.name.clone(), FIRST_UID + number)
    };
    users.iter().map(&mut number).collect()
}

/// Files for these users.
pub fn records(users: &[User]) -> Vec<File> {
    let mut files = Vec::new();
    let mut file = |name: String, readers, content: serde_json::Value| {
        let mut content = content.to_string();
        content.push('\n');
        files.push(File { path: format!("{FOLDER}/{name}"), content: content.into_bytes(), readers });
    };
    if !users.is_empty() {
        let group = json!({ "groupName": ADMIN_GROUP, "gid": ADMIN_GID });
        file(format!("{ADMIN_GROUP}.group"), Readers::All, group);
    }
    for ((name, uid), user) in numbers(users).iter().zip(users) {
        let record = json!({
            "userName": name,
            "realName": if user.real_name.is_empty() { name } else { &user.real_name },
            "uid": uid,
            "gid": uid,
            "homeDirectory": format!("{HOMES}/{name}"),
            "shell": "/bin/bash",
            "disposition": "regular",
        });
        file(format!("{name}.user"), Readers::All, record);
        let keys: Vec<&str> = user.keys.iter().map(SshKey::as_str).collect();
        let password: Vec<&str> = user.password.iter().map(String::as_str).collect();
        let privileged = json!({ "privileged": { "hashedPassword": password, "sshAuthorizedKeys": keys } });
        file(format!("{name}.user-privileged"), Readers::Root, privileged);
        file(format!("{name}.group"), Readers::All, json!({ "groupName": name, "gid": uid }));
        for group in memberships(user) {
            file(format!("{name}:{group}.membership"), Readers::All, json!({}));
        }
    }
    files.extend(users.iter().map(authorized_keys));
    files
}

/// The same keys as a file for the SSH server, so that it needs no other program to learn them.
fn authorized_keys(user: &User) -> File {
    let lines: String = user.keys.iter().map(|key| format!("{key}\n")).collect();
    File { path: format!("{KEYS_FOLDER}/{}", user.name), content: lines.into_bytes(), readers: Readers::All }
}

/// Numbers that stand for names of records: the name of a link, and what it leads to.
pub fn number_links(users: &[(String, u32)]) -> Vec<(String, String)> {
    let mut links = Vec::new();
    for (name, uid) in users {
        for kind in ["user", "user-privileged", "group"] {
            links.push((format!("{uid}.{kind}"), format!("{name}.{kind}")));
        }
    }
    if !users.is_empty() {
        links.push((format!("{ADMIN_GID}.group"), format!("{ADMIN_GROUP}.group")));
    }
    links
}

fn memberships(user: &User) -> Vec<&str> {
    let mut groups: Vec<&str> = user.groups.iter().map(String::as_str).collect();
    // Who may do everything may also do it the short way.
    match user.sudo {
        Sudo::Free => groups.extend([ADMIN_GROUP, "waypost", "systemd-journal"]),
        Sudo::Password => groups.push("sudo"),
        Sudo::Never => {}
    }
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_the_system_are_nobodys() {
        assert!(["admin", "pi", "field_worker-2"].iter().all(|name| User::is_name(name)));
        assert!(
            ["", "root", "waypost", "1st", "-x", "a/b", "A", "a:b", "..", &"x".repeat(32)]
                .iter()
                .all(|name| !User::is_name(name))
        );
    }

    #[test]
    fn a_user_keeps_its_number_whoever_is_beside_it() {
        let number = |names: &[&str], whose: &str| {
            let users: Vec<_> = names.iter().map(|name| User::new(name)).collect();
            numbers(&users).into_iter().find(|(name, _)| name == whose).unwrap().1
        };
        let grace = number(&["grace"], "grace");
        assert_eq!(number(&["moses", "admin", "grace"], "grace"), grace);
        assert_eq!(number(&["grace", "admin"], "admin"), FIRST_UID);
        let many: Vec<_> = (0..2_000).map(|at| User::new(&format!("user{at}"))).collect();
        let mut all: Vec<_> = numbers(&many).into_iter().map(|(_, number)| number).collect();
        assert!(all.iter().all(|number| (FIRST_UID + 1..ADMIN_GID).contains(number)));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), many.len());
    }

    #[test]
    fn an_admin_is_in_the_group_that_needs_no_password() {
        let files = records(&[User::admin(Vec::new())]);
        let names: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert!(names.contains(&"users/admin:waypost-admin.membership"), "{names:?}");
        let privileged = files.iter().find(|file| file.path.ends_with(".user-privileged")).unwrap();
        assert_eq!(privileged.readers, Readers::Root);
    }
}
