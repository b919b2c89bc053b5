//! A crash between any two steps of taking a document in, each step done by hand, then the next start; with the embedded
//! database and folder, and with those that several processes share.

use super::*;
use crate::home::Init;
use crate::servers;
use waypost_openpgp::{Compress, seal_bytes};
use waypost_protocol::confirmation::Verdict;
use waypost_protocol::content::Label;
use waypost_protocol::document::Document;
use waypost_protocol::envelope::{Header, assemble};

struct Place {
    _folder: tempfile::TempDir,
    home: Home,
    client: i64,
    document: Document,
    shared: Option<servers::Shared>,
}

impl Place {
    /// One of each kind.
    fn both() -> [Self; 2] {
        [Self::new(None), Self::new(Some(servers::shared()))]
    }

    fn new(shared: Option<servers::Shared>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::init(&folder.path().join("home"), &Init::default()).unwrap();
        if let Some(shared) = &shared {
            let file = home.path().join("destination.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace("takeover_after = 60", "takeover_after = 0") + &shared.settings();
            std::fs::write(&file, text).unwrap();
            home = Home::open(home.path()).unwrap();
        }
        let intake = Intake::open(&home).unwrap();
        let kind = crate::store::ClientKind::Gateway;
        assert!(intake.store().add_client("kiosk", kind, Some([1; 32]), None, now()).unwrap());
        let client = intake.store().clients().unwrap()[0].id;
        let label =
            Label { collection: "forms".into(), file_name: Some(b"a.xml".to_vec()), ..Label::default() };
        let sealed = seal_bytes(&label, b"content", &[home.certificate()], Compress::Never, now()).unwrap();
        let body = assemble(&Header::to(home.destination()), &sealed).unwrap();
        let group = home.collection_key().group(&home.destination(), "forms");
        let document = Document::new(group, now().rounded_to_hour(), body).unwrap();
        Place { _folder: folder, home, client, document, shared }
    }

    fn judged(&self, intake: &Intake) -> NewDocument {
        let bytes = self.document.encode();
        match intake.judge.judge(&mut &bytes[..], bytes.len() as u64).unwrap() {
            Outcome::Judged(document) => document,
            Outcome::Failed(failed) => panic!("{failed:?}"),
        }
    }

    /// Judged and committed, as far as one comes before the file is put in its place.
    fn committed(&self, intake: &Intake) -> Staged {
        let document = self.judged(intake);
        assert!(intake.content.keep(&[document.staged.as_deref()]).iter().all(Option::is_none));
        let rows =
            intake.store().commit(self.client, std::slice::from_ref(&document), &[], false, now()).unwrap();
        let [Committed::New(seq)] = rows[..] else { panic!("{rows:?}") };
        Staged {
            seq,
            id: document.id,
            verdict: document.verdict,
            collection: document.collection.unwrap(),
            name: document.name,
            staged: document.staged.unwrap(),
        }
    }

    /// The next start, and the gateway's next try: the same confirmation both times, and one file.
    fn starts_again(&self) {
        let intake = Intake::open(&self.home).unwrap();
        intake.recover(true).unwrap();
        let bytes = self.document.encode();
        let put = || {
            intake.put(self.client, self.document.id(), &mut &bytes[..], bytes.len() as u64).unwrap().unwrap()
        };
        let first = put();
        assert_eq!(first[0].statement.verdict_on(&self.document.id()), Some(Verdict::Opened));
        assert_eq!(put(), first);
        let (inbox, confirmations) = match &self.shared {
            Some(shared) => (shared.objects("inbox"), shared.objects("confirmations")),
            None => (files(&self.home.inbox_folder()), files(&self.home.confirmations_folder())),
        };
        let [(name, content)] = &inbox[..] else { panic!("{inbox:?}") };
        assert!(name.starts_with("forms/") && name.ends_with("/a.xml"), "{name}");
        assert_eq!(content, b"content");
        assert_eq!(confirmations.len(), 2);
        assert_eq!(files(&self.home.temporary_folder()), []);
        if let Some(shared) = &self.shared {
            let staged: Vec<_> = shared.objects("staging").into_iter().map(|(name, _)| name).collect();
            assert!(staged.len() <= 2, "{staged:?}");
        }
        intake.finish().unwrap();
        assert_eq!(intake.store().unplaced().unwrap(), []);
        assert_eq!(intake.store().unconfirmed(9).unwrap(), Vec::<i64>::new());
    }
}

/// All below a folder.
fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => {
                found.extend(files(&path).into_iter().map(|(rest, bytes)| (format!("{name}/{rest}"), bytes)))
            }
            false => found.push((name, std::fs::read(&path).unwrap())),
        }
    }
    found
}

#[test]
fn after_opening_and_before_the_commit() {
    for place in Place::both() {
        place.judged(&Intake::open(&place.home).unwrap());
        place.starts_again();
    }
}

#[test]
fn after_the_commit_and_before_the_file_is_in_its_place() {
    for place in Place::both() {
        place.committed(&Intake::open(&place.home).unwrap());
        place.starts_again();
    }
}

#[test]
fn after_the_file_is_in_its_place_and_before_the_row_says_so() {
    for place in Place::both() {
        let intake = Intake::open(&place.home).unwrap();
        let staged = place.committed(&intake);
        assert_eq!(intake.place(&[staged]).len(), 1);
        drop(intake);
        place.starts_again();
    }
}

#[test]
fn after_the_verdict_and_before_its_confirmation() {
    for place in Place::both() {
        let intake = Intake::open(&place.home).unwrap();
        let staged = place.committed(&intake);
        let placed = intake.place(&[staged]);
        intake.store().note_placed(&placed).unwrap();
        drop(intake);
        place.starts_again();
    }
}

#[test]
fn after_the_confirmation_and_before_it_is_a_file() {
    for place in Place::both() {
        let intake = Intake::open(&place.home).unwrap();
        let staged = place.committed(&intake);
        let placed = intake.place(std::slice::from_ref(&staged));
        intake.store().note_placed(&placed).unwrap();
        let sign = |verdicts| intake.key.sign(intake.destination, verdicts, now());
        let confirmations = intake.store().confirm(&[staged.seq], Some(place.client), &sign).unwrap();
        assert_eq!(confirmations.len(), 1);
        drop(intake);
        place.starts_again();
    }
}

#[test]
fn two_gateways_at_once_get_the_identical_confirmation_and_one_file_is_written() {
    for place in Place::both() {
        let intake = Intake::open(&place.home).unwrap();
        let bytes = place.document.encode();
        let put = || {
            intake
                .put(place.client, place.document.id(), &mut &bytes[..], bytes.len() as u64)
                .unwrap()
                .unwrap()
        };
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(put)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(intake.store().counts().unwrap().confirmations, 1);
        drop(intake);
        place.starts_again();
    }
}
