//! The inodes and names of a lossy disk: what programs see now, and what would be left after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::SystemTime;

use fuser::FileType;
use nix::errno::Errno;

use super::volatile::{Dice, Loss, VolatileFile};

/// The inode number of the root directory, fixed by FUSE.
pub(crate) const ROOT: u64 = 1;

/// Names in a directory, each with the inode and a cookie that stays valid while others come and go (`readdir`).
#[derive(Clone, Default)]
pub(crate) struct Directory {
    pub(crate) current: BTreeMap<OsString, Entry>,
    durable: BTreeMap<OsString, u64>,
}

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) inode: u64,
    pub(crate) cookie: u64,
}

pub(crate) enum Node {
    File(VolatileFile),
    Directory(Directory),
    /// A socket or a FIFO: only its name is on the disk.
    Special(FileType),
}

impl Node {
    pub(crate) fn file_type(&self) -> FileType {
        match self {
            Node::File(_) => FileType::RegularFile,
            Node::Directory(_) => FileType::Directory,
            Node::Special(kind) => *kind,
        }
    }
}

/// Owner, mode and times. They are not part of what a power cut loses: nothing here relies on them.
#[derive(Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) accessed: SystemTime,
    pub(crate) modified: SystemTime,
    pub(crate) changed: SystemTime,
}

impl Attributes {
    pub(crate) fn new(mode: u16, uid: u32, gid: u32) -> Self {
        let now = SystemTime::now();
        Self { mode, uid, gid, accessed: now, modified: now, changed: now }
    }
}

pub(crate) struct Inode {
    pub(crate) node: Node,
    pub(crate) attributes: Attributes,
    pub(crate) links: u32,
    /// Open descriptors; an inode without links lives on while there are any.
    pub(crate) open: u32,
    /// The directory and name under which it was last put, for messages only.
    place: (u64, OsString),
}

/// One change of names that was not synced: all its edits reach the platter together or not at all, except that
/// syncing one directory brings only the edits of that directory.
type NameChange = Vec<Edit>;

struct Edit {
    directory: u64,
    name: OsString,
    inode: Option<u64>,
}

pub(crate) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: Vec<NameChange>,
    next_inode: u64,
    next_cookie: u64,
}

impl Disk {
    /// An empty disk, its root directory owned by the caller's ids.
    pub(crate) fn new(uid: u32, gid: u32) -> Self {
        let mut disk = Self { inodes: BTreeMap::new(), names: Vec::new(), next_inode: ROOT, next_cookie: 1 };
        disk.add(
            Node::Directory(Directory::default()),
            Attributes::new(0o755, uid, gid),
            (ROOT, OsString::new()),
        );
        disk
    }

