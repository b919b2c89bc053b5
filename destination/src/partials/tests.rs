//! The same for files of one machine and for what servers share.

use std::sync::OnceLock;

use tokio::runtime::Runtime;

use super::*;
use crate::Home;
use crate::home::Init;
use crate::places::Places;
use crate::servers;
use crate::store::{ClientKind, Quota};

const ID: MessageId = MessageId([7; 32]);
const LIMITS: Limits = Limits { bytes: 64 << 20, count: 100 };

struct Site {
    _folder: tempfile::TempDir,
    home: Home,
    shared: Option<servers::Shared>,
}

impl Site {
    /// One of each kind, with clients 1 and 2.
    fn both() -> [Self; 2] {
        [Self::new(None), Self::new(Some(servers::shared()))]
    }

    fn new(shared: Option<servers::Shared>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Home::init(&folder.path().join("home"), &Init::default()).unwrap();
        if let Some(shared) = &shared {
            let file = home.path().join("destination.toml");
            let text = std::fs::read_to_string(&file).unwrap() + &shared.settings();
            std::fs::write(&file, text).unwrap();
            home = Home::open(home.path()).unwrap();
        }
        let records = home.records().unwrap();
        for (name, n) in [("kiosk", 1), ("boat", 2)] {
            let (kind, token) = (ClientKind::Gateway, Some([n; 32]));
            assert!(records.add_client(name, kind, token, None, crate::clock::now()).unwrap());
        }
        Site { _folder: folder, home, shared }
    }

    /// As one process has it.
    fn open(&self, limits: Limits) -> Arc<Partials> {
        let Places { records, partials, .. } = Places::open(&self.home).unwrap();
        Arc::new(Partials::new(partials, records, limits))
    }

    /// Nobody has been at this upload for so long.
    fn leave_alone(&self, id: &MessageId, span: Duration) {
        match &self.shared {
            Some(shared) => {
                let secs = span.as_secs();
                let sql = format!(
                    "UPDATE partials SET touched = now() - interval '{secs} s' WHERE id = '\\x{id}' RETURNING 'left'"
                );
                assert!(shared.sql(&sql).starts_with("left"));
            }
            None => {
                let folder = std::fs::read_dir(self.home.partials_folder().join("1")).unwrap();
                let path = folder.map(|entry| entry.unwrap().path());
                let named = |path: &std::path::PathBuf| path.to_str().unwrap().contains(&id.to_string());
                let file = std::fs::File::open(path.into_iter().find(named).unwrap()).unwrap();
                file.set_modified(std::time::SystemTime::now() - span).unwrap();
            }
        }
    }

