//! Folders: a stick that is pulled at any byte, and one that somebody prepared.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use waypost_remote_log::folder::Folder;
use waypost_remote_log::{
    ContentHash, ContentStore as _, Head, LogKey, Mode, NameSystem as _, Page, PlaceError, Progress, Signer,
};

use crate::kit::*;

fn stick() -> (tempfile::TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    let place = Folder::on_stick(folder.path()).unwrap();
    (folder, place)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What a new reader gets, as far as it gets.
fn read(place: &mut Folder, signer: &Arc<Signer>) -> Store {
    let mut store = Store::default();
    let _ = round(&mut reader(signer.key()), place, &mut store);
    store
}

#[test]
fn a_folder_carries_logs_of_every_mode() {
    for mode in MODES {
        let (_folder, mut place) = stick();
        let (anna, bela) = (signer(1), signer(2));
        let all = documents(0, 300, 200);
        append_all(&mut place, &anna, mode, &all);
        append_all(&mut place, &bela, mode, &all[..10]);
        assert_eq!(held(&read(&mut place, &anna)), ids(&all));
        assert_eq!(held(&read(&mut place, &bela)), ids(&all[..10]));
    }
}

#[test]
fn files_that_are_cut_changed_or_gone_are_never_taken_for_something_else_and_are_mended_by_the_writer() {
    for mode in [Mode::Page, Mode::Mixed { inline_last: 3 }] {
        let (folder, mut place) = stick();
        let signer = signer(1);
        let all = documents(0, 8, 60);
        append(&mut place, &signer, mode, &all[..4]).unwrap();
        append(&mut place, &signer, mode, &all[4..]).unwrap();
        for file in files(folder.path()) {
            let good = fs::read(&file).unwrap();
            for cut in [0, 1, good.len() / 2, good.len() - 1, good.len()] {
                let mut bad = good[..cut].to_vec();
                match bad.last_mut() {
                    Some(last) if cut == good.len() => *last ^= 1,
                    _ => {}
                }
                fs::write(&file, &bad).unwrap();
                let store = read(&mut place, &signer);
                assert!(held(&store).iter().all(|id| ids(&all).contains(id)));
            }
            fs::remove_file(&file).unwrap();
            read(&mut place, &signer);
            // Whatever was lost: the gateway's next head leads to what it publishes.
            fs::write(&file, &good[..good.len() / 2]).unwrap();
            let new = documents(8, 1, 60);
            let known = Some((waypost_remote_log::LogId([1; 16]), 2));
            let fresh = waypost_remote_log::LogId([9; 16]);
            append_as(&mut place, &signer, mode, &new, known, fresh).unwrap();
            assert!(held(&read(&mut place, &signer)).contains(&new[0].id()), "{}", file.display());
            // As it was before, for the next file.
            fs::write(&file, &good).unwrap();
            fs::remove_dir_all(folder.path().join("names")).unwrap();
            fs::remove_dir_all(folder.path().join("content")).unwrap();
            append(&mut place, &signer, mode, &all[..4]).unwrap();
            append(&mut place, &signer, mode, &all[4..]).unwrap();
        }
    }
}

#[test]
fn damaged_content_counts_as_missing_and_is_put_again() {
    let (folder, mut place) = stick();
    let bytes = b"content";
    let hash = ContentHash::of(bytes);
    place.put(&hash, 7, &mut &bytes[..]).unwrap();
    assert_eq!(place.has(&[hash]).unwrap(), [true]);
    fs::write(&files(folder.path())[0], b"damaged").unwrap();
    assert_eq!(place.has(&[hash]).unwrap(), [false]);
    place.put(&hash, 7, &mut &bytes[..]).unwrap();
    assert_eq!(place.has(&[hash]).unwrap(), [true]);
}

#[test]
fn a_power_cut_between_the_renames_of_a_head_loses_no_head() {
    let (folder, mut place) = stick();
    let signer = signer(1);
    let all = documents(0, 9, 60);
    for chunk in all.chunks(3) {
        append(&mut place, &signer, Mode::Page, chunk).unwrap();
    }
    let names = folder.path().join("names");
    let name = |ending: &str| names.join(format!("{}.{ending}", signer.key()));
    // After the first rename, the newest head has its temporary name.
    fs::rename(name("head"), name("new")).unwrap();
    assert_eq!(held(&read(&mut place, &signer)), ids(&all));
    // On a file system whose rename is not atomic, it may be gone or half there.
    fs::write(name("new"), b"\x12\x20half").unwrap();
    assert_eq!(held(&read(&mut place, &signer)), ids(&all[..6]));
    fs::write(name("head"), b"").unwrap();
    assert_eq!(held(&read(&mut place, &signer)), ids(&all[..6]));
}

#[test]
fn content_with_another_hash_or_length_is_refused_and_leaves_nothing() {
    let (folder, mut place) = stick();
    let hash = ContentHash::of(b"content");
    for (length, bytes) in [(7, &b"CONTENT"[..]), (6, b"content"), (8, b"content"), (7, b"content and more")]
    {
        let error = place.put(&hash, length, &mut &bytes[..]).unwrap_err();
        assert!(matches!(error, PlaceError::Refused(_)), "{error}");
    }
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
    assert!(matches!(place.get(&hash, 0), Err(PlaceError::Missing(_))));
}

#[test]
fn links_pipes_and_folders_in_the_place_of_files_are_not_followed() {
    let (folder, mut place) = stick();
    let signer = signer(1);
    append(&mut place, &signer, Mode::Page, &documents(0, 1, 60)).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), b"content").unwrap();
    let hash = ContentHash::of(b"content");
    let digits = hash.to_string();
    let content = folder.path().join("content").join(&digits[..2]);
    fs::create_dir_all(&content).unwrap();
    let file = content.join(&digits);
    std::os::unix::fs::symlink(secret.path(), &file).unwrap();
    assert_eq!(place.has(&[hash]).unwrap(), [false]);
    assert!(matches!(place.get(&hash, 0), Err(PlaceError::Damaged { .. })));
    // Put in its place, the link goes and what it led to stays.
    place.put(&hash, 7, &mut &b"content"[..]).unwrap();
    assert!(fs::symlink_metadata(&file).unwrap().is_file() && secret.path().exists());
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(place.has(&[hash]).unwrap(), [false]);
    // A folder of content that is a link is not written into.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_file(&file).unwrap();
    fs::remove_dir(&content).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &content).unwrap();
    assert!(place.put(&hash, 7, &mut &b"content"[..]).is_err());
    assert_eq!(files(elsewhere.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stick");
    let error = Folder::on_stick(&path).unwrap_err();
    assert!(error.to_string().contains("stick"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_head_is_replaced_only_where_the_one_stands_that_was_seen() {
    let (_folder, mut place) = stick();
    let signer = signer(1);
    append(&mut place, &signer, Mode::Page, &documents(0, 1, 60)).unwrap();
    let head = place.resolve(&signer.key()).unwrap().unwrap();
    for seen in [None, Some(ContentHash::of(b"another"))] {
        let error = place.publish(&signer.key(), &head, seen).unwrap_err();
        assert!(matches!(error, PlaceError::Changed), "{error}");
    }
    place.publish(&signer.key(), &head, Some(ContentHash::of(&head))).unwrap();
    assert_eq!(place.resolve(&signer.key()).unwrap(), Some(Bytes::copy_from_slice(&head)));
}

/// Files of content that are neither documents by hash nor pages that the head of that key leads to.
fn superseded(folder: &Path, place: &mut Folder, key: &LogKey) -> Vec<PathBuf> {
    let head = place.resolve(key).unwrap().unwrap();
    let mut next = Some(Head::decode(&head, key).unwrap().root);
    let mut led_to = Vec::new();
    while let Some(hash) = next {
        led_to.push(hash.to_string());
        let mut bytes = Vec::new();
        place.get(&hash, 0).unwrap().read_to_end(&mut bytes).unwrap();
        next = Page::decode(bytes.into()).unwrap().tail;
    }
    let is_left_over = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_page_of_it = Page::decode(fs::read(path).unwrap().into()).is_ok_and(|page| page.key == *key);
        is_page_of_it && !led_to.iter().any(|hash| hash == name)
    };
    files(&folder.join("content")).into_iter().filter(is_left_over).collect()
}

#[test]
fn of_the_newest_page_only_the_version_of_the_head_before_stays_and_no_log_removes_anothers() {
    for mode in MODES {
        let (folder, mut place) = stick();
        let (anna, bela) = (signer(1), signer(2));
        let all = documents(0, 120, 100);
        for chunk in all.chunks(20) {
            // The same documents in the same order: but for whose they are, their pages would be the same.
            append(&mut place, &anna, mode, chunk).unwrap();
            append(&mut place, &bela, mode, chunk).unwrap();
            assert!(superseded(folder.path(), &mut place, &anna.key()).len() <= 1, "{mode:?}");
        }
        // Another layout cuts the pages elsewhere, perhaps just as an earlier version was.
        append(&mut place, &anna, Mode::Linked, &documents(120, 3, 100)).unwrap();
        assert_eq!(read(&mut place, &anna).documents.len(), 123, "{mode:?}");
        assert_eq!(held(&read(&mut place, &bela)), ids(&all), "{mode:?}");
    }
}

#[test]
fn a_version_that_another_layout_makes_a_settled_page_of_stays() {
    let (_folder, mut place) = stick();
    let signer = signer(1);
    let all = documents(0, 4, 100);
    append(&mut place, &signer, Mode::Page, &all[..1]).unwrap();
    append(&mut place, &signer, Mode::Page, &all[1..2]).unwrap();
    for one in all[2..].chunks(1) {
        append(&mut place, &signer, Mode::Linked, one).unwrap();
    }
    assert_eq!(held(&read(&mut place, &signer)), ids(&all));
}

#[test]
fn a_reader_whose_page_was_removed_since_it_read_the_head_goes_on_with_the_new_head() {
    for mode in [Mode::Full, Mode::Page, Mode::Mixed { inline_last: 5 }] {
        let (_folder, mut place) = stick();
        let signer = signer(1);
        let all = documents(0, 50, 100);
        append(&mut place, &signer, mode, &all[..10]).unwrap();
        let (mut reader, mut store) = (reader(signer.key()), Store::default());
        reader.begin();
        assert_eq!(reader.step(&mut place, &mut store).unwrap(), Progress::Head(Some(1)));
        // One more head is nothing to it.
        let mut slow = restarted(&reader);
        append(&mut place, &signer, mode, &all[10..20]).unwrap();
        assert_eq!(slow.step(&mut place, &mut store).unwrap(), Progress::Head(Some(2)));
        assert!(matches!(slow.step(&mut place, &mut store).unwrap(), Progress::Page(10)));
        for chunk in all[20..].chunks(10) {
            append(&mut place, &signer, mode, chunk).unwrap();
        }
        let mut steps = 0;
        while reader.step(&mut place, &mut store).unwrap() != Progress::Done {
            steps += 1;
            assert!(steps < 200);
        }
        assert_eq!(held(&store), ids(&all), "{mode:?}");
    }
}

#[test]
fn a_document_that_found_no_room_is_found_again_where_its_page_was_written_anew() {
    for mode in MODES {
        let (_folder, mut place) = stick();
        let signer = signer(1);
        let all = documents(0, 100, 100);
        append(&mut place, &signer, mode, &all[..70]).unwrap();
        let (mut reader, mut store) = (reader(signer.key()), Store::default());
        store.full_for = ids(&all[60..70]);
        round(&mut reader, &mut place, &mut store).unwrap();
        assert_eq!(store.documents.len(), 60);
        for (at, chunk) in all[70..].chunks(10).enumerate() {
            // In between there is still no room.
            append(&mut place, &signer, mode, chunk).unwrap();
            if at == 1 {
                round(&mut reader, &mut place, &mut store).unwrap();
            }
        }
        store.full_for.clear();
        let mut reader = restarted(&reader);
        round(&mut reader, &mut place, &mut store).unwrap();
        assert_eq!(held(&store), ids(&all), "{mode:?}");
        assert!(reader.memory().logs()[0].owed.is_empty());
        // Nothing was fetched twice, and what is appended later comes as ever.
        assert_eq!(store.taken.len(), 100);
        append(&mut place, &signer, mode, &documents(100, 5, 100)).unwrap();
        let steps = round(&mut reader, &mut place, &mut store).unwrap();
        assert!(store.documents.len() == 105 && steps.len() < 20, "{mode:?}: {}", steps.len());
    }
}

#[test]
fn several_contents_that_are_put_at_a_time_are_all_there() {
    for _ in 0..50 {
        let (_folder, place) = stick();
        let start = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for n in 0..8u8 {
                let (mut place, start) = (place.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    let content = [n; 100];
                    place.put(&ContentHash::of(&content), 100, &mut &content[..]).unwrap();
                });
            }
        });
        let hashes: Vec<_> = (0..8u8).map(|n| ContentHash::of(&[n; 100])).collect();
        assert_eq!(place.clone().has(&hashes).unwrap(), [true; 8]);
    }
}
