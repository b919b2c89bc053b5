//! What the planner does in single situations.

use waypost_protocol::document::Description;
use waypost_protocol::ids::{Fingerprint, GroupId, MessageId, PeerKey};
use waypost_protocol::time::UnixTime;

use super::*;

mod tries;

/// A document of 1,000 bytes.
pub(crate) fn waiting(seq: u64, depositor: u8, group: u8) -> Waiting {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    Waiting {
        seq: Seq(seq),
        description: Description {
            id: MessageId(id),
            group: GroupId([group; 32]),
            timestamp: UnixTime(3_600),
            size: 1_000,
        },
        depositor: PeerKey([depositor; 32]),
        share: 100,
        priority: 0,
        ambiguous: false,
    }
}

pub(crate) fn info() -> Info {
    Info {
        versions: vec![1],
        fingerprint: Fingerprint::V4([1; 20]),
        name: "d".into(),
        max_document: 1 << 30,
        max_batch_documents: 1_000,
        max_batch_bytes: 8 << 20,
        resumable: false,
        log: None,
        chain: String::new(),
        time: UnixTime(0),
    }
}

pub(crate) fn lost() -> Error {
    Error::Ambiguous(Cause::ConnectionLost { host: "d".into(), detail: "reset".into() })
}

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

/// A planner that has scanned these.
fn planner(documents: Vec<Waiting>) -> Planner {
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    scan(&mut planner, documents, at(0));
    planner
}

fn scan(planner: &mut Planner, documents: Vec<Waiting>, now: Monotonic) {
    assert!(matches!(planner.next(now), Step::Scan { .. }));
    planner.handle(Input::Scanned { documents, more: false, owed: false }, now);
}

fn batch(planner: &mut Planner, now: Monotonic) -> Vec<u64> {
    match planner.next(now) {
        Step::Batch(documents) => documents.iter().map(|document| document.seq.0).collect(),
        other => panic!("{other:?} in place of a batch"),
    }
}

/// Waits until the planner wants something.
fn wait(planner: &mut Planner, mut now: Monotonic) -> (Step, Monotonic) {
    loop {
        match planner.next(now) {
            Step::Wait(Some(until)) => now = until,
            step => return (step, now),
        }
    }
}

/// That nothing is to be done for hours, after an answer of the destination.
#[track_caller]
fn assert_rests(planner: &mut Planner, now: Monotonic, answered: Monotonic) {
    assert_eq!(planner.next(now), Step::Wait(Some(answered + path::STALE)));
}

fn done(seqs: impl IntoIterator<Item = u64>) -> Vec<(Seq, Fate)> {
    seqs.into_iter().map(|seq| (Seq(seq), Fate::Done)).collect()
}

#[test]
fn known_server_information_saves_the_question() {
    let mut planner = planner(vec![waiting(1, 1, 1), waiting(2, 1, 1)]);
    assert_eq!(batch(&mut planner, at(0)), [1, 2]);
    assert_eq!(planner.next(at(0)), Step::Wait(None), "one thing is under way at a time");
    planner.handle(Input::Uploaded(Ok(done([1, 2]))), at(1));
    assert_rests(&mut planner, at(1), at(1));
    assert_eq!(planner.path(), PathState::Ok { since: at(1) });
}

#[test]
fn nothing_but_one_question_is_sent_while_nothing_waits() {
    let mut planner = Planner::new(Settings::default(), None, 1);
    scan(&mut planner, vec![], at(0));
    assert_eq!(planner.next(at(0)), Step::Try);
    planner.handle(Input::Info(Ok(info())), at(0));
    assert_rests(&mut planner, at(0), at(0));
    planner.handle(Input::Nudge, at(5));
    scan(&mut planner, vec![waiting(7, 1, 1)], at(5));
    assert_eq!(planner.next(at(5)), Step::Probe);
}

