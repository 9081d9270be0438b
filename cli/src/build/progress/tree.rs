//! A build as a picture of so many columns and rows: a header, the steps, and below those that go on what they do.
//!
//! Where there is not room for everything, the steps that go on come first, with some lines of theirs, then the newest
//! of the others.

use std::time::Instant;

use console::{measure_text_width, truncate_str};

use super::plain::{part_text, seconds};
use super::record::{Record, State, Step};
use crate::output::visible;

/// Lines of output, or parts, of a step that goes on.
const DETAILS: usize = 6;
/// Columns that times are not shown below.
const NARROW: usize = 24;

/// What is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canvas {
    /// Columns.
    pub columns: usize,
    /// Rows; none where everything is wanted, however long it is.
    pub rows: Option<usize>,
    /// In colours.
    pub colours: bool,
}

/// How the build is as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// It goes on.
    Running,
    /// It went well.
    Finished,
    /// It failed, or was given up.
    Ended,
}

/// The picture, line by line. No line is wider than the canvas, and there are not more than it has rows.
pub fn picture(record: &Record, stand: Stand, canvas: &Canvas, now: Instant) -> Vec<String> {
    let mut lines = vec![header(record, stand, canvas, now)];
    let room = canvas.rows.map_or(usize::MAX, |rows| rows.saturating_sub(1));
    let going = record.running().count();
    let details = room.saturating_sub(going).checked_div(going).map_or(0, |each| DETAILS.min(each));
    let mut blocks: Vec<(bool, Vec<String>)> = Vec::with_capacity(record.steps.len());
    for step in record.steps.values() {
        let running = step.state == State::Running;
        let shown = if running { details } else { usize::MAX };
        let mut block = vec![line(step, canvas, now)];
        block.extend(below(step, shown, canvas, now));
        blocks.push((running, block));
    }
    let mut left = room;
    let mut wanted = vec![false; blocks.len()];
    for running in [true, false] {
        for (index, (_, block)) in blocks.iter().enumerate().rev().filter(|(_, b)| b.0 == running) {
            if block.len() > left {
                break;
            }
            left -= block.len();
            wanted[index] = true;
        }
    }
    let shown = blocks.into_iter().zip(wanted).filter(|(_, wanted)| *wanted);
    lines.extend(shown.flat_map(|((_, block), _)| block));
    lines
}

fn header(record: &Record, stand: Stand, canvas: &Canvas, now: Instant) -> String {
    let (done, all) = record.counts();
    let all = if stand == Stand::Running { all } else { record.steps.len() };
    let time = seconds(now.saturating_duration_since(record.begun));
    let end = if stand == Stand::Finished { " FINISHED" } else { "" };
    truncate_str(&format!("[+] Building {time} ({done}/{all}){end}"), canvas.columns, "…").into_owned()
}

fn line(step: &Step, canvas: &Canvas, now: Instant) -> String {
    let (mark, colour) = match step.state {
        State::Running => ("", ""),
        State::Done => ("", "\u{1b}[34m"),
        State::Cached => ("CACHED ", "\u{1b}[34m"),
        State::Failed => ("ERROR ", "\u{1b}[31m"),
        State::Cancelled => ("CANCELED ", "\u{1b}[33m"),
    };
    let text = timed(&format!(" => {mark}{}", visible(&step.name)), &seconds(step.time(now)), canvas);
    if canvas.colours && !colour.is_empty() { format!("{colour}{text}\u{1b}[0m") } else { text }
}

/// What stands below a step: what it does while it goes on, what it left to say when it is done.
fn below(step: &Step, most: usize, canvas: &Canvas, now: Instant) -> Vec<String> {
    let running = step.state == State::Running;
    let parts = step.parts.iter().filter(|moving| running || !moving.part.name.starts_with("sha256:"));
    let parts = parts
        .map(|moving| timed(&format!(" => => {}", part_text(moving)), &seconds(moving.time(now)), canvas));
    let said = step.last.iter().filter(|_| running);
    let said = said.map(|line| truncate_str(&format!(" => => # {line}"), canvas.columns, "…").into_owned());
    let all: Vec<String> = parts.chain(said).collect();
    let over = all.len().saturating_sub(most);
    all.into_iter().skip(over).collect()
}

/// A text with a time at the right end of its line.
fn timed(text: &str, time: &str, canvas: &Canvas) -> String {
    let columns = canvas.columns;
    if columns < NARROW {
        return truncate_str(text, columns, "…").into_owned();
    }
    let room = columns.saturating_sub(time.len() + 1);
    let text = truncate_str(text, room, "…");
    let gap = columns.saturating_sub(measure_text_width(&text) + time.len());
    format!("{text}{}{time}", " ".repeat(gap))
}

#[cfg(test)]
mod tests;
