//! Forgetting flows, behind the calls: a call says that something changed, and soon after one look at the kernel's
//! table serves all that changed meanwhile. What is stale follows from what holds now, so a look that a crash cut off
//! is made up for by the next one.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::conntrack;
use crate::flow::{Pool, View};
use crate::holding::Wired;
use crate::link;
use crate::networks::{Networks, Shared};
use crate::port::Publication;

/// How long a change may wait for others to come along.
const GATHER: Duration = Duration::from_millis(20);
/// The least pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A look that took `t` is followed by a pause of this many `t`: a large table never costs more than a tenth of one
/// processor.
const SHARE: u32 = 10;

/// What changed since the last look.
#[derive(Debug, Default)]
pub struct Sweep {
    pending: Mutex<Pending>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    changed: bool,
    withdrawn: Vec<Publication>,
    freed: HashSet<IpAddr>,
}

impl Sweep {
    /// Ports lead to containers from now on.
    pub fn published(&self) {
        self.pending().changed = true;
        self.wake.notify_one();
    }

    /// Ports lead there no more, and addresses are nobody's.
    pub fn released(&self, ports: &[Publication], addresses: impl Iterator<Item = IpAddr>) {
        let mut pending = self.pending();
        pending.changed = true;
        pending.withdrawn.extend(ports);
        pending.freed.extend(addresses);
        self.wake.notify_one();
    }

    /// Nobody holds the networks any more.
    pub fn end(&self) {
        self.wake.notify_one();
    }

    /// Whether an address came free and its flows may still be there.
    pub fn is_fresh(&self, address: IpAddr) -> bool {
        self.pending().freed.contains(&address)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sweeps when something changed, until the last handle of the networks is gone.
pub fn start(networks: &Networks) {
    let shared = Arc::downgrade(networks.shared());
    let sweep = Arc::clone(&networks.shared().sweep);
    // What a former process had no time for.
    sweep.published();
    tokio::spawn(async move {
        loop {
            sweep.wake.notified().await;
            let Some(networks) = shared.upgrade().map(|shared: Arc<Shared>| Networks::of(shared)) else {
                return;
            };
            tokio::time::sleep(GATHER).await;
            let begun = Instant::now();
            if tokio::task::spawn_blocking(move || networks.sweep()).await.is_err() {
                tracing::error!("forgetting connections failed; this is a fault of davit");
            }
            tokio::time::sleep(PAUSE.max(begun.elapsed().saturating_mul(SHARE))).await;
        }
    });
}

impl Networks {
    /// Looks once, if anything changed.
    pub fn sweep(&self) {
        let pending = std::mem::take(&mut *self.shared().sweep.pending());
        if !pending.changed {
            return;
        }
        match self.forget_stale(&pending) {
            Ok(0) => {}
            Ok(flows) => tracing::debug!(flows, "forgot connections that lead nowhere"),
            Err(error) if conntrack::is_unsupported(&error) => {
                tracing::warn!(%error, "this kernel lists no connections: old ones keep their way");
            }
            Err(error) => {
                tracing::warn!(%error, "could not forget connections; trying again with the next change");
                let mut again = self.shared().sweep.pending();
                again.changed = true;
                again.withdrawn.extend(pending.withdrawn);
                again.freed.extend(pending.freed);
            }
        }
    }

    fn forget_stale(&self, pending: &Pending) -> std::io::Result<usize> {
        let view = self.view(pending)?;
        let mut flows = conntrack::list(|flow| view.is_stale(flow))?;
        if flows.is_empty() {
            return Ok(0);
        }
        // Looked at again: a container that came while the kernel listed has its first flows among these.
        let view = self.view(pending)?;
        flows.retain(|tracked| view.is_stale(&tracked.flow));
        conntrack::forget(&flows)?;
        Ok(flows.len())
    }

    fn view(&self, pending: &Pending) -> std::io::Result<View> {
        let local = link::addresses(&link::open()?)?.into_iter().map(|(_, net)| net.addr()).collect();
        let books = self.books();
        let ranges = books.networks().flat_map(|network| network.bridge.iter().flat_map(|b| &b.ranges));
        let pools = ranges.map(|range| Pool { subnet: range.subnet, gateway: range.gateway });
        let leases = books.holdings().flat_map(|(_, holding)| &holding.leases);
        let held = leases.filter_map(|lease| lease.wired.as_ref()).flat_map(Wired::addresses);
        Ok(View {
            pools: pools.collect(),
            held: held.collect(),
            local,
            withdrawn: pending.withdrawn.iter().copied().collect(),
            published: books.publications().into_iter().collect(),
        })
    }
}
