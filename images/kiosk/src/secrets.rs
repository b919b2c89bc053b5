//! Secrets in a boot file: where they stand, what they are kept under, and the file's text without them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waypost_config::boot::{KEPT, kiosk_id};

use crate::machine::Machine;

/// What secrets are kept under: the section that they stand in, the entry, and the key.
pub type Kept = BTreeMap<String, String>;

/// What a boot file has of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Secrets that the file has, of this machine.
    pub given: Kept,
    /// Those in whose place it says that they are kept, of this machine.
    pub says_kept: BTreeSet<String>,
    /// The file with [`KEPT`] in place of every secret, other machines' included; absent where it has none. Where no section is
    /// this machine's, one may be that cannot be told yet: what stands in sections then stays there.
    pub without: Option<String>,
    /// Names of machines that it has sections for, as [`kiosk_id`] writes them.
    pub sections: BTreeSet<String>,
}

/// The key under which a secret is kept. `section` is the kiosk's section as the file writes it, if the entry stands in one.
pub fn place(section: Option<&str>, list: &str, entry: &str, key: &str) -> String {
    match section {
        Some(section) => format!("kiosk/{section}/{list}/{entry}/{key}"),
        None => format!("{list}/{entry}/{key}"),
    }
}

/// Finds the secrets of a boot file. A text that is no TOML has none that could be found.
pub fn find(text: &str, machine: &Machine) -> Found {
    let mut found = Found::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return found;
    }
    let (mut spans, mut others) = (Vec::new(), Vec::new());
    find_in(table.get_ref(), None, true, &mut found, &mut spans);
    let kiosks = table.get_ref().get("kiosk").and_then(|value| value.get_ref().as_table());
    for (key, section) in kiosks.into_iter().flatten() {
        let (written, section) = (key.get_ref().as_ref(), section.get_ref().as_table());
        let id = kiosk_id(written);
        let is_mine = id.as_ref().is_some_and(|id| machine.was_called(id));
        found.sections.extend(id);
        if let Some(section) = section {
            let spans = if is_mine { &mut spans } else { &mut others };
            find_in(section, Some(written), is_mine, &mut found, spans);
        }
    }
    if !machine.own(&found.sections).is_empty() {
        spans.append(&mut others);
    }
    found.without = without(text, spans);
    found
}

/// Looks at the networks and destinations of one table.
fn find_in(
    table: &DeTable<'_>,
    section: Option<&str>,
    is_mine: bool,
    found: &mut Found,
    spans: &mut Vec<Range<usize>>,
) {
    for (list, keys) in [("network", ["password", "pin"]), ("destination", ["token", "client_key"])] {
        let entries = table.get(list).and_then(|value| value.get_ref().as_array());
        for entry in entries.into_iter().flatten().filter_map(|entry| entry.get_ref().as_table()) {
            for key in keys {
                let Some((value, secret)) =
                    entry.get(key).and_then(|value| Some((value, secret(key, value)?)))
                else {
                    continue;
                };
                let name = name(entry).map(|name| place(section, list, name, key));
                match (secret == KEPT, name) {
                    (true, Some(name)) if is_mine => _ = found.says_kept.insert(name),
                    (true, _) => {}
                    (false, Some(name)) if is_mine => {
                        found.given.insert(name, secret);
                        spans.push(value.span());
                    }
                    (false, _) if !is_mine => spans.push(value.span()),
                    // Without a name it cannot be found again: an error says that one is missing, and it stays until then.
                    (false, _) => {}
                }
            }
        }
    }
}

/// The name of an entry as `waypost_config` makes it where there is none.
fn name<'a>(entry: &'a DeTable<'_>) -> Option<&'a str> {
    let text = |key| entry.get(key).and_then(|value| value.get_ref().as_str()).map(str::trim);
    text("name").or_else(|| text("wifi")).or_else(|| text("mobile")).filter(|name| !name.is_empty())
}

