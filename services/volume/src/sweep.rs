//! What drivers still hold for containers that are gone: found by asking the drivers, so that nothing need be written
//! down for it, and asked again until a driver that was away has answered.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use davit_proto::status::chain;

use crate::driver::Driver;
use crate::error::Error;
use crate::volumes::{Volumes, WeakVolumes};

/// Between two looks for a driver that is away: at first, and at last.
const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);

/// Asks for a look at a driver; the sweeper ends with the last of these.
#[derive(Debug, Clone)]
pub struct Sweeper {
    wanted: SyncSender<String>,
}

impl Sweeper {
    /// A sweeper without its thread, and the end that [`sweep`] reads.
    pub fn new() -> (Self, Receiver<String>) {
        let (wanted, waiting) = mpsc::sync_channel(64);
        (Self { wanted }, waiting)
    }

    /// Has a driver looked at, soon.
    pub fn look(&self, driver: &str) {
        // A full queue holds this driver already, or is looked at in the end: each failure asks again.
        let _ = self.wanted.try_send(driver.to_owned());
    }
}

/// Looks at each driver that is asked for until it has answered: at first at all. Runs until the volumes are gone.
pub fn sweep(volumes: &WeakVolumes, waiting: &Receiver<String>) {
    let Some(all) = volumes.upgrade() else { return };
    let mut due: BTreeSet<String> = all.drivers().all().map(|(name, _)| name.to_owned()).collect();
    drop(all);
    let mut pause = FIRST;
    loop {
        let Some(volumes) = volumes.upgrade() else { return };
        due.retain(|name| match volumes.drivers().get(name).and_then(|driver| let_go(&volumes, driver)) {
            Ok(()) => false,
            Err(error) => {
                tracing::debug!(driver = name, error = chain(&error), "asked a volume driver in vain");
                true
            }
        });
        // Nothing of theirs is kept while there is nothing to do.
        drop(volumes);
        let wanted = match due.is_empty() {
            true => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => waiting.recv_timeout(pause),
        };
        match wanted {
            Ok(driver) => {
                due.insert(driver);
                pause = FIRST;
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LAST),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn let_go(volumes: &Volumes, driver: Driver<'_>) -> Result<(), Error> {
    for (name, holder) in driver.held()? {
        let _turn = volumes.turns().take(&name);
        if volumes.state().is_held_by(&name, &holder) {
            continue;
        }
        driver.unmount(&name, &holder)?;
        tracing::info!(volume = %name, holder, "let go what a driver held for nobody");
    }
    Ok(())
}
