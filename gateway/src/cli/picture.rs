//! Pairing codes as pictures to print.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use png::{BitDepth, ColorType, Encoder};
use qrcode::render::svg;
use qrcode::{Color, QrCode};

/// Dots across one module of a code.
const MODULE: u32 = 8;
/// Modules that are left white around a code (ISO/IEC 18004, 6.3.8).
const QUIET: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
}

/// A file to be written, by the end of its name.
#[derive(Debug)]
pub(super) struct Picture {
    path: PathBuf,
    format: Format,
}

impl Picture {
    /// Says what is wrong with it before there is a code.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let is = |end| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(end));
        let format = match (is("svg"), is("png")) {
            (true, _) => Format::Svg,
            (_, true) => Format::Png,
            _ => bail!("{}: a picture's name ends with .svg or .png", path.display()),
        };
        if path.exists() {
            bail!("{} exists already", path.display());
        }
        Ok(Picture { path: path.to_owned(), format })
    }

    /// Writes it, for this user alone to read: whoever has it can use the code.
    pub(super) fn write(&self, code: &QrCode) -> anyhow::Result<()> {
        let bytes = match self.format {
            Format::Svg => {
                code.render::<svg::Color<'_>>().module_dimensions(MODULE, MODULE).build().into_bytes()
            }
            Format::Png => png(code)?,
        };
        let mut options = OpenOptions::new();
        let written =
            options.write(true).create_new(true).mode(0o600).open(&self.path).and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        written.with_context(|| self.path.display().to_string())
    }
}

/// Black on white, one bit for each dot.
fn png(code: &QrCode) -> anyhow::Result<Vec<u8>> {
    let module = MODULE as usize;
    let width = (code.width() + 2 * QUIET) * module;
    let is_dark = |x: usize, y: usize| {
        let at = |dot: usize| (dot / module).checked_sub(QUIET).filter(|module| *module < code.width());
        at(x).zip(at(y)).is_some_and(|module| code[module] == Color::Dark)
    };
    let mut dots = vec![0u8; width.div_ceil(8) * width];
    for (y, row) in dots.chunks_mut(width.div_ceil(8)).enumerate() {
        for x in (0..width).filter(|x| !is_dark(*x, y)) {
            row[x / 8] |= 0x80 >> (x % 8);
        }
    }
    let side = u32::try_from(width)?;
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side, side);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::One);
    encoder.write_header()?.write_image_data(&dots)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TEXT: &str = "waypost://pair?v=1&k=abc";

    fn written(name: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        Picture::new(&path).unwrap().write(&QrCode::new(TEXT).unwrap()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let why = Picture::new(&path).unwrap_err().to_string();
        assert!(why.contains("exists already"), "{why}");
        std::fs::read(&path).unwrap()
    }

    /// What a reader of codes sees in dots of which each says whether it is dark.
    fn read(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| match is_dark(x, y) {
            true => 0,
            false => 255,
        });
        image.detect_grids()[0].decode().unwrap().1
    }

    #[test]
    fn a_png_file_is_read_by_a_reader_of_codes() {
        let file = written("code.PNG");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut dots).unwrap();
        assert_eq!((frame.color_type, frame.bit_depth), (ColorType::Grayscale, BitDepth::One));
        let is_dark = |x: usize, y: usize| dots[y * frame.line_size + x / 8] & (0x80 >> (x % 8)) == 0;
        assert_eq!(read(frame.width as usize, is_dark), TEXT);
    }

    #[test]
    fn an_svg_file_has_the_same_code() {
        let file = String::from_utf8(written("code.svg")).unwrap();
        let side = regex::Regex::new(r#"viewBox="0 0 (\d+) (\d+)""#).unwrap();
        let side: usize = side.captures(&file).unwrap()[1].parse().unwrap();
        // A path of rectangles.
        let rectangle = regex::Regex::new(r"M(\d+) (\d+)h(\d+)v(\d+)").unwrap();
        let rectangles: Vec<[usize; 4]> = rectangle
            .captures_iter(&file)
            .map(|found| [1, 2, 3, 4].map(|part| found[part].parse().unwrap()))
            .collect();
        let is_dark = |x, y| {
            rectangles.iter().any(|[left, top, width, height]| {
                (*left..left + width).contains(&x) && (*top..top + height).contains(&y)
            })
        };
        assert_eq!(read(side, is_dark), TEXT);
    }

    #[test]
    fn other_names_are_refused_before_there_is_a_code() {
        for name in ["code", "code.pdf", "svg"] {
            let why = Picture::new(Path::new(name)).unwrap_err().to_string();
            assert!(why.contains("ends with .svg or .png"), "{why}");
        }
    }
}
