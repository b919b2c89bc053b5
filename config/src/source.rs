//! Configuration files: finding them, reading them with a bound, and naming places in them.

use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::problem::{Origin, Problem, Severity};

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// At most so many files in the drop-in directory.
pub const MAX_DROP_INS: usize = 256;

/// The text of one file.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    folder: PathBuf,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    /// From a file's path, by which problems name it, and its text. Relative paths in the text are relative to the
    /// path's folder.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        // Fails only for an empty path or without a working directory, when nothing better is known.
        let absolute = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let folder = absolute.parent().map(Path::to_owned).unwrap_or_default();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { path, folder, text, lines }
    }

    /// Reads a file of at most [`MAX_FILE`] bytes.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let fatal = |message: &str| {
            let origin = Origin { file: path.to_owned(), line: 1, column: 1 };
            Problem::new(Severity::Fatal, Some(origin), None, message)
        };
        let io = |error: std::io::Error| {
            fatal(&format!(
                "cannot be read: {error}; give the path of a file that the gateway's user may read"
            ))
        };
        // Opening a pipe would wait for its other end for ever.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(fatal("expected a file, found something else under this name"));
        }
        let mut bytes = Vec::new();
        let limit = MAX_FILE as u64 + 1;
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(io)?;
        if bytes.len() > MAX_FILE {
            return Err(fatal(&format!("file is larger than {MAX_FILE} bytes; is it a configuration?")));
        }
        String::from_utf8(bytes).map(|text| Source::new(path, text)).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
            let message = format!("expected UTF-8 text, found the byte 0x{byte:02x}; save the file as UTF-8");
            Problem::new(Severity::Fatal, Some(Source::new(path, text).origin(valid)), None, &message)
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths start from, absolute.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a byte of the text is; an offset past the end is the end.
    pub fn origin(&self, offset: usize) -> Origin {
        let end = offset.min(self.text.len());
        let offset = (0..=end).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or_default();
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).unwrap_or_default().chars().count() + 1;
        Origin { file: self.path.clone(), line, column }
    }

    /// The text between two byte offsets, as far as there is one.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }
}

/// The drop-in directory of a configuration file: `gateway.d` beside `gateway.toml`.
pub fn drop_in_directory(path: &Path) -> PathBuf {
    path.with_extension("d")
}

/// Files `*.toml` of the directory, by name; those that begin with a dot are editors' and left out.
pub(crate) fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let fatal = |message: &str| {
        let origin = Origin { file: directory.to_owned(), line: 1, column: 1 };
        Problem::new(Severity::Fatal, Some(origin), None, message)
    };
    let io = |error: std::io::Error| {
        fatal(&format!("drop-in directory cannot be listed: {error}; mend its permissions"))
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let bytes = name.as_encoded_bytes();
        if !bytes.ends_with(b".toml") || bytes.starts_with(b".") {
            continue;
        }
        if files.len() == MAX_DROP_INS {
            return Err(fatal(&format!("more than {MAX_DROP_INS} files; join some of them")));
        }
        files.push(directory.join(name));
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters_from_one() {
        let source = Source::new("x.toml", "é = 1\nnäme = 2");
        let place = |offset| {
            let origin = source.origin(offset);
            (origin.line, origin.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (1, 3));
        assert_eq!(place(7), (2, 1));
        assert_eq!(place(9), (2, 2), "inside a character is its beginning");
        assert_eq!(place(999), (2, 9));
    }

    #[test]
    fn a_file_of_other_bytes_than_utf_8_is_refused_at_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, b"name = \"x\"\nname = \"\xff\"").unwrap();
        let problem = Source::read(&path).unwrap_err();
        assert_eq!(problem.severity, Severity::Fatal);
        assert!(problem.to_string().ends_with(
            "gateway.toml:2:9: fatal: expected UTF-8 text, found the byte 0xff; save the file as UTF-8"
        ));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Source::read(folder.path()).unwrap_err().message.contains("expected a file"));
        assert!(Source::read(&folder.path().join("none")).unwrap_err().message.contains("cannot be read"));
        let path = folder.path().join("large.toml");
        std::fs::write(&path, vec![b'#'; MAX_FILE + 1]).unwrap();
        assert!(Source::read(&path).unwrap_err().message.contains("larger than"));
    }
}
