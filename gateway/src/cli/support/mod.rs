//! `support`: how the kiosk is, in one file for whoever helps from afar. Names of phones, addresses and secrets are taken out.

mod redact;
mod sources;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
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
    let parts = parts(config, &loaded);
    let written = write(&file, &name, &parts, &redactor)
        .with_context(|| format!("the bundle could not be written to {}", file.display()))?;
    match json {
        true => output::json(&json!({ "file": file, "parts": written, "redacted": redactor.count() }))?,
        false => {
            output::line(&format!("{} has {} parts:", file.display(), written.len()));
            written.iter().for_each(|part| output::line(&format!("  {part}")));
            output::line(&format!(
                "{} keys, addresses and secrets were taken out. Look through it before you send it: names of networks, \
                 destinations and the kiosk are in it.",
                redactor.count()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, name: &str, parts: &[Part], redactor: &Redactor) -> io::Result<Vec<String>> {
    // Whoever may look into it is the admin's choice.
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
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
        written.push(part.name.to_owned());
    }
    let made = tar.into_inner()?.finish()?;
    made.sync_all()?;
    (&made).flush()?;
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
    fn of_a_long_text_the_last_lines_are_kept() {
        assert_eq!(shortened("a\nb\n"), "a\nb\n");
        let long = format!("first\n{}\nlast\n", "ä".repeat(LONGEST / 2));
        assert_eq!(shortened(&long), "last\n");
    }
}
