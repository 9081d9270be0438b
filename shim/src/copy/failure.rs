//! Why nothing, or not all, was copied: a class for programs and one sentence for people, in docker's words where docker
//! has some.

use std::error::Error;
use std::io;
use std::path::Path;

use davit_archive::extract::Problem;
use davit_archive::{ExtractError, PackError};
use davit_proto::copy::{Answer, FailureKind, Order};
use davit_proto::status::chain;

/// What docker says of a root that may not be written.
pub const READ_ONLY_ROOT: &str = "container rootfs is marked read-only";
/// What docker says of a volume that may not be written.
pub const READ_ONLY_VOLUME: &str = "mounted volume is marked read-only";

/// One failure.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    message: String,
}

impl Failure {
    /// One of a class.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A system call that failed.
    pub fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(kind_of(&error), format!("{doing}: {error}"))
    }

    /// A tree that could not be read.
    pub fn of_pack(error: &PackError, order: &Order) -> Self {
        Self::told(kind_of_pack(error), "from", order, error)
    }

    /// A container whose files could not all be read.
    pub fn of_whole(error: &PackError, order: &Order) -> Self {
        let why = format!("read the files of container {}: {}", order.container, chain(error));
        Self::new(kind_of_pack(error), why)
    }

    /// An archive that could not be extracted.
    pub fn of_extract(error: &ExtractError, order: &Order) -> Self {
        let kind = match error.problem() {
            // EROFS: something else is mounted below.
            Problem::Io(_, source) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return Self::new(FailureKind::Refused, READ_ONLY_VOLUME);
            }
            Problem::Io(_, source) => kind_of(source),
            Problem::OverDirectory | Problem::OverFile | Problem::Kernel | Problem::ThroughLink => {
                FailureKind::Refused
            }
            Problem::Tar(_)
            | Problem::Path(_)
            | Problem::Target(_)
            | Problem::Limit(..)
            | Problem::Owner(..) => FailureKind::Invalid,
        };
        Self::told(kind, "to", order, error)
    }

    /// A volume that could not be filled: `told` is what is said of `error`.
    pub fn of_volume(error: &io::Error, folder: &Path, doing: &str, told: &io::Error) -> Self {
        let why = format!("copy the image's files to the volume at {}: {doing}: {told}", folder.display());
        Self::new(kind_of(error), why)
    }

    fn told(kind: FailureKind, direction: &str, order: &Order, error: &dyn Error) -> Self {
        let path = String::from_utf8_lossy(&order.path);
        Self::new(kind, format!("copy {direction} {}:{path}: {}", order.container, chain(error)))
    }

    /// The words for the controller.
    pub fn into_answer(self) -> Answer {
        Answer::Failed { kind: self.kind, message: self.message }
    }
}

fn kind_of_pack(error: &PackError) -> FailureKind {
    match error {
        PackError::File { source, .. } | PackError::Write(source) => kind_of(source),
        PackError::Shrunk(_) | PackError::Deep(_) => FailureKind::Refused,
    }
}

fn kind_of(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::Full,
        io::ErrorKind::ReadOnlyFilesystem => FailureKind::Refused,
        _ => FailureKind::Internal,
    }
}
