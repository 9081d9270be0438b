//! Flags of the verbs that act on images.

use clap::Args;

/// `davit pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Every tag of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Do not tell how it goes
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform of a multi-platform image: os/architecture
    #[arg(long)]
    pub platform: Option<String>,
    /// Image.
    #[arg(required = true, value_name = "IMAGE")]
    pub image: String,
}

/// `davit push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Every tag of the repository that is here
    #[arg(short, long)]
    pub all_tags: bool,
    /// Do not tell how it goes
    #[arg(short, long)]
    pub quiet: bool,
    /// Image.
    #[arg(required = true, value_name = "IMAGE")]
    pub image: String,
}

/// `davit images`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show all images
    #[arg(short, long)]
    pub all: bool,
    /// Show only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not cut anything
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Show those that match: dangling=true, label=a=b, reference=alp*
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Only this repository, or this repository and tag.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub repository: Option<String>,
}

/// `davit rmi`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Remove all names of an image, and even when a stopped container uses it
    #[arg(short, long)]
    pub force: bool,
    /// Keep untagged parents; there are none
    #[arg(long)]
    pub no_prune: bool,
    /// Images.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `davit tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Image.
    #[arg(required = true, value_name = "SOURCE_IMAGE[:TAG]")]
    pub source: String,
    /// Its further name.
    #[arg(required = true, value_name = "TARGET_IMAGE[:TAG]")]
    pub target: String,
}

/// `davit history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Sizes and times for people
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", value_parser = super::switch, value_name = "BOOL",
          hide_possible_values = true, action = clap::ArgAction::Set)]
    pub human: bool,
    /// Do not cut anything
    #[arg(long)]
    pub no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Image.
    #[arg(required = true, value_name = "IMAGE")]
    pub image: String,
}

/// `davit load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Read from this file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<String>,
    /// Do not tell how it goes
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform to take from an archive of several: os/architecture
    #[arg(long)]
    pub platform: Option<String>,
}

/// `davit import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Apply a Dockerfile instruction to the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// What is to be said of it
    #[arg(short, long)]
    pub message: Option<String>,
    /// Platform of the image, where it is not this host's: os/architecture
    #[arg(long)]
    pub platform: Option<String>,
    /// A tar archive, plain or compressed with gzip or zstd; - for standard input.
    #[arg(required = true, value_name = "FILE|-")]
    pub source: String,
    /// Name of the image.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}

/// Kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ArchiveFormat {
    /// What `docker load` reads.
    Docker,
    /// An OCI image layout.
    Oci,
}

/// `davit save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    /// Kind of archive
    #[arg(long, value_enum, default_value = "docker")]
    pub format_archive: ArchiveFormat,
    /// Images.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `davit image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Images.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

/// `davit image prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// All that no container uses, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that match: until=24h, label=a=b, label!=a
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `davit search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Show those that match: is-official=true, stars=3
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Most results, 1 to 100; 25 when nothing is said
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    pub limit: u32,
    /// Do not cut anything
    #[arg(long)]
    pub no_trunc: bool,
    /// What names or descriptions have in them, behind the registry's name and a slash.
    #[arg(required = true, value_name = "TERM")]
    pub term: String,
}

/// `davit image exists`.
#[derive(Debug, Args)]
pub struct ExistsArgs {
    /// Image.
    #[arg(required = true, value_name = "IMAGE")]
    pub image: String,
}
