//! Flags of what the commands of a build may use.

use clap::Args;

/// Limits of the commands, and what docker takes beside them.
#[derive(Debug, Args)]
pub struct BuildLimitArgs {
    /// Memory of a command
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Its memory and swap together; -1 for no limit on swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Relative weight of its processor time
    #[arg(short, long, value_name = "WEIGHT")]
    pub cpu_shares: Option<u64>,
    /// Length of a scheduling period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Its processor time a period in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Processors it runs on: 0-3,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes it uses
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Size of its /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    #[arg(long, value_name = "LIMIT", help = "Limit of its processes: NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Cgroup to make its own below
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
    /// Confinement of it: seccomp=PROFILE, no-new-privileges, …
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Taken for docker's sake: only default is there
    #[arg(long, value_name = "KIND", hide = true)]
    pub isolation: Option<String>,
    /// Taken for docker's sake: containers of steps are always removed
    #[arg(long, hide = true)]
    pub rm: bool,
    /// Taken for docker's sake: containers of steps are always removed
    #[arg(long, hide = true)]
    pub force_rm: bool,
    /// Taken for docker's sake: only changed files travel
    #[arg(long, hide = true)]
    pub compress: bool,
    /// Taken to be refused
    #[arg(long, hide = true)]
    pub squash: bool,
}
