//! Flags of the verbs that act on the engine as a whole.

use clap::Args;

/// `davit version` and `davit info`.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
}

/// `davit system df`.
#[derive(Debug, Args)]
pub struct DiskUsageArgs {
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Show each image, container and volume
    #[arg(short, long)]
    pub verbose: bool,
}

/// `davit system prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Anonymous volumes too
    #[arg(long)]
    pub volumes: bool,
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `davit system drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Seconds that each has before it is killed, instead of its own time
    #[arg(short = 't', long = "timeout", alias = "time", value_name = "SECONDS")]
    pub timeout: Option<u32>,
}

/// Kinds of objects that can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectType {
    /// Containers.
    Container,
    /// Images.
    Image,
    /// Networks.
    Network,
    /// Volumes.
    Volume,
}

/// `davit inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Show sizes of containers
    #[arg(short, long)]
    pub size: bool,
    /// Look only among these
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<ObjectType>,
    /// Names or ids.
    #[arg(required = true, value_name = "NAME|ID")]
    pub objects: Vec<String>,
}

/// `davit events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Show those that match: type=container, event=start, …
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Begin at a time: 2026-11-20T10:00:00, 42m
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End at a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Begin after this revision
    #[arg(long, alias = "from-revision", value_name = "REVISION", default_value = "0")]
    pub since_revision: u64,
}

/// `davit completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell.
    #[arg(required = true, value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Shells that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// bash(1).
    Bash,
    /// zsh(1).
    Zsh,
    /// fish(1).
    Fish,
}

/// `davit man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder that the pages are written into.
    #[arg(required = true, value_name = "FOLDER")]
    pub folder: String,
}

/// `davit login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password or token; others on this host can read it there
    #[arg(short, long)]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Registry; Docker Hub when none is named.
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// `davit logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry; Docker Hub when none is named.
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}
