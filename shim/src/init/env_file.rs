//! Variables whose values are in files of the host. The spec has their names and paths only, so that no value is ever
//! written down: it goes from the file to init, and from there into the program.

use std::path::PathBuf;

use davit_sys::file::read_bounded;
use oci_spec::runtime::Spec;

use super::error::{Failure, Step};

/// The annotation: a JSON list of pairs, name and path.
const FILES: &str = "davit.env-files";
/// The kernel's own bound on one variable.
const LONGEST: usize = 128 << 10;

/// Puts the values into an environment, before which those of the spec give way. No message has a value in it.
pub fn add(spec: &Spec, env: &mut Vec<String>) -> Result<(), Failure> {
    let Some(text) = spec.annotations().as_ref().and_then(|notes| notes.get(FILES)) else { return Ok(()) };
    let pairs: Vec<(String, PathBuf)> =
        serde_json::from_str(text).map_err(|_| Failure::invalid(format!("{FILES} is no list of pairs")))?;
    for (name, path) in pairs {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Failure::invalid(format!("{name:?} cannot be the name of a variable")));
        }
        let bytes = read_bounded(&path, LONGEST - name.len().min(LONGEST) - 2);
        let bytes = bytes.step(format_args!("read the value of {name}"))?;
        if bytes.contains(&0) {
            return Err(Failure::invalid(format!("the value of {name} holds a NUL byte")));
        }
        let value = String::from_utf8(bytes)
            .map_err(|_| Failure::invalid(format!("the value of {name} is no UTF-8")))?;
        env.retain(|entry| entry.split('=').next() != Some(name.as_str()));
        env.push(format!("{name}={value}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        let notes = serde_json::json!({ FILES: text });
        serde_json::from_value(serde_json::json!({"ociVersion": "1.0.2", "annotations": notes})).unwrap()
    }

    #[test]
    fn values_are_read_and_come_before_those_of_the_spec() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "s3=\ncret").unwrap();
        let mut env = vec!["A=1".to_owned(), "TOKEN=old".to_owned()];
        add(&spec(&format!("[[\"TOKEN\", {path:?}]]")), &mut env).unwrap();
        assert_eq!(env, ["A=1", "TOKEN=s3=\ncret"]);
        add(&Spec::default(), &mut env).unwrap();
    }

    #[test]
    fn what_cannot_be_a_variable_is_refused_without_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        for (name, value) in [("T", &b"hush\0"[..]), ("T", b"hush\xff"), ("", b"hush"), ("A=B", b"hush")] {
            std::fs::write(&path, value).unwrap();
            let error = add(&spec(&format!("[[{name:?}, {path:?}]]")), &mut Vec::new()).unwrap_err();
            assert!(!error.message.contains("hush"), "{error}");
        }
        std::fs::write(&path, vec![b'x'; LONGEST]).unwrap();
        assert!(add(&spec(&format!("[[\"T\", {path:?}]]")), &mut Vec::new()).is_err());
        assert!(add(&spec("[[\"T\", \"/none\"]]"), &mut Vec::new()).is_err());
    }
}
