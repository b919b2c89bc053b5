//! What is on the screen, character by character: texts in, rows out.

use super::qr::{Qr, shorter};
use crate::overview::Overview;

/// Characters of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In a row.
    pub columns: usize,
    /// From top to bottom.
    pub rows: usize,
}

/// Narrower text is not read.
const MIN_TEXT: usize = 24;
/// Rows that text needs at least above a code.
const MIN_ABOVE: usize = 6;

/// Where a code goes.
enum Place {
    Beside(Vec<String>, usize),
    Below(Vec<String>),
}

/// The rows of a screen, at most as many as it has, each at most as wide. `code` is the text of a pairing code.
pub fn frame(overview: &Overview, code: Option<&str>, size: Size) -> Vec<String> {
    let place = code.and_then(|code| place(code, size));
    let mut rows: Vec<String> = match (place, code) {
        (Some(Place::Beside(qr, width)), _) => {
            let text = text(overview, true, size.columns - width - 1);
            let row = |at: usize| {
                let left = text.get(at).map_or("", String::as_str);
                let right = qr.get(at).map_or("", String::as_str);
                format!("{left}{:pad$} {right}", "", pad = size.columns - width - 1 - left.chars().count())
            };
            (0..qr.len().max(text.len())).map(row).collect()
        }
        (Some(Place::Below(qr)), _) => {
            let mut rows = text(overview, true, size.columns);
            rows.truncate(size.rows - qr.len());
            rows.extend(qr);
            rows
        }
        (None, code) => {
            let mut rows = text(overview, false, size.columns);
            if code.is_some() {
                rows.extend(wrap("This screen is too small for the code that pairs phones; use a larger one, or `waypost pair`.", size.columns));
            }
            rows
        }
    };
    rows.truncate(size.rows);
    rows
}

/// The largest border first, beside the text if that can be, with fewer addresses in the code if it must be.
fn place(code: &str, size: Size) -> Option<Place> {
    let mut text = code;
    loop {
        let qr = Qr::new(text)?;
        for border in [4, 3, 2, 1] {
            let (columns, rows) = (qr.columns(border), qr.rows(border));
            if rows <= size.rows && columns + 1 + MIN_TEXT <= size.columns {
                return Some(Place::Beside(qr.draw(border), columns));
            }
            if rows + MIN_ABOVE <= size.rows && columns <= size.columns {
                return Some(Place::Below(qr.draw(border)));
            }
        }
        text = shorter(text)?;
    }
}

/// The text in lines of this width, what matters most first.
fn text(overview: &Overview, has_code: bool, width: usize) -> Vec<String> {
    let mut lines = wrap(&overview.name(), width);
    lines.extend(wrap(&overview.state(), width));
    let notices: Vec<String> =
        overview.notices().iter().flat_map(|notice| wrap(&format!("! {notice}"), width)).collect();
    if !notices.is_empty() {
        lines.push(String::new());
        lines.extend(notices);
    }
    lines.push(String::new());
    if let Some(status) = overview.status() {
        let in_line =
            if status.in_line > 0 { format!(", {} in line", status.in_line) } else { String::new() };
        lines.extend(wrap(&format!("Phones here: {}{in_line}", status.sessions), width));
        lines.extend(wrap(&format!("Delivered: {}", status.opened), width));
    }
    match overview.addresses.is_empty() {
        true => lines.extend(wrap("No network address.", width)),
        false => {
            for (interface, addresses) in &overview.addresses {
                lines.extend(wrap(&format!("{interface} {}", addresses.join(" ")), width));
            }
        }
    }
    if has_code {
        lines.push(String::new());
        lines.extend(wrap(
            "To pair a phone, scan the code. It is for one phone; then there is a new one.",
            width,
        ));
    }
    lines
}

