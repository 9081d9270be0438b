//! Disk space of the steps of builds: what each added to the step or image that it was done upon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::{DiskUsage, Part, StepUsage, parts};
use crate::list::Summary;
use crate::store::{Store, StoreError};

/// What only steps need: no image that people see has it.
pub fn own(listed: &[Summary], only_steps: &[Summary]) -> BTreeSet<Part> {
    let seen: BTreeSet<Part> = listed.iter().flat_map(|summary| parts(&summary.image)).collect();
    only_steps.iter().flat_map(|summary| parts(&summary.image)).filter(|part| !seen.contains(part)).collect()
}

/// Counts the steps. The first of them is the one that goes first: the least recently needed, and of several the one
/// with the most layers, for it is done upon the others.
pub fn count(
    store: &Store,
    (listed, only_steps): (&[Summary], &[Summary]),
    (sizes, held): (&BTreeMap<Part, u64>, &BTreeSet<Part>),
    usage: &mut DiskUsage,
) -> Result<(), StoreError> {
    let size = |part: &Part| sizes.get(part).copied().unwrap_or(0);
    let own = own(listed, only_steps);
    usage.step_bytes = own.iter().map(size).fold(0, u64::saturating_add);
    let idle = own.iter().filter(|part| !held.contains(*part));
    usage.step_reclaimable_bytes = idle.map(size).fold(0, u64::saturating_add);

    // What has fewer layers was there before: it has what it shares with others from nobody. Of the same layers the
    // step made them, and an image only has them.
    let mut all: Vec<&Summary> = listed.iter().chain(only_steps).collect();
    all.sort_by_key(|summary| (summary.image.diff_ids().len(), summary.steps.is_empty()));
    let seen: BTreeSet<Part> = listed.iter().flat_map(|summary| parts(&summary.image)).collect();
    let mut claimed = BTreeSet::new();
    for summary in all {
        let mine: Vec<Part> =
            parts(&summary.image).into_iter().filter(|part| claimed.insert(part.clone())).collect();
        let bytes = mine.iter().map(size).fold(0, u64::saturating_add);
        let shared = mine.iter().filter(|part| seen.contains(*part)).map(size).fold(0, u64::saturating_add);
        let used_at = used_at(store, summary)?;
        for (index, reference) in summary.steps.iter().enumerate() {
            let first = index == 0;
            usage.steps.push(StepUsage {
                reference: reference.clone(),
                image: summary.image.clone(),
                bytes: if first { bytes } else { 0 },
                shared_bytes: if first { shared } else { 0 },
                in_use: !summary.container_ids.is_empty(),
                used_at,
            });
        }
    }
    inherit(&mut usage.steps);
    usage.steps.sort_by_key(|step| (step.used_at, std::cmp::Reverse(step.image.diff_ids().len())));
    Ok(())
}

/// Who needs a step needs those below it.
fn inherit(steps: &mut [StepUsage]) {
    let mut needed: BTreeMap<davit_proto::id::Digest, SystemTime> = BTreeMap::new();
    for step in steps.iter() {
        for layer in step.image.diff_ids() {
            let at = needed.entry(layer.clone()).or_insert(step.used_at);
            *at = step.used_at.max(*at);
        }
    }
    for step in steps {
        let top = step.image.diff_ids().last().and_then(|top| needed.get(top));
        step.used_at = top.copied().map_or(step.used_at, |at| at.max(step.used_at));
    }
}

fn used_at(store: &Store, summary: &Summary) -> Result<SystemTime, StoreError> {
    let at = store.content().used_at(&summary.image.descriptor.digest)?;
    Ok(at.unwrap_or_else(SystemTime::now))
}
