//! Docker's `config.json`: read with a limit, changed where it must be, written as a whole. What we do not know in it
//! stays as it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use davit_proto::image::Credential;
use davit_sys::file::{self, Durability};
use serde_json::{Map, Value};

use super::{host, key, registry};
use crate::error::Error;

const NAME: &str = "config.json";
const LIMIT: usize = 1 << 20;

/// The file as it was read.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    all: Map<String, Value>,
}

impl Settings {
    /// Reads `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; a file that is not there is an empty one.
    pub fn read() -> Result<Self, Error> {
        let path = place().ok_or_else(|| Error::Usage("neither HOME nor DOCKER_CONFIG is set".into()))?;
        Self::read_at(path)
    }

    /// The same for what goes on without it: where nobody says where it is, it says nothing.
    pub fn if_any() -> Result<Option<Self>, Error> {
        place().map(Self::read_at).transpose()
    }

    fn read_at(path: PathBuf) -> Result<Self, Error> {
        // A link stays one: what it leads to is what is read and written.
        let path = path.canonicalize().unwrap_or(path);
        let bytes = match file::read_bounded(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(format!("read {}", path.display()), error)),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { path, all: Map::new() });
        }
        // What stands in the file is secret, so only the place of the fault is told.
        let all = serde_json::from_slice(&bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::Usage(format!("{} is no JSON object: line {line}, column {column}", path.display()))
        })?;
        Ok(Self { path, all })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A setting that is a text and says something.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// The helper that keeps what is known for a registry.
    pub fn helper(&self, registry: &str) -> Option<String> {
        let own = self.all.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
            helpers.get(&key(registry)).or_else(|| helpers.get(registry)).and_then(Value::as_str)
        });
        let name = own.or_else(|| self.all.get("credsStore").and_then(Value::as_str));
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// What the file itself knows for a registry.
    pub fn find(&self, registry: &str) -> Result<Option<Credential>, Error> {
        let Some((name, entry)) = self.entry(registry) else { return Ok(None) };
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let wrong = || {
            let path = self.path.display();
            Error::Usage(format!(
                "{path}: \"auth\" of {name:?} is not base64 of a name, a colon and a password"
            ))
        };
        let (mut username, mut password) = (text("username"), text("password"));
        let auth = text("auth");
        if !auth.is_empty() {
            let bytes = STANDARD.decode(auth.trim_end_matches('\0')).map_err(|_| wrong())?;
            let plain = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (name, secret) = plain.split_once(':').ok_or_else(wrong)?;
            (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        let identity_token = text("identitytoken");
        let known = !identity_token.is_empty() || !password.is_empty();
        Ok(known.then_some(Credential { username, password, identity_token }))
    }

    /// Writes what is known for a registry in, or only that something is.
    pub fn put(&mut self, registry: &str, credential: Option<&Credential>) {
        let mut entry = Map::new();
        if let Some(Credential { username, password, identity_token }) = credential {
            let auth = STANDARD.encode(format!("{username}:{password}"));
            entry.insert("auth".into(), auth.into());
            if !identity_token.is_empty() {
                entry.insert("identitytoken".into(), identity_token.as_str().into());
            }
        }
        self.remove(registry);
        let auths = self.all.entry("auths").or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key(registry), Value::Object(entry));
        }
    }

    /// Takes what is known for a registry out. Tells whether anything was.
    pub fn remove(&mut self, registry: &str) -> bool {
        let Some(auths) = self.all.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|name, _| !is_of(name, registry));
        auths.len() < before
    }

    /// Writes it, for its owner only.
    pub fn write(&self) -> Result<(), Error> {
        let failed = |error| Error::io(format!("write {}", self.path.display()), error);
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        make_folder(folder).map_err(failed)?;
        let mut bytes = serde_json::to_vec_pretty(&self.all).expect("a map of JSON values is JSON");
        bytes.push(b'\n');
        let dir = file::open_dir(folder).map_err(failed)?;
        let name = self.path.file_name().unwrap_or(NAME.as_ref());
        let owner = file::stat_at(&dir, name).ok().map(|stat| (stat.st_uid, stat.st_gid));
        file::write_atomic(&dir, name, &bytes, Durability::Synced).map_err(failed)?;
        match owner {
            // Root with somebody's HOME must not take the file away from them.
            Some((uid, gid)) if rustix::process::geteuid().is_root() => {
                file::chown_at(&dir, name, uid, gid).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    /// The entry of a registry: by its own name, else by an address of its host.
    fn entry(&self, registry: &str) -> Option<(&String, &Map<String, Value>)> {
        let auths = self.all.get("auths")?.as_object()?;
        let exact = auths.get_key_value(&key(registry));
        let (name, entry) = exact.or_else(|| auths.iter().find(|(name, _)| is_of(name, registry)))?;
        Some((name, entry.as_object()?))
    }
}

fn is_of(name: &str, wanted: &str) -> bool {
    registry(host(name)) == wanted
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Where it is looked for.
fn place() -> Option<PathBuf> {
    let named = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    named.map(PathBuf::from).or_else(home).map(|folder| folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings(json: &str) -> Settings {
        Settings { path: "/nonexistent/config.json".into(), all: serde_json::from_str(json).unwrap() }
    }

    fn password(username: &str, password: &str) -> Option<Credential> {
        Some(Credential { username: username.into(), password: password.into(), ..Credential::default() })
    }

    #[test]
    fn what_docker_wrote_is_read() {
        let settings = settings(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
                "https://localhost:5000/v2/": {"auth": "bWU6cGFzczp3b3Jk"},
                "quay.io": {"auth": "bWU6", "identitytoken": "abc"},
                "empty.example": {}, "bad.example": {"auth": "x!"}},
               "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "pass"}"#,
        );
        assert_eq!(settings.find("docker.io").unwrap(), password("hub", "secret"));
        assert_eq!(settings.find("localhost:5000").unwrap(), password("me", "pass:word"));
        assert_eq!(settings.find("quay.io").unwrap().unwrap().identity_token, "abc");
        assert_eq!(settings.find("empty.example").unwrap(), None);
        assert_eq!(settings.find("other.example").unwrap(), None);
        let error = settings.find("bad.example").unwrap_err().to_string();
        assert!(error.contains("bad.example") && !error.contains("x!"), "{error}");
        assert_eq!(settings.helper("gcr.io").as_deref(), Some("gcloud"));
        assert_eq!(settings.helper("quay.io").as_deref(), Some("pass"));
    }

    #[test]
    fn what_is_written_is_private_and_keeps_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("config.json");
        let mut settings = Settings::read_at(path.clone()).unwrap();
        settings.put("docker.io", password("me", "s3cret").as_ref());
        settings.write().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let mut text: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        text["HttpHeaders"] = serde_json::json!({"X": "y"});
        std::fs::write(&path, text.to_string()).unwrap();
        let mut settings = Settings::read_at(path.clone()).unwrap();
        assert_eq!(settings.find("docker.io").unwrap(), password("me", "s3cret"));
        settings.put("quay.io", None);
        assert!(settings.remove("docker.io") && !settings.remove("docker.io"));
        settings.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("HttpHeaders") && text.contains("quay.io") && !text.contains("index.docker.io")
        );
    }

    #[test]
    fn a_broken_file_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, "{\"auths\": {\"a\": {\"auth\": \"hunter2\"").unwrap();
        let error = Settings::read_at(path.clone()).unwrap_err().to_string();
        assert!(error.contains("no JSON object") && !error.contains("hunter2"), "{error}");
        std::fs::write(&path, " \n").unwrap();
        assert!(Settings::read_at(path).is_ok());
    }
}
