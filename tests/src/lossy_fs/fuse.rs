//! What the kernel asks of a file system, answered from a lossy disk with its faults.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;
use nix::libc;

use super::content::PAGE;
use super::disk::{Attributes, Directory, Disk, Node};
use super::volatile::VolatileFile;
use super::{Action, Ruling, SIZE, Shared, Then};

/// How long the kernel may believe names and attributes. Only it changes them, so any time would do.
const BELIEVED: Duration = Duration::from_secs(1);

/// LMDB's lock file, which is not on the disk but a link to a file elsewhere (the module says why).
const LOCK: &str = "lock.mdb";
/// Set in the inode number of such a link; the rest is the number of its directory.
const LINK: u64 = 1 << 63;

/// One mount of a disk.
pub(crate) struct Adapter {
    shared: Arc<Shared>,
    elsewhere: PathBuf,
}

/// What an operation is about: an inode, or a name that may not exist yet.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Inode(u64),
    Name(u64, &'a OsStr),
}

impl Adapter {
    /// `elsewhere`: the folder for lock files.
    pub(crate) fn new(shared: Arc<Shared>, elsewhere: PathBuf) -> Self {
        Self { shared, elsewhere }
    }

    /// The file that stands for the `lock.mdb` of a directory.
    fn lock_file(&self, directory: u64) -> PathBuf {
        self.elsewhere.join(format!("{directory}-{LOCK}"))
    }

