//! What a build is given while it goes on, and that the engine does not keep: secrets, and agents that hold keys.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use davit_proto::build::build_request::Frame;
use davit_proto::build::build_response::Event;
use davit_proto::build::{AgentData, BuildOpen, BuildRequest, Secret};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::args::build::GiveArgs;
use crate::error::Error;
use crate::spec::csv;

/// The largest secret, as everywhere.
const LARGEST: u64 = 500 << 10;
/// Bytes of one frame.
const PIECE: usize = 64 << 10;
/// Frames that may wait for an agent.
const WAITING: usize = 64;
/// Where programs find the agent of their user.
const AGENT: &str = "SSH_AUTH_SOCK";

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Variable(String),
}

/// What there is to be given.
#[derive(Debug)]
pub struct Giving {
    secrets: HashMap<String, Place>,
    agents: HashMap<String, PathBuf>,
    allow: Vec<String>,
    connections: HashMap<u32, mpsc::Sender<AgentData>>,
    /// Secrets that can be read only once: pipes.
    read: HashMap<String, Vec<u8>>,
    frames: mpsc::Sender<BuildRequest>,
}

impl Giving {
    /// Reads the flags. What is given must be there, for the build may ask for it only after an hour.
    pub fn new(args: &GiveArgs, frames: mpsc::Sender<BuildRequest>) -> Result<Self, Error> {
        let secrets = args.secret.iter().map(|text| secret(text)).collect::<Result<_, _>>()?;
        let agents = args.ssh.iter().map(|text| agent(text)).collect::<Result<_, _>>()?;
        let (connections, read) = (HashMap::new(), HashMap::new());
        Ok(Self { secrets, agents, allow: args.allow.clone(), connections, read, frames })
    }

    /// Says what there is.
    pub fn tell(&self, open: BuildOpen) -> BuildOpen {
        let (secrets, agents) = (self.secrets.keys(), self.agents.keys());
        BuildOpen {
            secrets: secrets.cloned().collect(),
            agents: agents.cloned().collect(),
            allow: self.allow.clone(),
            ..open
        }
    }

    /// Answers what the build asks for.
    pub fn answer(&mut self, event: Event) {
        match event {
            Event::SecretWanted(wanted) => {
                let answer = match self.secret(&wanted.id) {
                    Ok(data) => Secret { data: data.into(), ..Secret::default() },
                    Err(error) => Secret { error, ..Secret::default() },
                };
                let frame = Frame::Secret(Secret { number: wanted.number, ..answer });
                let frames = self.frames.clone();
                tokio::spawn(async move { frames.send(BuildRequest { frame: Some(frame) }).await });
            }
            Event::AgentOpen(open) => {
                let (to, from) = mpsc::channel(WAITING);
                self.connections.retain(|_, connection| !connection.is_closed());
                self.connections.insert(open.connection, to);
                let path = self.agents.get(&open.id).cloned().unwrap_or_default();
                tokio::spawn(connect(path, open.connection, from, self.frames.clone()));
            }
            Event::Agent(data) => {
                let connection = data.connection;
                // One that does not read is closed, so that nothing else waits for it.
                let sent = self.connections.get(&connection).map(|to| to.try_send(data));
                if sent.is_none_or(|sent| sent.is_err()) {
                    self.connections.remove(&connection);
                }
            }
            // It asks for nothing.
            _ => {}
        }
    }
}

impl Giving {
    fn secret(&mut self, id: &str) -> Result<Vec<u8>, String> {
        if let Some(data) = self.read.get(id) {
            return Ok(data.clone());
        }
        let place = self.secrets.get(id).ok_or("it was not given")?;
        let data = read(place)?;
        if let Place::File(path) = place
            && !path.is_file()
        {
            self.read.insert(id.to_owned(), data.clone());
        }
        Ok(data)
    }
}

