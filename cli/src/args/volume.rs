//! Flags of the verbs that act on volumes.

use clap::Args;

/// `davit volume create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Driver
    #[arg(short, long, default_value = "local")]
    pub driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Name [deprecated by docker, still common]
    #[arg(long = "name", hide = true, value_name = "NAME", conflicts_with = "volume")]
    pub name: Option<String>,
    /// Name; one is chosen without it.
    #[arg(value_name = "VOLUME")]
    pub volume: Option<String>,
}

/// `davit volume ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only names
    #[arg(short, long)]
    pub quiet: bool,
    /// Show those that match: dangling=true, driver=local, label=a=b, name=x
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// `davit volume inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Volumes.
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// `davit volume rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// A volume that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    /// Volumes.
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

/// `davit volume prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Volumes with a name too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that match: label=a=b
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `davit volume export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// File to write to; standard output without it
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    pub volume: String,
}

/// `davit volume import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub made: MadeArgs,
    /// The volume; made when it is not there, and then there only when all of the archive is in it
    #[arg(value_name = "VOLUME")]
    pub volume: String,
    /// Archive: tar, also compressed with gzip or zstd; standard input without it, or as -
    #[arg(value_name = "FILE")]
    pub file: Option<String>,
}

/// `davit volume clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    #[command(flatten)]
    pub made: MadeArgs,
    /// The volume whose files the new one gets
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The new volume
    #[arg(value_name = "VOLUME")]
    pub volume: String,
}

/// How a volume is made on the way.
#[derive(Debug, Args)]
pub struct MadeArgs {
    /// Driver of a volume that has to be made
    #[arg(short, long, default_value = "")]
    pub driver: String,
    /// Label of a volume that has to be made
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Option for the driver of a volume that has to be made
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
}

/// `davit volume exists`.
#[derive(Debug, Args)]
pub struct ExistsArgs {
    /// Volume.
    #[arg(required = true, value_name = "VOLUME")]
    pub volume: String,
}
