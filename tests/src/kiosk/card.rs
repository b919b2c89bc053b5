//! The card of a kiosk, as a file on a disk that forgets what was not flushed when the power is cut.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::lossy_fs::{Loss, LossyDisk, Mounted};

/// Read and written at a time, in bytes.
const STEP: usize = 1 << 20;
/// Of the partition table's entries.
const SECTOR: u64 = 512;

/// A card that an image was written to.
pub struct Card {
    disk: LossyDisk,
    mounted: Option<Mounted>,
    folder: TempDir,
    cuts: u64,
}

/// Does to a data partition, in a file, what a kiosk does at its start. It must be sound then; answers what was said.
#[track_caller]
pub fn mend_data(file: &Path) -> String {
    let mend =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/overlay/usr/libexec/waypost/mend-superblock");
    let run = |program: &Path, options: &[&str]| {
        let ran = Command::new(program).args(options).arg(file).output();
        let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (mended, how) = run(&mend, &[]);
    assert_eq!(mended, Some(0), "{how}");
    let (checked, said) = run(Path::new("e2fsck"), &["-y"]);
    // Sound, or mended.
    assert!(matches!(checked, Some(0 | 1)), "{checked:?}: {how}{said}");
    let (left, still) = run(Path::new("e2fsck"), &["-fn"]);
    assert_eq!(left, Some(0), "{how}{said}{still}");
    how + &said
}

/// Where a partition lies on the card, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Partition {
    start: u64,
    size: u64,
}

impl Card {
    /// Writes the image to a card of `size` bytes.
    pub fn flash(image: &Path, size: u64) -> Self {
        let card = Self::on(LossyDisk::new());
        let (mut from, to) = (File::open(image).unwrap(), File::create(card.path()).unwrap());
        let mut buffer = vec![0; STEP];
        let mut at = 0;
        loop {
            let read = from.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            // Holes stay holes: they cost memory here.
            if buffer[..read].iter().any(|byte| *byte != 0) {
                to.write_all_at(&buffer[..read], at).unwrap();
            }
            at += read as u64;
        }
        to.set_len(size).unwrap();
        to.sync_all().unwrap();
        File::open(card.folder.path()).unwrap().sync_all().unwrap();
        card
    }

    fn on(disk: LossyDisk) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Some(disk.mount(folder.path()).unwrap());
        Card { disk, mounted, folder, cuts: 0 }
    }

    /// The file that is the card.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("card.img")
    }

    /// The power goes: of what was not flushed, some is there, some is not, torn at sectors.
    pub fn cut(&mut self) {
        let loss = self.loss();
        self.disk = self.mounted.take().unwrap().crash(loss).unwrap();
        self.mounted = Some(self.disk.mount(self.folder.path()).unwrap());
    }

    /// The card as the power would leave it if it went at this moment, in whatever it is now.
    pub fn left_by_cut(&mut self) -> Card {
        let loss = self.loss();
        Self::on(self.disk.left_by_power_cut(loss))
    }

    fn loss(&mut self) -> Loss {
        self.cuts += 1;
        Loss::Torn { seed: self.cuts, sector: SECTOR }
    }

    /// Partition 1 to 4.
    pub fn partition(&self, number: usize) -> Partition {
        let mut table = [0; SECTOR as usize];
        File::open(self.path()).unwrap().read_exact(&mut table).unwrap();
        let entry = &table[446 + (number - 1) * 16..][..16];
        let field = |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().unwrap())) * SECTOR;
        Partition { start: field(8), size: field(12) }
    }

    /// What a partition holds, as a hash.
    pub fn digest(&self, number: usize) -> String {
        let Partition { start, size } = self.partition(number);
        let mut file = File::open(self.path()).unwrap();
        file.seek(SeekFrom::Start(start)).unwrap();
        let mut part = file.take(size);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; STEP]);
        loop {
            match part.read(&mut buffer).unwrap() {
                0 => return format!("{:x}", hash.finalize()),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// Copies a partition into a file.
    pub fn copy_partition(&self, number: usize, to: &Path) {
        let Partition { start, size } = self.partition(number);
        let (from, to) = (File::open(self.path()).unwrap(), File::create(to).unwrap());
        let mut buffer = vec![0; STEP];
        for at in (0..size).step_by(STEP) {
            let part = &mut buffer[..STEP.min(usize::try_from(size - at).unwrap())];
            from.read_exact_at(part, start + at).unwrap();
            if part.iter().any(|byte| *byte != 0) {
                to.write_all_at(part, at).unwrap();
            }
        }
        to.set_len(size).unwrap();
    }

    /// Copies the data partition to a file and [mends](mend_data) it; answers what was said.
    #[track_caller]
    pub fn mended_data(&self, to: &Path) -> String {
        self.copy_partition(4, to);
        mend_data(to)
    }

    /// A file of the boot partition, as a laptop shows it; nothing where it is not there.
    pub fn read(&self, name: &str) -> Option<String> {
        let ran = self.mtools("mtype", &[&format!("::{name}")]);
        ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap())
    }

    /// Puts a file onto the boot partition, as a laptop does before the card is taken out in order.
    pub fn write(&self, name: &str, text: &str) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let ran = self.mtools("mcopy", &["-o", file.path().to_str().unwrap(), &format!("::{name}")]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        File::open(self.path()).unwrap().sync_all().unwrap();
    }

    /// Takes a file off the boot partition, as a laptop does before the card is taken out in order.
    pub fn remove(&self, name: &str) {
        let ran = self.mtools("mdel", &[&format!("::{name}")]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        File::open(self.path()).unwrap().sync_all().unwrap();
    }

    /// Copies a file of the boot partition to this machine.
    pub fn copy_out(&self, name: &str, to: &Path) {
        let ran = self.mtools("mcopy", &["-o", &format!("::{name}"), to.to_str().unwrap()]);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// Destroys the beginning of a partition, as a card does that is dying.
    pub fn destroy(&self, number: usize) {
        let file = File::options().write(true).open(self.path()).unwrap();
        file.write_all_at(&vec![0; STEP], self.partition(number).start).unwrap();
        file.sync_all().unwrap();
    }

    fn mtools(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        let image = format!("{}@@{}", self.path().display(), self.partition(1).start);
        let mut command = Command::new(program);
        command.args(["-i", &image]).args(arguments).env("MTOOLS_SKIP_CHECK", "1");
        command.output().unwrap_or_else(|error| panic!("{program} (Debian package mtools): {error}"))
    }
}

impl Partition {
    /// Its size in bytes.
    pub fn size(self) -> u64 {
        self.size
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        // What is mounted there goes first.
        self.mounted = None;
        drop(fs::remove_dir(self.folder.path()));
    }
}
