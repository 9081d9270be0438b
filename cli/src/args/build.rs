//! Flags of the verbs that build.

use clap::Args;

use super::build_limit::BuildLimitArgs;

/// How a build tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressKind {
    /// What fits.
    Auto,
    /// A picture that moves.
    Tty,
    /// One line after the other.
    Plain,
    /// One object after the other, for programs.
    Json,
    /// Only the image's id.
    Quiet,
    /// Nothing at all.
    None,
    /// The same as JSON.
    Rawjson,
}

/// `davit build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Dockerfile; - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Name of the image (may be repeated)
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<String>,
    /// Argument of the build; a name alone takes the value it has here
    #[arg(long, value_name = "NAME=VALUE")]
    pub build_arg: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Do every step, also those that were done before
    #[arg(long)]
    pub no_cache: bool,
    /// Ask the registry for every image, also those that are here
    #[arg(long)]
    pub pull: bool,
    /// Print only the image's id
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<String>,
    /// What becomes of the result: a folder, or type=local|tar|oci|docker|image|registry,… (may be repeated)
    #[arg(short, long, value_name = "PATH|type=TYPE,…")]
    pub output: Vec<String>,
    /// Where steps may be that are not here: a reference, or type=registry,ref=… or type=local,src=… (may be repeated)
    #[arg(long, value_name = "REFERENCE|type=TYPE,…")]
    pub cache_from: Vec<String>,
    /// Where steps go for other machines: type=registry,ref=…, type=local,dest=… or type=inline, with mode=min or max
    #[arg(long, value_name = "type=TYPE,…")]
    pub cache_to: Vec<String>,
    /// Send the image to its registry, as --output type=registry
    #[arg(long)]
    pub push: bool,
    /// Have the image in the engine, where it is in any case
    #[arg(long)]
    pub load: bool,
    /// Write digests and names of the image to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<String>,
    /// Network of the commands: default, none, host
    #[arg(long, value_name = "NETWORK", default_value = "default")]
    pub network: String,
    /// Name and address for the commands
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// How to tell how it goes: auto, tty, plain, json, quiet, none [env: DAVIT_PROGRESS]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "KIND")]
    pub progress: Option<ProgressKind>,
    /// Stages of which every step is done (may be repeated)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Only look at the Dockerfile for what is probably not meant
    #[arg(long)]
    pub check: bool,
    /// What the commands may use.
    #[command(flatten)]
    pub limit: BuildLimitArgs,
    /// What the commands are given and allowed.
    #[command(flatten)]
    pub give: GiveArgs,
    /// Patterns of files that stay behind [default: FILE.dockerignore, then PATH/.dockerignore]
    #[arg(long, value_name = "FILE")]
    pub ignorefile: Option<String>,
    /// A context beside the main one: NAME=PATH, docker-image://…, oci-layout://… or an address
    #[arg(long, value_name = "NAME=PLACE")]
    pub build_context: Vec<String>,
    /// Platform to build for, as linux/amd64 [default: the engine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Folder, archive or address with the files, or - for a Dockerfile or an archive on standard input
    #[arg(required = true, value_name = "PATH|URL|-")]
    pub path: String,
}

/// What the commands of a build are given and allowed.
#[derive(Debug, Args)]
pub struct GiveArgs {
    /// Secret for commands that mount it; it is in no layer, cache or log
    #[arg(long, value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secret: Vec<String>,
    /// Agent with keys for commands that mount it
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub ssh: Vec<String>,
    /// Allow commands more than usual: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
}

/// `davit builder prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also what images share: no space comes free, but it is done anew
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only what fits: id=ID, until=AGE, type=TYPE, description=TEXT, inuse, shared, private
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Bytes that may stay in any case, the most recently needed first
    #[arg(long, value_name = "BYTES", alias = "keep-storage")]
    pub reserved_space: Option<String>,
    /// Bytes that may stay at most
    #[arg(long, value_name = "BYTES")]
    pub max_used_space: Option<String>,
    /// Tell all of each
    #[arg(long)]
    pub verbose: bool,
}

/// `davit builder du`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Tell all of each
    #[arg(long)]
    pub verbose: bool,
    /// Only what fits: id=ID, until=AGE, type=TYPE, description=TEXT, inuse, shared, private
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Template, table, or json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
