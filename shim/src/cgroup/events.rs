//! `cgroup.events`: what the kernel tells of a v2 cgroup, and waiting for it.

use std::fs::File;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::dir::{Dir, read_again};
use super::{CgroupError, Doing, counter};
use crate::watched;

/// The open file.
pub(super) struct Events(AsyncFd<File>);

impl Events {
    pub(super) fn open(cgroup: &Dir) -> Result<Self, CgroupError> {
        let file = cgroup.open("cgroup.events")?;
        watched::watch(file, Interest::PRIORITY).doing(|| "watch cgroup.events".to_owned()).map(Self)
    }

    /// Whether a key is 1.
    pub(super) fn is(&self, key: &str) -> Result<bool, CgroupError> {
        Ok(counter(&read_again(self.0.get_ref())?, key) == Some(1))
    }

    /// Waits until a key has a value; the kernel notifies of changes.
    pub(super) async fn wait(
        &self,
        key: &str,
        wanted: bool,
        patience: Duration,
        late: &'static str,
    ) -> Result<(), CgroupError> {
        timeout(patience, self.until(key, wanted)).await.map_err(|_elapsed| CgroupError::Timeout(late))?
    }

    async fn until(&self, key: &str, wanted: bool) -> Result<(), CgroupError> {
        while self.is(key)? != wanted {
            // What changes from here on makes it ready again.
            let ready = self.0.ready(Interest::PRIORITY).await;
            ready.doing(|| "watch cgroup.events".to_owned())?.clear_ready();
        }
        Ok(())
    }
}
