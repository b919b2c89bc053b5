//! Keys, confirmations, successions and sealed documents that other programs make, and ours in their hands.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use bytes::Bytes;
use waypost_openpgp::{
    Author, Certificate, Chain, ChainError, Compress, KeyError, Limits, OpenError, SecretKey, VerifyError,
    armor_detached, armor_signature, seal_bytes, seal_bytes_signed, verify_confirmation,
};
use waypost_protocol::confirmation::{Confirmation, ConfirmationError, MAX_DOCUMENTS, Statement, Verdict};
use waypost_protocol::content::Label;
use waypost_protocol::ids::{Fingerprint, MessageId};
use waypost_protocol::succession::{self, Link, Word};
use waypost_protocol::time::UnixTime;

use tools::{Gosop, Gpg, How, Part, Reason, Sq, Tool, day, now, signer};

const LIMITS: Limits = Limits { max_content: 1 << 24 };

/// A program, and the key with which it begins.
#[derive(Clone, Copy, Debug)]
enum By {
    Gpg,
    GpgPrimary,
    GpgRsa1024,
    GpgDsa1024,
    GpgBoundBySha1,
    Sq,
    /// Its key ends on day 20.
    SqEnding,
    Gosop,
    GosopSubkey,
}

impl By {
    fn start(self) -> Box<dyn Tool> {
        match self {
            By::Gpg => Box::new(Gpg::with_subkey()),
            By::GpgPrimary => Box::new(Gpg::with_key("ed25519", "sign", &[])),
            By::GpgRsa1024 => Box::new(Gpg::with_key("rsa1024", "sign", &[])),
            By::GpgDsa1024 => Box::new(Gpg::with_key("dsa1024", "sign", &[])),
            By::GpgBoundBySha1 => Box::new(Gpg::with_key("ed25519", "sign", &["--cert-digest-algo", "SHA1"])),
            By::Sq => Box::new(Sq::with_subkey(None)),
            By::SqEnding => Box::new(Sq::with_subkey(Some(day(20)))),
            By::Gosop => Box::new(Gosop::with_key()),
            By::GosopSubkey => Box::new(Gosop::with_secret(&Sq::with_subkey(None).secret())),
        }
    }
}

/// What a program made, and what is known of its key, the oldest state first.
struct Made {
    confirmation: Confirmation,
    states: Vec<Certificate>,
}

impl Made {
    fn known(mut self, tool: &dyn Tool) -> Self {
        self.states.push(tool.certificate());
        self
    }

    /// Only its newest state is known.
    fn refreshed(self, tool: &dyn Tool) -> Self {
        Made { states: vec![tool.certificate()], ..self }
    }

    /// The same signature under another statement.
    fn saying(self, later: u64, verdicts: Vec<(MessageId, Verdict)>) -> Self {
        let (statement, signature) = (&self.confirmation.statement, self.confirmation.signature().clone());
        let time = UnixTime(statement.time().0 + later);
        let statement = Statement::new(statement.destination(), statement.signer(), time, verdicts).unwrap();
        Made { confirmation: Confirmation::new(statement, signature).unwrap(), ..self }
    }

    /// The same statement under other bytes.
    fn rewritten(self, change: fn(&[u8]) -> Vec<u8>) -> Self {
        let signature = change(self.confirmation.signature()).into();
        Made { confirmation: Confirmation::new(self.confirmation.statement, signature).unwrap(), ..self }
    }
}

fn twice(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat(2)
}

fn with_junk(bytes: &[u8]) -> Vec<u8> {
    [bytes, b"\0"].concat()
}

