//! `waypost demo`: every file of a folder arrives as it was, whatever it is and however it is called.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::Value;
use tempfile::TempDir;
use waypost_tests::process::program;

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn write(folder: &Path, name: &[u8], bytes: &[u8]) {
    let path = folder.join(OsStr::from_bytes(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs the demo to its end; its exit status, and the last line that it printed.
fn demo(work: &Path, folder: Option<&Path>) -> (i32, Value) {
    demo_with(&[], work, folder)
}

fn demo_with(options: &[&str], work: &Path, folder: Option<&Path>) -> (i32, Value) {
    let mut command = Command::new(program("waypost").unwrap());
    command.args(["demo", "--json"]).args(options).arg("--work").arg(work).arg("--").args(folder);
    let output = command.output().unwrap();
    (output.status.code().unwrap(), last_object(&output))
}

fn last_object(Output { stdout, stderr, .. }: &Output) -> Value {
    let last = stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    serde_json::from_slice(last).unwrap_or_else(|error| {
        panic!("the last line is no JSON ({error}); {}", String::from_utf8_lossy(stderr))
    })
}

/// Every file below a folder, by its path within.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let bytes = fs::read(&path).unwrap();
                    found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
                }
            }
        }
    }
    found
}

/// Lets GnuPG check each confirmation of the demo; how many documents they say were opened.
fn opened_as_gpg_says(result: &Value) -> usize {
    let home = tempfile::tempdir().unwrap();
    let gpg = |args: &[&OsStr]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(home.path()).args(["--batch", "--no-autostart", "--quiet"]).args(args);
        let Output { status, stderr, .. } = command.output().unwrap();
        assert!(status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stderr).into_owned()
    };
    let certificate = result["destination_certificate"].as_str().unwrap();
    gpg(&[OsStr::new("--import"), OsStr::new(certificate)]);
    let mut opened = 0;
    for (name, text) in files(Path::new(result["confirmations"].as_str().unwrap())) {
        let folder = Path::new(result["confirmations"].as_str().unwrap());
        if name.extension() == Some(OsStr::new("txt")) {
            let signature = folder.join(format!("{}.asc", name.display()));
            let said = gpg(&[OsStr::new("--verify"), signature.as_os_str(), folder.join(name).as_os_str()]);
            assert!(said.contains("Good signature"), "{said}");
            opened +=
                String::from_utf8(text).unwrap().lines().filter(|line| line.ends_with(" opened")).count();
        }
    }
    opened
}

