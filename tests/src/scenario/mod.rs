//! A whole site for scenarios: destination, gateway and phones as programs of their own, over real sockets.
//!
//! ```no_run
//! # use waypost_tests::scenario::Site;
//! let site = Site::start();
//! let phone = site.paired_phone("anna");
//! phone.add(&[("form.xml", b"<form/>")]);
//! phone.run(&["sync", "--wait", "20s"]);
//! assert_eq!(site.destination.inbox(), [("form.xml".into(), b"<form/>".to_vec())].into());
//! ```
//!
//! Between phones and gateway there is a [`Proxy`](crate::proxy::Proxy) (`gateway.link`), and another one between
//! gateway and destination (`destination.backhaul`): they keep their addresses when what is behind them is restarted, and
//! links can be counted, cut and refused there.
//!
//! What goes wrong here panics, as it does in a test. The programs must have been built from these sources:
//! `cargo build --workspace`.

mod damage;
mod destination;
mod far;
mod gateway;
mod local_phone;
mod phone;
mod programs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use damage::{damage_body, page_of_body};
pub use destination::Destination;
pub use far::{default_route, over_a_line, replug};
pub use gateway::Gateway;
pub use local_phone::{Contact, LocalPhone};
pub use phone::Phone;
pub use programs::{Ran, program, run, run_well};

/// How long a program may take to start, end or answer; long enough for a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The collection of the destination that is the usual one.
pub const COLLECTION: &str = "forms";

/// A destination and a gateway that serves it, both running; everything is gone when it is dropped.
pub struct Site {
    /// The gateway; first, so that it ends before its destination does.
    pub gateway: Gateway,
    /// The destination.
    pub destination: Destination,
    folder: TempDir,
}

impl Site {
    /// Makes and starts both. The backhaul is there.
    #[track_caller]
    pub fn start() -> Self {
        Self::configured("")
    }

    /// The same, with more configuration for the gateway (TOML; it is read after the kit's own).
    #[track_caller]
    pub fn configured(configuration: &str) -> Self {
        let folder = folder();
        let mut destination = Destination::make(&folder.path().join("destination"));
        destination.start();
        let mut gateway = Gateway::make(&folder.path().join("gateway"), &destination);
        if !configuration.is_empty() {
            gateway.configure("scenario", configuration);
        }
        gateway.start();
        Self { gateway, destination, folder }
    }

    /// The folder of the site, for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A further destination, running, that no gateway serves yet.
    #[track_caller]
    pub fn another_destination(&self, name: &str) -> Destination {
        let mut destination = Destination::make(&self.folder.path().join(name));
        destination.start();
        destination
    }

    /// A further gateway, running, for the same destination.
    #[track_caller]
    pub fn another_gateway(&self, name: &str) -> Gateway {
        let mut gateway = Gateway::make(&self.folder.path().join(name), &self.destination);
        gateway.start();
        gateway
    }

    /// A new phone that knows nobody.
    #[track_caller]
    pub fn new_phone(&self, name: &str) -> Phone {
        Phone::make(&self.folder.path().join(name), name)
    }

    /// A new phone that has the destination, and is paired with the gateway.
    #[track_caller]
    pub fn paired_phone(&self, name: &str) -> Phone {
        let phone = self.new_phone(name);
        phone.add_destination(&self.destination);
        phone.pair(&self.gateway);
        phone
    }
}

/// A folder for one test: in memory where there is room, as nothing here is about the disk's speed.
#[track_caller]
pub fn folder() -> TempDir {
    const ROOM: u64 = 2 << 30;
    let memory = PathBuf::from("/dev/shm");
    let free =
        nix::sys::statvfs::statvfs(&memory).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix("waypost-test-");
    if free >= ROOM { made.tempdir_in(memory).unwrap() } else { made.tempdir().unwrap() }
}

/// Copies a folder of a party that does not run, without what it makes anew.
#[track_caller]
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if from.is_dir() {
            copy_folder(&from, &to.join(name));
        } else if from.is_file() && !["reserve", "lock.mdb", "log"].contains(&name.to_string_lossy().as_ref())
        {
            std::fs::copy(&from, to.join(name)).unwrap();
        }
    }
}

/// Prints a line even when the test passes.
pub fn say(line: &str) {
    use std::io::Write as _;
    // What nobody reads need not be printed.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Waits until `found` answers something.
#[track_caller]
pub fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "still waiting for {what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that look random, do not compress, and are the same for the same seed.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    use rand_core::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; len];
    rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