    /// Reads from the disk, unless it has no power.
    fn look<T>(&self, read: impl FnOnce(&mut Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        if self.shared.faults().off {
            return Err(Errno::EIO);
        }
        read(&mut self.shared.disk())
    }

    fn is_unreadable(&self, inode: u64, offset: u64, size: u32) -> bool {
        if !self.shared.faults().has_unreadable() {
            return false;
        }
        let path = self.shared.disk().path(inode);
        self.shared.faults().is_unreadable(&path, &(offset..offset + u64::from(size)))
    }

    /// Numbers an operation, lets faults decide about it, and carries it out. `Ok(None)`: a sync that is only claimed.
    fn act<T>(
        &self,
        action: Action,
        subject: Subject<'_>,
        change: impl FnOnce(&mut Disk) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        let path = match subject {
            Subject::Inode(number) => self.shared.disk().path(number),
            Subject::Name(parent, name) => self.shared.disk().path(parent).join(name),
        };
        let ruling = self.shared.faults().rule(action, path);
        let lie = match ruling {
            Ruling::Refused(errno) => return Err(errno),
            Ruling::Allowed { lie } => lie,
            Ruling::Ask(hook, operation) => match hook(&operation) {
                Then::GoOn => self.shared.faults().lies_about(&operation),
                Then::Fail(errno) => return Err(errno),
                Then::PowerOff => {
                    self.shared.faults().off = true;
                    return Err(Errno::EIO);
                }
            },
        };
        if lie {
            return Ok(None);
        }
        change(&mut self.shared.disk()).map(Some)
    }

    /// Whether a file may grow by this many bytes.
    fn room_for(&self, disk: &Disk, growth: u64) -> Result<(), Errno> {
        match self.shared.faults().capacity {
            Some(capacity) if growth > 0 && disk.used() + growth > capacity => Err(Errno::ENOSPC),
            _ => Ok(()),
        }
    }

    fn put(&self, disk: &mut Disk, number: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.room_for(disk, disk.file(number)?.current.growth(offset, data.len() as u64))?;
        disk.file_mut(number)?.write(offset, data);
        Ok(())
    }

    fn make(&self, req: &Request, at: (u64, &OsStr), node: Node, mode: u32) -> Result<FileAttr, Errno> {
        let attributes = Attributes::new(permissions(mode), req.uid(), req.gid());
        let made = self.act(Action::Create, Subject::Name(at.0, at.1), |disk| {
            let number = disk.create(at.0, at.1, node, attributes)?;
            attr(disk, number)
        })?;
        made.ok_or(Errno::EIO)
    }

    fn take_away(&self, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if name == LOCK {
            let removed = std::fs::remove_file(self.lock_file(parent.0));
            return done(removed.map_err(|_| Errno::ENOENT), reply);
        }
        let subject = Subject::Name(parent.0, name);
        done(self.act(Action::Remove, subject, |disk| disk.unlink(parent.0, name)), reply);
    }
}

impl Filesystem for Adapter {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(|disk| {
            let number = if name == LOCK { parent.0 | LINK } else { disk.lookup(parent.0, name)? };
            attr(disk, number)
        });
        entry(found, reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(|disk| attr(disk, ino.0)) {
            Ok(attr) => reply.attr(&BELIEVED, &attr),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        if ino.0 & LINK == 0 {
            return reply.error(fuser::Errno::EINVAL);
        }
        reply.data(self.lock_file(ino.0 & !LINK).as_os_str().as_bytes());
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = match size {
            Some(len) => self
                .act(Action::Resize { len }, Subject::Inode(ino.0), |disk| {
                    disk.file_mut(ino.0)?.resize(len);
                    Ok(())
                })
                .map(|_| ()),
            None => Ok(()),
        };
        let changed = resized.and_then(|()| {
            self.look(|disk| {
                let attributes = &mut disk.inode_mut(ino.0)?.attributes;
                attributes.mode = mode.map_or(attributes.mode, permissions);
                attributes.uid = uid.unwrap_or(attributes.uid);
                attributes.gid = gid.unwrap_or(attributes.gid);
                attributes.accessed = atime.map_or(attributes.accessed, time);
                attributes.modified = mtime.map_or(attributes.modified, time);
                attributes.changed = SystemTime::now();
                attr(disk, ino.0)
            })
        });
        match changed {
            Ok(attr) => reply.attr(&BELIEVED, &attr),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let node = match mode & libc::S_IFMT {
            libc::S_IFREG => Node::File(VolatileFile::default()),
            libc::S_IFSOCK => Node::Special(FileType::Socket),
            libc::S_IFIFO => Node::Special(FileType::NamedPipe),
            _ => return reply.error(fuser::Errno::EPERM),
        };
        entry(self.make(req, (parent.0, name), node, mode & !umask), reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let node = Node::Directory(Directory::default());
        entry(self.make(req, (parent.0, name), node, mode & !umask), reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let node = Node::File(VolatileFile::default());
        let made = self.make(req, (parent.0, name), node, mode & !umask).and_then(|attr| {
            self.shared.disk().inode_mut(attr.ino.0)?.open += 1;
            Ok(attr)
        });
        match made {
            Ok(attr) => {
                reply.created(&BELIEVED, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE)
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let linked = self.act(Action::Link, Subject::Name(newparent.0, newname), |disk| {
            disk.link(ino.0, newparent.0, newname)?;
            attr(disk, ino.0)
        });
        entry(linked.and_then(|attr| attr.ok_or(Errno::EIO)), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.take_away(parent, name, reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.take_away(parent, name, reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(fuser::Errno::EINVAL);
        }
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let moved = self.act(Action::Rename, Subject::Name(parent.0, name), |disk| {
            disk.rename((parent.0, name), (newparent.0, newname), keep)
        });
        done(moved, reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.shared.faults().read_only && flags.acc_mode() != fuser::OpenAccMode::O_RDONLY {
            return reply.error(code(Errno::EROFS));
        }
        let opened = self.look(|disk| {
            disk.inode_mut(ino.0)?.open += 1;
            Ok(())
        });
        match opened {
            // Whatever the kernel has cached is right: nobody else changes the file.
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if let Ok(inode) = self.shared.disk().inode_mut(ino.0) {
            inode.open = inode.open.saturating_sub(1);
        }
        reply.ok();
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if self.is_unreadable(ino.0, offset, size) {
            return reply.error(code(Errno::EIO));
        }
        match self.look(|disk| Ok(disk.file(ino.0)?.current.read(offset, size as usize))) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            self.look(|disk| self.put(disk, ino.0, offset, data))
        } else {
            let action = Action::Write { offset, len: data.len() as u64 };
            self.act(action, Subject::Inode(ino.0), |disk| self.put(disk, ino.0, offset, data)).map(|_| ())
        };
        match (written, u32::try_from(data.len())) {
            (Ok(()), Ok(len)) => reply.written(len),
            (Err(errno), _) => reply.error(code(errno)),
            (Ok(()), Err(_)) => reply.error(fuser::Errno::EFBIG),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.act(Action::Sync, Subject::Inode(ino.0), |disk| disk.sync_file(ino.0)), reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let subject = Subject::Inode(ino.0);
        done(self.act(Action::SyncDirectory, subject, |disk| disk.sync_directory(ino.0)), reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        }
        let extend = mode & libc::FALLOC_FL_KEEP_SIZE == 0;
        let action = Action::Allocate { offset, len: length };
        let allocated = self.act(action, Subject::Inode(ino.0), |disk| {
            self.room_for(disk, disk.file(ino.0)?.current.growth(offset, length))?;
            disk.file_mut(ino.0)?.allocate(offset, length, extend);
            Ok(())
        });
        done(allocated, reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.look(|disk| {
            let mut names = Vec::new();
            for (name, entry) in &disk.directory(ino.0)?.current {
                if entry.cookie > offset {
                    names.push((
                        entry.cookie,
                        entry.inode,
                        disk.inode(entry.inode)?.node.file_type(),
                        name.clone(),
                    ));
                }
            }
            names.sort_unstable_by_key(|(cookie, ..)| *cookie);
            Ok(names)
        });
        match listed {
            Ok(names) => {
                for (cookie, inode, kind, name) in names {
                    if reply.add(INodeNo(inode), cookie, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(code(errno)),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let capacity = self.shared.faults().capacity.unwrap_or(SIZE);
        match self.look(|disk| Ok(disk.used())) {
            Ok(used) => {
                let free = capacity.saturating_sub(used) / PAGE;
                let page = u32::try_from(PAGE).unwrap_or(u32::MAX);
                reply.statfs(capacity / PAGE, free, free, 1 << 20, 1 << 20, page, 255, page);
            }
            Err(errno) => reply.error(code(errno)),
        }
    }
}

fn attr(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
    let inode = disk.inode(number & !LINK)?;
    let (size, allocated) = match &inode.node {
        Node::File(file) => (file.current.len(), file.current.allocated()),
        Node::Directory(_) | Node::Special(_) => (0, 0),
    };
    let link = number & LINK != 0;
    let nlink = match inode.node {
        Node::Directory(_) if !link => 2,
        _ => inode.links,
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: allocated / 512,
        atime: inode.attributes.accessed,
        mtime: inode.attributes.modified,
        ctime: inode.attributes.changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind: if link { FileType::Symlink } else { inode.node.file_type() },
        perm: inode.attributes.mode,
        nlink,
        uid: inode.attributes.uid,
        gid: inode.attributes.gid,
        rdev: 0,
        blksize: u32::try_from(PAGE).unwrap_or(u32::MAX),
        flags: 0,
    })
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

fn time(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn code(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

fn entry(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attr) => reply.entry(&BELIEVED, &attr, Generation(0)),
        Err(errno) => reply.error(code(errno)),
    }
}

fn done<T>(result: Result<T, Errno>, reply: ReplyEmpty) {
    match result {
        Ok(_) => reply.ok(),
        Err(errno) => reply.error(code(errno)),
    }
}
