//! The same bytes under GnuPG: it opens what we seal, we open what it encrypts, and it verifies our confirmations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use waypost_openpgp::{Author, Chain, KeyError, seal_bytes_signed, verify_confirmation};
use waypost_openpgp::{Certificate, Compress, Limits, OpenError, SecretKey, armor_signature, seal_bytes};
use waypost_protocol::confirmation::{Confirmation, Statement, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::time::UnixTime;

const LIMITS: Limits = Limits { max_content: 1 << 24 };

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixTime(since.as_secs())
}

/// A GnuPG home of its own, whose agent ends with it.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Self {
        // In /tmp, since the agent's socket has a path of at most 108 bytes.
        Gpg { home: tempfile::Builder::new().prefix("wpg").tempdir_in("/tmp").unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(["--trust-model", "always"]).args(arguments);
        command
    }

    /// Standard output, or standard error as the error.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("gpg is not installed: apt-get install gnupg");
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ =
            Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}

fn label() -> Label {
    let file_name = Some(b"visit 3.xml".to_vec());
    Label { collection: "forms".into(), time: Some(now()), record: None, file_name }
}

#[test]
fn gpg_decrypts_what_we_seal() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], key.to_armor().unwrap().as_bytes()).unwrap();
    let small = b"<form/>".to_vec();
    let large = b"a line that is repeated\n".repeat(500_000);
    for content in [&small, &large] {
        for compress in [Compress::WhenSmaller, Compress::Never] {
            let sealed = seal_bytes(&label(), content, &[key.certificate()], compress, now()).unwrap();
            let plain = gpg.run(&["--decrypt"], &sealed).unwrap();
            let (label, at) = Label::parse(&plain).unwrap();
            assert_eq!(
                (label.collection.as_str(), label.file_name.as_deref()),
                ("forms", Some(&b"visit 3.xml"[..]))
            );
            assert!(plain[at..] == content[..]);
        }
    }
}

#[test]
fn we_open_what_gpg_encrypts() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], key.certificate().to_armor().as_bytes()).unwrap();
    let name = key.certificate().fingerprint().to_string();
    let label = Label { time: None, ..label() };
    let content = b"some content ".repeat(10_000);
    let mut plain = label.encode().unwrap();
    plain.extend(&content);
    let ways: [&[&str]; 5] = [
        &["--compress-algo", "none"],
        &["--compress-algo", "zip"],
        &["--compress-algo", "zlib", "--armor"],
        &["--hidden-recipient", &name],
        &["--compress-algo", "zlib", "-z", "9"],
    ];
    for way in ways {
        let arguments = [&["--set-filename", "", "--recipient", &name], way, &["--encrypt"]].concat();
        let sealed = gpg.run(&arguments, &plain).unwrap();
        let mut opened = Vec::new();
        let mut found = key.open(&sealed[..], &mut opened, LIMITS).unwrap();
        assert!(
            found.time.take().is_some_and(|time| time.0.abs_diff(now().0) < 60),
            "gpg dates the literal packet"
        );
        assert_eq!(found, label, "{way:?}");
        assert!(opened == content);
    }
    let none = gpg.run(&["--recipient", &name, "--encrypt"], b"no label").unwrap();
    assert!(matches!(key.open(&none[..], Vec::new(), LIMITS), Err(OpenError::Content(_))));
    let unencrypted = gpg.run(&["--store"], &plain).unwrap();
    let error = key.open(&unencrypted[..], Vec::new(), LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "it cannot be decrypted: it is not encrypted");
}

#[test]
fn gpg_reads_who_signed_what_we_seal_and_we_read_what_it_signs() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], key.to_armor().unwrap().as_bytes()).unwrap();
    let label = Label { time: None, ..label() };
    let certificates = [key.certificate()];
    let ours = seal_bytes_signed(&label, b"hello", &key, &certificates, Compress::default(), now()).unwrap();
    let status = gpg.run(&["--status-fd", "1", "--decrypt"], &ours).unwrap();
    let status = String::from_utf8_lossy(&status);
    assert!(status.contains("GOODSIG") && status.contains("\nhello"), "{status}");
    let name = key.certificate().fingerprint().to_string();
    let arguments = ["--recipient", &name, "--local-user", &name, "--sign", "--encrypt"];
    let theirs = gpg.run(&arguments, b"c=forms\nhello").unwrap();
    for sealed in [&ours, &theirs] {
        let mut content = Vec::new();
        let opened = key.open_signed(&sealed[..], &mut content, LIMITS, &certificates).unwrap();
        assert_eq!(content, b"hello");
        assert!(matches!(opened.author, Author::Signed { .. }), "{:?}", opened.author);
    }
}

#[test]
fn gpg_verifies_our_confirmations() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], &key.certificate().to_bytes()).unwrap();
    let verdicts = vec![(MessageId([1; 32]), Verdict::Opened), (MessageId([2; 32]), Verdict::Held)];
    let confirmation = key.sign(key.certificate().fingerprint(), verdicts, now()).unwrap();
    let text = gpg.file("c.txt", confirmation.statement.text().as_bytes());
    let signature = gpg.file("c.txt.asc", armor_signature(&confirmation).as_bytes());
    let status = gpg.run(&["--status-fd", "1", "--verify", &signature, &text], b"").unwrap();
    let status = String::from_utf8(status).unwrap();
    let signer = confirmation.statement.signer();
    assert!(status.contains(&format!("VALIDSIG {signer}")), "{status}");
    let altered = gpg.file("c.txt", confirmation.statement.text().replace("held", "opened").as_bytes());
    assert!(gpg.run(&["--verify", &signature, &altered], b"").unwrap_err().contains("BAD signature"));
}

