//! Programs in Python beside these tests, and the packages that they need.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of `tests/tools`.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name)
}

/// An interpreter with the packages of a list in `tests/tools`, which are installed where they are not yet, with these options
/// of pip's.
#[track_caller]
pub fn python(list: &str, options: &[&str]) -> String {
    let ran = Command::new(tool("python.sh")).arg(tool(list)).args(options).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}