/// `id=x[,type=file|env][,src=PATH][,env=NAME]`. An id alone is a variable of this name, or a file.
fn secret(text: &str) -> Result<(String, Place), Error> {
    let wrong = |why: String| Error::Usage(format!("invalid --secret {text:?}: {why}"));
    let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
    for (key, value) in csv::fields("--secret", text)? {
        let value = value.ok_or_else(|| wrong(format!("{key} must be key=value")))?;
        match key.as_str() {
            "id" => id = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => return Err(wrong(format!("type {value:?} is neither file nor env"))),
            "src" | "source" => source = Some(value),
            "env" => variable = Some(value),
            _ => return Err(wrong(format!("there is no {key:?}: id, type, src, env"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it needs id=NAME".to_owned()))?;
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let place = match (kind.as_deref(), source, variable) {
        (Some("file"), _, Some(_)) => return Err(wrong("type=file has no env".to_owned())),
        (_, Some(_), Some(_)) => return Err(wrong("src and env exclude each other".to_owned())),
        (_, None, Some(name)) | (Some("env"), Some(name), None) => Place::Variable(name),
        (_, Some(path), None) => Place::File(PathBuf::from(path)),
        (Some("env"), None, None) => Place::Variable(id.clone()),
        (None, None, None) if is_set(&id) => Place::Variable(id.clone()),
        (_, None, None) => Place::File(PathBuf::from(&id)),
    };
    match &place {
        Place::Variable(name) if !is_set(name) => Err(wrong(format!("the variable {name} is not set"))),
        Place::File(path) => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(wrong(format!("{} is a folder", path.display()))),
            Ok(found) if found.len() > LARGEST => {
                Err(wrong(format!("{} has more than {} KiB", path.display(), LARGEST >> 10)))
            }
            Ok(_) => Ok((id, place)),
            Err(error) => Err(Error::io(format!("read the secret {}", path.display()), error)),
        },
        Place::Variable(_) => Ok((id, place)),
    }
}

/// A secret, read when it is wanted. Its bytes are in no message.
fn read(place: &Place) -> Result<Vec<u8>, String> {
    match place {
        Place::Variable(name) => {
            use std::os::unix::ffi::OsStringExt as _;
            let value = std::env::var_os(name).ok_or_else(|| format!("the variable {name} is not set"))?;
            Ok(value.into_vec())
        }
        Place::File(path) => {
            let failed = |error| format!("read {}: {error}", path.display());
            let mut bytes = Vec::new();
            let file = std::fs::File::open(path).map_err(failed)?;
            file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > LARGEST {
                return Err(format!("{} has more than {} KiB", path.display(), LARGEST >> 10));
            }
            Ok(bytes)
        }
    }
}

/// `default`, or `id=SOCKET`.
fn agent(text: &str) -> Result<(String, PathBuf), Error> {
    let wrong = |why: String| Error::Usage(format!("invalid --ssh {text:?}: {why}"));
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, PathBuf::from(path)),
        None => {
            let own = std::env::var_os(AGENT).filter(|path| !path.is_empty());
            (text, own.map(PathBuf::from).ok_or_else(|| wrong(format!("{AGENT} is not set")))?)
        }
    };
    if id.is_empty() {
        return Err(wrong("it must be default, or NAME=SOCKET".to_owned()));
    }
    let found = std::fs::metadata(&path);
    let found = found.map_err(|error| Error::io(format!("find the agent {}", path.display()), error))?;
    if !found.file_type().is_socket() {
        let why = "is no socket of an agent: add the key to one with ssh-add, and give that";
        return Err(wrong(format!("{} {why}", path.display())));
    }
    Ok((id.to_owned(), path))
}

/// One connection to an agent, until both sides said their last word, or one is gone.
async fn connect(
    path: PathBuf,
    connection: u32,
    mut from: mpsc::Receiver<AgentData>,
    frames: mpsc::Sender<BuildRequest>,
) {
    let send = async |data: Vec<u8>, last| {
        let frame = Frame::Agent(AgentData { connection, data: data.into(), last });
        frames.send(BuildRequest { frame: Some(frame) }).await.is_ok()
    };
    if let Ok(mut stream) = reach(&path).await {
        let (mut read, mut write) = stream.split();
        let said = async {
            while let Some(AgentData { data, last, .. }) = from.recv().await {
                if write.write_all(&data).await.is_err() || last {
                    break;
                }
            }
            // The agent may still have something to say.
            let _ = write.shutdown().await;
        };
        let answered = async {
            let mut piece = vec![0; PIECE];
            while let Ok(length @ 1..) = read.read(&mut piece).await {
                if !send(piece.get(..length).unwrap_or_default().to_vec(), false).await {
                    return;
                }
            }
        };
        tokio::pin!(answered);
        tokio::select! {
            () = &mut answered => {}
            () = said => answered.await,
        }
    }
    send(Vec::new(), true).await;
}

async fn reach(path: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_files_or_variables() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "hush").unwrap();
        let path = path.display().to_string();
        let file = Place::File(PathBuf::from(&path));
        let variable = |name: &str| Place::Variable(name.to_owned());
        for (text, place) in [
            (format!("id=a,src={path}"), file.clone()),
            (format!("id=a,type=file,source={path}"), file.clone()),
            (format!("id={path}"), Place::File(PathBuf::from(&path))),
            ("id=a,env=PATH".to_owned(), variable("PATH")),
            ("id=a,type=env,src=PATH".to_owned(), variable("PATH")),
            ("id=PATH".to_owned(), variable("PATH")),
            ("id=PATH,type=env".to_owned(), variable("PATH")),
        ] {
            assert_eq!(secret(&text).unwrap().1, place, "{text}");
        }
        assert_eq!(read(&file).unwrap(), b"hush");
        for wrong in [
            "src=/x",
            "id=",
            "id=a,type=x",
            "id=a,src=/none",
            "id=a,env=NOT_SET_AT_ALL",
            "id=a,x=1",
            "id=a,src=/",
        ] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn agents_are_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let _agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (id, found) = agent(&format!("git={}", path.display())).unwrap();
        assert_eq!((id.as_str(), found), ("git", path));
        let key = folder.path().join("id_rsa");
        std::fs::write(&key, "").unwrap();
        let told = agent(&format!("default={}", key.display())).unwrap_err().to_string();
        assert!(told.contains("ssh-add"), "{told}");
        assert!(agent("=x").is_err());
    }
}
