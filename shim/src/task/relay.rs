//! Relay: which of the held ports are served on `[::1]` too. The firewall cannot lead those anywhere.

use std::net::SocketAddr;

use davit_proto::task::RelayedPort;
use davit_sys::port::Protocol;

use super::driver::Driver;
use super::error::TaskError;
use super::reserve::{self, Reservation};
use crate::relay::{Relay, Way};

/// Ports of one container that are served; each takes a descriptor.
const MOST: usize = 256;

impl TryFrom<RelayedPort> for Way {
    type Error = TaskError;

    fn try_from(asked: RelayedPort) -> Result<Self, TaskError> {
        let invalid = |name, value: String, rule| TaskError::Invalid { name, value, rule };
        let number = |name, value: u32| match u16::try_from(value) {
            Ok(port @ 1..) => Ok(port),
            _ => Err(invalid(name, value.to_string(), "must be 1 to 65535")),
        };
        let protocol = match asked.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(invalid("protocol", other.to_owned(), "must be tcp or udp")),
        };
        let ip = asked.address.parse();
        let ip = ip.map_err(|_| invalid("address", asked.address.clone(), "must be an IP address"))?;
        let target = SocketAddr::new(ip, number("container_port", asked.container_port)?);
        Ok(Self { protocol, port: number("host_port", asked.host_port)?, target })
    }
}

/// Serves these ways and no others; answers with what a person should know. What is served already goes on.
pub(super) async fn relay(driver: &mut Driver, wanted: Vec<Way>) -> Result<Vec<String>, TaskError> {
    let body = reserve::living(driver)?;
    for relay in body.relays.extract_if(.., |relay| !wanted.contains(relay.way())) {
        relay.end().await;
    }
    let mut warnings = Vec::new();
    for way in &wanted {
        if body.relays.iter().any(|relay| relay.way() == way) {
            continue;
        }
        if body.relays.len() >= MOST {
            warnings.push(format!("on [::1] only {MOST} of {} ports are served", wanted.len()));
            break;
        }
        match begin(&body.ports, way) {
            // Without IPv6 nobody asks there.
            Ok(None) => {}
            Ok(Some(relay)) => body.relays.push(relay),
            Err(error) => warnings.push(format!("[::1]:{} is not served: {error}", way.port)),
        }
    }
    Ok(warnings)
}

fn begin(held: &[Reservation], way: &Way) -> std::io::Result<Option<Relay>> {
    for row in held {
        if let Some(holder) = row.holder_of(way.protocol, way.port)
            && holder.has_loopback6()?
        {
            return Relay::begin(*way, holder).map(Some);
        }
    }
    Ok(None)
}
