//! `gosop`: GopenPGP, an implementation in Go. It can be told no time, and changes no keys.

use std::path::PathBuf;
use std::process::Command;

use waypost_openpgp::{Certificate, SecretKey};
use waypost_protocol::time::UnixTime;

use super::{Folder, How, Tool, now, run};

pub(crate) struct Gosop {
    folder: Folder,
    key: PathBuf,
}

impl Gosop {
    /// Without a key.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        Gosop { key: folder.path("key"), folder }
    }

    /// With a secret key that was made elsewhere.
    pub(crate) fn with_secret(key: &[u8]) -> Self {
        let folder = Folder::new();
        Gosop { key: folder.file("key", key), folder }
    }

    /// With a primary key that signs.
    pub(crate) fn with_key() -> Self {
        Self::with_secret(&run(Command::new("gosop").args(["generate-key", "Clinic"]), b"").unwrap())
    }

    /// The secret key.
    pub(crate) fn secret(&self) -> Vec<u8> {
        std::fs::read(&self.key).unwrap()
    }
}

impl Tool for Gosop {
    fn certificate(&self) -> Certificate {
        let certificate = run(Command::new("gosop").arg("extract-cert"), &self.secret()).unwrap();
        Certificate::from_bytes(&certificate).unwrap()
    }

    fn sign(&self, how: How, _at: UnixTime, text: &dyn Fn(UnixTime) -> String) -> (UnixTime, Vec<u8>) {
        let flags: &[&str] = match how {
            How::Binary => &["--no-armor"],
            How::Armored => &[],
            How::Text => &["--no-armor", "--as", "text"],
            _ => panic!("gosop chooses hash and notes itself"),
        };
        loop {
            let time = now();
            let mut command = Command::new("gosop");
            let signature =
                run(command.arg("sign").args(flags).arg(&self.key), text(time).as_bytes()).unwrap();
            if now() == time {
                return (time, signature);
            }
        }
    }

    fn verify(&self, certificate: &Certificate, text: &str, signature: &[u8]) -> Result<(), String> {
        let certificate = self.folder.file("certificate", &certificate.to_bytes());
        let signature = self.folder.file("signature", signature);
        run(Command::new("gosop").arg("verify").arg(signature).arg(certificate), text.as_bytes()).map(drop)
    }

    fn encrypt(&self, to: &Certificate, plain: &[u8]) -> Vec<u8> {
        let certificate = self.folder.file("certificate", &to.to_bytes());
        run(Command::new("gosop").args(["encrypt", "--no-armor"]).arg(certificate), plain).unwrap()
    }

    fn decrypt(&self, key: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let key = self.folder.file("secret", key.to_armor().unwrap().as_bytes());
        run(Command::new("gosop").arg("decrypt").arg(key), sealed)
    }
}