#[test]
fn mixed_files_with_any_name_arrive_and_what_cannot_be_read_is_skipped() {
    let place = TempDir::new().unwrap();
    let (folder, work) = (place.path().join("mixed \u{1f4c1} 'folder'"), place.path().join("work"));
    let big = noise(1, 3 << 20);
    let jpeg = [&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], &noise(2, 200_000)].concat();
    let pdf = [&b"%PDF-1.7\n"[..], &noise(3, 40_000), b"\n%%EOF\n"].concat();
    let names: [(&[u8], &[u8]); 20] = [
        (b"text.txt", &b"household 17\n".repeat(300)),
        (b"photo.jpg", &jpeg),
        (b"report.pdf", &pdf),
        (b"form.xml", &b"<form><household>17</household></form>\n".repeat(40)),
        (b"empty", b""),
        (b"big.bin", &big),
        (b"quo\"te'.txt", b"quotes"),
        (b"new\nline", b"new line"),
        (b"-rf", b"leading dash"),
        (b"--json", b"two dashes"),
        ("größe 日本 नमस्ते عربى.txt".as_bytes(), b"scripts"),
        (b"latin-\xe9\xff.txt", b"no UTF-8"),
        (b"sub/folder/deep.txt", b"deep"),
        (b"sub/text.txt", b"the same name elsewhere"),
        (b"sub/-", b"only a dash"),
        (b"back\\slash", b"back"),
        (b" space ", b"space"),
        (b"\x1b[31mred\x07", b"control"),
        (b"...", b"dots"),
        (&[b'n'; 250], b"a long name"),
    ];
    for (name, bytes) in names {
        write(&folder, name, bytes);
    }
    let sent = files(&folder);
    assert_eq!(sent.len(), names.len());
    mkfifo(&folder.join("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(folder.join("sub/socket")).unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
    link("nowhere", "dangling");
    link(".", "circle");
    // A regular file that opens, and whose first byte nobody can read, root included.
    link("/proc/self/mem", "unreadable");

    let (status, result) = demo(&work, Some(&folder));
    assert_eq!(status, 3, "{result}");
    let number = |key: &str| result[key].as_u64().unwrap_or_else(|| panic!("no {key} in {result}"));
    assert_eq!(
        (number("documents"), number("delivered")),
        (sent.len() as u64, sent.len() as u64),
        "{result}"
    );
    let skipped = result["skipped"].as_array().unwrap();
    let paths: Vec<_> = skipped.iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["circle", "dangling", "fifo", "sub/socket", "unreadable"]);
    assert!(skipped.iter().all(|one| !one["reason"].as_str().unwrap().is_empty()), "{result}");
    let bytes: usize = sent.values().map(Vec::len).sum();
    assert_eq!(number("document_bytes"), bytes as u64);
    // More than the incompressible files have crossed the link, and not twice as much.
    let link_bytes = number("link_bytes") as usize;
    assert!((big.len() + jpeg.len() + pdf.len()..2 * bytes).contains(&link_bytes), "{result}");
    assert!(result["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(number("left_on_phone"), 0);

    let inbox = files(Path::new(result["inbox"].as_str().unwrap()));
    assert_eq!(inbox.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
    assert!(inbox == sent, "a file arrived with other bytes");
    assert_eq!(opened_as_gpg_says(&result), sent.len());
    let phone = Command::new(program("waypost-phone").unwrap())
        .args(["--json", "--home"])
        .args([work.join("phone"), "list".into()])
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&phone.stdout).unwrap();
    assert_eq!(listed["documents"], serde_json::json!([]), "{listed}");
}

#[test]
fn a_thousand_small_files_arrive() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("forms");
    for number in 0..1_000u64 {
        let name = format!("village-{}/form-{number}.xml", number % 7);
        write(&folder, name.as_bytes(), &[b"<form>", &noise(number, 500)[..], b"</form>"].concat());
    }
    let (status, result) = demo(&place.path().join("work"), Some(&folder));
    assert_eq!((status, result["skipped"].as_array().map(Vec::len)), (0, Some(0)), "{result}");
    assert!(files(Path::new(result["inbox"].as_str().unwrap())) == files(&folder));
    assert_eq!(opened_as_gpg_says(&result), 1_000);
}

#[test]
fn without_a_folder_it_sends_files_of_the_repository() {
    let place = TempDir::new().unwrap();
    let (status, result) = demo(&place.path().join("work"), None);
    assert_eq!(status, 0, "{result}");
    let inbox = files(Path::new(result["inbox"].as_str().unwrap()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, at) in [("README.md", "README.md"), ("openapi.json", "destination/openapi.json")] {
        assert!(inbox[Path::new(name)] == fs::read(root.join(at)).unwrap(), "{name}");
    }
    assert!(inbox.len() > 2 && result["delivered"] == inbox.len(), "{result}");
    // Its window closed in the middle of the recording, which went on in the next one.
    let windows = result["closed_windows"].as_array().unwrap();
    let [window] = &windows[..] else { panic!("{result}") };
    assert_eq!(window["documents"], inbox.len() - 1, "{result}");
    let (recording, bytes) =
        (inbox[Path::new("recording.bin")].len() as u64, result["upload_bytes"].as_u64().unwrap());
    assert!(window["upload_bytes"].as_u64().unwrap() > recording / 3, "{result}");
    assert!(bytes < recording * 11 / 10, "{result}");
}

#[test]
fn a_document_that_the_destination_does_not_take_is_named_at_once_and_the_rest_arrives() {
    let place = TempDir::new().unwrap();
    let (folder, work) = (place.path().join("folder"), place.path().join("work"));
    write(&folder, b"small", b"small");
    write(&folder, b"sub/large", &noise(5, 300_000));
    let started = Instant::now();
    let (status, result) = demo_with(&["--max-document", "100000"], &work, Some(&folder));
    // Well within the time that it waits while nothing moves.
    assert!(started.elapsed() < Duration::from_secs(60), "{result}");
    assert_eq!((status, &result["documents"], &result["delivered"]), (1, &2.into(), &1.into()), "{result}");
    let failed = result["failed"].as_array().unwrap();
    assert!(failed.len() == 1 && failed[0]["path"] == "sub/large", "{result}");
    let reason = failed[0]["reason"].as_str().unwrap();
    assert!(reason.contains("takes 100000"), "{result}");
    assert_eq!((&result["left_on_phone"], &result["skipped"]), (&1.into(), &Value::Array(vec![])));
}

#[test]
fn people_see_a_table_times_and_a_line_that_bash_runs_as_it_stands() {
    let place = TempDir::new().unwrap();
    let (folder, work) = (place.path().join("folder"), place.path().join("it's a \"cafe\u{301}\" $HOME"));
    write(&folder, b"one", b"one");
    let mut command = Command::new(program("waypost").unwrap());
    let Output { status, stdout, stderr } =
        command.args(["demo", "--work"]).arg(&work).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{said}{}", String::from_utf8_lossy(&stderr));
    let rows = said.lines().filter(|line| line.starts_with("sealed ")).collect::<Vec<_>>();
    let last = "sealed 1/1 3 B  at the kiosk 1/1 3 B  uploaded 1/1 3 B  at the server 1/1 3 B  deleted on the phone 1/1 3 B";
    assert_eq!(rows.last(), Some(&last), "{said}");
    for part in ["sealing ", "to the kiosk ", "upload ", "confirmations ", " s in all"] {
        assert!(
            said.lines().any(|line| line.starts_with("sealing") && line.contains(part)),
            "{part}: {said}"
        );
    }
    let line = said.lines().find(|line| line.contains("gpg --verify")).unwrap();
    let pasted = Command::new("bash")
        .args(["-c", &format!("{line}\nstatus=$?; echo \"home=$GNUPGHOME\"; exit $status")])
        .env("LC_ALL", "C")
        .env("TMPDIR", place.path())
        .env_remove("GNUPGHOME")
        .output()
        .unwrap();
    let gpg = String::from_utf8_lossy(&pasted.stderr);
    assert!(pasted.status.success() && gpg.contains("Good signature"), "{line}: {gpg}");
    assert_eq!(pasted.stdout, b"home=\n", "the reader's shell has another keyring now");
}

#[test]
fn what_keeps_it_from_running_is_said() {
    let place = TempDir::new().unwrap();
    let run = |folder: &str, work: &str| {
        let mut command = Command::new(program("waypost").unwrap());
        command.args(["demo", "--json", "--work", work, folder]).current_dir(place.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let error = last_object(&output)["error"].as_str().unwrap().to_owned();
        assert!(said.contains(&error), "{said}");
        (output.status.code(), said)
    };
    let (status, said) = run("no such folder", "work");
    assert!(status == Some(1) && said.contains("no such folder"), "{said}");
    fs::create_dir(place.path().join("empty")).unwrap();
    let (status, said) = run("empty", "work-2");
    assert!(status == Some(1) && said.contains("has no files"), "{said}");
    let (status, said) = run("empty", ".");
    assert!(status == Some(1) && said.contains("not empty"), "{said}");
}
