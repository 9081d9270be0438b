//! Ports of a container: those it exposes, and those it publishes.

use std::collections::BTreeSet;

use davit_proto::container::{ContainerSpec, PortSpec};
use davit_proto::port::each;

use super::{Error, ImageConfig};

/// Protocols that ports can be of.
pub const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
/// Most ports that one container exposes or publishes.
pub const LIMIT: usize = 65_536;
/// Most ports that one word exposes.
const RANGE: usize = 4096;

/// One port or range noted as exposed: "80", "80/udp", "8000-8010/tcp".
///
/// # Errors
/// When it is none.
pub fn parse_exposed(text: &str) -> Result<Vec<(u16, &'static str)>, Error> {
    let fail = || Error::invalid("expose", text, "must be port[-port][/tcp|udp|sctp]");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let known = |p: &str| p.eq_ignore_ascii_case(protocol);
    let protocol = PROTOCOLS.into_iter().find(|p| known(p)).ok_or_else(fail)?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port @ 1..) if !text.starts_with('+') => Ok(port),
        _ => Err(fail()),
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last || usize::from(last - first) >= RANGE {
        return Err(fail());
    }
    Ok((first..=last).map(|port| (port, protocol)).collect())
}

/// All exposed ports of image and request, in order. What an image says wrong is left out with a word.
///
/// # Errors
/// When the request says one wrong.
pub fn exposed(
    spec: &ContainerSpec,
    image: &ImageConfig,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, Error> {
    let mut ports = BTreeSet::new();
    for text in &image.exposed_ports {
        match parse_exposed(text) {
            Ok(parsed) => ports.extend(parsed),
            Err(_) => warnings.push(format!("the image exposes {text:?}, which is no port")),
        }
    }
    for text in &spec.expose {
        ports.extend(parse_exposed(text)?);
    }
    // A row says for itself what it publishes.
    for port in spec.ports.iter().filter(|port| port.count <= 1) {
        let number = u16::try_from(port.container_port).unwrap_or_default();
        ports.extend(PROTOCOLS.into_iter().find(|p| *p == protocol(port)).map(|p| (number, p)));
    }
    if ports.len() > LIMIT {
        return Err(Error::Conflict(format!("image and request expose more than {LIMIT} ports")));
    }
    Ok(ports.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect())
}

/// The protocol of a port, which is TCP where it does not say.
#[must_use]
pub fn protocol(port: &PortSpec) -> &str {
    if port.protocol.is_empty() { "tcp" } else { &port.protocol }
}

/// The ports to publish, one by one: those asked for, and with `publish_all` every exposed one beside them.
///
/// # Errors
/// When an exposed port is none, which [`exposed`] rules out.
pub fn published(spec: &ContainerSpec, exposed: &[String]) -> Result<Vec<PortSpec>, Error> {
    let mut ports = each(&spec.ports);
    for port in &mut ports {
        protocol(port).to_owned().clone_into(&mut port.protocol);
    }
    if spec.publish_all {
        for text in exposed {
            for (number, protocol) in parse_exposed(text)? {
                let number = u32::from(number);
                if !ports.iter().any(|p| p.container_port == number && p.protocol == protocol) {
                    let protocol = protocol.to_owned();
                    ports.push(PortSpec { container_port: number, protocol, ..PortSpec::default() });
                }
            }
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_image_and_request_come_together() {
        let image = ImageConfig {
            exposed_ports: vec!["80/tcp".into(), "53/udp".into(), "x".into(), "0".into()],
            ..Default::default()
        };
        let spec = ContainerSpec {
            expose: vec!["8000-8002".into()],
            ports: vec![PortSpec { host_port: 8080, container_port: 80, ..Default::default() }],
            publish_all: true,
            ..Default::default()
        };
        let mut warnings = Vec::new();
        let ports = exposed(&spec, &image, &mut warnings).unwrap();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(warnings.len(), 2);
        let published = published(&spec, &ports).unwrap();
        let shown: Vec<_> = published
            .iter()
            .map(|p| format!("{}:{}/{}", p.host_port, p.container_port, p.protocol))
            .collect();
        assert_eq!(shown, ["8080:80/tcp", "0:53/udp", "0:8000/tcp", "0:8001/tcp", "0:8002/tcp"]);
    }

    #[test]
    fn ports_that_are_none_are_refused() {
        for bad in ["", "0", "65536", "-1", "2-1", "80/x", "80/", "1-65535", "+80", "80-", "a"] {
            assert!(parse_exposed(bad).is_err(), "{bad}");
        }
    }
}
