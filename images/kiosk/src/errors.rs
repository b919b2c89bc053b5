//! `waypost-errors.txt`: what is wrong, in words, beside the file that it is about.

use waypost_config::{Problem, Severity};

use crate::machine::Machine;
use crate::plan::place_of;

/// The file's name.
pub const ERRORS: &str = "waypost-errors.txt";

/// What the kiosk has in place of what could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// All that was right.
    TheRest,
    /// What was read the last time that nothing was fatal.
    LastGood,
    /// Nothing was ever read.
    Defaults,
}

/// One problem: place, kind, key, what is wrong and what to do.
pub fn line(problem: &Problem) -> String {
    let place = place_of(problem).map_or(String::new(), |place| format!("{place}: "));
    let kind = if problem.severity == Severity::Warning { "note" } else { "error" };
    let key = problem.key.as_deref().map_or(String::new(), |key| format!("{key}: "));
    format!("{place}{kind}: {key}{}", problem.message)
}

/// The text, with line ends as Windows' editors want them; absent where nothing is wrong.
pub fn text(problems: &[Problem], holds: Holds, machine: &Machine) -> Option<String> {
    if problems.is_empty() {
        return None;
    }
    let mut text =
        String::from("What the Waypost kiosk found in the files on this card when it last started.\n\n");
    for problem in problems {
        text.push_str(&format!("- {}\n", line(problem)));
    }
    let is_all_notes = problems.iter().all(|problem| problem.severity == Severity::Warning);
    text.push_str(match (holds, is_all_notes) {
        (Holds::TheRest, true) => "\nWhat holds: the files as they are.\n",
        (Holds::TheRest, false) => "\nWhat holds: all of the files but what is named as an error above.\n",
        (Holds::LastGood, _) => {
            "\nWhat holds: nothing of the files as they are now. The kiosk runs as it did before they were changed.\n"
        }
        (Holds::Defaults, _) => {
            "\nWhat holds: nothing of the files. The kiosk has a name of its own, asks for an address on every Ethernet\n\
             port, serves phones that are paired at its screen, and knows no destination. Nobody can log in.\n"
        }
    });
    text.push_str(&format!("\nThis kiosk: {}.\n", machine.names()));
    text.push_str(
        "\nWhat to do: change the lines that are named, save the file as plain text (UTF-8), put the card back and start\n\
         the kiosk. This file is gone when nothing is left to say. Every key is explained in waypost-example.toml beside it,\n\
         and in docs/kiosk-file.md.\n",
    );
    Some(text.replace('\n', "\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_config::Origin;

    #[test]
    fn each_problem_has_its_line_and_what_holds_is_said() {
        let origin = Origin { file: "/boot/firmware/waypost.toml".into(), line: 12, column: 3 };
        let problem = Problem::new(Severity::Error, Some(origin), Some("country"), "expected a country");
        let said = text(&[problem], Holds::LastGood, &Machine::default()).unwrap();
        assert!(said.contains("- waypost.toml, line 12: error: country: expected a country\r\n"), "{said}");
        assert!(said.contains("as it did before") && !said.replace("\r\n", "").contains('\n'));
        assert_eq!(text(&[], Holds::TheRest, &Machine::default()), None);
    }
}
