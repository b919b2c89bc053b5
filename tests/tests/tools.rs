//! The Makefile and the scripts beside it: what they hand on, and what they say.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn script(at: &Path, text: &str) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `make`, with a cargo that builds nothing and a `waypost` that prints its arguments, each with a zero byte after it.
struct Make {
    _place: TempDir,
    target: PathBuf,
    cargo: PathBuf,
}

impl Make {
    fn new() -> Self {
        let place = TempDir::new().unwrap();
        let (target, cargo) = (place.path().join("it's a $(target) folder"), place.path().join("cargo"));
        script(&target.join("debug/waypost"), r#"printf '%s\0' "$@"; exit "${STATUS:-0}""#);
        script(&cargo, "true");
        Make { _place: place, target, cargo }
    }

    /// As somebody calls it who is not a test: without what cargo and an outer make have set.
    fn demo(&self) -> Command {
        let mut command = Command::new("make");
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FOLDER", "JSON"] {
            command.env_remove(name);
        }
        command
            .args(["--no-print-directory", "-C"])
            .arg(root())
            .arg("demo")
            .env("CARGO_TARGET_DIR", &self.target);
        command.arg(format!("CARGO={}", self.cargo.display()));
        command
    }
}

/// The arguments that `waypost` got: the last of what was printed.
fn arguments(Output { stdout, stderr, status }: &Output) -> Vec<Vec<u8>> {
    assert!(status.success(), "{}", String::from_utf8_lossy(stderr));
    let mut parts: Vec<_> = stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    assert_eq!(parts.pop().as_deref(), Some(&b""[..]), "something follows what the demo prints");
    parts
}

#[test]
fn make_demo_takes_the_folder_that_was_named_whatever_its_name() {
    let make = Make::new();
    let names: [&[u8]; 9] = [
        b"/plain",
        b"/a $HOME $$ $(shell id) ${x} `id` b",
        b"/it's \"quoted\" \\",
        b"a trailing space ",
        b"-rf",
        b"--json",
        b"/new\nline, #hash; a=b",
        "/größe 村".as_bytes(),
        b"/latin-\xe9\xff",
    ];
    for name in names {
        let wanted = [&b"demo"[..], b"--json", b"--", name];
        let by_environment = make.demo().env("FOLDER", OsStr::from_bytes(name)).env("JSON", "1").output();
        assert_eq!(arguments(&by_environment.unwrap()), wanted);
        let argument = [b"FOLDER=", name].concat();
        let by_argument = make.demo().arg(OsStr::from_bytes(&argument)).arg("JSON=1").output();
        assert_eq!(arguments(&by_argument.unwrap()), wanted);
    }
    assert_eq!(arguments(&make.demo().output().unwrap()), [b"demo"]);
}

#[test]
fn make_demo_says_the_exit_status_of_the_demo() {
    let output = Make::new().demo().env("STATUS", "3").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Error 3"), "{output:?}");
}

#[test]
fn an_old_toolchain_is_named_with_the_one_that_is_needed() {
    let place = TempDir::new().unwrap();
    let run = |version: &str| {
        script(&place.path().join("rustc"), &format!("echo 'rustc {version} (0 2020-01-01)'"));
        script(&place.path().join("cargo"), "true");
        let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
        let output =
            Command::new(root().join("tests/tools/setup.sh")).env("PATH", path).env_remove("CARGO").output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for old in ["1.63.0", "1.9.0", "1.87.1"] {
        let (is_fine, said) = run(old);
        assert!(!is_fine && said.contains(old) && said.contains("rustup"), "{said}");
    }
    for new in [concat!(env!("CARGO_PKG_RUST_VERSION"), ".0"), "1.100.0", "2.0.0-nightly"] {
        let (is_fine, said) = run(new);
        assert!(is_fine, "{said}");
    }
}

#[test]
fn a_test_that_needs_root_gets_it_from_sudo_or_says_what_to_do() {
    let place = TempDir::new().unwrap();
    let tools = place.path().join("bin");
    script(&tools.join("id"), "echo 1000");
    script(&tools.join("unshare"), "exit 1");
    let (needs, needs_not) = (place.path().join("needs"), place.path().join("needs not"));
    script(&needs, "echo it runs \"$@\" # /dev/fuse");
    script(&needs_not, "echo it runs \"$@\"");
    let run = |test: &Path, sudo: &str| {
        script(&tools.join("sudo"), sudo);
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(root().join("tests/tools/run-test.sh"));
        let output = command.arg(test).arg("an argument").env("PATH", path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let sudo = r#"[ "$2" = true ] || { echo by sudo; shift 2; "$@"; }"#;
    assert_eq!(run(&needs, sudo), ("by sudo\nit runs an argument\n".to_owned(), String::new()));
    assert_eq!(run(&needs_not, sudo), ("it runs an argument\n".to_owned(), String::new()));
    let (said, hints) = run(&needs, "exit 1");
    assert_eq!(said, "it runs an argument\n");
    assert!(hints.contains("Run them as root") && hints.contains("user namespace"), "{hints}");
}
