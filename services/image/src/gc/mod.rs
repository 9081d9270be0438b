//! Garbage collection that runs by itself.
//!
//! ```text
//! every interval, and after a change when a limit is set:
//!   1  content that nothing names, holds or leases, older than the grace     always
//!   2  images without a tag, idle for long                                   where set
//!   3  steps of builds that nobody needed for long, or beyond their budget   always
//!   4  images without a container, least recently used first,                where a limit is set,
//!      until the limit holds again                                           and is passed
//! ```
//!
//! What may go is looked for without the gate. Each image is then decided once more and taken off under it, alone, so
//! that nobody's start waits for more than one. A pull, load, commit or tag of the same moment holds leases, a container
//! has its record: both are asked under the same gate. When an image was used last is the time stamp of its manifest.

pub mod policy;
mod steps;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use davit_proto::id::Digest;

use crate::content::ContentError;
use crate::index::Entry;
use crate::list::Summary;
use crate::remove::Removed;
use crate::store::{PARTIAL_AGE, Store, StoreError};
use policy::{Policy, Watermarks};

/// The first run waits so long at most: what a crash left shall not wait for a long interval.
const FIRST: Duration = Duration::from_secs(60);
/// After a change the limits are looked at no sooner than this, so that many changes cost one look.
const CALM: Duration = Duration::from_secs(1);

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// When it ended.
    pub at: SystemTime,
    /// Images that went.
    pub images: u64,
    /// Layers and blobs that went without an image.
    pub loose: u64,
    /// Bytes of disk that came free.
    pub freed: u64,
    /// Why it did not come to its end, or what it could not reach.
    pub trouble: String,
}

/// Collects garbage of a store by a policy.
#[derive(Debug)]
pub struct Collector {
    store: Store,
    policy: Policy,
    last: Mutex<Option<Run>>,
}

