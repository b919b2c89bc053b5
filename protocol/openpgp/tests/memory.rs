//! A document of 100 MB is sealed and opened in little memory. A file of its own, since it looks at the process's peak.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use waypost_openpgp::{Compress, Limits, SecretKey, seal};
use waypost_protocol::content::Label;
use waypost_protocol::time::UnixTime;

const NOW: UnixTime = UnixTime(1_795_236_000);
const SIZE: u64 = 100_000_000;

/// Peak resident memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

struct Pattern(u64);

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
        Ok(buffer.len())
    }
}

struct Check(Pattern, u64);

impl Write for Check {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut expected = vec![0; bytes.len()];
        self.0.read_exact(&mut expected)?;
        assert!(bytes == expected);
        self.1 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_hundred_megabytes_stream_through_sealing_and_opening() {
    let key = SecretKey::generate("Clinic", NOW).unwrap();
    let label = Label { collection: "photos".into(), ..Label::default() };
    let mut file: File = tempfile::tempfile().unwrap();
    let before = peak();
    let content = Pattern(7).take(SIZE);
    let bytes = seal(&label, content, &[key.certificate()], Compress::WhenSmaller, &mut file, NOW).unwrap();
    assert_eq!(bytes, SIZE);
    file.rewind().unwrap();
    let mut check = Check(Pattern(7), 0);
    assert_eq!(key.open(&file, &mut check, Limits { max_content: SIZE }).unwrap(), label);
    assert_eq!(check.1, SIZE);
    let grown = peak().saturating_sub(before);
    println!("sealing and opening {SIZE} bytes took {} KiB of memory at its peak", grown / 1024);
    assert!(grown < 24 << 20, "{grown} bytes");
}
