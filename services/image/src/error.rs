//! What can go wrong with images, and how it is told over the wire.

use std::io;

use davit_proto::id::InvalidId;
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};

use crate::archive::ArchiveError;
use crate::commit::CommitError;
use crate::content::ContentError;
use crate::gc::policy::PolicyError;
use crate::image::ImageError;
use crate::index::IndexError;
use crate::pull::PullError;
use crate::push::PushError;
use crate::reference::ReferenceError;
use crate::registry::{ConfigError, RegistryError};
use crate::snapshot::SnapshotError;
use crate::store::StoreError;
use crate::unpack::{Problem, UnpackError};

/// A failure of the image service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A push failed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This host's images failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An image could not be made.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A setting makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A policy makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An id that can be none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A field that can never be right.
    #[error("invalid {field}: {rule}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What it would have to be.
        rule: &'static str,
    },
    /// A call ended without an answer.
    #[error("internal failure: a thread ended early")]
    Lost,
}

impl From<ReferenceError> for Error {
    fn from(error: ReferenceError) -> Self {
        Self::Store(error.into())
    }
}

/// Kind and reason.
type Class = (ErrorKind, &'static str);

const DISK_FULL: Class = (ErrorKind::ResourceExhausted, "DISK_FULL");
const INTERNAL: Class = (ErrorKind::Internal, "IMAGE_STORE_FAILED");
const CORRUPT: Class = (ErrorKind::DataLoss, "CONTENT_CORRUPT");
const INVALID_LAYER: Class = (ErrorKind::DataLoss, "LAYER_INVALID");
const INVALID_IMAGE: Class = (ErrorKind::DataLoss, "IMAGE_INVALID");

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Pull(PullError::Registry(error))
            | Self::Push(PushError::Registry(error))
            | Self::Registry(error) => error.kind(),
            other => other.class().0,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Pull(PullError::Registry(error))
            | Self::Push(PushError::Registry(error))
            | Self::Registry(error) => error.reason(),
            other => other.class().1,
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Pull(PullError::Registry(error))
            | Self::Push(PushError::Registry(error))
            | Self::Registry(error) => error.values(),
            Self::Pull(PullError::Store(error))
            | Self::Push(PushError::Store(error))
            | Self::Store(error) => store_values(error),
            Self::Push(PushError::NoSuchTag(image) | PushError::Digest(image) | PushError::OneTag(image)) => {
                vec![("image", image.clone())]
            }
            Self::Push(PushError::Missing { reference, .. } | PushError::Damaged { reference, .. }) => {
                vec![("image", reference.clone())]
            }
            Self::Commit(CommitError::Store(error)) => store_values(error),
            Self::Commit(CommitError::Layers { image }) => vec![("image", image.clone())],
            Self::Pull(PullError::NotAnImage { reference, .. } | PullError::Space { reference, .. }) => {
                vec![("image", reference.clone())]
            }
            Self::Invalid { field, .. } => vec![("field", (*field).to_owned())],
            _ => Vec::new(),
        }
    }
}

impl Error {
    fn class(&self) -> Class {
        match self {
            Self::Pull(PullError::Store(error))
            | Self::Push(PushError::Store(error))
            | Self::Store(error) => store_class(error),
            Self::Push(PushError::NoSuchTag(_)) => (ErrorKind::NotFound, reason::IMAGE_NOT_FOUND),
            Self::Push(PushError::Digest(_) | PushError::OneTag(_)) => {
                (ErrorKind::InvalidArgument, "INVALID_REFERENCE")
            }
            Self::Push(PushError::Missing { .. } | PushError::Damaged { .. }) => CORRUPT,
            Self::Commit(CommitError::Store(error)) => store_class(error),
            Self::Commit(CommitError::Layers { .. }) => (ErrorKind::FailedPrecondition, "TOO_MANY_LAYERS"),
            Self::Commit(
                CommitError::Large(_)
                | CommitError::Config(_)
                | CommitError::History(_)
                | CommitError::Told { .. },
            ) => (ErrorKind::InvalidArgument, "INVALID_IMAGE_CONFIG"),
            Self::Commit(CommitError::Change(_)) => (ErrorKind::InvalidArgument, "INVALID_CHANGE"),
            Self::Pull(PullError::OneTag(_)) => (ErrorKind::InvalidArgument, "INVALID_REFERENCE"),
            Self::Pull(PullError::NoTags(_)) => (ErrorKind::NotFound, "REGISTRY_NOT_FOUND"),
            Self::Pull(PullError::NotAnImage { .. }) => (ErrorKind::FailedPrecondition, "NOT_AN_IMAGE"),
            Self::Pull(PullError::Space { .. }) => DISK_FULL,
            Self::Pull(PullError::Registry(_) | PullError::Lost(_))
            | Self::Push(PushError::Registry(_) | PushError::Lost(_))
            | Self::Registry(_)
            | Self::Lost => INTERNAL,
            Self::Archive(error) => archive_class(error),
            Self::Config(_) | Self::Policy(_) => (ErrorKind::InvalidArgument, "INVALID_SETTING"),
            Self::Id(_) => (ErrorKind::InvalidArgument, "INVALID_ID"),
            Self::Invalid { .. } => (ErrorKind::InvalidArgument, "INVALID_FIELD"),
        }
    }
}

