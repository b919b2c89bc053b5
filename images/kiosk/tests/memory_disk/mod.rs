//! A disk in memory that knows what is durable: a file's content once the file is flushed, names in a folder once the folder
//! is. Below [`BOOT`] it is FAT, where a file that is renamed has no size until it is flushed under its new name. After so
//! many steps its power goes.

use std::collections::BTreeMap;
use std::io;

use waypost_kiosk::disk::{Disk, Readers, folder_of};

/// Where the boot partition is mounted.
pub(crate) const BOOT: &str = "/boot/firmware";

/// What a cut takes of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: all had been written just in time.
    Nothing,
    /// Contents of files that were not flushed.
    Contents,
    /// And names in folders that were not flushed.
    ContentsAndNames,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Folder,
    Link(String),
    File(usize),
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct MemoryDisk {
    names: BTreeMap<String, Name>,
    durable_names: BTreeMap<String, Name>,
    contents: Vec<Vec<u8>>,
    durable_contents: Vec<Vec<u8>>,
    steps: usize,
    cut_at: Option<usize>,
    forgets: bool,
}

impl MemoryDisk {
    /// With these folders, and those above them.
    pub(crate) fn new(folders: &[&str]) -> Self {
        let mut disk = MemoryDisk {
            names: BTreeMap::from([("/".to_owned(), Name::Folder)]),
            durable_names: BTreeMap::new(),
            contents: Vec::new(),
            durable_contents: Vec::new(),
            steps: 0,
            cut_at: None,
            forgets: false,
        };
        folders.iter().for_each(|folder| disk.make_folder(folder, Readers::All).unwrap());
        disk.durable_names = disk.names.clone();
        disk
    }

    /// Puts a durable file there, as somebody with a laptop does.
    pub(crate) fn put(&mut self, path: &str, content: &[u8]) {
        self.contents.push(content.to_vec());
        self.durable_contents.push(content.to_vec());
        let file = Name::File(self.contents.len() - 1);
        self.names.insert(path.to_owned(), file.clone());
        self.durable_names.insert(path.to_owned(), file);
    }

    /// From now on nothing of the disk is there below /var/lib but what is in memory.
    pub(crate) fn loses_data_partition(&mut self) {
        self.forgets = true;
        let is_there = |path: &str| path.starts_with("/var/lib/");
        self.names.retain(|path, _| !is_there(path));
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The power goes after so many more steps: the one after them fails, and all others.
    pub(crate) fn cut_after(&mut self, steps: usize) {
        self.cut_at = Some(self.steps + steps);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|at| self.steps >= at)
    }

    pub(crate) fn power_comes_back(&mut self, loss: Loss) {
        self.cut_at = None;
        if loss != Loss::Nothing {
            self.contents = self.durable_contents.clone();
        }
        if loss == Loss::ContentsAndNames {
            self.names.clear();
            // Folders come before what is in them.
            for (path, name) in self.durable_names.clone() {
                if path == "/" || self.names.get(folder_of(&path)) == Some(&Name::Folder) {
                    self.names.insert(path, name);
                }
            }
        }
        self.durable_contents = self.contents.clone();
        self.durable_names = self.names.clone();
    }

    fn step(&mut self) -> io::Result<()> {
        if self.is_cut() {
            return Err(io::Error::other("the power is gone"));
        }
        self.steps += 1;
        Ok(())
    }

    /// The path with links in it followed.
    fn follow(&self, path: &str) -> String {
        let mut out = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let next = format!("{out}/{part}");
            out = match self.names.get(&next) {
                Some(Name::Link(target)) if target.starts_with('/') => target.clone(),
                Some(Name::Link(target)) => format!("{out}/{target}"),
                _ => next,
            };
        }
        out
    }

    fn within<'a>(
        names: &'a BTreeMap<String, Name>,
        folder: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Name)> {
        names.iter().filter(move |(path, _)| path.len() > folder.len() && folder_of(path) == folder)
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for MemoryDisk {
    fn read(&self, path: &str, most: usize) -> io::Result<Vec<u8>> {
        match self.names.get(&self.follow(path)) {
            Some(Name::File(file)) if self.contents[*file].len() <= most => Ok(self.contents[*file].clone()),
            Some(_) => Err(io::Error::other("no file, or too large")),
            None => Err(not_found()),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let folder = self.follow(path);
        if self.names.get(&folder) != Some(&Name::Folder) {
            return Err(not_found());
        }
        Ok(Self::within(&self.names, &folder)
            .map(|(path, _)| path.rsplit('/').next().unwrap().to_owned())
            .collect())
    }

    fn forgets(&self, path: &str) -> io::Result<bool> {
        Ok(self.forgets && path.starts_with("/var/lib/"))
    }

    fn read_link(&self, path: &str) -> io::Result<String> {
        match self.names.get(path) {
            Some(Name::Link(target)) => Ok(target.clone()),
            _ => Err(not_found()),
        }
    }

    fn make_folder(&mut self, path: &str, _: Readers) -> io::Result<()> {
        if path != "/" && !self.names.contains_key(path) {
            self.make_folder(folder_of(path), Readers::All)?;
            self.step()?;
            self.names.insert(path.to_owned(), Name::Folder);
        }
        Ok(())
    }

    fn write(&mut self, path: &str, content: &[u8], _: Readers) -> io::Result<()> {
        assert_eq!(self.names.get(folder_of(path)), Some(&Name::Folder), "no folder for {path}");
        // Two steps: an empty file is there before its bytes are.
        self.step()?;
        self.contents.push(Vec::new());
        self.durable_contents.push(Vec::new());
        let file = self.contents.len() - 1;
        self.names.insert(path.to_owned(), Name::File(file));
        self.step()?;
        self.contents[file] = content.to_vec();
        Ok(())
    }

    fn link(&mut self, target: &str, path: &str) -> io::Result<()> {
        self.step()?;
        assert!(!self.names.contains_key(path), "{path} is there");
        self.names.insert(path.to_owned(), Name::Link(target.to_owned()));
        Ok(())
    }

    fn flush(&mut self, path: &str) -> io::Result<()> {
        self.step()?;
        match self.names.get(path).cloned() {
            Some(Name::File(file)) => self.durable_contents[file] = self.contents[file].clone(),
            Some(Name::Folder) => {
                let gone: Vec<String> =
                    Self::within(&self.durable_names, path).map(|(path, _)| path.clone()).collect();
                gone.iter().for_each(|path| _ = self.durable_names.remove(path));
                let now: Vec<_> = Self::within(&self.names, path)
                    .map(|(path, name)| (path.clone(), name.clone()))
                    .collect();
                self.durable_names.extend(now);
            }
            _ => return Err(not_found()),
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let name = self.names.remove(from).ok_or_else(not_found)?;
        assert_ne!(name, Name::Folder, "folders are not renamed here");
        if let Name::File(file) = name
            && folder_of(to) == BOOT
        {
            self.durable_contents[file].clear();
        }
        self.names.insert(to.to_owned(), name);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let below = format!("{path}/");
        let mut gone: Vec<String> =
            self.names.keys().filter(|name| *name == path || name.starts_with(&below)).cloned().collect();
        // The deepest first, each a step.
        gone.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in gone {
            self.step()?;
            self.names.remove(&path);
        }
        Ok(())
    }
}
