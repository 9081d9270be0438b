//! Ports in a row: one [`PortSpec`] on the wire and on disk, however many they are.

use crate::container::PortSpec;

/// Ports one by one.
#[must_use]
pub fn each(ports: &[PortSpec]) -> Vec<PortSpec> {
    let row = |port: &PortSpec| {
        let port = port.clone();
        (0..port.count.clamp(1, 65_536)).map(move |n| PortSpec {
            host_port: if port.host_port == 0 { 0 } else { port.host_port.saturating_add(n) },
            container_port: port.container_port.saturating_add(n),
            count: 0,
            ..port.clone()
        })
    };
    ports.iter().flat_map(row).collect()
}

/// Ports that follow each other on both sides as one. Those that the host chooses, and those of a range, stay by
/// themselves.
#[must_use]
pub fn in_rows(ports: &[PortSpec]) -> Vec<PortSpec> {
    let mut rows: Vec<PortSpec> = Vec::new();
    for port in each(ports) {
        let follows = |row: &&mut PortSpec| {
            let length = row.count.max(1);
            (row.host_ip.as_str(), row.protocol.as_str()) == (&port.host_ip, &port.protocol)
                && row.host_port != 0
                && row.host_port_last == 0
                && port.host_port_last == 0
                && row.host_port + length == port.host_port
                && row.container_port + length == port.container_port
        };
        match rows.last_mut().filter(follows) {
            Some(row) => row.count = row.count.max(1) + 1,
            None => rows.push(port),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_port: u32, container_port: u32, count: u32) -> PortSpec {
        PortSpec { host_port, container_port, count, ..PortSpec::default() }
    }

    #[test]
    fn rows_are_the_ports_that_they_stand_for() {
        let rows = [port(8000, 80, 3), port(0, 90, 0), port(0, 91, 0), port(9000, 90, 0)];
        let ports = each(&rows);
        let shown: Vec<_> = ports.iter().map(|port| (port.host_port, port.container_port)).collect();
        assert_eq!(shown, [(8000, 80), (8001, 81), (8002, 82), (0, 90), (0, 91), (9000, 90)]);
        assert_eq!(in_rows(&ports), rows);
        assert_eq!(in_rows(&rows), rows);
        let all = [port(1, 1, 65_535)];
        assert_eq!(in_rows(&each(&all)), all);
        let choice = PortSpec { host_port_last: 8005, ..port(8003, 83, 0) };
        assert_eq!(in_rows(&[port(8000, 80, 3), choice.clone()]), [port(8000, 80, 3), choice]);
        assert_eq!(each(&[port(u32::MAX, u32::MAX, u32::MAX)]).len(), 65_536, "bounded");
    }
}
