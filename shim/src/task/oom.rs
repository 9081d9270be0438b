//! Tells of processes that the kernel killed for want of memory while init lives on.

use std::io;
use std::time::Duration;

use davit_proto::journal::What;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::driver::{Body, Driver};
use super::note::Oom;
use super::state::Task;
use crate::cgroup::{ContainerCgroup, OomWatch};
use crate::watched;

/// How long after the kernel's notice is counted: v1 gives it before it kills, and where init itself was killed, its
/// end says so.
const DELAY: Duration = Duration::from_millis(200);

/// Rings when memory was short.
#[derive(Debug)]
pub(super) struct Alarm {
    watch: AsyncFd<OomWatch>,
    look_at: Option<Instant>,
    /// The life that was told of last, and how many kills of it.
    told: (u64, u64),
}

impl Alarm {
    /// Sets the alarm on a cgroup; none where the kernel gives no notice, which costs the news and nothing else.
    pub(super) fn set(cgroup: &ContainerCgroup) -> Option<Self> {
        let watch = match cgroup.watch_oom() {
            Ok(watch) => watch?,
            Err(error) => {
                tracing::warn!(%error, "will not hear of short memory");
                return None;
            }
        };
        let interest = if watch.is_urgent() { Interest::PRIORITY } else { Interest::READABLE };
        let watched = watched::watch(watch, interest);
        let watch = watched.inspect_err(|error| tracing::warn!(%error, "will not hear of short memory"));
        Some(Self { watch: watch.ok()?, look_at: None, told: (0, 0) })
    }

    /// Waits for the kernel's notice.
    async fn heard(&self) -> io::Result<()> {
        let interest = if self.watch.get_ref().is_urgent() { Interest::PRIORITY } else { Interest::READABLE };
        let mut guard = self.watch.ready(interest).await?;
        guard.clear_ready();
        drop(guard);
        self.watch.get_ref().clear()
    }
}

/// Resolves when it is time to count; never without an alarm. Many notices in a row are one.
pub(super) async fn rings(alarm: Option<&mut Alarm>) {
    let Some(alarm) = alarm else { return std::future::pending().await };
    if alarm.look_at.is_none() {
        if let Err(error) = alarm.heard().await {
            tracing::warn!(%error, "will hear no more of short memory");
            return std::future::pending().await;
        }
        alarm.look_at = Some(Instant::now() + DELAY);
    }
    if let Some(at) = alarm.look_at {
        sleep_until(at).await;
    }
}

/// Counts, and tells of what is new.
pub(super) fn count(driver: &mut Driver) {
    let Some(alarm) = &mut driver.oom else { return };
    alarm.look_at = None;
    let Task::Running { init: body, life, .. } = &driver.task else { return };
    let Some(oom) = kills(body) else { return };
    if alarm.told == (*life, oom.kills) {
        return;
    }
    alarm.told = (*life, oom.kills);
    driver.note(What::Oom { kills: oom.kills }, oom.to_string());
}

/// What the kernel did in this life for want of memory; none when nothing, or when that cannot be told.
pub(super) fn kills(body: &Body) -> Option<Oom> {
    let life = body.life.as_ref()?;
    match body.cgroup.oom_kills() {
        Ok(kills) if kills > life.oom_kills => {
            Some(Oom { kills: kills - life.oom_kills, limit: body.cgroup.memory_limit() })
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "cannot tell whether memory was short");
            None
        }
    }
}
