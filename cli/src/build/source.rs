//! Where everything is that a build is made of: the Dockerfile, the main context, and those beside it.
//!
//! ```text
//! PATH      sent as entries                  -       a Dockerfile, or an archive, as its first bytes tell
//! FILE.tar  sent as it is                    URL     fetched by the engine
//! ```

mod beside;
mod stdin;

use std::io::Read;
use std::path::{Path, PathBuf};

use davit_dockerfile::{Ignore, Remote};
use davit_proto::build::context_source::Source as Wire;
use davit_proto::build::{ArchiveSource, BuildOpen, ContextSource, NamedContext};
use davit_proto::status::RemoteError;

use super::context::Context;
use super::progress::Text;
use crate::args::build::BuildArgs;
use crate::error::Error;

/// The largest Dockerfile and ignore file that are read.
const TEXT: u64 = 4 << 20;
const DOCKERFILE: &str = "Dockerfile";

/// Where everything is.
pub struct Source {
    /// The Dockerfile's text and name; empty while only the engine can read it.
    pub dockerfile: Vec<u8>,
    /// Its name, for messages.
    pub name: String,
    /// Where the engine finds it, if it is not here.
    elsewhere: Option<String>,
    /// The main context, where that is not sent as entries.
    main: Option<Wire>,
    /// Contexts beside it.
    named: Vec<NamedContext>,
    /// Names the main context, so that it is known the next time.
    key: String,
    /// The folder of the main context, and what stays behind of it.
    folder: Option<(PathBuf, Ignore)>,
    /// What is sent as entries: the main context, then others.
    pub contexts: Vec<Context>,
    /// What is sent as it is.
    pub archive: Option<Box<dyn Read + Send>>,
}

impl Source {
    /// Finds everything, and looks at all files that are to be sent.
    pub fn find(args: &BuildArgs) -> Result<Self, Error> {
        let mut source = Self {
            dockerfile: Vec::new(),
            name: DOCKERFILE.to_owned(),
            elsewhere: None,
            main: None,
            named: Vec::new(),
            key: String::new(),
            folder: None,
            contexts: Vec::new(),
            archive: None,
        };
        let folder = Path::new(&args.path);
        if args.path == "-" {
            source.of_stdin(args)?;
        } else if folder.is_dir() {
            source.of_folder(folder, args)?;
        } else if folder.is_file() {
            source.of_archive(folder, args)?;
        } else {
            source.of_address(args)?;
        }
        for text in &args.build_context {
            source.beside(text)?;
        }
        Ok(source)
    }

    /// Says all of it to the engine.
    pub fn describe(&self, open: &mut BuildOpen) {
        open.dockerfile = self.dockerfile.clone().into();
        open.dockerfile_name.clone_from(&self.name);
        open.context_key.clone_from(&self.key);
        open.source = self.main.clone().map(|source| ContextSource { source: Some(source) });
        open.contexts.clone_from(&self.named);
        open.dockerfile_elsewhere = self.elsewhere.is_some();
        open.dockerfile_path = self.elsewhere.clone().unwrap_or_default();
    }

    /// The engine found the Dockerfile.
    pub fn found(&mut self, name: String, text: Vec<u8>) {
        (self.name, self.dockerfile) = (name, text);
    }

