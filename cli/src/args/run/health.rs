//! Flags of a container's health check.

use clap::Args;

/// How to see whether a container works.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Command that says whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks: 30s
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Time a check may take
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Time at first in which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Failures in a row until it is unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// Time between checks while failures do not count
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// What happens to an unhealthy container: none, kill, restart, stop
    #[arg(long, value_name = "ACTION")]
    pub health_on_failure: Option<String>,
    /// No health check, even if the image has one
    #[arg(long)]
    pub no_healthcheck: bool,
}
