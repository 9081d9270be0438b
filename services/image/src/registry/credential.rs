//! Credentials: a type that does not print them, and Docker's `config.json` with its helpers.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential};

/// The name under which Docker keeps the credentials of Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const CONFIG_MAX: u64 = 1 << 20;
const HELPER_PATIENCE: Duration = Duration::from_secs(20);

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// How a registry knows us.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A name and a password (or an access token in its place).
    Password {
        /// The user's name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that the registry's token service exchanges.
    IdentityToken(Secret),
}

/// Docker's folder of settings: `$DOCKER_CONFIG`, else `~/.docker`.
pub(super) fn default_folder() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
}

/// Looks up the credentials of a registry; a helper program may be run, so it happens on a thread of its own. The
/// error is a sentence about the file or the helper.
pub(super) async fn look_up(folder: PathBuf, domain: &str) -> Result<Option<Credential>, String> {
    let key = if domain == crate::reference::DEFAULT_DOMAIN { HUB_KEY.to_owned() } else { domain.to_owned() };
    let task = tokio::task::spawn_blocking(move || read(folder, &key));
    match tokio::time::timeout(HELPER_PATIENCE, task).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err("reading docker's config.json failed".to_owned()),
        Err(_) => Err(format!("the credential helper gave no answer within {} s", HELPER_PATIENCE.as_secs())),
    }
}

fn read(folder: PathBuf, key: &str) -> Result<Option<Credential>, String> {
    let path = folder.join("config.json");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("opening {}: {error}", path.display())),
    };
    match docker_credential::get_credential_from_reader(file.take(CONFIG_MAX), key) {
        Ok(DockerCredential::UsernamePassword(username, password))
            if username.is_empty() && password.is_empty() =>
        {
            Ok(None)
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Some(Credential::Password { username, password: Secret::new(password) }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(Secret::new(token)))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // Helpers say "not found" in words, on either stream, and end with an error.
        Err(CredentialRetrievalError::HelperFailure { stdout, stderr, .. })
            if format!("{stdout}{stderr}").contains("not found") =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            Err(format!("{helper} failed for {key}"))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn with_config(json: &str, domain: &str) -> Result<Option<Credential>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        look_up(folder.path().to_owned(), domain).await
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { username: username.into(), password: Secret::new(password) })
    }

    #[tokio::test]
    async fn reads_what_docker_login_writes() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "localhost:5000": {"auth": "bWU6cGFzczp3b3Jk"},
            "quay.io": {"identitytoken": "abc"},
            "empty.example": {}
        }}"#;
        assert_eq!(with_config(json, "docker.io").await, Ok(password("hub", "secret")));
        assert_eq!(with_config(json, "localhost:5000").await, Ok(password("me", "pass:word")));
        assert_eq!(
            with_config(json, "quay.io").await,
            Ok(Some(Credential::IdentityToken(Secret::new("abc"))))
        );
        assert_eq!(with_config(json, "empty.example").await, Ok(None));
        assert_eq!(with_config(json, "other.example").await, Ok(None));
    }

    #[tokio::test]
    async fn a_broken_file_is_an_error_and_a_missing_one_is_not() {
        assert!(with_config("{", "docker.io").await.is_err());
        assert_eq!(look_up("/nonexistent".into(), "docker.io").await, Ok(None));
    }

    #[tokio::test]
    async fn a_missing_helper_is_named() {
        let json = r#"{"credHelpers": {"localhost:1": "davit-test-missing"}}"#;
        assert!(with_config(json, "localhost:1").await.is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        let credential = Credential::Password { username: "me".into(), password: Secret::new("hunter2") };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