/// The secret, where the value is one: a key may also be the name of a file.
fn secret(key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
    let number = || value.get_ref().as_integer().map(|number| number.as_str().to_owned());
    let text = value.get_ref().as_str().map(str::to_owned).or_else(number)?;
    let is_file = key == "client_key" && !text.contains("-----BEGIN") && text != KEPT;
    (!is_file && !text.is_empty()).then_some(text)
}

/// The text with [`KEPT`] in these places and nothing else changed.
fn without(text: &str, mut spans: Vec<Range<usize>>) -> Option<String> {
    if spans.is_empty() {
        return None;
    }
    spans.sort_by_key(|span| span.start);
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for span in spans {
        out.push_str(text.get(end..span.start)?);
        out.push_str(&format!("\"{KEPT}\""));
        end = span.end;
    }
    out.push_str(text.get(end..)?);
    // What cannot be read any more must not take the place of what could.
    DeTable::parse(&out).is_ok().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Machine {
        Machine { serial: Some("10000000abcdef01".into()), ..Machine::default() }
    }

    #[test]
    fn secrets_are_taken_out_and_nothing_else_is_touched() {
        let text = "# über\r\nname = 'x'   # spaces\r\n[[network]]\r\nwifi=\"A\" \r\npassword   =  'hunter22'  # ours\r\n\
                    [[network]]\r\nmobile = \"apn\"\r\npin = 1234\r\n\
                    [[destination]]\r\nname = \"d\"\r\ntoken = \"\"\"abc\"\"\"\r\nclient_key = \"kiosk.key\"\r\n";
        let found = find(text, &mine());
        let expected = text
            .replace("'hunter22'", "\"(kept)\"")
            .replace("1234", "\"(kept)\"")
            .replace("\"\"\"abc\"\"\"", "\"(kept)\"");
        assert_eq!(found.without.as_deref(), Some(expected.as_str()));
        let given: Vec<_> = found.given.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            given,
            [("destination/d/token", "abc"), ("network/A/password", "hunter22"), ("network/apn/pin", "1234")]
        );
        let again = find(&expected, &mine());
        assert_eq!((again.without, again.given.len(), again.says_kept.len()), (None, 0, 3));
    }

    #[test]
    fn secrets_of_other_kiosks_are_taken_out_and_not_kept() {
        let text = "[kiosk.\"10-00-00-00-ab-cd-ef-01\"]\nnetwork = [{ wifi = \"B\", password = \"mine1234\" }]\n\
                    [[kiosk.b827eb000001.network]]\nwifi = \"C\"\npassword = \"theirs12\"\n[[kiosk.b827eb000001.network]]\npassword = \"nameless\"\n";
        let found = find(text, &mine());
        let kept: Vec<_> = found.given.keys().map(String::as_str).collect();
        assert_eq!(kept, ["kiosk/10-00-00-00-ab-cd-ef-01/network/B/password"]);
        let without = found.without.unwrap();
        assert!(
            ["mine1234", "theirs12", "nameless"].iter().all(|secret| !without.contains(secret)),
            "{without}"
        );
    }

    #[test]
    fn while_no_section_is_this_kiosks_all_of_them_keep_their_secrets() {
        let text = "[[network]]\nwifi = \"A\"\npassword = \"everyones\"\n\
                    [[kiosk.b827eb000001.network]]\nwifi = \"C\"\npassword = \"theirs12\"\n";
        let found = find(text, &mine());
        assert_eq!(found.without.unwrap(), text.replace("everyones", "(kept)"));
        let seen = Machine { remembered: vec!["b827eb000001".into()], ..mine() };
        let found = find(text, &seen);
        assert_eq!(found.given["kiosk/b827eb000001/network/C/password"], "theirs12");
        assert!(!found.without.unwrap().contains("theirs12"));
    }

    #[test]
    fn an_entry_without_a_name_keeps_its_secret_until_it_has_one() {
        assert_eq!(find("[[network]]\npassword = \"hunter22\"\n", &mine()).without, None);
    }
}
