//! Steps of builds: what nobody needed for long goes, and what is beyond their budget.
//!
//! They are kept for speed alone, so unlike images that people named they go without being asked about: the least
//! recently needed first, and of several that were needed together the last one, which is done upon the others.

use std::time::{Duration, SystemTime};

use super::{Collector, Run, space};
use crate::store::StoreError;

/// Part of the file system that steps may take where nothing is set.
const SHARE: u64 = 10;

impl Collector {
    pub(super) fn collect_steps(&self, run: &mut Run) -> Result<(), StoreError> {
        let entries = self.store.references().entries()?;
        if !entries.iter().any(crate::index::Entry::is_step) {
            return Ok(());
        }
        let ago = |age: Duration| SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let budget = match self.policy.steps_budget {
            Some(budget) => budget,
            None => space(self.store.content().root())?.1 / SHARE,
        };
        let usage = self.store.disk_usage()?;
        let mut excess = usage.step_bytes.saturating_sub(budget);
        let old = self.policy.steps_age.map(ago);
        let idle = ago(self.policy.min_age);
        for step in usage.steps.iter().filter(|step| !step.in_use) {
            let before = match old.filter(|old| step.used_at < *old) {
                Some(old) => old,
                None if excess > 0 => idle,
                None => continue,
            };
            let Some(freed) = self.store.remove_step(&step.reference, before)? else { continue };
            tracing::info!(step = step.reference, freed, "removed a step of a build by policy");
            run.images += 1;
            run.freed += freed;
            excess = excess.saturating_sub(freed);
        }
        Ok(())
    }
}