impl Collector {
    /// Over a store; nothing runs yet.
    #[must_use]
    pub fn new(store: Store, policy: Policy) -> Arc<Self> {
        Arc::new(Self { store, policy, last: Mutex::default() })
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The last run.
    #[must_use]
    pub fn last(&self) -> Option<Run> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs by itself until the collector is dropped.
    pub fn start(self: &Arc<Self>) {
        if let Some(interval) = self.policy.interval {
            tokio::spawn(repeat(Arc::downgrade(self), interval));
        }
    }

    /// One run, and remembers it.
    pub fn run(&self) -> Run {
        let mut run = Run { at: SystemTime::now(), images: 0, loose: 0, freed: 0, trouble: String::new() };
        if let Err(error) = self.steps(&mut run) {
            run.trouble = davit_proto::status::chain(&error);
            tracing::warn!(error = run.trouble, "garbage collection did not come to its end");
        }
        run.at = SystemTime::now();
        if run.images + run.loose > 0 {
            tracing::info!(images = run.images, loose = run.loose, freed = run.freed, "collected garbage");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
        run
    }

    fn steps(&self, run: &mut Run) -> Result<(), StoreError> {
        let ago = |age: Duration| SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let collected = self.store.collect_loose(ago(self.policy.grace), ago(PARTIAL_AGE))?;
        run.loose = collected.layers.len() as u64 + collected.blobs + collected.partial;
        let (layers, blobs, partial) = (collected.layers.len(), collected.blobs, collected.partial);
        let freed = collected.freed.wait();
        run.freed += freed;
        if run.loose > 0 {
            tracing::info!(layers, blobs, partial, freed, "removed content that nothing needs");
        }
        if let Some(age) = self.policy.dangling_age {
            for (image_id, _) in
                self.idle(ago(age), |summary| summary.listed && summary.references.is_empty())?
            {
                let freed = self.remove(&image_id, ago(age), "it has no tag", run)?;
                run.freed += freed;
            }
        }
        self.collect_steps(run)?;
        self.meet_limits(ago(self.policy.min_age), run)
    }

    /// Removes images until no limit is passed.
    fn meet_limits(&self, before: SystemTime, run: &mut Run) -> Result<(), StoreError> {
        let Some((mut excess, why)) = self.excess()? else { return Ok(()) };
        for (image_id, _) in self.idle(before, |_| true)? {
            if excess == 0 {
                break;
            }
            let freed = self.remove(&image_id, before, &why, run)?;
            run.freed += freed;
            excess = excess.saturating_sub(freed);
        }
        if excess > 0 {
            run.trouble =
                format!("{why}, and {excess} bytes more cannot be freed: the rest is in use, kept or young");
            tracing::warn!(trouble = run.trouble, "a limit cannot be met");
        }
        Ok(())
    }

    /// Bytes beyond the limits, and which one is passed.
    fn excess(&self) -> Result<Option<(u64, String)>, StoreError> {
        let mut most: Option<(u64, String)> = None;
        if let Some(Watermarks { high, low }) = self.policy.watermarks {
            let (used, all) = space(self.store.content().root())?;
            let percent = |part: u8| u64::try_from(u128::from(all) * u128::from(part) / 100).unwrap_or(all);
            if used >= percent(high) && all > 0 {
                let now = u128::from(used) * 100 / u128::from(all);
                let why = format!("{now}% of the file system are in use, {high}% are the limit");
                most = Some((used.saturating_sub(percent(low)), why));
            }
        }
        if let Some(budget) = self.policy.budget {
            let usage = self.store.disk_usage()?;
            let taken = usage.layer_bytes.saturating_add(usage.blob_bytes);
            let excess = taken.saturating_sub(budget);
            if excess > most.as_ref().map_or(0, |(excess, _)| *excess) {
                most = Some((excess, format!("images take {taken} bytes, {budget} are the budget")));
            }
        }
        Ok(most)
    }

    /// Images that no container uses, that nothing keeps and that were last used before a moment: those first that only
    /// builds know of, and of each kind the least recently used.
    fn idle(
        &self,
        before: SystemTime,
        wanted: impl Fn(&Summary) -> bool,
    ) -> Result<Vec<(Digest, SystemTime)>, StoreError> {
        let used_at: std::collections::HashMap<Digest, SystemTime> = self
            .store
            .owned()?
            .into_iter()
            .map(|(image, entries)| Ok((image.id().clone(), self.used_at(&entries)?)))
            .collect::<Result<_, StoreError>>()?;
        let mut idle = Vec::new();
        for summary in self.store.list()? {
            let id = summary.image.id();
            let Some(at) = used_at.get(id).copied().filter(|at| *at < before) else { continue };
            if summary.container_ids.is_empty() && wanted(&summary) && !self.policy.keeps(&summary) {
                idle.push((summary.listed, id.clone(), at));
            }
        }
        idle.sort_by_key(|(listed, _, at)| (*listed, *at));
        Ok(idle.into_iter().map(|(_, id, at)| (id, at)).collect())
    }

    /// When an image was used last under any of its names. What cannot be told was used just now.
    fn used_at(&self, entries: &[Entry]) -> Result<SystemTime, StoreError> {
        let mut last = SystemTime::UNIX_EPOCH;
        for entry in entries {
            let at = self.store.content().used_at(&entry.descriptor().digest)?;
            last = last.max(at.unwrap_or_else(SystemTime::now));
        }
        Ok(last)
    }

    /// Removes one image, unless it was used or named anew meanwhile. Tells the bytes that came free.
    fn remove(
        &self,
        image_id: &Digest,
        before: SystemTime,
        why: &str,
        run: &mut Run,
    ) -> Result<u64, StoreError> {
        let still = |entries: &[Entry]| self.used_at(entries).is_ok_and(|at| at < before);
        let Some((removed, freed)) = self.store.remove_idle(image_id, still)? else { return Ok(0) };
        let names: Vec<&str> = removed
            .iter()
            .filter_map(|removed| match removed {
                Removed::Untagged(name) => Some(name.as_str()),
                Removed::Deleted(_) => None,
            })
            .collect();
        tracing::info!(image = %image_id, names = names.join(","), freed, why, "removed an image by policy");
        run.images += 1;
        Ok(freed)
    }
}

/// Bytes in use of the file system that holds a folder, and bytes that its users can have at all, as df(1) tells them.
fn space(folder: &Path) -> Result<(u64, u64), StoreError> {
    let space = rustix::fs::statvfs(folder)
        .map_err(|e| ContentError::io("ask for the free space of", folder.display())(e.into()))?;
    let used = space.f_blocks.saturating_sub(space.f_bfree).saturating_mul(space.f_frsize);
    Ok((used, used.saturating_add(space.f_bavail.saturating_mul(space.f_frsize))))
}

/// Runs until nobody has the collector any more.
async fn repeat(collector: Weak<Collector>, interval: Duration) {
    let Some(mut changes) = collector.upgrade().map(|collector| {
        let limited = collector.policy.has_limit();
        limited.then(|| collector.store.changes())
    }) else {
        return;
    };
    let mut pause = interval.min(FIRST);
    loop {
        let change = async {
            let told = match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if told {
                tokio::time::sleep(CALM).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! { () = tokio::time::sleep(pause) => {}, () = change => {} }
        pause = interval;
        let Some(collector) = collector.upgrade() else { return };
        if tokio::task::spawn_blocking(move || collector.run()).await.is_err() {
            tracing::error!("garbage collection ended early; it goes on with the next run");
        }
    }
}

#[cfg(test)]
mod tests;
