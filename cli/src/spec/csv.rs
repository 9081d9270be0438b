//! `type=bind,"source=/a,b",target=/c`: fields between commas, quoted as in CSV.

use super::Invalid;

/// The fields of one line, each as key and value; a field without `=` has no value.
pub fn fields(flag: &str, text: &str) -> Result<Vec<(String, Option<String>)>, Invalid> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or_else(|| {
                Invalid::new(flag, text, "a quoted field does not end before the next comma")
            })?,
            None => match rest.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
        };
        fields.push(match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_ascii_lowercase(), None),
        });
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field whose opening quote was taken, and what follows its comma.
fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Some((field, None));
        } else {
            return after.strip_prefix(',').map(|after| (field, Some(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let fields = fields("--x", text).unwrap();
        fields.into_iter().map(|(key, value)| (key, value.unwrap_or_else(|| "-".into()))).collect()
    }

    #[test]
    fn fields_and_quotes() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read("type=bind,ro"), [pair("type", "bind"), pair("ro", "-")]);
        assert_eq!(read("\"source=/a,b\",TARGET=/c"), [pair("source", "/a,b"), pair("target", "/c")]);
        assert_eq!(read("\"a=x\"\"y\""), [pair("a", "x\"y")]);
        assert!(fields("--x", "\"a=b").is_err());
        assert!(fields("--x", "\"a=b\"c").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\"a=,b ]{0,20}") {
            let _ = fields("--x", &text);
        }

        #[test]
        fn quoting_carries_any_value(value in "\\PC{0,20}") {
            let text = format!("\"k={}\",z=1", value.replace('"', "\"\""));
            let got = fields("--x", &text).unwrap();
            prop_assert_eq!(got[0].1.as_deref(), Some(value.as_str()));
            prop_assert_eq!(got.len(), 2);
        }
    }
}