/// Lines of at most this many characters; words that are longer are cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let gap = usize::from(line > 0);
            if line + gap + word.len() <= width {
                if let Some(last) = lines.last_mut() {
                    last.extend(" ".repeat(gap).chars().chain(word));
                }
                break;
            }
            if line == 0 {
                let rest = word.split_off(width.max(1).min(word.len()));
                lines.pop();
                lines.push(word.into_iter().collect());
                word = rest;
                if word.is_empty() {
                    break;
                }
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Notice, Status};

    /// As long as codes are with so many addresses: key, secret, name.
    fn code(addresses: usize) -> String {
        let mut text =
            format!("waypost://pair?v=1&k={}&s={}&n=Clinic%20Mbale", "k".repeat(43), "s".repeat(22));
        (0..addresses).for_each(|at| text.push_str(&format!("&a=192.168.100.{at}:4180")));
        text
    }

    fn overview() -> Overview {
        let status = Status {
            name: "Clinic Mbale".into(),
            waiting: 3,
            notices: vec![Notice { about: "waiting".into(), text: "documents have waited 9 days".into() }],
            ..Status::default()
        };
        let addresses = [(
            "eth0".to_owned(),
            vec!["192.168.1.5".to_owned(), "2001:db8:1234:5678:9abc:def0:1234:5678".to_owned()],
        )];
        Overview { gateway: Some(Ok(status)), addresses: addresses.into(), ..Overview::default() }
    }

    #[test]
    fn the_code_fits_a_screen_of_80_by_25_whatever_addresses_it_has() {
        for addresses in 0..8 {
            let size = Size { columns: 80, rows: 25 };
            let rows = frame(&overview(), Some(&code(addresses)), size);
            assert!(
                rows.len() <= 25 && rows.iter().all(|row| row.chars().count() <= 80),
                "{addresses}: {rows:#?}"
            );
            let drawn = rows.iter().filter(|row| row.contains('█')).count();
            assert!(drawn >= 21, "{addresses}: the code is not there: {rows:#?}");
            let text = rows.join("\n");
            assert!(text.contains("Clinic Mbale") && text.contains("waited 9 days"), "{text}");
        }
    }

    /// What a phone's camera reads off a screen: each character is two modules, and what is not drawn is dark.
    fn read_off(rows: &[String]) -> String {
        let cells: Vec<Vec<char>> = rows.iter().map(|row| row.chars().collect()).collect();
        let is_dark = |x: usize, y: usize| {
            let cell = cells.get(y / 2).and_then(|row| row.get(x)).copied().unwrap_or(' ');
            if y.is_multiple_of(2) { !matches!(cell, '█' | '▀') } else { !matches!(cell, '█' | '▄') }
        };
        const SCALE: usize = 4;
        let (width, height) = (80 * SCALE, 25 * 2 * SCALE);
        let mut image =
            rqrr::PreparedImage::prepare_from_bitmap(width, height, |x, y| is_dark(x / SCALE, y / SCALE));
        let codes = image.detect_grids();
        codes.iter().find_map(|code| code.decode().ok()).map(|(_, text)| text).unwrap_or_default()
    }

    #[test]
    fn a_phone_reads_the_code_off_a_screen_of_80_by_25() {
        for addresses in 0..8 {
            let code = code(addresses);
            let rows = frame(&overview(), Some(&code), Size { columns: 80, rows: 25 });
            let read = read_off(&rows);
            assert!(read.len() > 80 && code.starts_with(&read), "{addresses}: {read:?}\n{}", rows.join("\n"));
            assert!(read.contains("&a=") || addresses == 0, "{addresses}: no address is left");
        }
    }

    #[test]
    fn larger_screens_have_the_whole_code_and_its_border() {
        let rows = frame(&overview(), Some(&code(3)), Size { columns: 240, rows: 67 });
        let qr = Qr::new(&code(3)).unwrap();
        assert_eq!(rows.len(), qr.rows(4));
        assert!(rows[2].contains(&qr.draw(4)[2]));
    }

    #[test]
    fn a_screen_that_is_too_small_says_so() {
        let rows = frame(&overview(), Some(&code(0)), Size { columns: 40, rows: 12 });
        assert!(rows.join(" ").contains("too small") && rows.len() <= 12, "{rows:?}");
        for size in [(0, 0), (1, 1), (80, 1), (1, 80)] {
            let size = Size { columns: size.0, rows: size.1 };
            assert!(frame(&overview(), Some(&code(0)), size).len() <= size.rows);
        }
    }

    #[test]
    fn lines_are_wrapped_at_words_and_long_words_are_cut() {
        assert_eq!(wrap("to the clinic", 6), ["to the", "clinic"]);
        assert_eq!(wrap("2001:db8::1 x", 5), ["2001:", "db8::", "1 x"]);
        assert_eq!(wrap("", 5), [""]);
    }
}
