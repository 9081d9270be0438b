//! `--platform`.

use davit_proto::image::Platform;

use crate::spec::Invalid;

/// `os/architecture[/variant]`, or one of the first two alone.
pub fn parse(text: &str) -> Result<Platform, Invalid> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        ["linux"] => ("linux", std::env::consts::ARCH, ""),
        [architecture] => ("linux", *architecture, ""),
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant] => (*os, *architecture, *variant),
        _ => ("", "", ""),
    };
    if os.is_empty() || architecture.is_empty() || text.ends_with('/') {
        return Err(Invalid::new("--platform", text, "os/architecture[/variant] is wanted"));
    }
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64", variant) => ("amd64", variant),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", "") => ("arm", "v7"),
        ("armel", "") => ("arm", "v6"),
        (architecture, variant) => (architecture, variant),
    };
    Ok(Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, wanted) in [
            ("linux/amd64", ("linux", "amd64", "")),
            ("linux/arm64/v8", ("linux", "arm64", "v8")),
            ("arm64", ("linux", "arm64", "")),
            ("x86_64", ("linux", "amd64", "")),
            ("armhf", ("linux", "arm", "v7")),
        ] {
            let platform = parse(text).unwrap();
            assert_eq!(
                (platform.os.as_str(), platform.architecture.as_str(), platform.variant.as_str()),
                wanted
            );
        }
        for bad in ["", "/", "linux/", "/amd64", "a/b/c/d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
