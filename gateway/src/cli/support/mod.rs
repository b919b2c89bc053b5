//! `support`: how the kiosk is, in one file for whoever helps from afar. Names of phones, hardware
//! addresses and secrets are taken out.

mod redact;
mod sources;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::unistd::geteuid;
use serde_json::json;

use self::redact::Redactor;
use self::sources::{Part, parts};
use super::output;

/// Of a part that is longer, the end is kept, in bytes.
const LONGEST: usize = 4 << 20;

/// Writes the bundle to `to`, or, where that is a folder, under a name of its own in there.
pub(super) fn support(config: &Path, json: bool, to: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let now = jiff::Timestamp::now();
    let loaded = waypost_config::load(config);
    let name = format!("waypost-support-{}", now.strftime("%Y%m%d-%H%M%S"));
    let file = match to {
        Some(path) if path.is_dir() => path.join(format!("{name}.tar.gz")),
        Some(path) => path,
        None => PathBuf::from(format!("{name}.tar.gz")),
    };
    let redactor = Redactor::new(&loaded.config)?;
    let made = create(&file)?;
    // Some parts take a while where something does not work.
    let show = |part: &str| {
        if !json {
            output::line(&format!("  {part}"));
        }
    };
    if !json {
        output::line(&format!("{} gets these parts:", file.display()));
    }
    let parts = parts(config, &loaded);
    let written = write(made, &name, &parts, &redactor, show)
        .inspect_err(|_| drop(fs::remove_file(&file)))
        .with_context(|| format!("the bundle could not be written to {}", file.display()))?;
    match json {
        true => output::json(&json!({ "file": file, "parts": written, "redacted": redactor.count() }))?,
        false => {
            output::line(&format!(
                "{} keys, hardware addresses and secrets were taken out. Look through it before you send it: names and IP \
                 addresses of networks, destinations and the kiosk are in it.",
                redactor.count()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A new file: this runs as root, mostly in a folder that others may write to, so that nothing that is there is followed or
/// overwritten. It is whose who asked for it: whoever may look into it besides is the admin's choice.
fn create(file: &Path) -> anyhow::Result<File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(made) => {
            let id = |name: &str| std::env::var(name).ok()?.parse().ok();
            if let (true, Some(user)) = (geteuid().is_root(), id("SUDO_UID")) {
                match fchown(&made, Some(user), id("SUDO_GID")) {
                    // FAT has one owner for all.
                    Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                        return Err(error)
                            .with_context(|| format!("{} could not be given to you", file.display()));
                    }
                    _ => {}
                }
            }
            Ok(made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} is there already and is left as it is: name another file, or a folder for a new one",
            file.display()
        ),
        Err(error) => Err(error).with_context(|| format!("{} could not be made", file.display())),
    }
}

fn write(
    made: File,
    name: &str,
    parts: &[Part],
    redactor: &Redactor,
    mut show: impl FnMut(&str),
) -> io::Result<Vec<String>> {
    let mut tar = tar::Builder::new(GzEncoder::new(made, Compression::default()));
    let modified = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut written = Vec::new();
    for part in parts {
        let text = redactor.redact(shortened(&part.text()));
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(modified);
        tar.append_data(&mut header, format!("{name}/{}", part.name), text.as_bytes())?;
        show(part.name);
        written.push(part.name.to_owned());
    }
    tar.into_inner()?.finish()?.sync_all()?;
    Ok(written)
}

/// The end of a text, from the beginning of a line.
fn shortened(text: &str) -> &str {
    let Some(over) = text.len().checked_sub(LONGEST).filter(|over| *over > 0) else { return text };
    let end = (over..text.len()).find_map(|at| text.get(at..)).unwrap_or_default();
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_neither_followed_nor_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        fs::write(&there, "mine").unwrap();
        std::os::unix::fs::symlink(folder.path().join("nothing"), &link).unwrap();
        for path in [&there, &link] {
            let error = create(path).unwrap_err().to_string();
            assert!(error.contains("is there already and is left as it is"), "{error}");
        }
        assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
        assert!(!folder.path().join("nothing").exists());
        let error = create(&folder.path().join("no/folder")).unwrap_err().to_string();
        assert!(error.ends_with("no/folder could not be made"), "{error}");
    }

    #[test]
    fn of_a_long_text_the_last_lines_are_kept() {
        assert_eq!(shortened("a\nb\n"), "a\nb\n");
        let long = format!("first\n{}\nlast\n", "ä".repeat(LONGEST / 2));
        assert_eq!(shortened(&long), "last\n");
    }
}