    /// The Dockerfile, for messages about it.
    pub fn text(&self) -> Text<'_> {
        Text { name: &self.name, bytes: &self.dockerfile }
    }

    /// An error about a file that is here and was not sent says so.
    pub fn explained(&self, mut error: RemoteError) -> RemoteError {
        let path = error.values.iter().find(|(name, _)| name == "path").map(|(_, path)| path.clone());
        if let (Some(path), Some((folder, ignore))) = (path, &self.folder) {
            let path = path.trim_matches('/');
            if folder.join(path).symlink_metadata().is_ok() && ignore.ignores(path) {
                let hidden = ": it is there, but the ignore file leaves it out";
                error.message.push_str(hidden);
                error
                    .values
                    .iter_mut()
                    .filter(|(name, _)| name == "cause")
                    .for_each(|(_, cause)| cause.push_str(hidden));
            }
        }
        error
    }

    fn of_folder(&mut self, folder: &Path, args: &BuildArgs) -> Result<(), Error> {
        let folder =
            folder.canonicalize().map_err(|error| Error::io(format!("open {}", args.path), error))?;
        let path = match args.file.as_deref() {
            Some("-") => {
                self.dockerfile = stdin::text()?;
                folder.join(DOCKERFILE)
            }
            Some(address) if is_web(address) => {
                self.elsewhere = Some(address.to_owned());
                folder.join(DOCKERFILE)
            }
            given => {
                let path = given.map_or_else(|| folder.join(DOCKERFILE), PathBuf::from);
                self.dockerfile = read(&path)?;
                self.name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                path
            }
        };
        let ignore = match &args.ignorefile {
            Some(file) => parse(Path::new(file), &read(Path::new(file))?)?,
            None => {
                let own = PathBuf::from(format!("{}.dockerignore", path.display()));
                let here = args.file.as_deref() != Some("-") && own.is_file();
                rules(if here { own } else { folder.join(".dockerignore") })?
            }
        };
        self.key = folder.display().to_string();
        self.contexts.push(Context::walk(&folder, &ignore)?);
        self.folder = Some((folder, ignore));
        Ok(())
    }

    fn of_archive(&mut self, path: &Path, args: &BuildArgs) -> Result<(), Error> {
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| Error::io(format!("open {}", path.display()), error))?;
        let (head, rest) = stdin::look(file)?;
        if !stdin::is_archive(&head) {
            let text = format!("context must be a folder, an archive or an address: {}", args.path);
            return Err(Error::Usage(text));
        }
        self.archive = Some(rest);
        self.main = Some(Wire::Archive(ArchiveSource {}));
        self.inside(args)
    }

    fn of_address(&mut self, args: &BuildArgs) -> Result<(), Error> {
        let wrong = |why| Error::Usage(format!("context {:?}: {why}", args.path));
        if Remote::parse(&args.path).map_err(wrong)?.is_none() {
            let error = std::fs::metadata(&args.path).err();
            let error = error.unwrap_or_else(|| std::io::ErrorKind::NotADirectory.into());
            return Err(Error::io(format!("open {}", args.path), error));
        }
        self.main = Some(Wire::Location(args.path.clone()));
        self.inside(args)
    }

    /// The Dockerfile of a context that only the engine can look into.
    fn inside(&mut self, args: &BuildArgs) -> Result<(), Error> {
        if args.ignorefile.is_some() {
            return Err(Error::Usage("--ignorefile is for a folder that is sent".to_owned()));
        }
        match args.file.as_deref() {
            Some("-") => self.dockerfile = stdin::text()?,
            other => self.elsewhere = Some(other.unwrap_or(DOCKERFILE).to_owned()),
        }
        Ok(())
    }
}

fn is_web(text: &str) -> bool {
    matches!(Remote::parse(text), Ok(Some(Remote::Web(_))))
}

/// What an ignore file says; nothing where there is none.
fn rules(path: PathBuf) -> Result<Ignore, Error> {
    if !path.is_file() {
        return Ok(Ignore::default());
    }
    parse(&path, &read(&path)?)
}

fn parse(path: &Path, text: &[u8]) -> Result<Ignore, Error> {
    let text =
        std::str::from_utf8(text).map_err(|_| Error::Usage(format!("{} is no UTF-8", path.display())))?;
    Ignore::parse(text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::io(format!("read {}", path.display()), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(TEXT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > TEXT {
        return Err(Error::Usage(format!("{} has more than {TEXT} bytes", path.display())));
    }
    Ok(bytes)
}
