//! The lines of a Dockerfile that something is about, and what a step said last.

use std::fmt::Write as _;

use super::record::Step;
use crate::output::visible;

/// Lines before and after.
const AROUND: usize = 4;

/// The lines of a file around one, which is marked.
pub fn lines(name: &str, text: &str, line: usize) -> String {
    let rule = "--------------------";
    let first = line.saturating_sub(AROUND + 1);
    let mut shown = format!("{}:{line}\n{rule}\n", visible(name));
    for (index, content) in text.lines().enumerate().skip(first).take(line + AROUND - first) {
        let mark = if index + 1 == line { ">>>" } else { "   " };
        let _ = writeln!(shown, "{:4} | {mark} {}", index + 1, visible(content));
    }
    shown + rule + "\n"
}

/// What a step said last.
pub fn last(step: &Step) -> String {
    let mut shown = format!("------\n > {}:\n", visible(&step.name));
    for line in &step.last {
        shown.push_str(line);
        shown.push('\n');
    }
    shown + "------\n"
}
