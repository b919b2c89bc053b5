//! What the pages and completions have in them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use clap::Command;

const DATE: &str = "2026-11-22";

/// What is in a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn pages() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    for command in waypost_pages::commands() {
        waypost_pages::manual(&command, DATE, folder.path()).unwrap();
    }
    files(folder.path())
}

/// The full names of a command and all below it, as their pages are called.
fn names(command: &Command, before: &str) -> Vec<String> {
    let name = format!("{before}{}", command.get_name());
    let below = command.get_subcommands().flat_map(|subcommand| names(subcommand, &format!("{name}-")));
    let mut all: Vec<_> = below.collect();
    all.push(name);
    all
}

#[test]
fn each_command_and_subcommand_has_a_page_of_its_own() {
    let pages = pages();
    let names: Vec<_> = waypost_pages::commands().iter().flat_map(|command| names(command, "")).collect();
    assert!(names.len() > 60, "only {} commands were found", names.len());
    for name in &names {
        let page = pages.get(&format!("{name}.1")).unwrap_or_else(|| panic!("{name} has no page"));
        let title = format!(".TH {name} 1 {DATE} ");
        assert!(page.contains(&title), "{name}: the page's title is not {title}");
    }
    assert_eq!(pages.len(), names.len());
}

#[test]
fn each_option_of_a_command_is_in_its_page() {
    let pages = pages();
    for (page, option) in [
        ("waypost.1", "config"),
        ("waypost-export.1", "identity"),
        ("waypost-pair.1", "json"),
        ("waypost-phone-sync.1", "unverified"),
        ("waypost-destination-init.1", "signing"),
    ] {
        assert!(pages[page].contains(&format!("\\-\\-{option}")), "{page} does not have --{option}");
    }
}

#[test]
fn each_shell_has_completions_for_subcommands_and_options() {
    for command in waypost_pages::commands() {
        let folder = tempfile::tempdir().unwrap();
        let name = command.get_name().to_owned();
        let subcommands: Vec<_> =
            command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
        let options: Vec<_> =
            command.get_arguments().filter_map(|one| one.get_long()).map(str::to_owned).collect();
        assert!(!options.is_empty());
        waypost_pages::completions(command, folder.path()).unwrap();
        let completions = files(folder.path());
        let wanted = [name.clone(), format!("_{name}"), format!("{name}.fish")];
        assert_eq!(completions.len(), wanted.len());
        for file in wanted {
            for word in subcommands.iter().chain(&options) {
                assert!(completions[&file].contains(word), "{file} does not complete {word}");
            }
        }
    }
}

#[test]
fn nothing_of_the_machine_that_made_them_is_in_the_pages() {
    let home = std::env::home_dir().unwrap();
    let home = home.to_str().unwrap();
    for (name, page) in pages() {
        assert!(!page.contains(&format!("{home}/")), "{name} names {home}");
    }
}
