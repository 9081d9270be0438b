//! Watch: the state now and after every change.

use davit_proto::task::Snapshot;
use futures_util::stream::{self, Stream};

use super::driver::Handle;

/// Every state with a generation above `after` that is still true when it is looked at, and always the last one.
/// Ends with the task.
pub fn watch(handle: &Handle, after: u64) -> impl Stream<Item = Snapshot> + Send + 'static {
    stream::unfold(Some((handle.subscribe(), after)), |watcher| async {
        let (mut published, after) = watcher?;
        let next = published.wait_for(|published| published.generation() > after).await.ok()?.clone();
        let is_last = next.is_over();
        let generation = next.generation();
        Some((next.snapshot(), (!is_last).then_some((published, generation))))
    })
}
