//! OpenPGP programs that others wrote: GnuPG, Sequoia's `sq`, and `gosop`, which is GopenPGP behind the Stateless
//! OpenPGP interface (draft-dkg-openpgp-stateless-cli). Each has a folder, and most a key, of its own.

mod gosop;
mod gpg;
mod sq;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::policy::StandardPolicy;
use waypost_openpgp::{Certificate, SecretKey};
use waypost_protocol::ids::Fingerprint;
use waypost_protocol::time::UnixTime;

pub(crate) use gosop::Gosop;
pub(crate) use gpg::Gpg;
pub(crate) use sq::Sq;

/// When keys are made by programs that can be told the time.
const MADE: UnixTime = UnixTime(1_735_689_600);

/// So many days after [`MADE`].
pub(crate) fn day(days: u64) -> UnixTime {
    UnixTime(MADE.0 + days * 86_400)
}

pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// How a signature is written.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Binary,
    Armored,
    /// Over text whose line ends do not matter.
    Text,
    /// With this hash, which may be a weak one.
    Hash(&'static str),
    /// With an end of its own, a day later.
    Ending,
    /// With a note that nobody knows and everybody must understand.
    Critical,
}

#[derive(Clone, Copy)]
pub(crate) enum Part {
    Certificate,
    SigningSubkey,
}

#[derive(Clone, Copy)]
pub(crate) enum Reason {
    Compromised,
    Retired,
}

pub(crate) trait Tool {
    /// Of its own key, as it is now.
    fn certificate(&self) -> Certificate;

    /// When it signed (at `at` where it can be told the time), and a detached signature of what `text` says then.
    fn sign(&self, how: How, at: UnixTime, text: &dyn Fn(UnixTime) -> String) -> (UnixTime, Vec<u8>);

    fn revoke(&mut self, _part: Part, _reason: Reason, _at: UnixTime) {
        panic!("this program revokes no keys");
    }

    /// At `told`, it is made to end at `end`, or never.
    fn expire(&mut self, _part: Part, _told: UnixTime, _end: Option<UnixTime>) {
        panic!("this program sets no dates");
    }

    /// Its key has a new subkey that signs.
    fn renew(&mut self, _at: UnixTime) {
        panic!("this program adds no subkeys");
    }

    fn verify(&self, certificate: &Certificate, text: &str, signature: &[u8]) -> Result<(), String>;

    fn encrypt(&self, to: &Certificate, plain: &[u8]) -> Vec<u8>;

    fn decrypt(&self, key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, String>;
}

/// The newest key that signs.
pub(crate) fn signer(certificate: &Certificate) -> Fingerprint {
    let cert = Cert::from_bytes(&certificate.to_bytes()).unwrap();
    // Old enough that weak keys count too.
    let policy = StandardPolicy::at(UNIX_EPOCH + Duration::from_secs(1_262_304_000));
    let keys = cert.keys().with_policy(&policy, None).for_signing();
    let signer = keys.max_by_key(|key| key.key().creation_time()).unwrap();
    Fingerprint::from_slice(signer.key().fingerprint().as_bytes()).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        // In /tmp, since the socket of GnuPG's agent has a path of at most 108 bytes.
        Folder(tempfile::Builder::new().prefix("wpg").tempdir_in("/tmp").unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }
}

/// Standard output, or standard error as the error.
fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not run: {error}; tests/tools/setup.sh installs it"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
