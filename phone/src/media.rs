//! Which files are compressed already, so that compressing them again costs time and gains nothing.

use waypost_openpgp::Compress;

/// Extensions of formats that are compressed inside.
const EXTENSIONS: &[&str] = &[
    "7z", "aac", "apk", "avif", "avi", "br", "bz2", "docx", "epub", "flac", "gif", "gz", "heic", "heif",
    "jar", "jpeg", "jpg", "jxl", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "odp", "ods",
    "odt", "oga", "ogg", "ogv", "opus", "png", "pptx", "rar", "tgz", "webm", "webp", "wma", "wmv", "xlsx",
    "xz", "zip", "zst",
];

/// How files of such formats begin: offset and bytes.
const BEGINNINGS: &[(usize, &[u8])] = &[
    (0, &[0xff, 0xd8, 0xff]),
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"GIF8"),
    (0, b"PK\x03\x04"),
    (0, &[0x1f, 0x8b]),
    (0, b"BZh"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    (0, &[0x28, 0xb5, 0x2f, 0xfd]),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"OggS"),
    (0, b"fLaC"),
    (0, b"ID3"),
    (0, &[0x1a, 0x45, 0xdf, 0xa3]),
    (4, b"ftyp"),
    (8, b"WEBP"),
];

/// Bytes of a file's head that [`compression`] looks at.
pub(crate) const HEAD: usize = 16;

/// Whether a file with this name and head is worth compressing.
pub(crate) fn compression(name: &[u8], head: &[u8]) -> Compress {
    let extension = name.rsplit(|&byte| byte == b'.').next().filter(|extension| extension.len() < name.len());
    let known =
        |extension: &[u8]| EXTENSIONS.iter().any(|one| extension.eq_ignore_ascii_case(one.as_bytes()));
    let begins = |(at, bytes): &(usize, &[u8])| head.get(*at..).is_some_and(|rest| rest.starts_with(bytes));
    match extension.is_some_and(known) || BEGINNINGS.iter().any(begins) {
        true => Compress::Never,
        false => Compress::WhenSmaller,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_known_by_name_or_by_head() {
        assert_eq!(compression(b"photo.JPG", b""), Compress::Never);
        assert_eq!(compression(b"photo", &[0xff, 0xd8, 0xff, 0xe0]), Compress::Never);
        assert_eq!(compression(b"clip", b"\0\0\0\x20ftypisom"), Compress::Never);
        assert_eq!(compression(b"form.xml", b"<?xml"), Compress::WhenSmaller);
        assert_eq!(compression(b"jpg", b"plain"), Compress::WhenSmaller);
    }
}
