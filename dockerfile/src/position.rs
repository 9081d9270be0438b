//! Where in a text something is, also when a line was put together from several.

use std::fmt;

/// A place in the text, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in that line.
    pub column: usize,
}

impl Position {
    /// The first character of a text.
    pub const START: Position = Position { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A line as the language sees it: continuations joined, comments within left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    text: String,
    /// Where pieces of `text` come from: byte offset and the place of that byte, ascending.
    pieces: Vec<(usize, Position)>,
    escape: char,
}

impl Line {
    /// An empty line in a text whose escape character is `escape`.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { text: String::new(), pieces: Vec::new(), escape }
    }

    /// Appends a piece that begins at `at` in the source.
    pub fn push(&mut self, piece: &str, at: Position) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(piece);
    }

    /// The joined text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The character that escapes: a backslash, or a backtick by directive.
    #[must_use]
    pub fn escape(&self) -> char {
        self.escape
    }

    /// The place in the source of a byte of the joined text; its end for an offset beyond.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let next = self.pieces.partition_point(|(begin, _)| *begin <= offset);
        let Some((begin, at)) = next.checked_sub(1).and_then(|index| self.pieces.get(index)) else {
            return Position::START;
        };
        let passed = self.text.as_bytes().get(*begin..offset.min(self.text.len())).unwrap_or_default();
        // Characters begin with every byte that does not continue one.
        let characters = passed.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        Position { line: at.line, column: at.column + characters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_line_knows_where_its_pieces_come_from() {
        let mut line = Line::new('\\');
        line.push("RUN ä", Position { line: 3, column: 3 });
        line.push("  b", Position { line: 5, column: 1 });
        assert_eq!(line.text(), "RUN ä  b");
        let at = |offset| line.position(offset).to_string();
        assert_eq!(at(0), "line 3, column 3");
        assert_eq!(at(4), "line 3, column 7");
        assert_eq!(at(6), "line 5, column 1");
        assert_eq!(at(8), "line 5, column 3");
        assert_eq!(at(99), "line 5, column 4");
        assert_eq!(Line::new('\\').position(7), Position::START);
    }
}
