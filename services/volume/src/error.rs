//! What can go wrong with volumes, and how it is told over the wire.

use std::io;
use std::path::{Path, PathBuf};

use davit_archive::{CloneError, ExtractError, PackError};
use davit_proto::id::InvalidId;
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind, RemoteError};

/// A failure of the volume service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or id that can be none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A field that can never be right.
    #[error("invalid {field} {value:?}: {rule}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What it held.
        value: String,
        /// What it would have to be.
        rule: &'static str,
    },
    /// An option that the volume's driver cannot use.
    #[error("invalid volume option {option}={value}: {rule}")]
    Option {
        /// Which.
        option: String,
        /// Its value, or the word of it that is wrong.
        value: String,
        /// What is wrong with it.
        rule: String,
    },
    /// A volume of that name is another driver's.
    #[error("a volume named {name:?} already exists with the {driver:?} driver: choose a different name")]
    OtherDriver {
        /// The volume.
        name: String,
        /// Its driver.
        driver: String,
    },
    /// A volume of that name was made otherwise.
    #[error(
        "a volume named {name:?} already exists with {}: choose a different name",
        if options.is_empty() { "no options".to_owned() } else { format!("the options {}", options.join(", ")) }
    )]
    OtherOptions {
        /// The volume.
        name: String,
        /// Its options.
        options: Vec<String>,
    },
    /// A volume did not get mounted.
    #[error("mount volume {name:?} from {device:?}")]
    Mount {
        /// The volume.
        name: String,
        /// What is mounted.
        device: String,
        /// Why not.
        source: io::Error,
    },
    /// Something hangs.
    #[error("{what}: {why}")]
    Late {
        /// What was tried.
        what: String,
        /// How it hangs.
        why: String,
    },
    /// A call of ours works with the volume.
    #[error("volume {0:?} is being exported, imported or cloned")]
    Busy(String),
    /// The files of a volume were not read.
    #[error("export volume {name:?}")]
    Export {
        /// The volume.
        name: String,
        /// Why not.
        source: Box<PackError>,
    },
    /// An archive did not get into a volume.
    #[error("import into volume {name:?}")]
    Import {
        /// The volume.
        name: String,
        /// Why not.
        source: Box<ExtractError>,
    },
    /// The files of a volume did not get into another one.
    #[error("clone volume {name:?}")]
    Clone {
        /// The volume.
        name: String,
        /// Why not.
        source: Box<CloneError>,
    },
    /// No driver has this name.
    #[error(
        "no volume driver {0:?} is configured: the volume service has it with --volume-driver NAME=unix:///path"
    )]
    NoDriver(String),
    /// A driver does not answer.
    #[error("volume driver {driver:?} does not answer at {}: {why}", socket.display())]
    DriverAway {
        /// The driver.
        driver: String,
        /// Where it should be.
        socket: PathBuf,
        /// How that was found.
        why: String,
    },
    /// A driver refused.
    #[error("volume driver {driver:?} did not {doing}")]
    Driver {
        /// The driver.
        driver: String,
        /// What it was to do.
        doing: String,
        /// Its own words.
        source: Box<RemoteError>,
    },
    /// A driver answered what cannot be used.
    #[error("volume driver {driver:?} answered with {what} {value:?} that {rule}")]
    DriverAnswer {
        /// The driver.
        driver: String,
        /// What the answer is.
        what: &'static str,
        /// The answer.
        value: String,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// A driver no longer knows a volume that it made.
    #[error("volume driver {driver:?} no longer has volume {name:?}")]
    DriverLost {
        /// The driver.
        driver: String,
        /// The volume.
        name: String,
    },
    /// Right, and not served yet.
    #[error("{what} {value:?} is not served by this version of davit")]
    Unserved {
        /// What was asked for.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// No volume has this name.
    #[error("volume {0:?} does not exist")]
    NotFound(String),
    /// Containers use the volume.
    #[error("volume {name:?} is in use by {}", holders.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Ids of the containers.
        holders: Vec<String>,
    },
    /// Another process serves the same folder.
    #[error("{} is served by another process", .0.display())]
    Locked(PathBuf),
    /// A record on disk that is none.
    #[error("read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried: "create", "read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel gave no random numbers for a name.
    #[error("choose a name: {0}")]
    Random(String),
    /// A call of ours ended without an answer.
    #[error("a call ended without an answer; this is a fault of davit")]
    Lost,
}

