//! JSON of others laid out for people, its fields in their order.

use std::fmt::Write as _;

use crate::output;

/// The same JSON with a tab a level. Bytes that drive a terminal are escaped, which JSON can say too. `None` for what is
/// no JSON.
pub fn indent(json: &[u8]) -> Option<String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(json).ok()?;
    let text = std::str::from_utf8(json).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut chars = text.chars().filter(|c| !c.is_ascii_whitespace() || *c == ' ').peekable();
    while let Some(c) = chars.next() {
        if in_text {
            write_char(&mut out, c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            ' ' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if_eq(&' ').is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_text = true;
                out.push(c);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n('\t', depth));
}

fn write_char(out: &mut String, c: char) {
    if !output::is_hidden(c) {
        out.push(c);
        return;
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        write!(out, "\\u{unit:04x}").expect("writing to a string cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tab_a_level_and_the_order_kept() {
        let text =
            indent(b"{\"z\":1, \"a\" : [ ] ,\n\"b\":[1,{\"c\":\"x, {y} \\\" \xe2\x80\xae\"}]}").unwrap();
        assert_eq!(
            text,
            "{\n\t\"z\": 1,\n\t\"a\": [],\n\t\"b\": [\n\t\t1,\n\t\t{\n\t\t\t\"c\": \"x, {y} \\\" \\u202e\"\n\t\t}\n\t]\n}"
        );
        assert_eq!(indent(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn it_stays_the_same_json(key in "\\PC{0,12}", value in any::<String>(), number in any::<i32>()) {
            let json = serde_json::json!({key: [value, {"n": number}, [], {}]});
            let text = indent(json.to_string().as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
        }
    }
}
