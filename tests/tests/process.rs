//! Processes of a test are watched through their output, and never outlive it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use waypost_tests::process::{Process, ProcessError, program};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str, log: &Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::start(command, log).unwrap()
}

#[test]
fn lines_are_waited_for_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut process = shell("echo ready on 1; echo ready on 2 >&2; exec sleep 60", &log);
    assert_eq!(process.wait_for("ready", SOON).unwrap(), "ready on 1");
    assert_eq!(process.wait_for("ready", SOON).unwrap(), "ready on 2");
    let late = process.wait_for("ready", Duration::from_millis(50)).unwrap_err();
    assert!(matches!(late, ProcessError::Late { .. }), "{late}");
    let status = process.terminate(SOON).unwrap();
    assert_eq!(status.signal(), Some(15));
    // A second run does not see the lines of the first.
    let mut again = shell("echo ready on 3; exit 4", &log);
    assert_eq!(again.wait_for("ready", SOON).unwrap(), "ready on 3");
    assert_eq!(again.output(), "ready on 3\n");
    assert_eq!(again.wait(SOON).unwrap().code(), Some(4));
}

#[test]
fn a_process_that_ends_too_soon_shows_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = shell("echo no such file >&2; exit 1", &folder.path().join("log"));
    let error = process.wait_for("ready", SOON).unwrap_err().to_string();
    assert!(error.contains("no such file") && error.contains("exit status: 1"), "{error}");
}

#[test]
fn a_process_is_gone_when_it_is_killed_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut process = shell("exec sleep 60", &log);
    process.killer().kill9().unwrap();
    assert_eq!(process.wait(SOON).unwrap().signal(), Some(9));
    process.killer().kill9().unwrap();
    assert_eq!(process.kill9().unwrap().signal(), Some(9));

    let dropped = shell("exec sleep 60", &log);
    let path = format!("/proc/{}", dropped.id());
    assert!(Path::new(&path).exists());
    drop(dropped);
    assert!(!Path::new(&path).exists());
}

#[test]
fn memory_and_wakeups_are_those_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "echo ready; i=0; while [ $i -lt 20 ]; do sleep 0.01; i=$((i+1)); done; echo done; while :; do sleep 1; done";
    let mut process = shell(script, &log);
    process.wait_for("ready", SOON).unwrap();
    let before = process.wakeups().unwrap();
    process.wait_for("done", SOON).unwrap();
    let after = process.wakeups().unwrap();
    assert!(after >= before + 15, "{before} and {after}");
    let all = process.rss_kib("no such file").unwrap();
    let libraries = process.mapped_kib(".so").unwrap();
    assert!(libraries > 0 && all > libraries);
    assert_eq!(process.rss_kib(".so").unwrap(), all - libraries);
    process.kill9().unwrap();
    assert!(process.rss_kib("").is_err());
}

#[test]
fn a_program_that_was_not_built_is_named() {
    let error = program("waypost-no-such-program").unwrap_err().to_string();
    assert!(error.contains("waypost-no-such-program") && error.contains("cargo build"), "{error}");
}
