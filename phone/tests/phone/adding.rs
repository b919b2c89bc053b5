//! Adding: any file, under any name, durably; one that cannot be read holds back nothing else.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Stdio;

use waypost_openpgp::SecretKey;
use waypost_protocol::invite;

use crate::kiosk::{Kiosk, Manners};
use crate::kit::*;

fn ready() -> (SecretKey, Kiosk, Cli) {
    let key = destination("Clinic");
    let kiosk = Kiosk::start(Manners::serving(&key));
    let cli = Cli::new();
    cli.add_destination(&key);
    (key, kiosk, cli)
}

#[test]
fn hostile_names_arrive_byte_for_byte() {
    let (key, kiosk, cli) = ready();
    let names: Vec<OsString> = vec![
        "-rf".into(),
        "a b'\"\n.txt".into(),
        "größe 日本 🏥".into(),
        ".hidden".into(),
        OsString::from_vec(b"\xff\xfe not utf-8".to_vec()),
        "\u{202e}gpj.exe".into(),
        "x".repeat(255).into(),
    ];
    let mut list = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let path = cli.write(std::path::Path::new("in/deep").join(name), format!("{at}").as_bytes());
        list.extend(path.into_os_string().into_vec());
        list.push(0);
    }
    let mut add = cli.command();
    add.arg("add").arg("--base").arg(cli.path("in")).args(["--files-from", "-"]);
    let mut child = add.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&list).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // One line for each, whatever is in the name, and one at the end; none steers the terminal.
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), names.len() + 1, "{text}");
    assert!(!text.contains('\u{202e}') && text.contains("\\xff"), "{text}");
    cli.pair(&kiosk.pairing());
    let ids = kiosk.documents();
    assert_eq!(ids.len(), names.len());
    for (at, (name, id)) in names.iter().zip(&ids).enumerate() {
        let (label, content) = kiosk.open(id, &key);
        let expected = [b"deep/".to_vec(), name.clone().into_vec()].concat();
        assert_eq!(label.file_name, Some(expected));
        assert_eq!(content, format!("{at}").into_bytes());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_the_others_are_added() {
    let (_, kiosk, cli) = ready();
    let (good, folder, missing) = (cli.write("good", b"good"), cli.path("folder"), cli.path("missing"));
    std::fs::create_dir(&folder).unwrap();
    let fifo = cli.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let said = cli.json(
        3,
        &["add".as_ref(), missing.as_os_str(), folder.as_os_str(), fifo.as_os_str(), good.as_os_str()],
    );
    assert_eq!(said.events("added").len(), 1);
    let skipped = said.last()["skipped"].clone();
    assert_eq!(skipped.as_array().unwrap().len(), 3, "{skipped}");
    assert!(skipped[0]["reason"].as_str().unwrap().contains("No such file"), "{skipped}");
    assert!(skipped[1]["reason"].as_str().unwrap().contains("is a folder"), "{skipped}");
    assert!(skipped[2]["reason"].as_str().unwrap().contains("no regular file"), "{skipped}");
    cli.expect(1, &["add".as_ref(), missing.as_os_str()]);
    cli.pair(&kiosk.pairing());
    assert_eq!(kiosk.documents().len(), 1);
}

#[test]
fn what_was_added_survives_kill_9_and_no_plaintext_touches_the_phone_folder() {
    let (_, kiosk, cli) = ready();
    let secret = b"the patient's name is written here ".repeat(60_000);
    let small = cli.write("small", &secret[..100]);
    let large = cli.write("large.jpg", &secret);
    let mut child = cli
        .command()
        .arg("--json")
        .arg("add")
        .args([&small, &large, &cli.path("missing")])
        .args(["--files-from", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    // It answers for what it has read so far while more may come.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[small.clone().into_os_string().into_vec(), vec![0]].concat()).unwrap();
    stdin.flush().unwrap();
    let answered =
        (0..2).map(|_| lines.next().unwrap().unwrap()).filter(|line| line.contains("\"added\"")).count();
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = cli.json(0, &["list"]).last()["documents"].as_array().unwrap().len();
    assert!(listed >= answered && answered > 0, "{listed} of {answered}");
    cli.pair(&kiosk.pairing());
    assert_eq!(kiosk.documents().len(), listed);
    let needle = b"patient's name";
    let mut files = 0;
    for folder in [cli.home(), cli.home().join("store"), kiosk.folder().to_owned()] {
        for entry in
            std::fs::read_dir(folder).unwrap().filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
        {
            files += 1;
            assert!(!entry.windows(needle.len()).any(|window| window == needle));
        }
    }
    assert!(files > 4);
}

#[test]
fn memory_stays_bounded_while_a_large_file_is_sealed() {
    let (_, _, cli) = ready();
    let film = cli.write("film.mp4", &noise(40 << 20));
    let mut child = cli.command().arg("--json").arg("add").arg(film).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        most = most.max(kibibytes.unwrap_or(0) >> 10);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    println!("at most {most} MiB of anonymous memory");
    assert!((1..=28).contains(&most), "{most} MiB");
    assert_eq!(cli.state("film.mp4"), "ready");
}

#[test]
fn two_revisions_that_do_not_replace_each_other_are_a_conflict_until_one_does() {
    let (_, _, cli) = ready();
    let path = cli.write("visit-7.xml", b"one");
    let add = |more: &[&str]| {
        let mut arguments: Vec<OsString> =
            vec!["add".into(), path.clone().into(), "--record".into(), "visit 7".into()];
        arguments.extend(more.iter().map(OsString::from));
        let said = cli.json(0, &arguments);
        said.events("added")[0]["id"].as_str().unwrap().to_owned()
    };
    let first = add(&[]);
    assert_eq!(cli.state("visit-7.xml"), "ready");
    let second = add(&[]);
    assert!(cli.states().iter().all(|(_, state, _)| state == "conflict"), "{:?}", cli.states());
    let shown = cli.expect(0, &["list"]);
    assert_eq!(shown.stdout.matches("conflict").count(), 2, "{shown:?}");
    add(&["--replaces", &first, "--replaces", &second]);
    assert!(cli.states().iter().all(|(_, state, _)| state == "ready"), "{:?}", cli.states());
    let other = cli.add(&cli.write("other", b"other")).to_string();
    let wrong = cli.expect(
        1,
        &[
            "add".as_ref(),
            path.as_os_str(),
            "--record".as_ref(),
            "visit 7".as_ref(),
            "--replaces".as_ref(),
            other.as_ref(),
        ],
    );
    assert!(wrong.stderr.contains("no revision of this record"), "{wrong:?}");
}

#[test]
fn a_destination_is_pinned_by_its_fingerprint_only() {
    let key = destination("Clinic");
    let cli = Cli::new();
    let path = cli.write("cert", &key.certificate().to_bytes());
    let said = cli.expect(2, &["destination".as_ref(), "add".as_ref(), path.as_os_str()]);
    assert!(said.stderr.contains("--fingerprint"), "{said:?}");
    let wrong = "0".repeat(40);
    let said = cli.expect(
        1,
        &["destination".as_ref(), "add".as_ref(), path.as_os_str(), "--fingerprint".as_ref(), wrong.as_ref()],
    );
    assert!(said.stderr.contains("do not use it"), "{said:?}");
    let said = cli.expect(1, &["add", "/etc/hostname"]);
    assert!(said.stderr.contains("destination add"), "{said:?}");
    let code = invite::Destination {
        url: None,
        fingerprint: key.certificate().fingerprint(),
        certificate: Some(destination("Another").certificate().to_bytes()),
        successors: vec![],
        collection_key: waypost_protocol::collection::CollectionKey::new([3; 32]),
        collections: vec!["visits".into(), "photos".into()],
        token: None,
    };
    let said = cli.expect(1, &["destination", "add", &code.to_text(), "--yes"]);
    assert!(said.stderr.contains("do not use it"), "{said:?}");
    let code = invite::Destination { certificate: Some(key.certificate().to_bytes()), ..code };
    cli.expect(0, &["destination", "add", &code.to_text(), "--yes"]);
    let listed = cli.json(0, &["destination", "list"]).last();
    assert_eq!(listed["destinations"][0]["collections"], serde_json::json!(["visits", "photos"]));
    let file = cli.write("form", b"form");
    let said = cli.expect(1, &["add".as_ref(), file.as_os_str(), "--collection".as_ref(), "forms".as_ref()]);
    assert!(said.stderr.contains("has no collection `forms`, it has: visits, photos"), "{said:?}");
    cli.expect(0, &["add".as_ref(), file.as_os_str(), "--collection".as_ref(), "photos".as_ref()]);
    cli.expect(0, &["destination", "remove", "Clinic"]);
}
