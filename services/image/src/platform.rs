//! Which of an index's images runs here.

use crate::document::{Descriptor, Platform};

impl Platform {
    /// This host's.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// `os/architecture[/variant]`, as people write it.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            name.push('/');
            name.push_str(&self.variant);
        }
        name
    }

    /// How well an image for this platform runs on `wanted`: the higher the better, `None` not at all.
    fn fit(&self, wanted: &Self) -> Option<u32> {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return None;
        }
        if self.variant == wanted.variant {
            return Some(u32::MAX);
        }
        let least = match wanted.architecture.as_str() {
            "amd64" => 1,
            "arm" => 7,
            "arm64" => 8,
            _ => 0,
        };
        let (own, most) = (level(&self.variant, 0)?, level(&wanted.variant, least)?);
        (own <= most).then_some(own)
    }
}

/// A variant as a number, so that a lower one is known to run where a higher one does.
fn level(variant: &str, unsaid: u32) -> Option<u32> {
    if variant.is_empty() { Some(unsaid) } else { variant.strip_prefix('v')?.parse().ok() }
}

/// Whether an image for one platform runs on another.
#[must_use]
pub fn fits(image: &Platform, wanted: &Platform) -> bool {
    image.fit(wanted).is_some()
}

/// The manifest of an index that runs best on a platform; of equal ones the first. A single manifest that does not say
/// what it is for is tried.
#[must_use]
pub fn choose<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let fit = |manifest: &'a Descriptor| Some((manifest.platform.as_ref()?.fit(wanted)?, manifest));
    let best = manifests.iter().rev().filter_map(fit).max_by_key(|(fit, _)| *fit);
    match (best, manifests) {
        (Some((_, manifest)), _) => Some(manifest),
        (None, [only]) if only.platform.is_none() => Some(only),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest;

    fn platform(name: &str) -> Platform {
        let mut parts = name.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    fn chosen(names: &[&str], wanted: &str) -> Option<String> {
        let manifests: Vec<Descriptor> = names
            .iter()
            .map(|name| Descriptor {
                platform: (!name.is_empty()).then(|| platform(name)),
                ..Descriptor::new("m", digest(name.as_bytes()), 1)
            })
            .collect();
        let best = choose(&manifests, &platform(wanted))?;
        names.iter().find(|name| digest(name.as_bytes()) == best.digest).map(|name| (*name).to_owned())
    }

    #[test]
    fn the_best_that_runs_is_taken() {
        let all = [
            "unknown/unknown",
            "windows/amd64",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
        ];
        assert_eq!(chosen(&all, "linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&all, "linux/arm64").as_deref(), Some("linux/arm64/v8"));
        assert_eq!(chosen(&all, "linux/arm64/v8").as_deref(), Some("linux/arm64/v8"));
        assert_eq!(chosen(&all, "linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(chosen(&all, "linux/arm/v6").as_deref(), Some("linux/arm/v6"));
        assert_eq!(chosen(&all, "linux/arm/v5"), None);
        assert_eq!(chosen(&all, "linux/s390x"), None);
        assert_eq!(chosen(&["linux/arm64"], "linux/arm64/v8").as_deref(), Some("linux/arm64"));
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen(&["linux/amd64/v3"], "linux/amd64"), None);
        assert_eq!(chosen(&[""], "linux/amd64").as_deref(), Some(""));
        assert_eq!(chosen(&["", ""], "linux/amd64"), None);
    }

    #[test]
    fn platforms_are_written_as_people_do() {
        assert_eq!(platform("linux/arm/v7").name(), "linux/arm/v7");
        assert!(Platform::host().name().starts_with("linux/"));
    }
}