impl Error {
    /// Adds to an I/O error what was tried on what.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// What a disk that is full, or a stream that broke, says of an error.
fn disk(error: &Error) -> Option<ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some(ErrorKind::ResourceExhausted)
                }
                io::ErrorKind::ConnectionAborted => Some(ErrorKind::Cancelled),
                _ => None,
            };
        }
        source = inner.source();
    }
    None
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Id(_) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Unserved { .. } => ErrorKind::Unimplemented,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Option { .. } | Self::NoDriver(_) => ErrorKind::InvalidArgument,
            Self::OtherDriver { .. } | Self::OtherOptions { .. } => ErrorKind::AlreadyExists,
            Self::InUse { .. } | Self::Busy(_) | Self::Locked(_) | Self::Mount { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Export { .. } | Self::Clone { .. } => disk(self).unwrap_or(ErrorKind::Internal),
            Self::Import { .. } => disk(self).unwrap_or(ErrorKind::InvalidArgument),
            Self::Late { .. } => ErrorKind::DeadlineExceeded,
            Self::DriverAway { .. } => ErrorKind::Unavailable,
            Self::Driver { source, .. } => source.kind,
            Self::DriverAnswer { .. } | Self::DriverLost { .. } => ErrorKind::DataLoss,
            Self::Record { .. } => ErrorKind::DataLoss,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            Self::Random(_) | Self::Lost => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Id(_) => "INVALID_NAME",
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::Unserved { .. } => reason::NOT_IMPLEMENTED,
            Self::NotFound(_) => reason::VOLUME_NOT_FOUND,
            Self::InUse { .. } => reason::VOLUME_IN_USE,
            Self::Option { .. } => "INVALID_OPTION",
            Self::OtherDriver { .. } | Self::OtherOptions { .. } => reason::VOLUME_EXISTS,
            Self::Busy(_) => "VOLUME_BUSY",
            Self::Mount { .. } | Self::Late { .. } => "VOLUME_NOT_MOUNTED",
            Self::Export { .. } | Self::Import { .. } | Self::Clone { .. } => "VOLUME_NOT_COPIED",
            Self::NoDriver(_) => "VOLUME_DRIVER_UNKNOWN",
            Self::DriverAway { .. } => reason::VOLUME_DRIVER_AWAY,
            Self::Driver { .. } => "VOLUME_DRIVER_REFUSED",
            Self::DriverAnswer { .. } | Self::DriverLost { .. } => "VOLUME_DRIVER_ANSWER",
            Self::Locked(_) => "ROOT_IN_USE",
            Self::Record { .. } => "VOLUME_RECORD_BROKEN",
            Self::File { .. } => "VOLUME_IO",
            Self::Random(_) | Self::Lost => "INTERNAL",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Id(invalid) => vec![("name", invalid.value.clone())],
            Self::Invalid { field, value, .. } => vec![("field", (*field).into()), ("value", value.clone())],
            Self::Unserved { value, .. } => vec![("value", value.clone())],
            Self::NotFound(name) | Self::Busy(name) => vec![("name", name.clone())],
            Self::Option { option, value, .. } => vec![("option", option.clone()), ("value", value.clone())],
            Self::OtherDriver { name, .. }
            | Self::OtherOptions { name, .. }
            | Self::Export { name, .. }
            | Self::Import { name, .. }
            | Self::Clone { name, .. }
            | Self::Mount { name, .. } => vec![("name", name.clone())],
            Self::NoDriver(driver)
            | Self::DriverAway { driver, .. }
            | Self::Driver { driver, .. }
            | Self::DriverAnswer { driver, .. }
            | Self::DriverLost { driver, .. } => vec![("driver", driver.clone())],
            Self::InUse { name, holders } => {
                vec![("name", name.clone()), ("containers", holders.join(","))]
            }
            Self::Locked(path) | Self::Record { path, .. } | Self::File { path, .. } => {
                vec![("path", path.display().to_string())]
            }
            Self::Random(_) | Self::Lost | Self::Late { .. } => Vec::new(),
        }
    }
}