    /// Rows or files, and objects.
    fn left(&self) -> (usize, usize) {
        let uploads = match &self.shared {
            Some(shared) => shared.sql("SELECT count(*) FROM partials").parse().unwrap(),
            None => std::fs::read_dir(self.home.partials_folder())
                .unwrap()
                .map(|client| std::fs::read_dir(client.unwrap().path()).unwrap().count())
                .sum(),
        };
        (uploads, self.shared.as_ref().map_or(0, |shared| shared.objects("partials").len()))
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

fn create(partials: &Arc<Partials>, client: i64, id: MessageId, length: u64) -> Partial {
    wait(partials.create(client, id, length)).unwrap()
}

fn find(partials: &Arc<Partials>, client: i64, id: MessageId) -> Option<Partial> {
    wait(partials.find(client, id)).unwrap()
}

fn offset(partials: &Arc<Partials>, client: i64) -> Option<u64> {
    Some(find(partials, client, ID)?.offset())
}

fn add(partial: &mut Partial, bytes: &[u8]) -> io::Result<u64> {
    io::copy(&mut partial.keeping(&mut &*bytes), &mut io::sink())
}

/// Adds, makes it durable, lets go of it.
fn leave(mut partial: Partial, bytes: &[u8]) {
    add(&mut partial, bytes).unwrap();
    partial.finish().unwrap();
}

fn whole(partial: &Partial) -> Vec<u8> {
    let mut all = Vec::new();
    partial.reader().unwrap().read_to_end(&mut all).unwrap();
    all
}

fn id(n: u8) -> MessageId {
    MessageId([n; 32])
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn an_upload_is_found_again_with_what_it_has_also_by_another_process() {
    for site in Site::both() {
        let (one, other) = (site.open(LIMITS), site.open(LIMITS));
        leave(create(&one, 1, ID, 10), b"hello");
        let partial = find(&other, 1, ID).unwrap();
        assert_eq!((partial.offset(), partial.length()), (5, 10));
        leave(partial, b"wor");
        let mut partial = find(&one, 1, ID).unwrap();
        add(&mut partial, b"ld").unwrap();
        assert_eq!(whole(&partial), b"helloworld");
        partial.remove().unwrap();
        assert!(find(&other, 1, ID).is_none());
        assert_eq!(site.left(), (0, 0));
    }
}

#[test]
fn uploads_of_one_document_by_two_clients_are_apart_and_one_that_begins_anew_is_empty() {
    for site in Site::both() {
        let partials = site.open(LIMITS);
        leave(create(&partials, 1, ID, 10), b"hello");
        assert!(find(&partials, 2, ID).is_none());
        leave(create(&partials, 2, ID, 10), b"x");
        assert_eq!((offset(&partials, 1), offset(&partials, 2)), (Some(5), Some(1)));
        drop(create(&partials, 1, ID, 12));
        assert_eq!((offset(&partials, 1), offset(&partials, 2)), (Some(0), Some(1)));
        assert_eq!(site.left().0, 2);
    }
}

#[test]
fn many_small_pieces_become_few_objects_and_large_ones_are_whole() {
    let site = Site::new(Some(servers::shared()));
    let partials = site.open(LIMITS);
    let bytes = noise(9_500_000);
    leave(create(&partials, 1, ID, bytes.len() as u64), &bytes[..100_000]);
    for piece in bytes[100_000..1_500_000].chunks(100_000) {
        leave(find(&partials, 1, ID).unwrap(), piece);
    }
    // One of over a MiB, and one that goes on growing.
    assert_eq!(site.left(), (1, 2));
    leave(find(&partials, 1, ID).unwrap(), &bytes[1_500_000..]);
    let partial = find(&partials, 1, ID).unwrap();
    assert_eq!(partial.offset(), bytes.len() as u64);
    assert!(whole(&partial) == bytes);
    let objects = site.shared.as_ref().unwrap().objects("partials");
    let sizes: Vec<_> = objects.into_iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (4, bytes.len()), "{sizes:?}");
}

#[test]
fn a_request_at_another_server_is_told_and_what_had_come_there_is_kept() {
    let site = Site::new(Some(servers::shared()));
    let (one, other) = (site.open(LIMITS), site.open(LIMITS));
    let mut earlier = create(&one, 1, ID, 10);
    add(&mut earlier, b"abc").unwrap();
    let begun = Instant::now();
    let later = runtime().spawn(async move { other.find(1, ID).await.unwrap().unwrap() });
    wait(async { tokio::time::timeout(ELSEWHERE, earlier.superseded().cancelled()).await }).unwrap();
    leave(earlier, b"de");
    assert_eq!(wait(later).unwrap().offset(), 5);
    assert!(begun.elapsed() < ELSEWHERE, "{:?}", begun.elapsed());
}

#[test]
fn what_an_earlier_request_brings_after_it_was_taken_over_is_refused() {
    let site = Site::new(Some(servers::shared()));
    let (one, other) = (site.open(LIMITS), site.open(LIMITS));
    let bytes = noise(9 << 20);
    let mut earlier = create(&one, 1, ID, bytes.len() as u64);
    add(&mut earlier, &bytes[..5 << 20]).unwrap();
    // It does not let go, as if its server were cut off; what it has not stored is not there.
    let begun = Instant::now();
    let later = find(&other, 1, ID).unwrap();
    assert_eq!(later.offset(), 4 << 20);
    assert!(begun.elapsed() >= ELSEWHERE && begun.elapsed() < ELSEWHERE * 2, "{:?}", begun.elapsed());
    leave(later, &bytes[4 << 20..6 << 20]);
    add(&mut earlier, &[0; 4 << 20]).unwrap_err();
    let fault = earlier.take_fault().unwrap();
    assert!(fault.to_string().contains("a later request"), "{fault}");
    earlier.remove().unwrap();
    let last = find(&other, 1, ID).unwrap();
    assert_eq!(last.offset(), 6 << 20);
    assert!(whole(&last) == bytes[..6 << 20]);
    assert_eq!(site.left(), (1, 2), "nothing of the earlier request stays");
}

fn refusal(partials: &Arc<Partials>, id: MessageId, length: u64) -> String {
    match wait(partials.create(1, id, length)) {
        Err(PartialError::Full(words)) => words,
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn more_bytes_or_uploads_than_a_client_may_have_are_refused_until_one_is_whole_or_old() {
    for site in Site::both() {
        let partials = site.open(Limits { bytes: 100, count: 4 });
        for n in 0..3 {
            leave(create(&partials, 1, id(n), 30), b"x");
        }
        let words = refusal(&partials, ID, 11);
        assert!(words.contains("100 bytes in all"), "{words}");
        drop(create(&partials, 2, ID, 100));
        // In its own place.
        drop(create(&partials, 1, id(2), 40));
        drop(create(&partials, 1, id(3), 0));
        assert!(refusal(&partials, ID, 0).contains("be 4"));
        assert!(find(&partials, 1, id(0)).is_some());
        // One that nobody touched for a day makes room.
        site.leave_alone(&id(1), Duration::from_secs(86_500));
        drop(create(&partials, 1, ID, 30));
        let found = (0..4).map(|n| find(&partials, 1, id(n)).is_some());
        assert_eq!(found.collect::<Vec<_>>(), [true, false, true, true]);
    }
}

#[test]
fn what_is_unfinished_counts_in_the_quota() {
    for site in Site::both() {
        let partials = site.open(LIMITS);
        let quota = Quota { total_bytes: Some(100), ..Quota::default() };
        site.home.records().unwrap().set_quota("kiosk", &quota).unwrap();
        drop(create(&partials, 1, ID, 60));
        let words = refusal(&partials, id(1), 41);
        assert!(words.contains("quota of 100 bytes in all"), "{words}");
        drop(create(&partials, 1, id(1), 40));
    }
}

#[test]
fn what_was_left_alone_for_weeks_and_what_is_of_a_revoked_client_is_swept_away() {
    for site in Site::both() {
        let partials = site.open(LIMITS);
        for n in [1, 2] {
            leave(create(&partials, 1, id(n), 10), b"old");
        }
        leave(create(&partials, 2, ID, 10), b"boat's");
        site.leave_alone(&id(1), KEPT + Duration::from_secs(60));
        site.leave_alone(&id(2), KEPT - Duration::from_secs(600));
        partials.sweep().unwrap();
        assert!(find(&partials, 1, id(1)).is_none());
        assert!(find(&partials, 1, id(2)).is_some());
        assert_eq!(offset(&partials, 2), Some(6));
        assert!(site.home.records().unwrap().revoke_client("boat", crate::clock::now()).unwrap());
        let refused = wait(partials.create(2, id(9), 1)).err();
        assert!(matches!(refused, Some(PartialError::Store(StoreError::Revoked))), "{refused:?}");
        partials.sweep().unwrap();
        assert_eq!(offset(&partials, 2), None);
        assert_eq!(site.left(), (1, usize::from(site.shared.is_some())));
    }
}

#[test]
fn requests_that_wait_for_an_earlier_one_hold_up_nothing_else() {
    let site = Site::new(None);
    let partials = site.open(LIMITS);
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let earlier = partials.create(1, ID, 10).await.unwrap();
        let find = || {
            let partials = partials.clone();
            tokio::spawn(async move { partials.find(1, ID).await.map(|found| found.is_some()) })
        };
        let waiting: Vec<_> = (0..100).map(|_| find()).collect();
        earlier.superseded().cancelled().await;
        let other = tokio::time::timeout(Duration::from_secs(2), spawn_blocking(|| ())).await;
        assert!(other.is_ok(), "there is one thread, and it is taken");
        drop(earlier);
        let mut found = 0;
        for task in waiting {
            match task.await.unwrap() {
                Ok(is_there) => found += usize::from(is_there),
                Err(PartialError::Locked) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert!(found > 0);
    });
}