fn store_class(error: &StoreError) -> Class {
    match error {
        StoreError::NotFound(_) => (ErrorKind::NotFound, reason::IMAGE_NOT_FOUND),
        StoreError::InUse { .. } => (ErrorKind::FailedPrecondition, reason::IMAGE_IN_USE),
        StoreError::NotPrepared(_) => (ErrorKind::FailedPrecondition, "NOT_PREPARED"),
        StoreError::TooMany(_) => (ErrorKind::InvalidArgument, "TOO_MANY_IMAGES"),
        StoreError::SeveralReferences { .. } => (ErrorKind::FailedPrecondition, "IMAGE_HAS_REFERENCES"),
        StoreError::Locked(_) => (ErrorKind::FailedPrecondition, "IMAGE_STORE_LOCKED"),
        StoreError::Ambiguous(_) => (ErrorKind::InvalidArgument, "IMAGE_AMBIGUOUS"),
        StoreError::Reference(_) | StoreError::TagDigest(_) | StoreError::Reserved(_) => {
            (ErrorKind::InvalidArgument, "INVALID_REFERENCE")
        }
        StoreError::Filter { .. } => (ErrorKind::InvalidArgument, "INVALID_FILTER"),
        StoreError::Open { source, .. } => io_class(source),
        StoreError::Image(error) => image_class(error),
        StoreError::Index(IndexError::Io { source, .. }) => io_class(source),
        StoreError::Index(IndexError::Invalid { .. }) => CORRUPT,
        StoreError::Content(error) => content_class(error),
        StoreError::Snapshot(error) => snapshot_class(error),
        StoreError::Holder(_) => INTERNAL,
    }
}

fn store_values(error: &StoreError) -> Vec<(&'static str, String)> {
    match error {
        StoreError::NotFound(image) | StoreError::Ambiguous(image) | StoreError::TagDigest(image) => {
            vec![("image", image.clone())]
        }
        StoreError::InUse { image, container_ids, .. } => {
            vec![("image", image.clone()), ("container", container_ids.join(","))]
        }
        StoreError::SeveralReferences { image, .. } => vec![("image", image.clone())],
        StoreError::Filter { key, value, .. } => vec![("name", key.clone()), ("value", value.clone())],
        _ => Vec::new(),
    }
}

fn image_class(error: &ImageError) -> Class {
    match error {
        ImageError::Content(error) => content_class(error),
        ImageError::Document { .. } => INVALID_IMAGE,
        ImageError::Platform { .. } => (ErrorKind::NotFound, "PLATFORM_NOT_FOUND"),
    }
}

fn content_class(error: &ContentError) -> Class {
    match error {
        ContentError::Io { source, .. } => io_class(source),
        ContentError::Missing(_)
        | ContentError::WrongDigest { .. }
        | ContentError::WrongSize { .. }
        | ContentError::Large { .. } => CORRUPT,
    }
}

fn snapshot_class(error: &SnapshotError) -> Class {
    match error {
        SnapshotError::Unpack(error) => unpack_class(error),
        SnapshotError::Missing(_) => CORRUPT,
        SnapshotError::Io { source, .. } => io_class(source),
    }
}

fn unpack_class(error: &UnpackError) -> Class {
    let problem = match error {
        UnpackError::DiffId { .. } => return INVALID_LAYER,
        UnpackError::Entry { problem, .. } | UnpackError::Layer(problem) => problem,
    };
    match problem {
        Problem::Io(_, source) => io_class(source),
        Problem::Source(_) => (ErrorKind::Unavailable, "LAYER_CUT"),
        Problem::Limit(..) => (ErrorKind::ResourceExhausted, "LAYER_LIMIT"),
        _ => INVALID_LAYER,
    }
}

fn archive_class(error: &ArchiveError) -> Class {
    match error {
        ArchiveError::Content(error) => content_class(error),
        ArchiveError::Image(error) => image_class(error),
        ArchiveError::Spool(source) | ArchiveError::Write(source) => io_class(source),
        ArchiveError::Source(_) => (ErrorKind::Cancelled, "ARCHIVE_CUT"),
        ArchiveError::Stored { .. } => CORRUPT,
        ArchiveError::Limit(..) => (ErrorKind::ResourceExhausted, "ARCHIVE_LIMIT"),
        _ => (ErrorKind::InvalidArgument, "ARCHIVE_INVALID"),
    }
}

fn io_class(error: &io::Error) -> Class {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
        _ => INTERNAL,
    }
}
