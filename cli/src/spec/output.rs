//! `--output type=local,dest=out`: what becomes of what was built.

use super::{Invalid, csv};

/// What the flag is called in messages.
const FLAG: &str = "--output";

/// One thing that becomes of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Its files into a folder of this side.
    Folder(String),
    /// Its files as an archive; none for standard output.
    Files(Option<String>),
    /// The image as an archive.
    Archive {
        /// As the OCI writes it, not docker.
        oci: bool,
        /// The file; none for standard output.
        dest: Option<String>,
        /// Names that the image gets.
        names: Vec<String>,
    },
    /// An image of the engine.
    Image {
        /// Names that it gets.
        names: Vec<String>,
        /// They are sent to their registries too.
        push: bool,
    },
}

/// Reads one value of the flag.
pub fn parse(text: &str) -> Result<Output, Invalid> {
    match text {
        "" => return Err(Invalid::new(FLAG, text, "must be a folder or type=…")),
        "-" => return Ok(Output::Files(None)),
        path if !path.contains('=') && !path.contains(',') => return Ok(Output::Folder(path.to_owned())),
        _ => {}
    }
    let wrong = |rule: &str| Invalid::new(FLAG, text, rule);
    let mut fields = Fields::read(text)?;
    let kind = fields.kind.take().ok_or_else(|| wrong("type is missing"))?;
    let Fields { dest, names, push, .. } = fields;
    let given = dest.is_some();
    let dest = || dest.clone().filter(|dest| dest != "-");
    match kind.as_str() {
        "local" => {
            let folder = dest().ok_or_else(|| wrong("dest must name a folder"))?;
            Ok(Output::Folder(folder))
        }
        "tar" => Ok(Output::Files(dest())),
        "oci" => Ok(Output::Archive { oci: true, dest: dest(), names }),
        // Without a file docker loads it into its engine, where it is here in any case.
        "docker" if !given => Ok(Output::Image { names, push: false }),
        "docker" => Ok(Output::Archive { oci: false, dest: dest(), names }),
        "image" => Ok(Output::Image { names, push: push.unwrap_or(false) }),
        "registry" => Ok(Output::Image { names, push: push.unwrap_or(true) }),
        _ => Err(wrong("type must be local, tar, oci, docker, image or registry")),
    }
}

/// The fields of a value.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<String>,
    names: Vec<String>,
    push: Option<bool>,
}

impl Fields {
    fn read(text: &str) -> Result<Self, Invalid> {
        let wrong = |rule: String| Invalid::new(FLAG, text, rule);
        let mut fields = Self::default();
        for (key, value) in csv::fields(FLAG, text)? {
            let flag = || match value.as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(_) => Err(wrong(format!("{key} must be true or false"))),
            };
            match key.as_str() {
                "type" => fields.kind = value,
                "dest" => fields.dest = value,
                "name" => {
                    let names = value.as_deref().unwrap_or_default().split(',');
                    fields.names.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
                }
                "push" => fields.push = Some(flag()?),
                // What is asked for is so in any case.
                "rewrite-timestamp" | "oci-mediatypes" | "unpack" | "store" | "tar" if flag()? => {}
                "compression" if value.as_deref() == Some("gzip") => {}
                _ => return Err(wrong(format!("{key} is not served, or not with this value"))),
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_and_long_ones() {
        assert_eq!(parse("out"), Ok(Output::Folder("out".into())));
        assert_eq!(parse("-"), Ok(Output::Files(None)));
        assert_eq!(parse("type=local,dest=out"), Ok(Output::Folder("out".into())));
        assert_eq!(parse("type=tar,dest=-"), Ok(Output::Files(None)));
        assert_eq!(parse("type=tar,dest=a.tar"), Ok(Output::Files(Some("a.tar".into()))));
        assert_eq!(
            parse("type=oci,dest=a.tar,name=x"),
            Ok(Output::Archive { oci: true, dest: Some("a.tar".into()), names: vec!["x".into()] })
        );
        assert_eq!(parse("type=docker"), Ok(Output::Image { names: vec![], push: false }));
        let both = vec!["a".to_owned(), "b:1".to_owned()];
        assert_eq!(
            parse("type=image,\"name=a,b:1\",push=true"),
            Ok(Output::Image { names: both, push: true })
        );
        assert_eq!(
            parse("type=registry,name=a,rewrite-timestamp=true"),
            Ok(Output::Image { names: vec!["a".into()], push: true })
        );
    }

    #[test]
    fn what_is_not_served_is_said() {
        for wrong in
            ["", "dest=a", "type=local", "type=cloud", "type=image,push=maybe", "type=image,compression=zstd"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let said = parse("type=oci,unpack=false").unwrap_err().to_string();
        assert!(said.contains("unpack is not served"), "{said}");
    }
}
