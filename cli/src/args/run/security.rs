//! Flags of a container's confinement.

use clap::Args;

/// What a container is kept from, and what it is let at.
#[derive(Debug, Args)]
pub struct SecurityArgs {
    /// All capabilities, all devices, no masks
    #[arg(long)]
    pub privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    #[arg(
        long,
        value_name = "OPTION",
        help = "seccomp=FILE|unconfined, no-new-privileges, mask=PATH[:PATH], unmask=ALL|PATH[:PATH]"
    )]
    pub security_opt: Vec<String>,
    /// Give it a device of the host
    #[arg(long, value_name = "DEVICE[:PATH[:rwm]]")]
    pub device: Vec<String>,
    /// Rule for devices, as the cgroup takes it
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Set a kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    pub sysctl: Vec<String>,
    /// Processes it sees: host or container:NAME
    #[arg(long, value_name = "NAMESPACE")]
    pub pid: Option<String>,
    /// Shared memory it sees: host, private, shareable or container:NAME
    #[arg(long, value_name = "NAMESPACE")]
    pub ipc: Option<String>,
    /// Host name it sees: host
    #[arg(long, value_name = "NAMESPACE")]
    pub uts: Option<String>,
    /// User ids it has on the host: host, auto, auto:size=N or UID:GID:SIZE
    #[arg(long, value_name = "NAMESPACE")]
    pub userns: Option<String>,
    /// Cgroups it sees: host or private
    #[arg(long, value_name = "NAMESPACE")]
    pub cgroupns: Option<String>,
}
