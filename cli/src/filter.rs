//! `--filter`.

use davit_proto::types::Filter;

use crate::spec::Invalid;

/// `key=value` each.
pub fn parse(texts: &[String]) -> Result<Vec<Filter>, Invalid> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Filter { key: key.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
            }
            _ => Err(Invalid::new("--filter", text, "KEY=VALUE is wanted")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let filters = parse(&["Label=a=b".into(), "status = running".into()]).unwrap();
        assert_eq!(filters[0], Filter { key: "label".into(), value: "a=b".into() });
        assert_eq!(filters[1], Filter { key: "status".into(), value: "running".into() });
        assert!(parse(&["x".into()]).is_err());
        assert!(parse(&["=x".into()]).is_err());
    }
}