    fn add(&mut self, node: Node, attributes: Attributes, place: (u64, OsString)) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, Inode { node, attributes, links: 0, open: 0, place });
        number
    }

    pub(crate) fn inode(&self, number: u64) -> Result<&Inode, Errno> {
        self.inodes.get(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn inode_mut(&mut self, number: u64) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub(crate) fn file(&self, number: u64) -> Result<&VolatileFile, Errno> {
        match &self.inode(number)?.node {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Errno::EISDIR),
            Node::Special(_) => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn file_mut(&mut self, number: u64) -> Result<&mut VolatileFile, Errno> {
        let inode = self.inode_mut(number)?;
        inode.attributes.modified = SystemTime::now();
        match &mut inode.node {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Errno::EISDIR),
            Node::Special(_) => Err(Errno::EINVAL),
        }
    }

    /// Makes data and size of one file durable.
    pub(crate) fn sync_file(&mut self, number: u64) -> Result<(), Errno> {
        if let Node::File(file) = &mut self.inode_mut(number)?.node {
            file.sync();
        }
        Ok(())
    }

    pub(crate) fn directory(&self, number: u64) -> Result<&Directory, Errno> {
        match &self.inode(number)?.node {
            Node::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, number: u64) -> Result<&mut Directory, Errno> {
        let inode = self.inode_mut(number)?;
        inode.attributes.modified = SystemTime::now();
        match &mut inode.node {
            Node::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.directory(parent)?.current.get(name).map(|entry| entry.inode).ok_or(Errno::ENOENT)
    }

    /// Where an inode is, from the root of the disk; for messages and for tests that pick operations by file.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        let mut parts = Vec::new();
        let mut at = number;
        while at != ROOT
            && let Some(inode) = self.inodes.get(&at)
        {
            parts.push(&inode.place.1);
            at = inode.place.0;
        }
        parts.iter().rev().collect()
    }

    /// Bytes taken by all files that programs can still reach.
    pub(crate) fn used(&self) -> u64 {
        let reachable = self.inodes.values().filter(|inode| inode.links > 0 || inode.open > 0);
        reachable
            .map(|inode| if let Node::File(file) = &inode.node { file.current.allocated() } else { 0 })
            .sum()
    }

    /// Makes a file, directory or special node under a name that must be free.
    pub(crate) fn create(
        &mut self,
        parent: u64,
        name: &OsStr,
        node: Node,
        attributes: Attributes,
    ) -> Result<u64, Errno> {
        if self.directory(parent)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let number = self.add(node, attributes, (parent, name.to_owned()));
        self.change_names(vec![Edit { directory: parent, name: name.to_owned(), inode: Some(number) }])?;
        Ok(number)
    }

    /// Gives a file a further name.
    pub(crate) fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Result<(), Errno> {
        if self.directory(parent)?.current.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.change_names(vec![Edit { directory: parent, name: name.to_owned(), inode: Some(number) }])
    }

    /// Takes a name away; of a directory only when it is empty.
    pub(crate) fn unlink(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        self.check_empty(self.lookup(parent, name)?)?;
        self.change_names(vec![Edit { directory: parent, name: name.to_owned(), inode: None }])
    }

    /// Moves a name, replacing what the new one stood for unless `keep_target`.
    pub(crate) fn rename(
        &mut self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        keep_target: bool,
    ) -> Result<(), Errno> {
        let number = self.lookup(from.0, from.1)?;
        match self.lookup(to.0, to.1) {
            Ok(_) if keep_target => return Err(Errno::EEXIST),
            Ok(target) if target == number => return Ok(()),
            Ok(target) => self.check_empty(target)?,
            Err(_) => {}
        }
        self.change_names(vec![
            Edit { directory: from.0, name: from.1.to_owned(), inode: None },
            Edit { directory: to.0, name: to.1.to_owned(), inode: Some(number) },
        ])?;
        self.inode_mut(number)?.place = (to.0, to.1.to_owned());
        Ok(())
    }

    fn check_empty(&self, number: u64) -> Result<(), Errno> {
        match &self.inode(number)?.node {
            Node::Directory(directory) if !directory.current.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    /// Applies edits to the current names and remembers them as not yet durable.
    fn change_names(&mut self, change: NameChange) -> Result<(), Errno> {
        for edit in &change {
            let cookie = self.next_cookie;
            self.next_cookie += 1;
            let names = &mut self.directory_mut(edit.directory)?.current;
            let before = match edit.inode {
                Some(inode) => names.insert(edit.name.clone(), Entry { inode, cookie }),
                None => names.remove(&edit.name),
            };
            if let Some(inode) = edit.inode {
                self.inode_mut(inode)?.links += 1;
            }
            if let Some(entry) = before {
                let inode = self.inode_mut(entry.inode)?;
                inode.links = inode.links.saturating_sub(1);
            }
        }
        self.names.push(change);
        Ok(())
    }

    /// Makes the names in one directory durable.
    pub(crate) fn sync_directory(&mut self, number: u64) -> Result<(), Errno> {
        let Node::Directory(directory) = &mut self.inodes.get_mut(&number).ok_or(Errno::ENOENT)?.node else {
            return Err(Errno::ENOTDIR);
        };
        directory.durable =
            directory.current.iter().map(|(name, entry)| (name.clone(), entry.inode)).collect();
        for change in &mut self.names {
            change.retain(|edit| edit.directory != number);
        }
        self.names.retain(|change| !change.is_empty());
        self.forget_unreachable();
        Ok(())
    }

    /// Makes everything durable, as a clean unmount does.
    pub(crate) fn sync_all(&mut self) {
        self.names.clear();
        for inode in self.inodes.values_mut() {
            match &mut inode.node {
                Node::File(file) => file.sync(),
                Node::Directory(directory) => {
                    let names = directory.current.iter();
                    directory.durable = names.map(|(name, entry)| (name.clone(), entry.inode)).collect();
                }
                Node::Special(_) => {}
            }
        }
        self.forget_unreachable();
    }

    /// Frees inodes that neither a program nor a power cut can bring back.
    fn forget_unreachable(&mut self) {
        let mut reachable: BTreeSet<u64> =
            self.names.iter().flatten().filter_map(|edit| edit.inode).collect();
        for inode in self.inodes.values() {
            if let Node::Directory(directory) = &inode.node {
                reachable.extend(directory.durable.values());
            }
        }
        self.inodes.retain(|number, inode| {
            *number == ROOT || inode.links > 0 || inode.open > 0 || reachable.contains(number)
        });
    }

    /// The disk as it is found after a power cut and a reboot; everything on it is durable.
    pub(crate) fn after_power_cut(&self, loss: Loss) -> Disk {
        let mut dice = loss.dice();
        let names = self.names_after_power_cut(dice.as_mut());
        let empty = BTreeMap::new();
        let mut left =
            Disk { inodes: BTreeMap::new(), names: Vec::new(), next_inode: self.next_inode, next_cookie: 1 };
        let mut found = vec![(ROOT, (ROOT, OsString::new()))];
        while let Some((number, place)) = found.pop() {
            if let Some(known) = left.inodes.get_mut(&number) {
                known.links += 1;
                continue;
            }
            let Some(inode) = self.inodes.get(&number) else { continue };
            let node = match &inode.node {
                Node::File(file) => Node::File(VolatileFile::durable(file.after_power_cut(dice.as_mut()))),
                Node::Special(kind) => Node::Special(*kind),
                Node::Directory(_) => {
                    let mut directory = Directory::default();
                    for (name, child) in names.get(&number).unwrap_or(&empty) {
                        let entry = Entry { inode: *child, cookie: left.next_cookie };
                        left.next_cookie += 1;
                        directory.current.insert(name.clone(), entry);
                        found.push((*child, (number, name.clone())));
                    }
                    directory.durable = directory.current.iter().map(|(n, e)| (n.clone(), e.inode)).collect();
                    Node::Directory(directory)
                }
            };
            let attributes = inode.attributes;
            left.inodes.insert(number, Inode { node, attributes, links: 1, open: 0, place });
        }
        left
    }

    /// The durable names of every directory, with the oldest few of the changes that were not synced: a journal
    /// is written in order.
    fn names_after_power_cut(&self, dice: Option<&mut Dice>) -> BTreeMap<u64, BTreeMap<OsString, u64>> {
        let mut names = BTreeMap::new();
        for (number, inode) in &self.inodes {
            if let Node::Directory(directory) = &inode.node {
                names.insert(*number, directory.durable.clone());
            }
        }
        let kept = dice.map_or(0, |dice| dice.up_to(self.names.len()));
        for edit in self.names.iter().take(kept).flatten() {
            let directory: &mut BTreeMap<_, _> = names.entry(edit.directory).or_default();
            match edit.inode {
                Some(inode) => directory.insert(edit.name.clone(), inode),
                None => directory.remove(&edit.name),
            };
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, parent: u64, name: &str) -> u64 {
        let node = Node::File(VolatileFile::default());
        disk.create(parent, OsStr::new(name), node, Attributes::new(0o600, 0, 0)).unwrap()
    }

    fn names(disk: &Disk, directory: u64) -> Vec<&OsStr> {
        disk.directory(directory).unwrap().current.keys().map(OsString::as_os_str).collect()
    }

    #[test]
    fn a_file_whose_directory_was_not_synced_is_gone_even_if_its_data_was() {
        let mut disk = Disk::new(0, 0);
        let number = file(&mut disk, ROOT, "a");
        disk.file_mut(number).unwrap().write(0, b"data");
        disk.file_mut(number).unwrap().sync();
        assert!(names(&disk.after_power_cut(Loss::Everything), ROOT).is_empty());
        disk.sync_directory(ROOT).unwrap();
        let left = disk.after_power_cut(Loss::Everything);
        assert_eq!(
            left.file(left.lookup(ROOT, OsStr::new("a")).unwrap()).unwrap().current.read(0, 9),
            b"data"
        );
    }

    #[test]
    fn a_rename_within_one_directory_is_there_or_not_but_never_half() {
        let mut disk = Disk::new(0, 0);
        file(&mut disk, ROOT, "new");
        file(&mut disk, ROOT, "old");
        disk.sync_directory(ROOT).unwrap();
        disk.rename((ROOT, OsStr::new("new")), (ROOT, OsStr::new("old")), false).unwrap();
        let mut outcomes = BTreeSet::new();
        for seed in 0..40 {
            let left = disk.after_power_cut(Loss::Torn { seed, sector: 512 });
            outcomes.insert(names(&left, ROOT).into_iter().map(OsStr::to_owned).collect::<Vec<_>>());
        }
        assert_eq!(outcomes, BTreeSet::from([vec!["new".into(), "old".into()], vec!["old".into()]]));
    }

    #[test]
    fn a_move_of_which_only_the_source_directory_was_synced_loses_the_file() {
        let mut disk = Disk::new(0, 0);
        let folder = Node::Directory(Directory::default());
        let folder = disk.create(ROOT, OsStr::new("d"), folder, Attributes::new(0o700, 0, 0)).unwrap();
        file(&mut disk, ROOT, "a");
        disk.sync_all();
        disk.rename((ROOT, OsStr::new("a")), (folder, OsStr::new("a")), false).unwrap();
        disk.sync_directory(ROOT).unwrap();
        let left = disk.after_power_cut(Loss::Everything);
        assert_eq!(names(&left, ROOT), ["d"]);
        assert!(names(&left, folder).is_empty());
    }

    #[test]
    fn a_deleted_file_comes_back_after_a_power_cut_and_its_space_is_free_until_then() {
        let mut disk = Disk::new(0, 0);
        let number = file(&mut disk, ROOT, "a");
        disk.file_mut(number).unwrap().write(0, &[1; 5000]);
        disk.sync_all();
        disk.unlink(ROOT, OsStr::new("a")).unwrap();
        assert_eq!(disk.used(), 0);
        assert_eq!(disk.after_power_cut(Loss::Everything).used(), 8192);
        disk.sync_directory(ROOT).unwrap();
        assert_eq!(disk.inodes.len(), 1);
    }
}
