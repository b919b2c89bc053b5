//! `docs/by-hand.md`: its commands do what they should, as they stand there.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use waypost_tests::process::program;

/// The commands of the guide, but for those that build and choose the folder.
fn commands() -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/by-hand.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let (building, rest): (Vec<_>, Vec<_>) = blocks.partition(|block| block.starts_with("make build"));
    assert!(building.len() == 1 && rest.len() > 5, "{guide}");
    rest.concat()
}

#[test]
fn the_commands_of_the_guide_bring_a_document_to_the_destination() {
    let place = TempDir::new().unwrap();
    // Ports of the guide may be in use here, and a reader is slower than the programs start.
    let mut script =
        String::from("set -eu -o pipefail\ntrap 'kill $gateway $destination 2>/dev/null || true' EXIT\n");
    for line in commands().lines() {
        script += line;
        script += if line.contains("2>&1 &") { "\nsleep 3\n" } else { "\n" };
    }
    let free: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    for (port, free) in ["8443", "4180"].iter().zip(&free) {
        let free = free.local_addr().unwrap().port().to_string();
        script = script.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    // The gateway of the guide tries again after a minute; tests have less time.
    script = script.replace(
        "\n\n[[destination]]",
        "\nupload.probe_interval = \"1s\"\nupload.max_backoff = \"1s\"\n\n[[destination]]",
    );
    drop(free);
    let programs = program("waypost").unwrap().parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path())
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(errors.contains("Good signature"), "{errors}");
    for name in ["form.txt", "another.txt"] {
        let arrived = fs::read(place.path().join("destination/inbox/forms").join(name)).unwrap();
        assert_eq!(arrived, fs::read(place.path().join(name)).unwrap(), "{name}");
        assert!(said.contains(&format!("{name}: at the server")), "{said}");
    }
    let read = fs::read_dir(place.path().join("received")).unwrap().map(|file| file.unwrap().path());
    let read: Vec<_> = read.map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(read, [fs::read(place.path().join("third.txt")).unwrap()]);
    assert!(said.contains("NOT PROVEN who wrote it: it is not signed"), "{said}");
}
