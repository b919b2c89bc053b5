//! `docs/install.md`, read as an admin reads it: numbered actions, and in them what is to be typed.

use std::fs;
use std::path::Path;

use super::{Admin, Card, Reach};
use crate::scenario::Destination;

/// The guide's text.
pub struct Guide(String);

impl Guide {
    /// The one that admins are given.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md");
        Guide(fs::read_to_string(path).unwrap())
    }

    /// The actions' titles, in order. They are numbered from 1.
    pub fn actions(&self) -> Vec<&str> {
        let titles = self.0.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(". "));
        let titles: Vec<_> =
            titles.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())).collect();
        for (at, (number, _)) in titles.iter().enumerate() {
            assert_eq!(number.parse(), Ok(at + 1), "the actions are numbered");
        }
        titles.into_iter().map(|(_, title)| title).collect()
    }

    /// The first block of an action's that is in this language.
    pub fn block(&self, action: usize, language: &str) -> &str {
        let begin = format!("```{language}\n");
        let (_, rest) = self
            .action(action)
            .split_once(&begin)
            .unwrap_or_else(|| panic!("action {action} has no {language}"));
        rest.split_once("```").expect("a block ends").0
    }

    /// What an action says to type on the kiosk, by SSH: what follows `ssh admin@ADDRESS`.
    pub fn command(&self, action: usize) -> &str {
        let (_, rest) = self
            .action(action)
            .split_once("`ssh admin@ADDRESS ")
            .unwrap_or_else(|| panic!("action {action} has nothing to type over SSH"));
        rest.split_once('`').expect("code ends").0
    }

    /// The second action: the guide's own file, with what is this destination's and this admin's, short waits, and `more` at its
    /// end. It is written once, by a program that leaves nothing of it elsewhere.
    pub fn configure(
        &self,
        card: &Card,
        destination: &Destination,
        admin: &Admin,
        reach: &Reach,
        more: &str,
    ) {
        let mut text = self.block(2, "toml").to_owned();
        for (theirs, ours) in [
            ("ssh-ed25519 AAAA… grace@laptop", admin.public.as_str()),
            ("https://example.org/waypost", "https://10.0.2.100"),
            ("\"ministry.asc\"", "\"ministry.asc\"\nca = \"ministry-ca.pem\""),
            ("the token", destination.token()),
        ] {
            assert_eq!(text.matches(theirs).count(), 1, "{theirs} in {text}");
            text = text.replace(theirs, ours);
        }
        text += &format!(
            "\n[gateway]\nlan.addresses = [\"{}\"]\nupload.probe_interval = \"5s\"\nupload.max_backoff = \"5s\"\n{more}",
            reach.gateway
        );
        let certificate = fs::read(destination.certificate()).unwrap();
        let certificate = waypost_openpgp::Certificate::from_bytes(&certificate).unwrap();
        card.write("ministry.asc", &certificate.to_armor());
        card.write("ministry-ca.pem", &fs::read_to_string(destination.authority()).unwrap());
        card.write("waypost.toml", &text);
    }

    fn action(&self, number: usize) -> &str {
        let (_, rest) = self.0.split_once(&format!("\n## {number}. ")).expect("an action of this number");
        rest.split_once("\n## ").map_or(rest, |(text, _)| text)
    }
}
