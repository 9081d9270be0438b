//! Flags of a container's limits.

use clap::Args;

/// What a container may use.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Memory
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory that is given back first
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// Memory and swap together; -1 for no limit on swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Number of processors
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Length of a scheduling period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Processor time a period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<u64>,
    /// Relative weight of its processor time
    #[arg(short, long, value_name = "WEIGHT")]
    pub cpu_shares: Option<u64>,
    /// Processors to run on: 0-3,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Relative weight of its disk use, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u32>,
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
    /// Cgroup to make its own below
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}
