//! A build for programs: one JSON object a line. docs/build.md says what is in them.

use serde_json::{Value, json};

use davit_proto::build::Built;
use davit_proto::status::RemoteError;

use super::record::{Change, Record, State};

/// What changed, as an object.
pub fn change(record: &Record, change: &Change) -> Option<Value> {
    Some(match change {
        Change::Begun(number) => {
            let step = record.steps.get(number)?;
            json!({"type": "step", "step": number, "state": "running", "name": step.name})
        }
        Change::Ended(number) => {
            let step = record.steps.get(number)?;
            let state = match step.state {
                State::Running => return None,
                State::Done => "done",
                State::Cached => "cached",
                State::Failed => "failed",
                State::Cancelled => "cancelled",
            };
            let seconds = step.time(std::time::Instant::now()).as_secs_f64();
            json!({"type": "step", "step": number, "state": state, "name": step.name, "seconds": seconds})
        }
        Change::Line { number, at, text, stderr } => {
            let stream = if *stderr { "stderr" } else { "stdout" };
            let at = at.as_secs_f64();
            json!({"type": "output", "step": number, "stream": stream, "at": at, "text": text})
        }
        Change::Part(number, index) => {
            let part = &record.steps.get(number)?.parts.get(*index)?.part;
            json!({"type": "part", "step": number, "name": part.name, "current": part.current,
                "total": part.total, "done": part.done})
        }
        Change::Warning(text) => json!({"type": "warning", "text": text}),
        Change::Finding(found) => {
            json!({"type": "warning", "check": found.check, "text": found.text, "line": found.line,
                "column": found.column})
        }
    })
}

/// The end of a build that went well.
pub fn built(built: &Built) -> Value {
    json!({"type": "built", "image": built.image_id, "names": built.references})
}

/// The end of one that did not.
pub fn failed(error: &RemoteError, step: Option<u32>) -> Value {
    let number = |wanted: &str| {
        let found = error.values.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.parse::<u64>().ok())
    };
    json!({"type": "error", "text": error.message, "reason": error.reason, "step": step,
        "line": number("line"), "column": number("column")})
}
