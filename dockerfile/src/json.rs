//! The JSON form: `["program", "argument"]`.

use serde_json::Value;

use crate::error::{Error, Problem};
use crate::word::Word;

/// The items of `text` when it is a list of strings; none when it is not JSON, which makes it the shell form.
///
/// # Errors
/// It is a JSON list of something else than strings: nobody means that as a command for a shell.
pub(crate) fn list(text: &Word) -> Result<Option<Vec<String>>, Error> {
    let trimmed = text.trim();
    if !trimmed.text().starts_with('[') {
        return Ok(None);
    }
    // The parser of serde_json bounds the depth by itself.
    let Ok(Value::Array(values)) = serde_json::from_str(trimmed.text()) else { return Ok(None) };
    let items = values.into_iter().map(|value| match value {
        Value::String(item) => Ok(item),
        other => Err(Error::new(
            trimmed.at(),
            Problem::Word {
                what: "list",
                word: other.to_string(),
                reason: "a JSON list may only have strings",
            },
        )),
    });
    items.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn parse(text: &str) -> Result<Option<Vec<String>>, Error> {
        list(&Word::made(text, Position::START, '\\'))
    }

    #[test]
    fn lists_of_strings_are_lists_and_the_rest_is_for_the_shell() {
        assert_eq!(parse(r#" ["a", "b\n"] "#), Ok(Some(vec!["a".into(), "b\n".into()])));
        assert_eq!(parse("[]"), Ok(Some(Vec::new())));
        for text in ["[ -f /x ] && y", "['a']", "[\"a\"", "[\"a\"] b", "{}", "a", ""] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
        let error = parse(r#"["a", 1]"#).unwrap_err().to_string();
        assert_eq!(error, "line 1, column 1: list \"1\": a JSON list may only have strings");
        assert!(parse(&"[".repeat(100_000)).is_ok());
    }
}
