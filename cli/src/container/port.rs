//! `davit port`.

use davit_proto::container::{InspectRequest, PortSpec};
use davit_proto::port::each;
use davit_proto::status::RemoteError;

use crate::args::container::PortArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::spec::Invalid;
use crate::{exit, output, usage};

/// Shows where a container's ports are published.
pub async fn run(engine: Engine, args: PortArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    let wanted = args.port.as_deref().map(parse).transpose()?;
    let request = InspectRequest { container: args.container.clone(), size: false };
    let answer = engine.containers().await?.inspect(request).await.map_err(RemoteError::from)?.into_inner();
    let status = answer.container.and_then(|container| container.status).unwrap_or_default();
    let text = lines(&each(&status.ports), wanted.as_ref());
    if let (true, Some((port, protocol))) = (text.is_empty(), wanted) {
        return Err(Error::Usage(format!(
            "no public port {port}/{protocol} of container {:?}",
            args.container
        )));
    }
    output::print(&text)?;
    Ok(exit::SUCCESS)
}

fn parse(text: &str) -> Result<(u32, String), Invalid> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = port.parse::<u16>().map_err(|_| Invalid::new("port", text, "PORT[/PROTOCOL] is wanted"))?;
    Ok((number.into(), protocol.to_ascii_lowercase()))
}

fn lines(ports: &[PortSpec], wanted: Option<&(u32, String)>) -> String {
    let mut lines: Vec<_> = ports
        .iter()
        .flat_map(|port| host_ips(port).into_iter().map(move |ip| (port, ip)))
        .filter_map(|(port, ip)| {
            let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
            let place = format!("{}:{}", bracketed(&ip), port.host_port);
            match wanted {
                None => {
                    Some((port.container_port, format!("{}/{protocol} -> {place}\n", port.container_port)))
                }
                Some((number, wanted)) if *number == port.container_port && wanted == protocol => {
                    Some((port.container_port, format!("{place}\n")))
                }
                Some(_) => None,
            }
        })
        .collect();
    lines.sort_by_key(|(port, _)| *port);
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The addresses that a published port has on the host: all of both kinds when none was named.
pub fn host_ips(port: &PortSpec) -> Vec<String> {
    if port.host_ip.is_empty() { vec!["0.0.0.0".into(), "::".into()] } else { vec![port.host_ip.clone()] }
}

/// An address in front of a port.
pub fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: &str, host_port: u32, container_port: u32, protocol: &str) -> PortSpec {
        PortSpec {
            host_ip: host_ip.into(),
            host_port,
            container_port,
            protocol: protocol.into(),
            ..PortSpec::default()
        }
    }

    #[test]
    fn places() {
        let ports = [port("", 8080, 80, "tcp"), port("127.0.0.1", 5353, 53, "udp")];
        assert_eq!(
            lines(&ports, None),
            "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
        );
        assert_eq!(lines(&ports, Some(&parse("53/UDP").unwrap())), "127.0.0.1:5353\n");
        assert_eq!(lines(&ports, Some(&parse("53").unwrap())), "");
        assert!(parse("x").is_err());
    }
}