fn id(number: u16) -> MessageId {
    let mut id = [7; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    MessageId(id)
}

fn opened(ids: impl IntoIterator<Item = u16>) -> Vec<(MessageId, Verdict)> {
    ids.into_iter().map(|number| (id(number), Verdict::Opened)).collect()
}

fn held(ids: impl IntoIterator<Item = u16>) -> Vec<(MessageId, Verdict)> {
    ids.into_iter().map(|number| (id(number), Verdict::Held)).collect()
}

fn confirm(
    tool: &dyn Tool,
    how: How,
    at: UnixTime,
    (destination, signer): (Fingerprint, Fingerprint),
    verdicts: &[(MessageId, Verdict)],
) -> Confirmation {
    let statement = |time| Statement::new(destination, signer, time, verdicts.to_vec()).unwrap();
    let (time, signature) = tool.sign(how, at, &|time| statement(time).text());
    Confirmation::new(statement(time), signature.into()).unwrap()
}

fn made(tool: &dyn Tool, how: How, at: UnixTime) -> Made {
    let certificate = tool.certificate();
    let names = (certificate.fingerprint(), signer(&certificate));
    Made { confirmation: confirm(tool, how, at, names, &opened([1, 2])), states: vec![certificate] }
}

fn signed(tool: &dyn Tool, at: UnixTime) -> Made {
    made(tool, How::Binary, at)
}

fn revoked(tool: &mut dyn Tool, at: UnixTime, part: Part, reason: Reason) -> Made {
    let made = signed(tool, at);
    tool.revoke(part, reason, day(10));
    made.known(tool)
}

fn ending(tool: &mut dyn Tool, at: UnixTime, part: Part) -> Made {
    let made = signed(tool, at);
    tool.expire(part, day(10), Some(day(20)));
    made.known(tool)
}

fn put_off(tool: &mut dyn Tool) -> Made {
    let made = ending(tool, day(30), Part::Certificate);
    tool.expire(Part::Certificate, day(25), None);
    made.known(tool)
}

fn dated_anew_and_retired(tool: &mut dyn Tool) -> Made {
    let made = ending(tool, day(5), Part::Certificate);
    tool.revoke(Part::Certificate, Reason::Retired, day(12));
    made.refreshed(tool)
}

fn by_new_subkey(tool: &mut dyn Tool, is_known: bool) -> Made {
    let old = tool.certificate();
    tool.renew(day(10));
    let made = signed(tool, day(15));
    match is_known {
        true => Made { states: [vec![old], made.states].concat(), ..made },
        false => Made { states: vec![old], ..made },
    }
}

fn for_another_destination(tool: &mut dyn Tool) -> Made {
    let ours = SecretKey::generate("Clinic", now()).unwrap().certificate();
    Made { states: vec![ours], ..signed(tool, day(5)) }
}

fn by_another_key(tool: &mut dyn Tool, poses: bool) -> Made {
    let ours = SecretKey::generate("Clinic", now()).unwrap().certificate();
    let named = if poses { signer(&ours) } else { signer(&tool.certificate()) };
    // Not now: what gpg is told of the present it takes for no frozen clock.
    let tomorrow = UnixTime(now().0 + 86_400);
    let confirmation = confirm(tool, How::Binary, tomorrow, (ours.fingerprint(), named), &opened([1]));
    Made { confirmation, states: vec![ours] }
}

struct Case {
    name: &'static str,
    by: &'static [By],
    make: fn(&mut dyn Tool) -> Made,
    wanted: &'static str,
    is_wanted: fn(&Result<(), VerifyError>) -> bool,
}

macro_rules! cases {
    ($($by:tt $name:literal: $make:expr => $wanted:pat,)*) => {
        vec![$(Case {
            name: $name,
            by: &$by,
            make: $make,
            wanted: stringify!($wanted),
            is_wanted: |found| matches!(found, $wanted),
        }),*]
    };
}

/// Who signs what, and how it is judged.
fn cases() -> Vec<Case> {
    use By::*;
    use How::{Armored, Critical, Ending, Hash, Text};
    use Part::{Certificate, SigningSubkey};
    use Reason::{Compromised, Retired};
    use VerifyError::*;
    const A_YEAR: u64 = 365 * 86_400;
    cases! {
        [Gpg, Sq, GosopSubkey] "by a subkey": |tool| signed(tool, day(5)) => Ok(()),
        [GpgPrimary, Gosop] "by the primary key": |tool| signed(tool, day(5)) => Ok(()),
        [Gpg, Sq] "a year ahead": |tool| signed(tool, UnixTime(now().0 + A_YEAR)) => Ok(()),
        [Gpg] "with an end of its own": |tool| made(tool, Ending, day(5)) => Ok(()),

        [Gpg, Sq] "retired later": |tool| revoked(tool, day(5), Certificate, Retired) => Ok(()),
        [Gpg, Sq] "retired before": |tool| revoked(tool, day(15), Certificate, Retired) => Err(Revoked(_)),
        [Gpg, Sq] "subkey retired later": |tool| revoked(tool, day(5), SigningSubkey, Retired) => Ok(()),
        [Gpg, Sq] "subkey retired before": |tool| revoked(tool, day(15), SigningSubkey, Retired) => Err(Revoked(_)),
        [Gpg, Sq] "stolen": |tool| revoked(tool, day(5), Certificate, Compromised) => Err(Revoked(_)),
        [Gpg, Sq] "subkey stolen": |tool| revoked(tool, day(5), SigningSubkey, Compromised) => Err(Revoked(_)),

        [SqEnding] "before the end": |tool| signed(tool, day(15)) => Ok(()),
        [Gpg] "before the primary key's end": |tool| ending(tool, day(15), Certificate) => Ok(()),
        [Gpg] "after it, by a subkey": |tool| ending(tool, day(30), Certificate) => Err(NotValid { .. }),
        [Gpg] "before the subkey's end": |tool| ending(tool, day(15), SigningSubkey) => Ok(()),
        [Gpg] "after the subkey's end": |tool| ending(tool, day(30), SigningSubkey) => Err(NotValid { .. }),
        [Gpg] "after an end that was put off": put_off => Ok(()),
        [Gpg] "before its dates": |tool| ending(tool, day(5), Certificate).refreshed(tool) => Ok(()),
        [Gpg] "the same, then retired": dated_anew_and_retired => Ok(()),
        [Gpg] "before the key was made": |tool| signed(tool, UnixTime(day(0).0 - 5)) => Err(NotValid { .. }),
        [Gpg, Sq] "decades ahead": |tool| signed(tool, UnixTime(now().0 + 40 * A_YEAR)) => Err(Future(_)),

        [Gpg] "by a new subkey": |tool| by_new_subkey(tool, true) => Ok(()),
        [Gpg] "by one that is not known": |tool| by_new_subkey(tool, false) => Err(WrongKey(_)),
        [Gpg, Sq, Gosop] "for another destination": for_another_destination => Err(WrongDestination { .. }),
        [Gpg, Sq, Gosop] "by another key": |tool| by_another_key(tool, false) => Err(WrongKey(_)),
        [Gpg, Sq, Gosop] "by one that poses": |tool| by_another_key(tool, true) => Err(Altered),

        [Gpg, Sq, Gosop] "other time": |tool| signed(tool, day(5)).saying(1, held([1])) => Err(WrongTime { .. }),
        [Gpg, Sq, Gosop] "other id": |tool| signed(tool, day(5)).saying(0, opened([1, 3])) => Err(Altered),
        [Gpg, Sq, Gosop] "an id more": |tool| signed(tool, day(5)).saying(0, opened(1..=3)) => Err(Altered),
        [Gpg, Sq, Gosop] "an id less": |tool| signed(tool, day(5)).saying(0, opened([1])) => Err(Altered),
        [Gpg, Sq, Gosop] "other verdict": |tool| signed(tool, day(5)).saying(0, held([1, 2])) => Err(Altered),

        [Gpg, Gosop] "as text": |tool| made(tool, Text, day(5)) => Err(WrongKind),
        [Gpg, Sq, Gosop] "in armor": |tool| made(tool, Armored, day(5)) => Err(Malformed(_)),
        [Gpg, Sq, Gosop] "twice": |tool| signed(tool, day(5)).rewritten(twice) => Err(Malformed(_)),
        [Gpg, Sq, Gosop] "junk behind": |tool| signed(tool, day(5)).rewritten(with_junk) => Err(Malformed(_)),
        [Gpg, Sq] "with an unknown critical note": |tool| made(tool, Critical, day(5)) => Err(Weak(_)),

        [Gpg] "over SHA-1": |tool| made(tool, Hash("SHA1"), day(5)) => Err(Weak(_)),
        [Gpg] "over MD5": |tool| made(tool, Hash("MD5"), day(5)) => Err(Weak(_)),
        [GpgRsa1024, GpgDsa1024] "by a short key": |tool| signed(tool, day(5)) => Err(Weak(_)),
        [GpgBoundBySha1] "by a key that SHA-1 alone binds": |tool| signed(tool, day(5)) => Err(Weak(_)),
    }
}

/// What is wrong with what the newest state and all states together say of it, by a clock at 1970 and today's.
fn faults(case: &Case, by: By) -> Vec<String> {
    let made = (case.make)(&mut *by.start());
    let statement = &made.confirmation.statement;
    let mut chain = Chain::new(made.states[0].clone());
    let news = made.states.iter().map(|state| Link {
        destination: chain.fingerprint(),
        certificate: Bytes::from(state.to_bytes()),
        word: None,
    });
    let news = news.collect::<Vec<_>>();
    assert_eq!(chain.absorb(&news, now()).faults, vec![]);
    let newest = made.states.last().cloned().unwrap();
    let mut faults = Vec::new();
    for clock in [UnixTime(0), now()] {
        for known in [std::slice::from_ref(&newest), chain.certificates()] {
            let found = verify_confirmation(&made.confirmation, known, clock);
            let named = match &found {
                Err(VerifyError::Revoked(key) | VerifyError::WrongKey(key)) => *key,
                Err(VerifyError::NotValid { signer, .. }) => *signer,
                _ => statement.signer(),
            };
            if !(case.is_wanted)(&found) || named != statement.signer() {
                faults.push(format!("{by:?}: {}: {found:?} at {clock}, not {}", case.name, case.wanted));
            }
        }
    }
    faults
}

#[test]
fn confirmations_that_other_programs_sign_count_or_not_for_the_reason_in_the_table() {
    let cases = cases();
    let rows = cases.iter().flat_map(|case| case.by.iter().map(move |by| (case, *by))).collect::<Vec<_>>();
    let judge = |(case, by): &(&Case, By)| {
        println!("{by:?}: {}", case.name);
        faults(case, *by)
    };
    let found = std::thread::scope(|scope| {
        let workers = rows.chunks(rows.len().div_ceil(4));
        let workers = workers.map(|rows| scope.spawn(|| rows.iter().flat_map(judge).collect::<Vec<_>>()));
        let workers = workers.collect::<Vec<_>>();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn confirmations_have_256_documents_whoever_signs_them_and_not_257() {
    for by in [By::Gpg, By::Sq, By::GosopSubkey] {
        let tool = by.start();
        let certificate = tool.certificate();
        let names = (certificate.fingerprint(), signer(&certificate));
        let full = confirm(&*tool, How::Binary, day(5), names, &opened(1..=256));
        assert_eq!(full.statement.verdicts().len(), MAX_DOCUMENTS);
        let wire = Confirmation::decode(&full.encode()).unwrap();
        assert_eq!(verify_confirmation(&wire, &[certificate], now()), Ok(()), "{by:?}");
        let more = format!("{}{} opened\n", full.statement.text(), id(257));
        let (_, signature) = tool.sign(How::Binary, day(5), &|_| more.clone());
        assert_eq!(Statement::parse_text(&more), Err(ConfirmationError::Count(257)));
        let mut wire = full.to_wire();
        wire.ids = [&wire.ids[..], &id(257).0].concat().into();
        wire.verdicts = [&wire.verdicts[..], &[Verdict::Opened.code()]].concat().into();
        wire.signature = signature.into();
        assert_eq!(Confirmation::from_wire(&wire), Err(ConfirmationError::Count(257)), "{by:?}");
    }
}

/// Programs without a key of their own.
fn programs() -> [(&'static str, Box<dyn Tool>); 3] {
    [("gpg", Box::new(Gpg::new())), ("sq", Box::new(Sq::new())), ("gosop", Box::new(Gosop::new()))]
}

#[test]
fn other_programs_verify_our_confirmations_and_successions_and_no_altered_ones() {
    let [key, other] = [(); 2].map(|()| SecretKey::generate("Clinic", now()).unwrap());
    let certificate = key.certificate();
    let verdicts = vec![(id(1), Verdict::Opened), (id(2), Verdict::Held)];
    let confirmation = key.sign(certificate.fingerprint(), verdicts, now()).unwrap();
    let (said, confirmed) = (confirmation.statement.text(), armor_signature(&confirmation));
    let word = key.vouch(certificate.fingerprint(), &other.certificate(), now()).unwrap().word.unwrap();
    let statement = succession::Statement {
        destination: certificate.fingerprint(),
        signer: word.signer,
        successor: other.certificate().fingerprint(),
        time: word.time,
    };
    let vouched = armor_detached(&word.signature);
    for (name, program) in programs() {
        for (text, signature, from, to) in [
            (said.as_str(), &confirmed, "held", "opened"),
            (&statement.text(), &vouched, "succession 1", "succession 2"),
        ] {
            let verify = |certificate: &Certificate, text: &str| {
                program.verify(certificate, text, signature.as_bytes())
            };
            assert!(verify(&other.certificate(), text).is_err(), "{name} knows only another key");
            assert_eq!(verify(&certificate, text), Ok(()), "{name}");
            let altered = text.replace(from, to);
            assert!(altered != text && verify(&certificate, &altered).is_err(), "{name}");
        }
    }
}

/// What a program's own primary key says of its successor; signed by its subkey where it has one.
fn vouch(tool: &dyn Tool, how: How, at: UnixTime, successor: &Certificate) -> Link {
    let destination = tool.certificate().fingerprint();
    let statement = |time| succession::Statement {
        destination,
        signer: destination,
        successor: successor.fingerprint(),
        time,
    };
    let (time, signature) = tool.sign(how, at, &|time| statement(time).text());
    let word = Word { signer: destination, time, signature: signature.into() };
    Link { destination, certificate: Bytes::from(successor.to_bytes()), word: Some(word) }
}

#[test]
fn the_primary_key_of_another_program_names_its_successor_and_no_other_key_does() {
    use By::*;
    type Row = (By, How, u64, fn(&mut dyn Tool), fn(Option<&VerifyError>) -> bool);
    let retired = |tool: &mut dyn Tool| tool.revoke(Part::Certificate, Reason::Retired, day(10));
    let compromised = |tool: &mut dyn Tool| tool.revoke(Part::Certificate, Reason::Compromised, day(10));
    let ended = |tool: &mut dyn Tool| tool.expire(Part::Certificate, day(10), Some(day(20)));
    let rows: [Row; 10] = [
        (GpgPrimary, How::Binary, 5, |_| (), |found| found.is_none()),
        (Gosop, How::Binary, 5, |_| (), |found| found.is_none()),
        (GpgPrimary, How::Binary, 5, retired, |found| found.is_none()),
        // What gpg exports has only the dates of day 10.
        (GpgPrimary, How::Binary, 5, ended, |found| found.is_none()),
        (GpgPrimary, How::Binary, 15, retired, |found| matches!(found, Some(VerifyError::Revoked(_)))),
        (GpgPrimary, How::Binary, 5, compromised, |found| matches!(found, Some(VerifyError::Revoked(_)))),
        (GpgPrimary, How::Binary, 30, ended, |found| matches!(found, Some(VerifyError::NotValid { .. }))),
        (GpgPrimary, How::Hash("SHA1"), 5, |_| (), |found| matches!(found, Some(VerifyError::Weak(_)))),
        (GpgRsa1024, How::Binary, 5, |_| (), |found| matches!(found, Some(VerifyError::Weak(_)))),
        (Gpg, How::Binary, 5, |_| (), |found| found == Some(&VerifyError::Altered)),
    ];
    let new = tools::Sq::with_subkey(None);
    for (row, (by, how, at, change, is_wanted)) in rows.into_iter().enumerate() {
        let mut old = by.start();
        let link = vouch(&*old, how, day(at), &new.certificate());
        change(&mut *old);
        let mut chain = Chain::new(old.certificate());
        let faults = chain.absorb(&[link], now()).faults;
        let found = match &faults[..] {
            [] => None,
            [ChainError::NotProven { error, .. }] => Some(error),
            other => panic!("row {row}: {other:?}"),
        };
        assert!(is_wanted(found), "row {row}, {by:?}: {found:?}");
        let names = (chain.fingerprint(), signer(&new.certificate()));
        let confirmation = confirm(&new, How::Binary, day(40), names, &opened([1]));
        let verified = verify_confirmation(&confirmation, chain.certificates(), now());
        assert_eq!(verified.is_ok(), found.is_none(), "row {row}: {verified:?}");
    }
}

fn label() -> Label {
    let file_name = Some(b"visit 3.xml".to_vec());
    Label { collection: "forms".into(), time: None, record: None, file_name }
}

fn opened_by(key: &SecretKey, sealed: &[u8]) -> Result<(Label, Vec<u8>), OpenError> {
    let mut content = Vec::new();
    let mut label = key.open(sealed, &mut content, LIMITS)?;
    // Programs that date the literal packet do so by the clock.
    assert!(label.time.take().is_none_or(|time| time.0.abs_diff(now().0) < 300));
    Ok((label, content))
}

#[test]
fn other_programs_decrypt_what_we_seal_and_we_open_what_they_encrypt() {
    let [key, other] = [(); 2].map(|()| SecretKey::generate("Clinic", now()).unwrap());
    for (name, program) in programs() {
        for content in [b"<form/>".to_vec(), b"a line that is repeated\n".repeat(200_000)] {
            let plain = [label().encode().unwrap(), content.clone()].concat();
            for compress in [Compress::WhenSmaller, Compress::Never] {
                let sealed = seal_bytes(&label(), &content, &[key.certificate()], compress, now()).unwrap();
                assert!(program.decrypt(&other, &sealed).is_err(), "{name}");
                assert!(program.decrypt(&key, &sealed).unwrap() == plain, "{name}");
            }
            let sealed = program.encrypt(&key.certificate(), &plain);
            assert!(opened_by(&key, &sealed).unwrap() == (label(), content), "{name}");
            assert!(matches!(opened_by(&other, &sealed), Err(OpenError::OtherKey)), "{name}");
        }
        let unlabelled = program.encrypt(&key.certificate(), b"no label");
        assert!(matches!(opened_by(&key, &unlabelled), Err(OpenError::Content(_))), "{name}");
    }
}

#[test]
fn documents_are_sealed_to_keys_of_other_programs_and_opened_with_them() {
    let (sq, gosop) = (Sq::with_subkey(None), Gosop::with_key());
    let made: [(_, &dyn Tool); 2] = [(sq.secret(), &sq), (gosop.secret(), &gosop)];
    for (secret, program) in made {
        let key = SecretKey::from_bytes(&secret).unwrap();
        let sealed = seal_bytes(&label(), b"hello", &[key.certificate()], Compress::Never, now()).unwrap();
        assert_eq!(opened_by(&key, &sealed).unwrap(), (label(), b"hello".to_vec()));
        assert!(program.decrypt(&key, &sealed).unwrap().ends_with(b"hello"));
    }
}

#[test]
fn we_open_whatever_way_gpg_encrypts_and_nothing_that_it_does_not() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], key.certificate().to_armor().as_bytes()).unwrap();
    let name = key.certificate().fingerprint().to_string();
    let content = b"some content ".repeat(10_000);
    let plain = [label().encode().unwrap(), content.clone()].concat();
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
        assert!(opened_by(&key, &sealed).unwrap() == (label(), content.clone()), "{way:?}");
        let time = key.open(&sealed[..], &mut Vec::new(), LIMITS).unwrap().time;
        assert!(time.is_some(), "gpg dates the literal packet");
    }
    let unencrypted = gpg.run(&["--store"], &plain).unwrap();
    let error = key.open(&unencrypted[..], Vec::new(), LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "it cannot be decrypted: it is not encrypted");
}

#[test]
fn gpg_reads_who_signed_what_we_seal_and_we_read_what_it_signs() {
    let (gpg, key) = (Gpg::new(), SecretKey::generate("Clinic", now()).unwrap());
    gpg.run(&["--import"], key.to_armor().unwrap().as_bytes()).unwrap();
    let certificates = [key.certificate()];
    let ours =
        seal_bytes_signed(&label(), b"hello", &key, &certificates, Compress::default(), now()).unwrap();
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
fn a_key_that_gpg_made_signs_and_opens() {
    let gpg = Gpg::with_subkey();
    gpg.add_subkey("cv25519", "encr", day(0));
    let certificate = gpg.certificate();
    let [name, subkey, _] = gpg.fingerprints().try_into().unwrap();
    assert_eq!(certificate.fingerprint().to_string(), name);

    // Subkeys without the primary secret, as one would put on a server.
    let exported = gpg.run(&["--export-secret-subkeys", &name], b"").unwrap();
    let key = SecretKey::from_bytes(&exported).unwrap();
    let verdicts = opened([1]);
    let confirmation = key.sign(certificate.fingerprint(), verdicts.clone(), now()).unwrap();
    assert_eq!(verify_confirmation(&confirmation, std::slice::from_ref(&certificate), now()), Ok(()));
    let sealed =
        seal_bytes(&label(), b"hello", std::slice::from_ref(&certificate), Compress::Never, now()).unwrap();
    assert_eq!(opened_by(&key, &sealed).unwrap(), (label(), b"hello".to_vec()));

    // The signing subkey alone; the rest of the certificate from its public export.
    let subkey = format!("{subkey}!");
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
fn a_key_under_a_passphrase_is_refused_with_what_to_do() {
    let gpg = Gpg::new();
    let arguments = ["--passphrase", "secret", "--quick-generate-key", "Clinic", "ed25519", "sign", "never"];
    gpg.run(&arguments, b"").unwrap();
    let exported = gpg.run(&["--passphrase", "secret", "--export-secret-keys"], b"").unwrap();
    let error = SecretKey::from_bytes(&exported).unwrap_err();
    assert!(error.to_string().contains("protected by a passphrase"), "{error}");
}
