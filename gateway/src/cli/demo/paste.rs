//! A line for the reader's shell, with which GnuPG checks a confirmation.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The line: in a subshell with a keyring of its own, so that the reader's keyring and shell stay as they are.
pub(super) fn verify(certificate: &Path, text: &Path, signature: &Path) -> String {
    format!(
        "(export GNUPGHOME=\"$(mktemp -d)\"; gpg -q --import {} && gpg --verify {} {})",
        quote(certificate),
        quote(signature),
        quote(text)
    )
}

/// One word of a command line, whatever bytes it has, on one line.
fn quote(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match path.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => format!("'{}'", text.replace('\'', r"'\''")),
        None => format!("$'{}'", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use super::*;

    #[test]
    fn bash_reads_every_path_as_it_is_and_on_one_line() {
        let names: [&[u8]; 7] = [
            b"a b",
            b"it's",
            b"'",
            b"$HOME `id` \\ \"",
            b"new\nline\tand tab",
            b"\xe9\xff",
            "größe".as_bytes(),
        ];
        for name in names {
            let quoted = quote(Path::new(OsStr::from_bytes(name)));
            assert!(!quoted.contains('\n'), "{quoted}");
            let said = Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(said.stdout, name, "{quoted}");
        }
    }
}
