//! What an image says of itself: the document that it is named after, as far as a build needs it.

use serde_json::{Map, Value, json};

use crate::error::Error;

/// An image's document, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// The settings of its containers.
    pub config: Map<String, Value>,
    /// Its steps, oldest first, one of them for each layer.
    pub history: Vec<Value>,
    /// What its layers hold, lowest first.
    pub diff_ids: Vec<String>,
    /// When it was made, as it says.
    pub created: String,
    /// What it runs on: "linux/arm64/v8".
    pub platform: String,
}

impl Document {
    /// Reads it.
    ///
    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::Invalid("the image's configuration is no JSON object".to_owned());
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).map_err(|_| wrong())?;
        let config = match document.remove("config") {
            Some(Value::Object(config)) => config,
            Some(Value::Null) | None => Map::new(),
            Some(_) => return Err(wrong()),
        };
        let mut history: Vec<Value> = match document.remove("history") {
            Some(Value::Array(history)) => {
                history.into_iter().map(|step| if step.is_object() { step } else { json!({}) }).collect()
            }
            _ => Vec::new(),
        };
        let diff_ids: Vec<String> = match document.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")) {
            Some(Value::Array(ids)) => ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        // A layer that nothing tells of would be taken for that of the next step.
        let told = history.iter().filter(|step| !is_empty(step)).count();
        history.extend(std::iter::repeat_n(json!({}), diff_ids.len().saturating_sub(told)));
        // Nobody knows which ones too many are: those told last are said to have made none.
        let surplus = told.saturating_sub(diff_ids.len());
        for step in history.iter_mut().rev().filter(|step| !is_empty(step)).take(surplus) {
            step["empty_layer"] = json!(true);
        }
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (os, architecture, variant) = (text("os"), text("architecture"), text("variant"));
        let platform = [os, architecture, variant].join("/").trim_end_matches('/').to_owned();
        Ok(Self { config, history, diff_ids, created: text("created"), platform })
    }
}

/// Whether a step of a history made no layer.
pub fn is_empty(step: &Value) -> bool {
    step.get("empty_layer") == Some(&Value::Bool(true))
}

/// A step of a history. `created` is when, `author` who; nothing is said of what is empty.
pub fn step(created_by: &str, created: &str, author: &str, empty: bool) -> Value {
    let mut step = Map::new();
    let said = [("created", created), ("author", author), ("created_by", created_by)];
    for (key, text) in said.into_iter().filter(|(_, text)| !text.is_empty()) {
        step.insert(key.to_owned(), json!(text));
    }
    if empty {
        step.insert("empty_layer".to_owned(), json!(true));
    }
    Value::Object(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_a_step() {
        let document = json!({ "os": "linux", "architecture": "arm64", "variant": "v8", "created": "then",
            "config": { "User": "7" }, "rootfs": { "diff_ids": ["sha256:a", "sha256:b"] },
            "history": [{ "created_by": "a" }, { "created_by": "x", "empty_layer": true }] });
        let read = Document::read(document.to_string().as_bytes()).unwrap();
        assert_eq!(read.history.len(), 3, "{read:?}");
        assert_eq!((read.platform.as_str(), read.created.as_str()), ("linux/arm64/v8", "then"));
        assert_eq!(read.diff_ids, ["sha256:a", "sha256:b"]);
        assert_eq!(read.config["User"], "7");
        let document = json!({ "rootfs": { "diff_ids": ["sha256:a"] },
            "history": [{ "created_by": "a" }, { "created_by": "b" }, 7] });
        let read = Document::read(document.to_string().as_bytes()).unwrap();
        let empty = json!({ "created_by": "b", "empty_layer": true });
        assert_eq!(read.history, [json!({ "created_by": "a" }), empty, json!({ "empty_layer": true })]);
        assert_eq!(Document::read(b"{}").unwrap(), Document::default());
        assert!(Document::read(b"[]").is_err());
        assert!(Document::read(br#"{"config":1}"#).is_err());
    }
}
