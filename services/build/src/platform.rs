//! Platforms: this host's, those that it runs as they are, and those for which somebody registered a program.

use std::path::Path;

use davit_dockerfile::scope::Platform;

use crate::error::Error;

/// Where handlers of foreign programs are registered.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// The platform of this host, in the words of images.
pub fn host() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: String::new() }
}

/// Reads what people write: `linux/arm/v7`, `linux`, `amd64`; and this host's where they write nothing.
///
/// # Errors
/// It is no platform, or several.
pub fn parse(text: &str) -> Result<Platform, Error> {
    let wrong = |why: &str| Error::Invalid(format!("invalid platform {text:?}: {why}"));
    if text.contains(',') {
        return Err(wrong("one build makes an image for one platform"));
    }
    let lower = text.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let fine = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if lower.is_empty() {
        return Ok(host());
    }
    if !parts.iter().all(fine) || parts.len() > 3 {
        return Err(wrong("must be like linux/arm64 or linux/arm/v7"));
    }
    let (os, architecture, variant) = match parts.as_slice() {
        ["linux" | "local"] => return Ok(host()),
        [architecture] => ("linux", *architecture, ""),
        [os, architecture] => (*os, *architecture, ""),
        [os, architecture, variant, ..] => (*os, *architecture, *variant),
        [] => return Ok(host()),
    };
    if os != "linux" {
        return Err(wrong("only Linux can be built for"));
    }
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("aarch64" | "arm64", "v8" | "8" | "") => ("arm64", ""),
        ("armhf", "") | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", "") | ("arm", "6") => ("arm", "v6"),
        other => other,
    };
    let known =
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() };
    Ok(known)
}

/// Whether commands of a platform run on this host.
///
/// # Errors
/// They do not, and what would help.
pub fn check(wanted: &Platform) -> Result<(), Error> {
    check_with(wanted, &host(), Path::new(HANDLERS))
}

fn check_with(wanted: &Platform, host: &Platform, handlers: &Path) -> Result<(), Error> {
    if is_native(wanted, host) || has_handler(wanted, handlers) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "cannot build for {wanted} on this host, which is {host}: there is no handler of its programs in {HANDLERS}; \
         one of qemu-user, registered with the flag F, would do"
    )))
}

fn is_native(wanted: &Platform, host: &Platform) -> bool {
    match (host.architecture.as_str(), wanted.architecture.as_str()) {
        ("amd64", "386") => true,
        ("amd64", "amd64") => level(&wanted.variant).is_some_and(|level| level <= own_level()),
        (own, wanted_architecture) => own == wanted_architecture,
    }
}

/// The level of a variant of amd64; none for one that is unknown.
fn level(variant: &str) -> Option<u32> {
    match variant {
        "" => Some(1),
        other => other.strip_prefix('v').and_then(|level| level.parse().ok()),
    }
}

/// The level of amd64 that this processor has.
#[cfg(target_arch = "x86_64")]
fn own_level() -> u32 {
    use std::is_x86_feature_detected as has;
    let second = has!("sse4.2") && has!("popcnt") && has!("ssse3") && has!("cmpxchg16b");
    let third = second && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma") && has!("movbe");
    let fourth = third
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    1 + u32::from(second) + u32::from(third) + u32::from(fourth)
}

#[cfg(not(target_arch = "x86_64"))]
fn own_level() -> u32 {
    1
}

/// Whether a program is registered that runs a platform's, and that is there in every root: it was opened when it was
/// registered.
fn has_handler(wanted: &Platform, handlers: &Path) -> bool {
    let name = match wanted.architecture.as_str() {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    };
    let Ok(text) = std::fs::read_to_string(handlers.join(format!("qemu-{name}"))) else { return false };
    let flagged =
        text.lines().any(|line| line.strip_prefix("flags:").is_some_and(|flags| flags.contains('F')));
    text.lines().next() == Some("enabled") && flagged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        parse(text).map(|platform| platform.to_string()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn platforms_are_read_as_people_write_them() {
        assert_eq!(name("linux/x86_64"), "linux/amd64");
        assert_eq!(name("arm64"), "linux/arm64");
        assert_eq!(name("linux/arm64/v8"), "linux/arm64");
        assert_eq!(name("linux/arm"), "linux/arm/v7");
        assert_eq!(name("linux/amd64/v3"), "linux/amd64/v3");
        assert_eq!(name("i386"), "linux/386");
        assert_eq!(name("linux"), host().to_string());
        assert_eq!(name(""), host().to_string());
        for wrong in
            ["windows/amd64", "linux/", "linux/a/b/c", "linux/amd64,linux/arm64", "linux/a b", "../x"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_foreign_platform_needs_a_handler_that_is_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        let check = |text: &str| check_with(&parse(text).unwrap(), &host, folder.path());
        assert!(check("linux/amd64").is_ok() && check("linux/386").is_ok());
        let error = check("linux/arm64").unwrap_err().to_string();
        assert!(error.contains("cannot build for linux/arm64") && error.contains("binfmt_misc"), "{error}");
        let handler = folder.path().join("qemu-aarch64");
        std::fs::write(&handler, "enabled\ninterpreter /usr/bin/qemu\nflags: OC\n").unwrap();
        assert!(check("linux/arm64").is_err());
        std::fs::write(&handler, "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\n").unwrap();
        assert!(check("linux/arm64").is_ok());
        std::fs::write(&handler, "disabled\ninterpreter /usr/bin/qemu\nflags: OCF\n").unwrap();
        assert!(check("linux/arm64").is_err());
    }
}
