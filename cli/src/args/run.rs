//! `run` and `create`: everything that describes a container.

mod health;
mod limit;
mod network;
mod security;
mod storage;

use clap::Args;

pub use health::HealthArgs;
pub use limit::LimitArgs;
pub use network::NetworkArgs;
pub use security::SecurityArgs;
pub use storage::StorageArgs;

/// `davit run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Write the process id of the container's program to this file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<String>,
    /// Pass signals on to the container [default: true, but for a raw terminal]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = super::switch, value_name = "BOOL", hide_possible_values = true)]
    pub sig_proxy: Option<bool>,
    /// The container.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// `davit create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The container.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// When to fetch an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// When it is not here.
    Missing,
    /// Never.
    Never,
    /// Before every start, and what is here will do when it cannot be fetched.
    Newer,
}

/// A container as a person describes it.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// Image, then the command and its arguments.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_name = "IMAGE")]
    pub image_and_command: Vec<String>,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Streams to attach: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Remove a container that has this name, running or not
    #[arg(long)]
    pub replace: bool,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// When to pull the image
    #[arg(long, value_enum, default_value = "missing")]
    pub pull: PullPolicy,
    /// Do not tell of the pull
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform of a multi-platform image: os/architecture
    #[arg(long)]
    pub platform: Option<String>,

    /// Set an environment variable
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Pass on the environment here, where neither image nor flags say otherwise
    #[arg(long)]
    pub env_host: bool,
    /// Remove a variable of the image
    #[arg(long, value_name = "KEY")]
    pub unsetenv: Vec<String>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Additional groups
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Rights that files it makes do not have [default: 0022]
    #[arg(long, value_name = "MODE")]
    pub umask: Option<String>,
    /// Program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Run a small init that reaps processes and forwards signals
    #[arg(long)]
    pub init: bool,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Note something for a scheduler
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub annotation: Vec<String>,
    #[arg(
        long,
        value_name = "POLICY",
        help = "When to start it again: no, always, unless-stopped, on-failure[:N]"
    )]
    pub restart: Option<String>,
    /// Signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds to wait for its end before it is killed
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Option of its log: max-size, max-file
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,

    /// Storage.
    #[command(flatten, next_help_heading = "Storage")]
    pub storage: StorageArgs,
    /// Network.
    #[command(flatten, next_help_heading = "Network")]
    pub network: NetworkArgs,
    /// Limits.
    #[command(flatten, next_help_heading = "Limits")]
    pub limit: LimitArgs,
    /// Confinement.
    #[command(flatten, next_help_heading = "Confinement")]
    pub security: SecurityArgs,
    /// Health.
    #[command(flatten, next_help_heading = "Health")]
    pub health: HealthArgs,
}