#[test]
fn have_is_asked_after_an_ambiguous_failure_and_only_the_rest_is_sent() {
    let mut planner = planner(vec![waiting(1, 1, 1), waiting(2, 1, 1)]);
    batch(&mut planner, at(0));
    planner.handle(Input::Uploaded(Err(lost())), at(1));
    assert_eq!(planner.path(), PathState::Unreachable { kind: Kind::ConnectionLost });
    let (step, now) = wait(&mut planner, at(1));
    assert!(matches!(step, Step::AskHave(ref asked) if asked.len() == 2), "{step:?}");
    assert!(now >= at(2));
    planner.handle(Input::Had(Ok(vec![(Seq(1), Fate::Done), (Seq(2), Fate::NotHeld)])), now);
    // The upload that failed still counts until one succeeds.
    let (step, now) = wait(&mut planner, now);
    assert!(matches!(step, Step::Batch(ref sent) if sent.len() == 1 && sent[0].seq == Seq(2)), "{step:?}");
    planner.handle(Input::Uploaded(Ok(done([2]))), now);
    assert_rests(&mut planner, now, now);
}

#[test]
fn a_definite_failure_needs_no_question() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    batch(&mut planner, at(0));
    let cause = Cause::ConnectFailed { host: "d".into(), detail: "refused".into() };
    planner.handle(Input::Uploaded(Err(Error::Definite(cause))), at(1));
    let (step, _) = wait(&mut planner, at(1));
    assert!(matches!(step, Step::Batch(_)), "{step:?}");
}

#[test]
fn a_document_that_was_ambiguous_before_the_start_is_asked_about_first() {
    let mut planner = planner(vec![Waiting { ambiguous: true, ..waiting(1, 1, 1) }, waiting(2, 1, 1)]);
    assert!(matches!(planner.next(at(0)), Step::AskHave(ref asked) if asked.len() == 1));
}

#[test]
fn a_nudge_does_not_hammer_a_dead_path_but_a_new_path_is_used_at_once() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    batch(&mut planner, at(0));
    for _ in 0..12 {
        let cause = Cause::NoRoute { host: "d".into() };
        let (_, now) = wait(&mut planner, at(0));
        planner.handle(Input::Uploaded(Err(Error::Definite(cause.clone()))), now);
        planner.handle(Input::Info(Err(Error::Definite(cause))), now);
    }
    planner.handle(Input::Nudge, at(0));
    assert!(matches!(planner.next(at(0)), Step::Wait(Some(until)) if until > at(60)));
    planner.handle(Input::PathUp, at(1));
    scan(&mut planner, vec![], at(1));
    assert_eq!(planner.next(at(1)), Step::Probe);
    planner.handle(Input::Info(Ok(info())), at(1));
    assert_eq!(batch(&mut planner, at(1)), [1]);
}

