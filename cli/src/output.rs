//! Everything that is printed: tables as docker lays them out, and outside bytes made visible.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use crate::error::Error;

/// Narrowest column, and the space after each cell, as docker has them.
const NARROWEST: usize = 10;
const PADDING: usize = 3;

/// Prints a text to standard output, whole.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::output)
}

/// Prints one line to standard output.
pub fn line(text: &str) -> Result<(), Error> {
    print(&format!("{}\n", visible(text)))
}

/// Prints one line to standard error. When even that is gone, nobody is left to tell.
pub fn complain(text: &str) {
    let end = if crate::terminal::is_raw() { "\r\n" } else { "\n" };
    let _ = write!(std::io::stderr().lock(), "{}{end}", visible_lines(text));
}

/// Prints one sentence to standard error, as every error of davit looks.
pub fn error(text: &impl std::fmt::Display) {
    complain(&format!("davit: {text}"));
}

/// Whether a person looks at standard output.
pub fn to_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether a character drives a terminal or turns the reading direction instead of being seen.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text with everything hidden written out.
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// The same, leaving line breaks and tabs.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hidden(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if u32::from(c) < 0x100 => {
                write!(shown, "\\x{:02x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => write!(shown, "\\u{{{:x}}}", u32::from(c)).expect("writing to a string cannot fail"),
        }
    }
    Cow::Owned(shown)
}

/// Cells in columns. Each column is as wide as its widest cell and some space; the last one is not padded.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row; hidden characters of its cells are made visible.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| visible(cell.as_ref()).into_owned()).collect());
    }

    /// The whole table as text.
    pub fn render(&self) -> String {
        let mut widths = Vec::new();
        for row in &self.rows {
            // A row's last cell ends no column.
            for (column, cell) in row.iter().take(row.len().saturating_sub(1)).enumerate() {
                if widths.len() <= column {
                    widths.resize(column + 1, NARROWEST);
                }
                if let Some(width) = widths.get_mut(column) {
                    *width = (*width).max(cell.chars().count() + PADDING);
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let last = row.len().saturating_sub(1);
            for (column, cell) in row.iter().enumerate() {
                let width = if column == last { 0 } else { widths.get(column).copied().unwrap_or(0) };
                write!(text, "{cell:<width$}").expect("writing to a string cannot fail");
            }
            text.push('\n');
        }
        text
    }
}

/// The first `length` characters, the last of them `…` when something was cut.
pub fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

/// The first 12 digits of an id, without its algorithm.
pub fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_stand_as_dockers() {
        let mut table = Table::default();
        table.row(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        assert_eq!(
            table.render(),
            "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
        );
        table.row(["9e05a1d2c183", "ubuntu:18.04", "\"bash\"", "8 seconds ago", "Up", "", "x"]);
        let text = table.render();
        let mut lines = text.lines().map(|line| line.find("NAMES").or(line.find(" x").map(|at| at + 1)));
        assert_eq!(lines.next(), lines.next(), "{text}");
    }

    #[test]
    fn outside_bytes_do_not_reach_the_terminal() {
        assert_eq!(visible("a\u{1b}]0;x\u{7}b"), "a\\x1b]0;x\\x07b");
        assert_eq!(visible("a\nb\tc\u{202e}"), "a\\nb\\tc\\u{202e}");
        assert_eq!(visible_lines("a\nb\u{9b}"), "a\nb\\x9b");
        assert!(matches!(visible("grüße 안녕"), Cow::Borrowed(_)));
    }

    #[test]
    fn cuts() {
        assert_eq!(ellipsis("/docker-entrypoint.sh nginx", 20), "/docker-entrypoint.…");
        assert_eq!(ellipsis("bash", 20), "bash");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
    }

    proptest! {
        #[test]
        fn a_table_has_a_line_a_row(cells in proptest::collection::vec(any::<String>(), 1..5)) {
            let mut table = Table::default();
            table.row(&cells);
            table.row(&cells);
            let text = table.render();
            prop_assert_eq!(text.lines().count(), 2);
            prop_assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'));
        }
    }
}
