//! A phone of a site: `waypost-phone`, by its command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::programs::run_well;
use super::{Destination, Gateway, Ran, program, run};

/// A phone. It is nothing but its folder: each command is a process of its own.
pub struct Phone {
    home: PathBuf,
}

impl Phone {
    /// Makes one.
    #[track_caller]
    pub fn make(home: &Path, name: &str) -> Self {
        let phone = Self::at(home);
        phone.run(&["init", "--name", name]);
        phone
    }

    /// The phone in this folder, a copy of another's.
    pub fn at(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command of `waypost-phone`, with JSON.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("waypost-phone"));
        command.arg("--home").arg(&self.home).arg("--json").args(arguments);
        command
    }

    /// Runs a command, which must succeed whole.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run_well(&mut self.command(arguments))
    }

    /// Runs a command, which may end as it likes.
    #[track_caller]
    pub fn try_run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// Adds a destination by its code.
    #[track_caller]
    pub fn add_destination(&self, destination: &Destination) {
        self.run(&["destination", "add", &destination.phone_code(), "--yes"]);
    }

    /// Pairs with a gateway, by a code of its.
    #[track_caller]
    pub fn pair(&self, gateway: &Gateway) {
        let paired = self.run(&["pair", &gateway.pairing_code()]);
        assert!(paired.last()["report"]["key"].is_string(), "not paired: {:#?}", paired.last());
    }

    /// Seals files of these names and contents; answers their ids in the same order.
    #[track_caller]
    pub fn add(&self, files: &[(&str, &[u8])]) -> Vec<String> {
        let folder = tempfile::tempdir_in(self.home.parent().unwrap()).unwrap();
        let mut arguments =
            vec!["add".to_owned(), "--base".to_owned(), folder.path().to_str().unwrap().to_owned()];
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            arguments.push(path.to_str().unwrap().to_owned());
        }
        let added = self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        files
            .iter()
            .map(|(name, _)| {
                let is_this =
                    |event: &&Value| event["path"].as_str().is_some_and(|path| path.ends_with(name));
                let event = added.events("added").find(is_this);
                event.unwrap_or_else(|| panic!("{name} was not added: {added:#?}"))["id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// One contact with the kiosk that it knows, which must end well. Answers the report.
    #[track_caller]
    pub fn sync(&self) -> Value {
        self.run(&["sync"]).last().clone()
    }

    /// Where each document stands (`waypost-phone list`); with `all` also those delivered and deleted here.
    #[track_caller]
    pub fn list(&self, all: bool) -> Vec<Value> {
        let listed = if all { self.run(&["list", "--all"]) } else { self.run(&["list"]) };
        listed.last()["documents"].as_array().unwrap().clone()
    }
}
