//! Flags of the verbs that act on containers that exist.

use clap::Args;

use super::limit::ResourceArgs;

/// One or more containers.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Containers: ids, beginnings of ids, or names.
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `davit start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Attach its output and pass signals on
    #[arg(short, long)]
    pub attach: bool,
    /// Attach its input
    #[arg(short, long)]
    pub interactive: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
    /// Do not attach its input
    #[arg(long)]
    pub no_stdin: bool,
    /// Keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Pass signals on to the container [default: true, but for a raw terminal]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = super::switch, value_name = "BOOL", hide_possible_values = true)]
    pub sig_proxy: Option<bool>,
}

/// `davit exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Container, then the command and its arguments.
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER")]
    pub container_and_command: Vec<String>,
    /// Run in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that leave the command running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
    /// Set an environment variable
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// All capabilities
    #[arg(long)]
    pub privileged: bool,
    /// User and group: names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
}

/// `davit stop` and `davit restart`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Seconds to wait before it is killed; -1 to wait for ever
    #[arg(short = 't', long = "timeout", alias = "time", value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Signal to ask with
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What `davit wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WaitFor {
    /// That it does not run.
    NotRunning,
    /// That it ends the next time.
    NextExit,
    /// That it is removed.
    Removed,
    /// That its health check passes.
    Healthy,
}

/// `davit wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// What to wait for
    #[arg(long, value_enum, default_value = "not-running")]
    pub condition: WaitFor,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit kill`.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Kill a running container first
    #[arg(short, long, short_alias = 'r')]
    pub force: bool,
    /// Remove its volumes without a name as well
    #[arg(short, long)]
    pub volumes: bool,
    /// Remove a link, not a container
    #[arg(short, long)]
    pub link: bool,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit ps`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show those that do not run too
    #[arg(short, long)]
    pub all: bool,
    /// Show only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show sizes
    #[arg(short, long)]
    pub size: bool,
    /// Show the newest so many
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub last: Option<i64>,
    /// Show the newest one
    #[arg(short, long)]
    pub latest: bool,
    /// Do not cut anything
    #[arg(long)]
    pub no_trunc: bool,
    /// Show those that match: status=running, label=a=b, …
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// `davit logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Of several containers, begin each line with a name instead of an id
    #[arg(long)]
    pub names: bool,
    /// Go on as it grows
    #[arg(short, long)]
    pub follow: bool,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", allow_hyphen_values = true)]
    pub tail: String,
    /// Lines since a time: 2026-11-20T10:00:00, 42m
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Lines before a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show what its log options added to each line
    #[arg(long)]
    pub details: bool,
}

/// `davit rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
    /// Its new name.
    #[arg(required = true, value_name = "NEW_NAME")]
    pub name: String,
}

/// `davit port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
    /// Only this port of it.
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// `davit container inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Show sizes
    #[arg(short, long)]
    pub size: bool,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit cp`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// Keep owners and groups
    #[arg(short, long)]
    pub archive: bool,
    /// Follow a link that SRC_PATH ends in
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not tell what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// What is copied: CONTAINER:PATH, a path of this side, or - for an archive on standard input.
    #[arg(required = true, value_name = "SRC_PATH")]
    pub source: String,
    /// Where to: CONTAINER:PATH, a path of this side, or - for an archive on standard output.
    #[arg(required = true, value_name = "DEST_PATH")]
    pub destination: String,
}

/// `davit top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
    /// Options of ps(1) that choose columns: aux, -ef, -o pid,args.
    #[arg(value_name = "PS_OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub columns: Vec<String>,
}

/// `davit stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Stopped containers too
    #[arg(short, long)]
    pub all: bool,
    /// One answer, then the end
    #[arg(long)]
    pub no_stream: bool,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
    /// Do not cut ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Containers; all that run without any.
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `davit update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Limits.
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[arg(
        long,
        value_name = "POLICY",
        help = "When to start it again: no, always, unless-stopped, on-failure[:N]"
    )]
    pub restart: Option<String>,
    #[arg(
        long,
        value_name = "PORT",
        help = "Publish another port, also while it runs: [[IP:]PORT:]PORT[/PROTOCOL]"
    )]
    pub publish_add: Vec<String>,
    /// Publish a port no longer, as it was given or by the container's or host's port: 80/tcp
    #[arg(long, value_name = "PORT")]
    pub publish_rm: Vec<String>,
    /// Mount something more, also while it runs: as of --mount or --volume
    #[arg(long, value_name = "MOUNT")]
    pub mount_add: Vec<String>,
    /// Take off what was mounted by --volume, --mount, --tmpfs or --mount-add, unless somebody uses it
    #[arg(long, value_name = "TARGET")]
    pub mount_rm: Vec<String>,
    /// Containers.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `davit container prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that match: until=24h, label=a=b
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `davit commit`.
#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Who made it: "Ada Lovelace <ada@example.org>"
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub author: String,
    /// What is to be said of it
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub message: String,
    /// Apply a Dockerfile instruction to the image: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Freeze the container while its files are read
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "true", value_parser = super::switch, value_name = "BOOL",
          hide_possible_values = true, action = clap::ArgAction::Set)]
    pub pause: bool,
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
    /// Name of the image.
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}

/// `davit export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<String>,
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
}

/// `davit container exists`.
#[derive(Debug, Args)]
pub struct ExistsArgs {
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
}
