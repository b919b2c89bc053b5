//! GnuPG, 2.2 or newer. It can be told the time of everything it does.

use std::process::Command;

use waypost_openpgp::{Certificate, SecretKey};
use waypost_protocol::time::UnixTime;

use super::{Folder, How, Part, Reason, Tool, day, run, signer};

/// A GnuPG home, whose agent ends with it.
pub(crate) struct Gpg {
    home: Folder,
    key: String,
}

impl Gpg {
    /// Without a key.
    pub(crate) fn new() -> Self {
        Gpg { home: Folder::new(), key: String::new() }
    }

    /// With a primary key of that algorithm and usage.
    pub(crate) fn with_key(algorithm: &str, usage: &str, flags: &[&str]) -> Self {
        let mut gpg = Self::new();
        let generate = ["--quick-generate-key", "Clinic <c@example.org>", algorithm, usage, "never"];
        gpg.run_at(day(0), &[flags, &generate].concat(), b"").unwrap();
        gpg.key = gpg.fingerprints().remove(0);
        gpg
    }

    /// With a primary key that only certifies, and a subkey that signs.
    pub(crate) fn with_subkey() -> Self {
        let gpg = Self::with_key("ed25519", "cert", &[]);
        gpg.add_subkey("ed25519", "sign", day(0));
        gpg
    }

    pub(crate) fn add_subkey(&self, algorithm: &str, usage: &str, at: UnixTime) {
        self.run_at(at, &["--quick-add-key", &self.key, algorithm, usage, "never"], b"").unwrap();
    }

    /// Of the primary key and the subkeys.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let listing = self.run(&["--with-colons", "--list-keys"], b"").unwrap();
        let listing = String::from_utf8(listing).unwrap();
        let lines = listing.lines().filter_map(|line| line.strip_prefix("fpr:"));
        lines.map(|line| line.trim_matches(':').to_owned()).collect()
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        run(self.command().arg("--batch").args(arguments), input)
    }

    fn run_at(&self, time: UnixTime, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let time = format!("{}!", time.0);
        self.run(&[&["--faked-system-time", &time], arguments].concat(), input)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.0.path());
        command.args(["--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(["--trust-model", "always"]);
        command
    }
}

impl Tool for Gpg {
    fn certificate(&self) -> Certificate {
        Certificate::from_bytes(&self.run(&["--export", &self.key], b"").unwrap()).unwrap()
    }

    fn sign(&self, how: How, at: UnixTime, text: &dyn Fn(UnixTime) -> String) -> (UnixTime, Vec<u8>) {
        let flags: &[&str] = match how {
            How::Binary => &[],
            How::Armored => &["--armor"],
            How::Text => &["--textmode"],
            How::Hash(hash) => &["--allow-weak-digest-algos", "--digest-algo", hash],
            How::Ending => &["--default-sig-expire", "1d"],
            How::Critical => &["--sig-notation", "!note@example.org=x"],
        };
        let signer = format!("{}!", signer(&self.certificate()));
        // It signs also before the key was made.
        let warped = ["--ignore-time-conflict", "--ignore-valid-from"];
        let arguments = [&["--local-user", &signer], flags, &warped, &["--detach-sign"]].concat();
        (at, self.run_at(at, &arguments, text(at).as_bytes()).unwrap())
    }

    fn revoke(&mut self, part: Part, reason: Reason, at: UnixTime) {
        let select = match part {
            Part::Certificate => "",
            Part::SigningSubkey => "key 1\n",
        };
        let reason = match reason {
            Reason::Compromised => 1,
            Reason::Retired => 3,
        };
        let dialogue = format!("{select}revkey\ny\n{reason}\n\ny\nsave\n");
        let mut command = self.command();
        command.args(["--command-fd", "0", "--faked-system-time", &format!("{}!", at.0)]);
        run(command.args(["--edit-key", &self.key]), dialogue.as_bytes()).unwrap();
    }

    fn expire(&mut self, part: Part, told: UnixTime, end: Option<UnixTime>) {
        let span = end.map_or("never".to_owned(), |end| format!("seconds={}", end.0 - told.0));
        let mut arguments = vec!["--quick-set-expire", &self.key, &span];
        if let Part::SigningSubkey = part {
            arguments.push("*");
        }
        self.run_at(told, &arguments, b"").unwrap();
    }

    fn renew(&mut self, at: UnixTime) {
        self.add_subkey("ed25519", "sign", at);
    }

    fn verify(&self, certificate: &Certificate, text: &str, signature: &[u8]) -> Result<(), String> {
        let gpg = Gpg::new();
        gpg.run(&["--import"], &certificate.to_bytes())?;
        let signature = gpg.home.file("signature", signature);
        run(gpg.command().args(["--batch", "--verify"]).arg(signature).arg("-"), text.as_bytes()).map(drop)
    }

    fn encrypt(&self, to: &Certificate, plain: &[u8]) -> Vec<u8> {
        let gpg = Gpg::new();
        gpg.run(&["--import"], &to.to_bytes()).unwrap();
        gpg.run(&["--recipient", &to.fingerprint().to_string(), "--encrypt"], plain).unwrap()
    }

    fn decrypt(&self, key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let gpg = Gpg::new();
        gpg.run(&["--import"], key.to_armor().unwrap().as_bytes())?;
        gpg.run(&["--decrypt"], sealed)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ =
            Command::new("gpgconf").arg("--homedir").arg(self.home.0.path()).args(["--kill", "all"]).status();
    }
}
