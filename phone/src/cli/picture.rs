//! Pairing codes in pictures, as `waypost pair --picture` writes them.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use png::{Decoder, Limits, Transformations};
use rqrr::PreparedImage;
use waypost_protocol::invite::MAX_TEXT;

/// The largest picture that is read, in bytes of its file.
const MAX_FILE: u64 = 16 << 20;
/// And in dots on each side, which bounds memory and time.
const MAX_SIDE: u32 = 4_096;
/// What decoding may take, in bytes.
const MEMORY: usize = 64 << 20;
/// What every PNG file begins with (PNG specification, 5.2).
const MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A code's text: the argument itself, or what is in the file that it names, or in standard input where it is `-`.
pub(super) fn text_of(argument: &str) -> anyhow::Result<String> {
    if argument == "-" {
        return text_in(std::io::stdin().lock()).context("standard input");
    }
    let path = Path::new(argument);
    match argument.contains("://") || !path.is_file() {
        true => Ok(argument.to_owned()),
        false => File::open(path)
            .map_err(anyhow::Error::from)
            .and_then(text_in)
            .with_context(|| argument.to_owned()),
    }
}

fn text_in(from: impl Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.starts_with(MAGIC) {
        return text_in_picture(&bytes);
    }
    ensure!(bytes.len() <= MAX_TEXT, "it is longer than any code");
    String::from_utf8(bytes).context("it is neither a PNG picture nor text")
}

fn text_in_picture(bytes: &[u8]) -> anyhow::Result<String> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MEMORY });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let (width, height) = reader.info().size();
    ensure!(width.max(height) <= MAX_SIDE, "the picture is larger than {MAX_SIDE} dots on a side");
    let size =
        reader.output_buffer_size().filter(|size| *size <= MEMORY).context("the picture is too large")?;
    let mut dots = vec![0; size];
    let frame = reader.next_frame(&mut dots)?;
    let samples = frame.color_type.samples();
    let has_alpha = samples % 2 == 0;
    let mut image = PreparedImage::prepare_from_greyscale(width as usize, height as usize, |x, y| {
        let at = y * frame.line_size + x * samples;
        let Some(dot) = dots.get(at..at + samples) else { return u8::MAX };
        let (colors, alpha) = dot.split_at(samples - usize::from(has_alpha));
        let light = match *colors {
            // ITU-R BT.601.
            [red, green, blue] => {
                (299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue)) / 1_000
            }
            [grey, ..] => u32::from(grey),
            [] => 255,
        };
        // On white paper.
        let alpha = alpha.first().map_or(255, |alpha| u32::from(*alpha));
        u8::try_from((light * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX)
    });
    let found: Vec<String> =
        image.detect_grids().iter().filter_map(|grid| grid.decode().ok()).map(|(_, text)| text).collect();
    match &found[..] {
        [] => bail!("there is no QR code in the picture that can be read"),
        [text] => Ok(text.clone()),
        several => bail!("there are {} QR codes in the picture", several.len()),
    }
}

#[cfg(test)]
mod tests {
    use png::{BitDepth, ColorType, Encoder};

    use super::*;

    fn encoded(color: ColorType, side: u32, dots: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, side, side);
        encoder.set_color(color);
        encoder.set_depth(BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(dots).unwrap();
        bytes
    }

    fn code(text: &str) -> (u32, Vec<u8>) {
        let code = qrcode::QrCode::new(text).unwrap();
        let picture = code.render::<char>().module_dimensions(4, 4).dark_color('#').light_color(' ').build();
        let dots: Vec<u8> =
            picture.chars().filter(|c| *c != '\n').map(|c| if c == '#' { 0 } else { 255 }).collect();
        (u32::try_from(picture.lines().next().unwrap().len()).unwrap(), dots)
    }

    #[test]
    fn a_code_is_read_in_grey_in_color_and_through_transparent_paper() {
        let (side, dots) = code("waypost://pair?v=1");
        let rgb: Vec<u8> = dots.iter().flat_map(|dot| [*dot, *dot, *dot]).collect();
        let rgba: Vec<u8> = dots.iter().flat_map(|dot| [0, 0, 0, 255 - dot]).collect();
        for picture in [
            encoded(ColorType::Grayscale, side, &dots),
            encoded(ColorType::Rgb, side, &rgb),
            encoded(ColorType::Rgba, side, &rgba),
        ] {
            assert_eq!(text_in(&picture[..]).unwrap(), "waypost://pair?v=1");
        }
    }

    #[test]
    fn what_is_no_code_is_named() {
        let (side, dots) = code("x");
        let whole = encoded(ColorType::Grayscale, side, &dots);
        let white = encoded(ColorType::Grayscale, 100, &[255; 10_000]);
        let wide = encoded(ColorType::Grayscale, MAX_SIDE + 1, &vec![0; (MAX_SIDE as usize + 1).pow(2)]);
        for (bytes, why) in [
            (&white[..], "no QR code"),
            (&whole[..whole.len() / 2], ""),
            (&wide[..], "larger than 4096 dots"),
            (&[0xff; 10][..], "neither a PNG picture nor text"),
            (&[b'a'; 10_000][..], "longer than any code"),
        ] {
            let said = format!("{:#}", text_in(bytes).unwrap_err());
            assert!(said.contains(why), "{said}");
        }
        let _ = text_in(&whole[..]).unwrap();
    }
}
