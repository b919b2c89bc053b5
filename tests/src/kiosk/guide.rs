//! `docs/install.md`, read as an admin reads it: numbered actions, and in them what is to be typed.

use std::fs;
use std::path::Path;

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

    fn action(&self, number: usize) -> &str {
        let (_, rest) = self.0.split_once(&format!("\n## {number}. ")).expect("an action of this number");
        rest.split_once("\n## ").map_or(rest, |(text, _)| text)
    }
}
