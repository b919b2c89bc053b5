//! Secrets in a boot file: where they stand, what they are kept under, and the file's text without them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waypost_config::boot::{self, KEPT, kiosk_id};
use waypost_config::{Origin, Source};

use crate::machine::Machine;

/// What secrets are kept under: the section that they stand in, the entry, and the key.
pub type Kept = BTreeMap<String, String>;

/// What a boot file has of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Secrets that the file has, of this machine. Those of an entry that is wrong are not among them: they stay where they are
    /// until it is right, since what is wrong may be the secret.
    pub given: Kept,
    /// Those in whose place it says that they are kept, of this machine.
    pub says_kept: BTreeSet<String>,
    /// The file with [`KEPT`] in place of every secret, other machines' included; absent where it has none. Where no section is
    /// this machine's, one may be that cannot be told yet: what stands in sections then stays there.
    pub without: Option<String>,
}

/// The key under which a secret is kept. `section` is the kiosk's section as the file writes it, if the entry stands in one.
pub fn place(section: Option<&str>, list: &str, entry: &str, key: &str) -> String {
    match section {
        Some(section) => format!("kiosk/{section}/{list}/{entry}/{key}"),
        None => format!("{list}/{entry}/{key}"),
    }
}

/// Names of the machines that a boot file has sections for, as [`kiosk_id`] writes them.
pub fn sections(text: &str) -> BTreeSet<String> {
    let Ok(table) = DeTable::parse(text) else { return BTreeSet::new() };
    let kiosks = table.get_ref().get("kiosk").and_then(|value| value.get_ref().as_table());
    kiosks.into_iter().flatten().filter_map(|(key, _)| kiosk_id(key.get_ref())).collect()
}

/// Finds the secrets of a boot file. A text that is no TOML has none that could be found.
pub fn find(source: &Source, machine: &Machine) -> Found {
    let Ok(table) = DeTable::parse(source.text()) else { return Found::default() };
    let right = boot::read(source, &|id| machine.was_called(id)).right;
    let mut seek = Seek { source, right, found: Found::default(), spans: Vec::new() };
    seek.table(table.get_ref(), None, true);
    let (mut spans, mut others) = (std::mem::take(&mut seek.spans), Vec::new());
    let kiosks = table.get_ref().get("kiosk").and_then(|value| value.get_ref().as_table());
    for (key, section) in kiosks.into_iter().flatten() {
        let Some(section) = section.get_ref().as_table() else { continue };
        let written = key.get_ref().as_ref();
        let is_mine = kiosk_id(written).is_some_and(|id| machine.was_called(&id));
        seek.table(section, Some(written), is_mine);
        if is_mine { &mut spans } else { &mut others }.append(&mut seek.spans);
    }
    if !machine.own(&sections(source.text())).is_empty() {
        spans.append(&mut others);
    }
    Found { without: without(source.text(), spans), ..seek.found }
}

struct Seek<'a> {
    source: &'a Source,
    /// Where the entries begin that nothing is wrong with.
    right: Vec<Origin>,
    found: Found,
    /// Where secrets stand that leave the file.
    spans: Vec<Range<usize>>,
}

impl Seek<'_> {
    /// Looks at the networks and destinations of one table.
    fn table(&mut self, table: &DeTable<'_>, section: Option<&str>, is_mine: bool) {
        for (list, keys) in [("network", ["password", "pin"]), ("destination", ["token", "client_key"])] {
            let entries = table.get(list).and_then(|value| value.get_ref().as_array());
            for element in entries.into_iter().flatten() {
                let Some(entry) = element.get_ref().as_table() else { continue };
                let is_right = self.right.contains(&self.source.origin(element.span().start));
                for key in keys {
                    let Some(value) = entry.get(key) else { continue };
                    let Some(secret) = secret(key, value) else { continue };
                    match (is_mine, name(entry).map(|name| place(section, list, name, key))) {
                        // Also of a wrong one: what is kept outlives a typo beside it.
                        (true, Some(name)) if secret == KEPT => _ = self.found.says_kept.insert(name),
                        (true, Some(name)) if is_right => {
                            self.found.given.insert(name, secret);
                            self.spans.push(value.span());
                        }
                        (false, _) if secret != KEPT => self.spans.push(value.span()),
                        _ => {}
                    }
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

    fn find(text: &str, machine: &Machine) -> Found {
        super::find(&Source::new("waypost.toml", text), machine)
    }

    #[test]
    fn secrets_are_taken_out_and_nothing_else_is_touched() {
        let text = "# über\r\nname = 'x'   # spaces\r\n[[network]]\r\nwifi=\"A\" \r\npassword   =  'hunter22'  # ours\r\n\
                    [[network]]\r\nmobile = \"apn\"\r\npin = 1234\r\n\
                    [[destination]]\r\nname = \"d\"\r\nurl = \"https://d\"\r\ncertificate = \"d.asc\"\r\ntoken = \"\"\"abc\"\"\"\r\n";
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
    fn a_key_in_the_file_is_a_secret_and_the_name_of_one_is_not() {
        let destination = |key: &str| {
            let text = format!(
                "[[destination]]\nname = \"d\"\nurl = \"https://d\"\ncertificate = \"d.asc\"\nclient_certificate = \"k.pem\"\n\
                 client_key = {key}\n"
            );
            find(&text, &mine())
        };
        assert_eq!(destination("\"kiosk.key\""), Found::default());
        let found =
            destination("\"\"\"\n-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n\"\"\"");
        assert!(found.given["destination/d/client_key"].contains("MC4="));
        assert!(found.without.unwrap().ends_with("client_key = \"(kept)\"\n"));
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
    fn a_list_that_a_section_takes_the_place_of_has_secrets_all_the_same() {
        let text = "[[network]]\nwifi = \"A\"\npassword = \"everyones\"\n\
                    [[kiosk.10000000abcdef01.network]]\nwifi = \"B\"\npassword = \"mine1234\"\n";
        let found = find(text, &mine());
        assert_eq!((found.given.len(), found.given["network/A/password"].as_str()), (2, "everyones"));
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
    fn an_entry_that_is_wrong_keeps_its_secrets_until_it_is_right() {
        for wrong in [
            "[[network]]\npassword = \"hunter22\"\n",
            "[[network]]\nwifi = \"A\"\npassword = \"short\"\n",
            "[[network]]\nwifi = \"A\"\npassword = \"hunter22\"\ncost = \"much\"\n",
            "[[network]]\nmobile = \"apn\"\npin = \"12 34\"\n",
            "[[destination]]\nname = \"d\"\nurl = \"https://d\"\ncertificate = \"d.asc\"\ntoken = \"two words\"\n",
        ] {
            assert_eq!(find(wrong, &mine()), Found::default(), "{wrong}");
        }
        let typo = find("[[network]]\nwifi = \"A\"\npassword = \"(kept)\"\ncost = \"much\"\n", &mine());
        assert!(typo.says_kept.contains("network/A/password"), "what is kept outlives a typo beside it");
        let twins = "[[network]]\nwifi = \"A\"\npassword = \"the-first\"\n[[network]]\nwifi = \"A\"\npassword = \"the-second\"\n";
        let found = find(twins, &mine());
        assert_eq!(found.given["network/A/password"], "the-first");
        assert_eq!(found.without.unwrap(), twins.replace("the-first", "(kept)"));
    }
}
