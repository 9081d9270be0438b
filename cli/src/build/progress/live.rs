//! The picture of a build on a terminal, drawn over the one before it.

use std::io::{self, Write as _};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::record::Record;
use super::tree::{Canvas, Stand, picture};
use crate::terminal;

/// Redraws a second.
const RATE: u8 = 20;
/// Columns and rows where nobody says how many there are.
const USUAL: (usize, usize) = (80, 24);

/// A picture that moves.
#[derive(Debug)]
pub struct Live {
    bar: ProgressBar,
    colours: bool,
    /// Columns of the last picture, and its rows.
    drawn: (usize, usize),
}

impl Live {
    /// Draws nothing yet.
    pub fn new(colours: bool) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(RATE);
        let style = ProgressStyle::with_template("{msg}").expect("the template is a constant");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { bar, colours, drawn: (USUAL.0, 0) }
    }

    /// Draws how it is now.
    pub fn draw(&mut self, record: &Record) {
        let (columns, rows) = size();
        self.resized(columns);
        // The last row stays free, so that nothing ever scrolls.
        let rows = Some(rows.saturating_sub(1).max(1));
        let canvas = Canvas { columns, rows, colours: self.colours };
        let lines = picture(record, Stand::Running, &canvas, Instant::now());
        self.drawn = (columns, lines.len());
        self.bar.set_message(lines.join("\n"));
        // At the right end of its row the cursor would go to the next one with the first key that the terminal echoes.
        let _ = write!(io::stderr().lock(), "\r");
    }

    /// A terminal of another width broke the picture's lines anew: it stands in more rows or in fewer than it was
    /// drawn in, and the next one would begin too low or too high. Lines fill their rows, so all of them are one line
    /// to the terminal; the cursor stays at the begin of what was the last.
    fn resized(&self, columns: usize) {
        let (before, rows) = self.drawn;
        let now = if rows == 0 { 0 } else { (rows - 1) * before / columns + 1 };
        if now > rows {
            let more = now - rows;
            self.bar.suspend(|| {
                let _ = write!(io::stderr().lock(), "\u{1b}[{more}A\r\u{1b}[J");
            });
        } else {
            let _ = write!(io::stderr().lock(), "{}", "\n".repeat(rows - now));
        }
    }

    /// Takes the picture away and answers with the last one, whole.
    pub fn end(&mut self, record: &Record, stand: Stand) -> Vec<String> {
        let (columns, _) = size();
        self.resized(columns);
        self.drawn = (columns, 0);
        self.bar.finish_and_clear();
        let canvas = Canvas { columns, rows: None, colours: self.colours };
        picture(record, stand, &canvas, Instant::now())
    }
}

fn size() -> (usize, usize) {
    let Some(size) = terminal::size() else { return USUAL };
    let number = |number: u32| usize::try_from(number).unwrap_or(1).max(1);
    (number(size.columns), number(size.rows))
}
