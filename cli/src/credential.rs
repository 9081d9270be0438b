//! What the person at this side is known by at registries: docker's `config.json` and the helper programs it names.
//!
//! ```text
//! config.json   auths        {"localhost:5000": {"auth": base64("me:secret")}, "quay.io": {"identitytoken": …}}
//!               credHelpers  {"gcr.io": "gcloud"}       one registry's, asked first
//!               credsStore   "pass"                     everybody else's
//! ```
//!
//! Neither names nor passwords are ever printed, and helpers get them on their standard input.

mod file;
mod helper;

use std::path::PathBuf;

use davit_proto::image::Credential;

pub use self::file::Settings;
use crate::error::Error;
use crate::{output, reference};

/// The name under which docker keeps what is known at Docker Hub.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Docker Hub, as references name it.
pub const HUB: &str = "docker.io";

/// Where something was kept.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the file, readable.
    File(PathBuf),
    /// By a helper.
    Helper,
}

/// The registry that was meant: a host as references name it, whatever address was typed for it.
pub fn registry(typed: &str) -> String {
    let host = host(typed);
    if matches!(host, "" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com") {
        return HUB.to_owned();
    }
    host.to_owned()
}

/// What is known for the registry of an image. What cannot be read is told, and nothing is known then: the image may
/// well be public.
pub fn of_image(image: &str) -> Option<Credential> {
    find(reference::registry(image)).unwrap_or_else(|error| {
        output::complain(&format!("WARNING: stored credentials are not used: {error}"));
        None
    })
}

/// What is known for a registry.
pub fn find(registry: &str) -> Result<Option<Credential>, Error> {
    let settings = Settings::read()?;
    let kept = settings.find(registry)?;
    match settings.helper(registry) {
        None => Ok(kept),
        Some(name) => Ok(helper::get(&name, &key(registry))?.or(kept)),
    }
}

/// Keeps what is known for a registry.
pub fn keep(registry: &str, credential: &Credential) -> Result<Kept, Error> {
    let mut settings = Settings::read()?;
    let kept = match settings.helper(registry) {
        Some(name) => {
            helper::store(&name, &key(registry), credential)?;
            // Docker lists by these what its helpers know.
            settings.put(registry, None);
            Kept::Helper
        }
        None => {
            settings.put(registry, Some(credential));
            Kept::File(settings.path().to_owned())
        }
    };
    settings.write()?;
    Ok(kept)
}

/// Forgets what is known for a registry. Tells whether anything was.
pub fn forget(registry: &str) -> Result<bool, Error> {
    let mut settings = Settings::read()?;
    let by_helper = match settings.helper(registry) {
        Some(name) => {
            let known = helper::get(&name, &key(registry))?.is_some();
            if known {
                helper::erase(&name, &key(registry))?;
            }
            known
        }
        None => false,
    };
    let in_file = settings.remove(registry);
    if in_file {
        settings.write()?;
    }
    Ok(by_helper || in_file)
}

/// The name under which a registry is kept.
fn key(registry: &str) -> String {
    if registry == HUB { HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// The host of an address.
fn host(address: &str) -> &str {
    let address = address.trim();
    let rest =
        address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_means_one_registry() {
        for (typed, wanted) in [
            ("", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("https://quay.io/v2/", "quay.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://127.0.0.1:5000/", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(typed), wanted, "{typed}");
        }
        assert_eq!(key("docker.io"), "https://index.docker.io/v1/");
    }
}
