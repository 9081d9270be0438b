//! The words between the controller and `davit-shim copy`: one order, then answers, each a packet of JSON on one
//! socket. The archive itself goes by pipes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// No packet is longer.
pub const PACKET: usize = 64 << 10;
/// The descriptor under which the helper finds the socket; 0 is the archive on its way in, 1 on its way out.
pub const CHANNEL: i32 = 3;
/// Folder of a volume in which the image's files are being copied: half of them, when nobody copies.
pub const POPULATING: &str = ".davit-populate";
/// Folder of a volume that holds all of the image's files, on their way to the volume itself.
pub const POPULATED: &str = ".davit-populated";

/// What the helper is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The container as its user called it, for sentences.
    pub container: String,
    /// Where its files are.
    pub place: Place,
    /// The ids of the host that are the container's, where its files show them.
    pub ids: Option<Ids>,
    /// Path inside the container as its user typed it.
    pub path: Vec<u8>,
    /// What to do there.
    pub action: Action,
}

/// Where a container's files are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the mount namespace whose descriptor comes along, as long as the process lives whose pidfd comes with it. Where
    /// the container has ids of its own, its user namespace comes last.
    Live,
    /// In a bundle that nobody has mounted. The helper is born in a mount namespace of its own.
    Stopped(PathBuf),
    /// In the writable layer of a bundle, as it lies on the disk, whoever has it mounted. It is only read.
    Layer(PathBuf),
    /// In the layers of an image, the topmost first. Locks that come along are held until the helper ends.
    Image(Vec<PathBuf>),
}

/// A range of ids, as in the container's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User of the host that is root inside.
    pub uid: u32,
    /// Group of the host that is root inside.
    pub gid: u32,
    /// How many.
    pub count: u32,
}

/// What to do at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Tell what is there.
    Stat {
        /// Follow a link at the end.
        follow: bool,
    },
    /// Tell what is there and write it as an archive.
    Out {
        /// Follow a link at the end.
        follow: bool,
        /// Name in the archive; its own when empty.
        name: Vec<u8>,
    },
    /// Write all files as an archive, without what is mounted on them.
    Export,
    /// Write what the writable layer changed: for each path a letter (A added, C changed, D deleted), the path, and a NUL
    /// byte.
    Diff,
    /// Write the writable layer as the layer of an image.
    Layer {
        /// Times of files that are later than this, in seconds since 1970, are written as this.
        not_after: Option<i64>,
    },
    /// Extract an archive into the folder.
    In {
        /// Owners are as the archive says.
        keep_owners: bool,
    },
    /// Copy what an image holds into volumes that are empty.
    Populate {
        /// The volumes.
        volumes: Vec<Populate>,
    },
    /// Mount something in a container that lives, unless it is there already.
    Attach {
        /// What, and where.
        mount: Mount,
    },
    /// Take off what is mounted at a path of a container that lives; it is no error when nothing is.
    Detach {
        /// Absolute path inside the container.
        target: String,
        /// Paths of its other mounts, which stay.
        others: Vec<String>,
    },
}

/// A mount in the sense of the OCI runtime specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Kind: "bind", "tmpfs".
    pub kind: String,
    /// Absolute path on the host, or the pseudo file system's name.
    pub source: String,
    /// Absolute path inside the container.
    pub target: String,
    /// Options in mount(8)'s words.
    pub options: Vec<String>,
}

/// A volume that may want what an image holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Populate {
    /// Path inside the image; none where only what a crash cut off is to be cleared up.
    pub path: Option<String>,
    /// The volume's folder on the host.
    pub folder: PathBuf,
}

/// What the helper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The container's files are there; first of all.
    Ready,
    /// What is there; not the last answer to [`Action::Out`].
    Stat(Stat),
    /// All is done.
    Done {
        /// Entries of the archive.
        entries: u64,
        /// Bytes of its files.
        bytes: u64,
    },
    /// It is not done, or not whole.
    Failed {
        /// The class.
        kind: FailureKind,
        /// The sentence.
        message: String,
    },
}

/// A file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    /// Bytes of a regular file.
    pub size: u64,
    /// Time of the last modification, as seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Where a link leads.
    pub link: Vec<u8>,
}

/// The classes of failure that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// There is no such path.
    Missing,
    /// The archive or the path is wrong.
    Invalid,
    /// It may not be written there.
    Refused,
    /// Somebody else has the container's files: try again.
    Busy,
    /// No room is left.
    Full,
    /// The kernel said no.
    Internal,
}
