//! Unreserve: lets go of ports of the host, and of what serves them on `[::1]`.

use super::driver::Driver;
use super::error::TaskError;
use super::reserve::{self, Wanted};
use crate::relay::Relay;

/// Lets go of ports. Those that are not held are no error.
pub(super) async fn unreserve(driver: &mut Driver, gone: &[Wanted]) -> Result<(), TaskError> {
    let body = reserve::living(driver)?;
    let mut held = std::mem::take(&mut body.ports);
    for ports in gone {
        held = held.into_iter().flat_map(|row| row.without(ports)).collect();
    }
    // What serves a port that is not held would keep it from its next holder.
    let is_held =
        |relay: &Relay| held.iter().any(|row| row.holder_of(relay.protocol(), relay.port()).is_some());
    for relay in body.relays.extract_if(.., |relay| !is_held(relay)) {
        relay.end().await;
    }
    body.ports = held;
    driver.publish();
    Ok(())
}
