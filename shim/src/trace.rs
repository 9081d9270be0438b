//! The shim's own log: one line an event on standard error, which the controller made a file.
//!
//! Not one of the usual subscribers: they keep tables for the spans of thousands of threads, 37 kB in each of what may
//! be a thousand shims. We have one thread and no spans.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::stdio::clock::rfc3339;

/// Writes every event from `INFO` up, from now on.
pub fn start() {
    // Only a second call fails, and the first one's subscriber stays.
    let _ = tracing::subscriber::set_global_default(Lines);
}

#[derive(Debug)]
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.is_event()
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let time = rfc3339(SystemTime::now());
        // There is nobody to tell that nobody can be told.
        let _ = writeln!(std::io::stderr(), "{time} {}{}", event.metadata().level(), line.0);
    }

    // Spans are disabled above, so none is ever made.
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// The message first, then ` name=value` of the other fields; control characters escaped, since a value may be what a
/// stranger chose.
struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format_args!("{value:?}"));
    }
}

impl Line {
    fn add(&mut self, field: &Field, value: &dyn fmt::Display) {
        let name = field.name();
        let mut text = Escaped(String::new());
        // Writing into a string cannot fail; a value that fails to show itself is cut.
        let _ = write!(text, "{value}");
        if name == "message" {
            self.0.insert_str(0, &format!(" {}", text.0));
        } else {
            let _ = write!(self.0, " {name}={}", text.0);
        }
    }
}

struct Escaped(String);

impl fmt::Write for Escaped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() { self.0.extend(c.escape_default()) } else { self.0.push(c) }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps the lines instead of writing them.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            Lines.enabled(metadata)
        }
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            Lines.new_span(span)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_line_is_one_line() {
        let kept = Kept::default();
        tracing::subscriber::with_default(kept.clone(), || {
            tracing::warn!(name = "a\n\x1b[2J", number = 7, why = %"so\rwhat", "cannot {}", "do\tit");
            tracing::debug!("not this");
        });
        let lines = kept.0.lock().unwrap().clone();
        assert_eq!(lines, [r" cannot do\tit name=a\n\u{1b}[2J number=7 why=so\rwhat"]);
    }
}
