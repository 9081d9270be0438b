//! Top: the processes of the container, its execs' too.

use davit_sys::process;

use super::driver::Driver;
use super::error::TaskError;
use super::update::configured;

/// Process ids as the host counts, smallest first. One that ends meanwhile is left out.
pub(super) fn top(driver: &Driver) -> Result<Vec<i32>, TaskError> {
    let ours = configured(&driver.task)?.cgroup.processes()?;
    let mut pids: Vec<i32> = ours
        .into_iter()
        .filter_map(|pid| process::host_pid(process::pidfd_open(pid).ok()?).ok())
        .filter_map(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 0)
        .collect();
    pids.sort_unstable();
    Ok(pids)
}
