//! Flags of a container's limits.

use clap::Args;

use crate::args::limit::ResourceArgs;

/// What a container may use.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Those that `update` changes too.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Relative weight of one block device, 10 to 1000
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub blkio_weight_device: Vec<String>,
    /// Bytes read a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<String>,
    /// Bytes written a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<String>,
    /// Reads a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<String>,
    /// Writes a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<String>,
    /// Limit of each process
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Adjustment of its out-of-memory score, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// How readily its memory is swapped out, 0 to 100; -1 for the host's setting (cgroup v1 only)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub memory_swappiness: Option<i64>,
    /// Let it wait for memory instead of killing it (cgroup v1 only)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Cgroup to make its own below
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}
