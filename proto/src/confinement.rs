//! What every container that is not privileged is kept from: the controller writes it into its specs, and the shim
//! prepares containers by it before there is a spec.

/// Hidden.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Hidden where there are such files: one for each processor.
pub const MASKED_BY_PROCESSOR: &str = "/sys/devices/system/cpu/cpu*/thermal_throttle";
/// Shown, and never writable.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Shown read-only as well, being a mount of its own, and writable to a container that is told so.
pub const CGROUPS: &str = "/sys/fs/cgroup";
/// Devices that may be used all the same, by major and minor number: null, zero, full, random, urandom, tty, console,
/// ptmx, and all pseudo-terminals.
pub const DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Kernel settings that belong to an IPC namespace; what begins with `fs.mqueue.` does as well.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Whether a kernel setting, written with dots, belongs to an IPC namespace.
#[must_use]
pub fn is_of_ipc(setting: &str) -> bool {
    setting.starts_with("fs.mqueue.") || IPC.contains(&setting)
}
