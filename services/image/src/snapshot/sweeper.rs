//! Deletion of whole trees beside the work: on some file systems it takes seconds.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use davit_sys::file;

/// Deletes trees one after the other on a thread of its own. What it had not come to when the process ended is found
/// by its name at the next start.
#[derive(Debug)]
pub(super) struct Sweeper {
    queue: Option<Sender<PathBuf>>,
}

impl Sweeper {
    pub fn new() -> Self {
        let (queue, trees) = channel::<PathBuf>();
        let run = move || {
            for tree in trees {
                if let Err(error) = sweep(&tree) {
                    tracing::warn!(tree = %tree.display(), %error, "could not delete a tree, trying again at the next start");
                }
            }
        };
        let started = thread::Builder::new().name("sweeper".to_owned()).spawn(run);
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for deletions, they wait for the next start");
        }
        Self { queue: started.is_ok().then_some(queue) }
    }

    /// Deletes a tree, some time.
    pub fn push(&self, tree: PathBuf) {
        if let Some(queue) = &self.queue {
            // The thread ends only after this end of the queue is gone.
            let _ = queue.send(tree);
        }
    }
}

fn sweep(tree: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (tree.parent(), tree.file_name()) else { return Ok(()) };
    file::remove_tree(file::open_dir(parent)?, name)
}
