//! What is looked after while nobody calls: the firewall, which others may flush, and the files of names.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::networks::{Networks, Shared};

/// How often. What somebody flushes comes back within this time.
const PERIOD: Duration = Duration::from_secs(3);

/// Looks after the networks until the last handle of them is gone.
pub fn start(networks: &Networks) {
    let shared = Arc::downgrade(networks.shared());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(networks) = Weak::<Shared>::upgrade(&shared).map(Networks::of) else { return };
            if tokio::task::spawn_blocking(move || networks.tend()).await.is_err() {
                tracing::error!("looking after the networks failed; this is a fault of davit");
            }
        }
    });
}

impl Networks {
    /// Looks once.
    pub fn tend(&self) {
        self.repair_names();
        match self.ground().firewall.repair() {
            Ok(false) => {}
            Ok(true) => tracing::warn!("somebody changed our firewall table or forwarding; restored"),
            Err(error) => {
                let error = davit_proto::status::chain(&error);
                tracing::error!(error, "could not look after our firewall table");
            }
        }
    }
}
