//! Bytes that commands write, as lines that only say something: colours and cursor movements are left out, a line
//! that was written over is what it was last, and everything else that drives a terminal is written out.

use crate::output::visible;

/// Bytes that are told although their line goes on.
const LONGEST: usize = 16 << 10;
/// Columns between tabs.
const TAB: usize = 8;

/// Output of a step that is no whole line yet: of standard output, and of standard error.
#[derive(Debug, Default)]
pub struct Lines {
    open: [Vec<u8>; 2],
}

impl Lines {
    /// Takes some output, and gives the lines that are whole by it.
    pub fn take(&mut self, bytes: &[u8], stderr: bool) -> Vec<String> {
        let open = &mut self.open[usize::from(stderr)];
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || open.len() > LONGEST {
                lines.push(clean(&std::mem::take(open)));
            }
        }
        lines
    }

    /// What was said last without an end, and whether on standard error.
    pub fn rest(&mut self) -> impl Iterator<Item = (bool, String)> {
        let open = std::mem::take(&mut self.open);
        let said = [false, true].into_iter().zip(open).filter(|(_, bytes)| !bytes.is_empty());
        said.map(|(stderr, bytes)| (stderr, clean(&bytes)))
    }
}

/// A line as it would stand there at last.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    let text = console::strip_ansi_codes(text);
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut spread = String::with_capacity(last.len());
    let mut column = 0;
    for c in last.chars() {
        let spaces = if c == '\t' { TAB - column % TAB } else { 0 };
        spread.extend(std::iter::repeat_n(' ', spaces));
        if c != '\t' {
            spread.push(c);
        }
        column += spaces.max(1);
    }
    visible(&spread).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut lines = Lines::default();
        assert!(lines.take(b"a", false).is_empty());
        assert_eq!(lines.take(b"err\n", true), ["err"]);
        assert_eq!(lines.take(b"b\nc\nd", false), ["ab", "c"]);
        assert_eq!(lines.rest().collect::<Vec<_>>(), [(false, "d".to_owned())]);
        assert_eq!(lines.rest().count(), 0);
        assert_eq!(lines.take(&vec![b'x'; LONGEST + 1], false).len(), 1, "no line is waited for without end");
    }

    #[test]
    fn nothing_drives_the_terminal() {
        for (line, shown) in [
            ("\u{1b}[31mred\u{1b}[0m\n", "red"),
            ("  10%\r  50%\r 100%\n", " 100%"),
            ("a\tb\n", "a       b"),
            ("bell\u{7}\r\n", "bell\\x07"),
            ("\u{202e}turned", "\\u{202e}turned"),
        ] {
            assert_eq!(clean(line.as_bytes()), shown, "{line:?}");
        }
        assert!(!clean(b"\xff\x9b2J").contains('\u{9b}'));
    }
}
