//! A QR code in half blocks: two modules in each character, light ones drawn, since a screen is dark.

use qrcode::{Color, EcLevel, QrCode};

/// A code that can be drawn.
#[derive(Debug, Clone)]
pub struct Qr {
    modules: Vec<bool>,
    width: usize,
}

impl Qr {
    /// The code of a text, with as little redundancy as there is: screens are clean, and small.
    pub fn new(text: &str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        let modules = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Some(Qr { modules, width: code.width() })
    }

    /// Characters in a row, with a light border of so many modules.
    pub fn columns(&self, border: usize) -> usize {
        self.width + 2 * border
    }

    /// Rows.
    pub fn rows(&self, border: usize) -> usize {
        self.columns(border).div_ceil(2)
    }

    /// The rows, from the top.
    pub fn draw(&self, border: usize) -> Vec<String> {
        let side = self.columns(border);
        let is_light = |x: usize, y: usize| {
            let inner = |at: usize| at.checked_sub(border).filter(|at| *at < self.width);
            match (inner(x), inner(y)) {
                (Some(x), Some(y)) => !self.modules.get(y * self.width + x).copied().unwrap_or(false),
                _ => y < side,
            }
        };
        let row = |row: usize| {
            let block = |x| match (is_light(x, 2 * row), is_light(x, 2 * row + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            };
            (0..side).map(block).collect()
        };
        (0..self.rows(border)).map(row).collect()
    }
}

/// The text of a pairing code without the last of its addresses: phones try those that are left, and look around.
pub(super) fn shorter(text: &str) -> Option<&str> {
    text.rfind("&a=").and_then(|at| text.get(..at))
}