#[test]
fn a_key_that_gpg_made_signs_and_opens() {
    let gpg = Gpg::new();
    gpg.run(&["--quick-generate-key", "Clinic <c@example.org>", "ed25519", "cert", "never"], b"").unwrap();
    let listing = String::from_utf8(gpg.run(&["--with-colons", "--list-keys"], b"").unwrap()).unwrap();
    let name =
        listing.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
    gpg.run(&["--quick-add-key", &name, "ed25519", "sign", "never"], b"").unwrap();
    gpg.run(&["--quick-add-key", &name, "cv25519", "encr", "never"], b"").unwrap();
    let certificate = Certificate::from_bytes(&gpg.run(&["--export", &name], b"").unwrap()).unwrap();
    assert_eq!(certificate.fingerprint().to_string(), name);

    // Subkeys without the primary secret, as one would put on a server.
    let exported = gpg.run(&["--export-secret-subkeys", &name], b"").unwrap();
    let key = SecretKey::from_bytes(&exported).unwrap();
    let verdicts = vec![(MessageId([1; 32]), Verdict::Opened)];
    let confirmation = key.sign(certificate.fingerprint(), verdicts.clone(), now()).unwrap();
    assert_eq!(verify_confirmation(&confirmation, std::slice::from_ref(&certificate), now()), Ok(()));
    let label = label();
    let sealed =
        seal_bytes(&label, b"hello", std::slice::from_ref(&certificate), Compress::Never, now()).unwrap();
    let mut opened = Vec::new();
    assert_eq!(key.open(&sealed[..], &mut opened, LIMITS).unwrap(), label);
    assert_eq!(opened, b"hello");

    // The signing subkey alone; the rest of the certificate from its public export.
    let listing = String::from_utf8(gpg.run(&["--with-colons", "--list-keys"], b"").unwrap()).unwrap();
    let subkey = listing.lines().filter_map(|line| line.strip_prefix("fpr:")).nth(1).unwrap();
    let subkey = format!("{}!", subkey.trim_matches(':'));
    let alone = SecretKey::from_bytes(&gpg.run(&["--export-secret-subkeys", &subkey], b"").unwrap()).unwrap();
    assert!(!alone.can_open() && !alone.certificate().can_be_sealed_to(now()));
    let joined = alone.with_certificate(&certificate).unwrap();
    assert!(!joined.can_open() && joined.certificate().can_be_sealed_to(now()));
    let confirmation = joined.sign(certificate.fingerprint(), verdicts, now()).unwrap();
    assert_eq!(verify_confirmation(&confirmation, std::slice::from_ref(&certificate), now()), Ok(()));
    // What gpg writes outside hashed areas, issuers and what subkeys sign back, is no stranger's addition.
    let old = SecretKey::generate("Clinic", now()).unwrap();
    let mut chain = Chain::new(old.certificate());
    let word = old.vouch(old.certificate().fingerprint(), &certificate, now()).unwrap();
    assert_eq!(chain.absorb(&[word], now()).faults, vec![]);
    assert_eq!(chain.certificates()[1], certificate);
    let stranger = SecretKey::generate("x", now()).unwrap().certificate();
    assert!(matches!(joined.with_certificate(&stranger), Err(KeyError::OtherKey { .. })));
}

#[test]
fn a_confirmation_that_gpg_signed_verifies() {
    let gpg = Gpg::new();
    let key = SecretKey::generate("Clinic", now()).unwrap();
    gpg.run(&["--import"], key.to_armor().unwrap().as_bytes()).unwrap();
    let ours = key
        .sign(key.certificate().fingerprint(), vec![(MessageId([1; 32]), Verdict::Opened)], now())
        .unwrap();
    let signer: Fingerprint = ours.statement.signer();
    let time = UnixTime(now().0 + 100);
    let statement =
        Statement::new(ours.statement.destination(), signer, time, ours.statement.verdicts().to_vec())
            .unwrap();
    let at = format!("{}!", time.0);
    let arguments = ["--faked-system-time", &at, "--local-user", &format!("{signer}!"), "--detach-sign"];
    let signature = gpg.run(&arguments, statement.text().as_bytes()).unwrap();
    let confirmation = Confirmation::new(statement, signature.into()).unwrap();
    assert_eq!(verify_confirmation(&confirmation, &[key.certificate()], now()), Ok(()));
}

#[test]
fn a_key_under_a_passphrase_is_refused_with_what_to_do() {
    let gpg = Gpg::new();
    let arguments = ["--passphrase", "secret", "--quick-generate-key", "Clinic", "ed25519", "sign", "never"];
    gpg.run(&arguments, b"").unwrap();
    let exported = gpg.run(&["--passphrase", "secret", "--export-secret-keys"], b"").unwrap();
    let error = SecretKey::from_bytes(&exported).unwrap_err();
    assert!(error.to_string().contains("protected by a passphrase"), "{error}");
}
