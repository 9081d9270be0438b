//! Flags of a container's files.

use clap::Args;

/// What a container mounts.
#[derive(Debug, Args)]
pub struct StorageArgs {
    /// Mount a host path or a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs|image,source=…,target=…,readonly
    ///
    /// bind: bind-propagation=, bind-recursive=enabled|disabled|writable|readonly, bind-create-src, idmap.
    /// volume: volume-nocopy, volume-subpath=, volume-driver=, volume-opt=KEY=VALUE, volume-label=KEY=VALUE.
    /// tmpfs: tmpfs-size=, tmpfs-mode=. image (always read-only): image-subpath=.
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Mount memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Use the volumes of another container too
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Driver of the volumes of --volume that have to be made
    #[arg(long, value_name = "DRIVER", default_value = "", hide_default_value = true)]
    pub volume_driver: String,
    /// Root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// With --read-only, mount memory at /run, /tmp and /var/tmp
    #[arg(long)]
    pub read_only_tmpfs: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
}
