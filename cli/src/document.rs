//! What `inspect`, `--format json` and templates show: a document whose fields keep the order they were
//! written in, because people read it.

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// A value of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is never negative.
    Uint(u64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// Values in order.
    List(Vec<Document>),
    /// Fields in order.
    Map(Vec<(String, Document)>),
}

/// A document of named fields.
pub fn map<K: Into<String>>(fields: impl IntoIterator<Item = (K, Document)>) -> Document {
    Document::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// A list of anything that is a document.
pub fn list<T: Into<Document>>(items: impl IntoIterator<Item = T>) -> Document {
    Document::List(items.into_iter().map(Into::into).collect())
}

/// Texts by name, sorted by name.
pub fn texts<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> Document {
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort();
    map(fields.into_iter().map(|(name, value)| (name.as_str(), value.as_str().into())))
}

impl Document {
    /// One line of JSON.
    pub fn compact(&self) -> String {
        self.json(CompactFormatter)
    }

    /// JSON with four spaces a level, as docker indents it.
    pub fn pretty(&self) -> String {
        self.json(PrettyFormatter::with_indent(b"    "))
    }

    fn json(&self, formatter: impl Formatter) -> String {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.serialize(&mut serializer).expect("a document in memory is always valid JSON");
        visible(&String::from_utf8(bytes).expect("serde_json writes UTF-8"))
    }

    /// A field of it.
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

impl From<bool> for Document {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i32> for Document {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<i64> for Document {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u32> for Document {
    fn from(value: u32) -> Self {
        Self::Uint(value.into())
    }
}
impl From<u64> for Document {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}
impl From<&str> for Document {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Document {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&String> for Document {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl<T: Into<Document>> From<Option<T>> for Document {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl<T: Into<Document>> From<Vec<T>> for Document {
    fn from(value: Vec<T>) -> Self {
        list(value)
    }
}
impl<T: Clone + Into<Document>> From<&[T]> for Document {
    fn from(value: &[T]) -> Self {
        list(value.iter().cloned())
    }
}

impl From<serde_json::Value> for Document {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::Uint(value),
                (None, None) => number.as_f64().map_or(Self::Null, Self::Float),
            },
            Value::String(value) => Self::Text(value),
            Value::Array(items) => list(items),
            Value::Object(fields) => map(fields.into_iter().map(|(name, value)| (name, value.into()))),
        }
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Uint(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// Writes what a terminal would obey (and no reader would see) as `\u` escapes, which JSON allows for any
/// character of a text; outside of texts JSON is plain.
fn visible(json: &str) -> String {
    use std::fmt::Write as _;
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !crate::output::is_hidden(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(shown, "\\u{unit:04x}").expect("writing to a string cannot fail");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order() {
        let document = map([("b", 1_u32.into()), ("a", list(["x"])), ("c", Document::Null)]);
        assert_eq!(document.compact(), r#"{"b":1,"a":["x"],"c":null}"#);
        assert_eq!(
            document.pretty(),
            "{\n    \"b\": 1,\n    \"a\": [\n        \"x\"\n    ],\n    \"c\": null\n}"
        );
        assert_eq!(document.field("b"), Some(&Document::Uint(1)));
    }

    #[test]
    fn json_never_drives_a_terminal() {
        let document = Document::from("a\u{1b}[31mb\u{9b}c\u{202e}d\u{7f}ü");
        let text = document.compact();
        assert_eq!(text, "\"a\\u001b[31mb\\u009bc\\u202ed\\u007fü\"");
        assert_eq!(Document::from(serde_json::from_str::<serde_json::Value>(&text).unwrap()), document);
    }
}
