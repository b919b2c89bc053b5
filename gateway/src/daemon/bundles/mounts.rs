//! What is mounted, as the kernel tells it: proc_pid_mountinfo(5), which can be waited for.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// More of it is not read, in bytes.
const MOST: u64 = 4 << 20;

/// The mount points of this process.
pub(super) struct Mounts(AsyncFd<File>);

impl Mounts {
    /// Begins to watch.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for what changes its descriptor, which a File does not"
    )]
    pub(super) fn open() -> io::Result<Self> {
        let file = File::open("/proc/self/mountinfo")?;
        Ok(Mounts(AsyncFd::with_interest(file, Interest::PRIORITY)?))
    }

    /// Returns when something was mounted or unmounted.
    pub(super) async fn changed(&mut self) {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                log::error!(error:%; "mounts cannot be watched any more: {error}");
                std::future::pending().await
            }
        }
    }

    /// Where something is mounted now.
    pub(super) fn points(&self) -> io::Result<Vec<PathBuf>> {
        let mut text = Vec::new();
        // A handle of its own: the watched one says what has changed since it was read.
        File::open("/proc/self/mountinfo")?.take(MOST).read_to_end(&mut text)?;
        Ok(text.split(|byte| *byte == b'\n').filter_map(point).collect())
    }
}

/// The fifth field, in which space, tab, newline and backslash are three octal digits after a backslash.
fn point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let code = rest.get(1..4).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\') {
            Some(code) => {
                path.push(code);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                path.push(*byte);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = br"36 35 98:0 / /media/my\040stick\134 rw,noatime master:1 - vfat /dev/sda1 rw";
        assert_eq!(point(line), Some(PathBuf::from("/media/my stick\\")));
        assert_eq!(point(b"36 35 98:0 /"), None);
    }

    #[tokio::test]
    async fn what_is_mounted_is_found() {
        let mounts = Mounts::open().unwrap();
        assert!(mounts.points().unwrap().contains(&PathBuf::from("/proc")));
    }
}
