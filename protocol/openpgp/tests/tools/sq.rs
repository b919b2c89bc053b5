//! Sequoia's `sq`: 0.27 as in Debian 12, or 1.x as in Debian 13, whose options have other names.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::{Cert, PacketPile};
use waypost_openpgp::{Certificate, SecretKey};
use waypost_protocol::time::UnixTime;

use super::{Folder, How, Part, Reason, Tool, day, run, signer};

pub(crate) struct Sq {
    folder: Folder,
    key: PathBuf,
    cert: Option<Cert>,
}

/// Whether its options are those of 0.27.
fn is_old() -> bool {
    static OLD: OnceLock<bool> = OnceLock::new();
    // 1.x says it by `sq version` only.
    *OLD.get_or_init(|| run(Command::new("sq").arg("--version"), b"").is_ok())
}

impl Sq {
    /// Without a key.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        Sq { key: folder.path("key"), folder, cert: None }
    }

    /// With a primary key that only certifies and subkeys that sign and encrypt, all until `end`.
    pub(crate) fn with_subkey(end: Option<UnixTime>) -> Self {
        let mut sq = Self::new();
        let mut command = sq.command();
        let (made, end) = (day(0).to_string(), end.map_or("never".to_owned(), |end| end.to_string()));
        match is_old() {
            true => {
                command.args(["key", "generate", "--userid", "Clinic", "--creation-time", &made]);
                command.args(["--expires", &end, "--export"])
            }
            false => {
                command.args(["--time", &made, "key", "generate", "--own-key", "--name", "Clinic"]);
                command.args(["--without-password", "--expiration", &end, "--output"])
            }
        };
        command.arg(&sq.key).arg("--cannot-authenticate").arg("--rev-cert").arg(sq.folder.path("revocation"));
        run(&mut command, b"").unwrap();
        sq.cert = Some(Cert::from_file(&sq.key).unwrap().strip_secret_key_material());
        sq
    }

    /// The secret key.
    pub(crate) fn secret(&self) -> Vec<u8> {
        std::fs::read(&self.key).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sq");
        match is_old() {
            true => command.arg("--force"),
            false => command.args(["--home=none", "--batch", "--overwrite"]),
        };
        command
    }

    fn command_at(&self, time: UnixTime, words: &[&str]) -> Command {
        let mut command = self.command();
        let time = time.to_string();
        match is_old() {
            true => command.args(words).args(["--time", &time]),
            false => command.args(["--time", &time]).args(words),
        };
        command
    }
}

impl Tool for Sq {
    fn certificate(&self) -> Certificate {
        Certificate::from_bytes(&self.cert.as_ref().unwrap().to_vec().unwrap()).unwrap()
    }

    fn sign(&self, how: How, at: UnixTime, text: &dyn Fn(UnixTime) -> String) -> (UnixTime, Vec<u8>) {
        let notation = match is_old() {
            true => "--notation",
            false => "--signature-notation",
        };
        let flags: &[&str] = match how {
            How::Binary => &["--binary"],
            How::Armored => &[],
            How::Critical => &["--binary", notation, "!note@example.org", "x"],
            _ => panic!("sq 0.27 signs binary documents with a hash of its own choice"),
        };
        let mut command = self.command_at(at, &["sign"]);
        match is_old() {
            true => command.args(["--detached", "--signer-key"]),
            false => command.args(["--signature-file", "-", "--signer-file"]),
        };
        (at, run(command.arg(&self.key).args(flags), text(at).as_bytes()).unwrap())
    }

    fn revoke(&mut self, part: Part, reason: Reason, at: UnixTime) {
        let reason = match reason {
            Reason::Compromised => "compromised",
            Reason::Retired => "retired",
        };
        let certificate = self.certificate();
        let subkey = signer(&certificate).to_string();
        let public = self.folder.file("public", &certificate.to_bytes());
        let words: &[&str] = match (is_old(), part) {
            (true, Part::Certificate) => &["revoke", "certificate", reason, "test", "--binary"],
            (true, Part::SigningSubkey) => &["revoke", "subkey", &subkey, reason, "test", "--binary"],
            (false, Part::Certificate) => &["key", "revoke"],
            (false, Part::SigningSubkey) => &["key", "subkey", "revoke", "--key", &subkey],
        };
        let mut command = self.command_at(at, words);
        match is_old() {
            true => command.arg("--certificate").arg(public).arg("--revocation-key").arg(&self.key),
            false => command
                .args(["--reason", reason, "--message", "test", "--output", "-", "--cert-file"])
                .arg(&self.key),
        };
        let revocation = PacketPile::from_bytes(&run(&mut command, b"").unwrap()).unwrap();
        let cert = self.cert.take().unwrap();
        self.cert = Some(cert.insert_packets(revocation.into_children()).unwrap().0);
    }

    fn verify(&self, certificate: &Certificate, text: &str, signature: &[u8]) -> Result<(), String> {
        let certificate = self.folder.file("certificate", &certificate.to_bytes());
        let signature = self.folder.file("signature", signature);
        let text = self.folder.file("text", text.as_bytes());
        let mut command = self.command();
        match is_old() {
            true => command.args(["verify", "--detached"]).arg(signature).arg("--signer-cert"),
            false => command.args(["verify", "--signature-file"]).arg(signature).arg("--signer-file"),
        };
        run(command.arg(certificate).arg(text), b"").map(drop)
    }

    fn encrypt(&self, to: &Certificate, plain: &[u8]) -> Vec<u8> {
        let certificate = self.folder.file("certificate", &to.to_bytes());
        let mut command = self.command();
        command.args(["encrypt", "--binary"]);
        match is_old() {
            true => command.arg("--recipient-cert"),
            false => command.args(["--without-signature", "--for-file"]),
        };
        run(command.arg(certificate), plain).unwrap()
    }

    fn decrypt(&self, key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.folder.file("secret", key.to_armor().unwrap().as_bytes());
        let option = match is_old() {
            true => "--recipient-key",
            false => "--recipient-file",
        };
        run(self.command().args(["decrypt", option]).arg(key), sealed)
    }
}