#[test]
fn a_server_that_answers_questions_and_fails_all_uploads_is_sent_ever_less() {
    let mut planner = planner((1..=100).map(|seq| waiting(seq, 1, 1)).collect());
    let (mut now, mut uploads) = (at(0), 0);
    while now < at(7_200) {
        match planner.next(now) {
            Step::Wait(until) => now = until.unwrap(),
            Step::Probe | Step::Try => planner.handle(Input::Info(Ok(info())), now),
            Step::AskHave(documents) => {
                let fates = documents.iter().map(|document| (document.seq, Fate::NotHeld)).collect();
                planner.handle(Input::Had(Ok(fates)), now);
            }
            Step::Batch(_) => {
                uploads += 1;
                planner.handle(Input::Uploaded(Err(lost())), now);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((24..=60).contains(&uploads), "{uploads} uploads in two hours");
}

#[test]
fn the_wait_that_a_server_asks_for_is_kept() {
    let mut planner = planner(vec![waiting(1, 1, 1)]);
    batch(&mut planner, at(0));
    let cause =
        Cause::ServerError { code: 429, detail: String::new(), retry_after: Some(Duration::from_secs(200)) };
    planner.handle(Input::Uploaded(Err(Error::Definite(cause))), at(0));
    assert_eq!(planner.next(at(0)), Step::Wait(Some(at(200))));
}

#[test]
fn a_document_larger_than_the_destination_takes_is_set_aside_and_the_others_go() {
    let mut huge = waiting(1, 1, 1);
    huge.description.size = 2 << 30;
    let mut planner = planner(vec![huge, waiting(2, 1, 1)]);
    assert_eq!(batch(&mut planner, at(0)), [2]);
    assert!(matches!(planner.next(at(0)), Step::SetAside { document, cause: Cause::TooLarge { .. } }
        if document.seq == Seq(1)));
}

#[test]
fn a_document_that_was_too_large_goes_once_the_destination_takes_it() {
    let mut huge = waiting(1, 1, 1);
    huge.description.size = 2 << 30;
    let mut planner = planner(vec![huge]);
    assert!(matches!(planner.next(at(0)), Step::SetAside { .. }));
    assert_eq!(planner.next(at(0)), Step::Try);
    planner.handle(Input::Info(Ok(info())), at(1));
    assert!(matches!(planner.next(at(1)), Step::Wait(_)), "it takes no more than before");
    planner.handle(Input::Info(Ok(Info { max_document: 3 << 30, ..info() })), at(2));
    assert!(matches!(planner.next(at(2)), Step::Scan { after: None, .. }));
    planner.handle(Input::Scanned { documents: vec![huge], more: false, owed: false }, at(2));
    not_held(&mut planner, 1, at(2));
    assert!(matches!(planner.next(at(2)), Step::Put(document) if document.seq == Seq(1)));
}

/// A large document is asked about when its turn comes.
fn not_held(planner: &mut Planner, seq: u64, now: Monotonic) {
    assert!(matches!(&planner.next(now), Step::AskHave(asked) if asked[0].seq == Seq(seq)));
    planner.handle(Input::Had(Ok(vec![(Seq(seq), Fate::NotHeld)])), now);
}

#[test]
fn documents_too_large_for_a_batch_go_by_themselves() {
    let mut photo = waiting(1, 1, 1);
    photo.description.size = 5 << 20;
    let mut planner = planner(vec![photo, waiting(2, 1, 1)]);
    assert_eq!(batch(&mut planner, at(0)), [2], "small ones first");
    planner.handle(Input::Uploaded(Ok(done([2]))), at(1));
    not_held(&mut planner, 1, at(1));
    assert!(matches!(planner.next(at(1)), Step::Put(document) if document.seq == Seq(1)));
}

#[test]
fn a_verdict_that_is_missing_is_asked_for_and_not_sent_again() {
    let mut planner = planner(vec![waiting(1, 1, 1), waiting(2, 1, 1)]);
    batch(&mut planner, at(0));
    planner.handle(Input::Uploaded(Ok(done([1]))), at(0));
    let (mut step, mut now) = wait(&mut planner, at(0));
    for _ in 0..20 {
        assert!(matches!(step, Step::AskHave(ref asked) if asked.len() == 1), "{step:?}");
        planner.handle(Input::Had(Ok(vec![(Seq(2), Fate::Held)])), now);
        (step, now) = wait(&mut planner, now);
    }
    assert!(now > at(3_600), "asked ever more rarely");
}

#[test]
fn a_full_destination_does_not_make_small_documents_wait_behind_a_large_one() {
    let mut photo = waiting(1, 1, 1);
    photo.description.size = 5 << 20;
    let mut planner = planner(vec![photo]);
    not_held(&mut planner, 1, at(0));
    assert!(matches!(planner.next(at(0)), Step::Put(_)));
    planner.handle(Input::Uploaded(Err(Error::Definite(Cause::Full { detail: String::new() }))), at(0));
    assert_eq!(planner.path(), PathState::Full);
    let documents = vec![photo, waiting(2, 1, 1)];
    planner.handle(Input::Scanned { documents, more: false, owed: false }, at(0));
    let mut now = at(0);
    for _ in 0..5 {
        let step;
        (step, now) = wait(&mut planner, now);
        match step {
            Step::Probe | Step::Try => planner.handle(Input::Info(Ok(info())), now),
            Step::Put(_) => {
                let full = Cause::Full { detail: String::new() };
                planner.handle(Input::Uploaded(Err(Error::Definite(full))), now);
            }
            Step::Batch(documents) => {
                assert_eq!(documents[0].seq, Seq(2));
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("the small document did not get its turn");
}

#[test]
fn an_unreadable_document_is_set_aside_after_some_tries_and_holds_nobody_back() {
    let mut planner = planner(vec![waiting(1, 1, 1), waiting(2, 1, 1)]);
    let cause = Cause::Local { id: waiting(1, 1, 1).description.id, detail: "io".into() };
    batch(&mut planner, at(0));
    planner.handle(Input::Uploaded(Err(Error::Definite(cause.clone()))), at(0));
    assert_eq!(batch(&mut planner, at(0)), [2], "at once: the path is fine");
    planner.handle(Input::Uploaded(Ok(done([2]))), at(0));
    for _ in 1..LOCAL_TRIES {
        let (step, now) = wait(&mut planner, at(0));
        assert!(matches!(step, Step::Batch(_)), "{step:?}");
        planner.handle(Input::Uploaded(Err(Error::Definite(cause.clone()))), now);
    }
    assert!(matches!(planner.next(at(0)), Step::SetAside { .. }));
}

#[test]
fn later_verdicts_are_asked_for_while_some_are_owed() {
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    assert!(matches!(planner.next(at(0)), Step::Scan { .. }));
    planner.handle(Input::Scanned { documents: vec![], more: false, owed: true }, at(0));
    assert_eq!(planner.next(at(0)), Step::FetchConfirmations);
    planner.handle(Input::Fetched(Ok(true)), at(0));
    assert_eq!(planner.next(at(0)), Step::Wait(Some(at(900))));
    planner.handle(Input::Fetched(Ok(false)), at(900));
    assert_rests(&mut planner, at(900), at(900));
}

/// A store of documents, read as the planner asks.
fn page(store: &[Waiting], after: Option<Seq>, limit: usize) -> Input {
    let rest: Vec<Waiting> = store.iter().filter(|d| Some(d.seq) > after).take(limit + 1).copied().collect();
    let more = rest.len() > limit;
    Input::Scanned { documents: rest.into_iter().take(limit).collect(), more, owed: false }
}

#[test]
fn a_latecomer_behind_ten_thousand_is_served_early_and_nothing_is_forgotten() {
    let mut store: Vec<Waiting> = (1..=10_000).map(|seq| waiting(seq, 1, 1)).collect();
    store.push(waiting(10_001, 2, 1));
    let settings = Settings { batch_documents: 100, ..Settings::default() };
    let mut planner = Planner::new(settings, Some(info()), 1);
    let mut order = Vec::new();
    loop {
        match planner.next(at(0)) {
            Step::Scan { after, limit } => planner.handle(page(&store, after, limit), at(0)),
            Step::Batch(documents) => {
                assert!(planner.items.len() <= settings.window);
                let sent: BTreeSet<Seq> = documents.iter().map(|document| document.seq).collect();
                store.retain(|document| !sent.contains(&document.seq));
                order.extend(documents.iter().map(|document| document.seq.0));
                planner.handle(Input::Uploaded(Ok(done(sent.iter().map(|seq| seq.0)))), at(0));
            }
            Step::Wait(Some(until)) if until >= at(0) + path::STALE => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(store.is_empty());
    assert_eq!(order.len(), 10_001);
    assert!(order[..200].contains(&10_001), "the second depositor waited for the first one's ten thousand");
}

#[test]
fn what_is_gone_from_the_store_is_dropped() {
    let mut planner = planner(vec![waiting(1, 1, 1), waiting(2, 1, 1)]);
    batch(&mut planner, at(0));
    planner.handle(Input::Gone(vec![Seq(1)]), at(0));
    planner.handle(Input::Uploaded(Ok(done([2]))), at(0));
    assert_rests(&mut planner, at(0), at(0));
}

#[test]
fn turns_that_were_shorter_than_their_charge_buy_no_more_than_what_was_left_of_it() {
    // On a slow path photos of one phone go by parts of 200 KB; a form of another does not wait for all of them.
    let mut photos: Vec<Waiting> = (1..6).map(|seq| waiting(seq, 1, 1)).collect();
    photos.iter_mut().for_each(|photo| photo.description.size = 2 << 20);
    let settings = Settings::default();
    let mut planner = Planner::new(settings, None, 1);
    planner.handle(Input::Info(Ok(Info { resumable: true, ..info() })), at(0));
    planner.handle(Input::Pace { bytes: 1 << 20, span: Duration::from_secs(52) }, at(0));
    planner.handle(Input::Scanned { documents: photos, more: false, owed: false }, at(0));
    let mut parts = 0u64;
    let mut there = BTreeMap::new();
    let mut form_at = None;
    for step in 0..40 {
        if step == 20 {
            planner.handle(Input::Nudge, at(step));
        }
        let input = match planner.next(at(step)) {
            Step::Scan { .. } => {
                let form = if step >= 20 { vec![waiting(100, 2, 1)] } else { vec![] };
                Input::Scanned { documents: form, more: false, owed: false }
            }
            Step::AskHave(asked) => {
                Input::Had(Ok(asked.iter().map(|one| (one.seq, Fate::NotHeld)).collect()))
            }
            Step::Part(part) => {
                parts += 1;
                let there = there.entry(part.document.seq).or_insert(0);
                *there += part.turn.0;
                match *there >= part.document.description.size {
                    true => Input::Uploaded(Ok(vec![(part.document.seq, Fate::Done)])),
                    false => Input::Advanced(*there),
                }
            }
            Step::Batch(documents) => {
                assert_eq!(documents[0].seq, Seq(100));
                form_at = Some(step);
                break;
            }
            other => panic!("{other:?}"),
        };
        planner.handle(input, at(step));
    }
    let form_at = form_at.expect("the form never had its turn");
    assert!(parts >= 3 && form_at <= 20 + 4, "{parts} parts, the form after step {form_at}");
}

#[test]
fn confirmations_come_down_before_documents_that_wait_go_up() {
    let documents: Vec<Waiting> = (1..50).map(|seq| waiting(seq, 1, 1)).collect();
    let mut planner = Planner::new(Settings::default(), Some(info()), 1);
    assert!(matches!(planner.next(at(0)), Step::Scan { .. }));
    planner.handle(Input::Scanned { documents, more: false, owed: true }, at(0));
    assert_eq!(planner.next(at(0)), Step::FetchConfirmations);
    planner.handle(Input::Fetched(Ok(true)), at(1));
    assert_eq!(batch(&mut planner, at(1)).len(), 49);
    // The path goes away in the middle; the next window begins the same way.
    planner.handle(Input::Uploaded(Err(lost())), at(2));
    planner.handle(Input::PathDown, at(2));
    planner.handle(Input::PathUp, at(500));
    let first = loop {
        match planner.next(at(500)) {
            Step::Probe | Step::Try => planner.handle(Input::Info(Ok(info())), at(500)),
            Step::Scan { .. } => {
                let documents = (1..60).map(|seq| waiting(seq, 1, 1)).collect();
                planner.handle(Input::Scanned { documents, more: false, owed: true }, at(500));
            }
            step => break step,
        }
    };
    assert_eq!(first, Step::FetchConfirmations);
}

#[test]
fn a_phone_whose_documents_are_asked_about_first_pays_for_them_once() {
    // One phone has photos, which are asked about at their turn, another one forms, which are not.
    let photos = (1..=40).map(|seq| {
        let mut photo = waiting(seq, 1, 1);
        photo.description.size = 5 << 20;
        photo
    });
    let forms = (101..=700).map(|seq| {
        let mut form = waiting(seq, 2, 1);
        form.description.size = 200_000;
        form
    });
    let mut planner = planner(photos.chain(forms).collect());
    let mut sent: BTreeMap<PeerKey, u64> = BTreeMap::new();
    while sent.values().sum::<u64>() < 100 << 20 {
        let input = match planner.next(at(0)) {
            Step::AskHave(asked) => {
                Input::Had(Ok(asked.iter().map(|one| (one.seq, Fate::NotHeld)).collect()))
            }
            Step::Put(photo) => {
                *sent.entry(photo.depositor).or_default() += photo.description.size;
                Input::Uploaded(Ok(done([photo.seq.0])))
            }
            Step::Batch(documents) => {
                for one in &documents {
                    *sent.entry(one.depositor).or_default() += one.description.size;
                }
                Input::Uploaded(Ok(done(documents.iter().map(|one| one.seq.0))))
            }
            other => panic!("{other:?}"),
        };
        planner.handle(input, at(0));
    }
    let (photos, forms) = (sent[&PeerKey([1; 32])], sent[&PeerKey([2; 32])]);
    assert!(photos * 10 > forms * 8 && forms * 10 > photos * 8, "{photos} {forms}");
}
