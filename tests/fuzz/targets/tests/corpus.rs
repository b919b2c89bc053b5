//! The corpus of the fuzz targets: all that was found worth keeping is survived, on any machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use waypost_fuzz_targets::{Limited, TARGETS, every_key, seeds};

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn each_input_is_survived_and_each_target_accepts_some() {
    let targets = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), targets, "folders of the corpus, and targets");
    for (name, target) in TARGETS {
        let folder = corpus().join(name);
        let mut accepted = 0;
        for input in names(&folder) {
            // Where it panics or holds too much, this line says which one it was.
            eprintln!("{name}/{input}");
            accepted += usize::from(target(&fs::read(folder.join(input)).unwrap()));
        }
        assert!(accepted > 0, "{name}: nothing of the corpus is accepted");
    }
}

/// `UPDATE_SEEDS=1` writes those that are missing.
#[test]
fn the_frozen_bytes_of_each_format_are_in_it() {
    for (name, bytes) in seeds() {
        let hash = HEXLOWER.encode(digest(&SHA256, &bytes).as_ref());
        let path = corpus().join(name).join(format!("seed-{}", &hash[..12]));
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|kept| kept == bytes), "{} is missing", path.display());
    }
}

#[test]
fn the_configuration_with_every_key_is_accepted() {
    let (_, config) = TARGETS.iter().find(|(name, _)| *name == "config").unwrap();
    assert!(config(every_key().as_bytes()));
}

#[test]
fn it_stays_small() {
    let files = TARGETS.iter().flat_map(|(name, _)| {
        let folder = corpus().join(name);
        names(&folder).into_iter().map(move |input| fs::metadata(folder.join(input)).unwrap().len())
    });
    let sizes: Vec<u64> = files.collect();
    assert!(sizes.len() <= 400 && sizes.iter().sum::<u64>() <= 400_000, "{} files", sizes.len());
}
