//! What a generation has in its folder: files for NetworkManager, the user database and the gateway.

pub mod gateway;
pub mod keyfile;

use serde::{Deserialize, Serialize};

use crate::disk::Readers;

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Below the generation's folder.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Who may read it.
    pub readers: Readers,
}

/// What is done at each boot besides putting files in their places: `settings.json` of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Host name.
    pub host_name: String,
    /// Time zone; absent: UTC.
    pub time_zone: Option<String>,
    /// Wi-Fi country.
    pub country: Option<String>,
    /// Users with their numbers.
    pub users: Vec<(String, u32)>,
    /// Whether anybody may log in over SSH.
    pub ssh: bool,
    /// Whether passwords count there.
    pub ssh_passwords: bool,
}

/// A host name (RFC 1123) out of a name for people: letters and digits, everything else as hyphens. Absent where nothing
/// is left.
pub fn host_name(name: &str) -> Option<String> {
    let mut host = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => host.push(c),
            '\'' | '’' | '\u{300}'..='\u{36f}' => {}
            _ => match plain(c) {
                "-" if host.ends_with('-') || host.is_empty() => {}
                letters => host.push_str(letters),
            },
        }
    }
    host.truncate(63);
    let host = host.trim_end_matches('-');
    (!host.is_empty()).then(|| host.to_owned())
}

/// A letter of Latin script without its marks; a hyphen for all else.
fn plain(c: char) -> &'static str {
    match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => "a",
        'æ' => "ae",
        'ç' | 'ć' | 'č' => "c",
        'ð' | 'đ' => "d",
        'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'ì'..='ï' | 'ī' | 'ı' => "i",
        'ñ' | 'ń' | 'ň' => "n",
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => "o",
        'œ' => "oe",
        'š' | 'ş' | 'ș' => "s",
        'ß' => "ss",
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => "u",
        'ý' | 'ÿ' => "y",
        'ž' | 'ź' | 'ż' => "z",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_made_of_names() {
        for (name, host) in [
            ("Clinic Mbale", "clinic-mbale"),
            ("  St. Mary's (3) ", "st-marys-3"),
            ("Clínica São João", "clinica-sao-joao"),
            ("waypost-cdef01", "waypost-cdef01"),
            ("a---b", "a-b"),
        ] {
            assert_eq!(host_name(name).as_deref(), Some(host));
        }
        assert_eq!(host_name("诊所"), None);
        assert_eq!(host_name(&"x".repeat(64)).unwrap().len(), 63);
    }
}
