//! `--network` and what belongs to it.

use davit_proto::container::{ContainerSpec, EndpointSpec};

use super::{Invalid, csv, port, text};
use crate::args::run::NetworkArgs;
use crate::error::Error;

/// Fills in what a container joins and publishes.
pub fn fill(spec: &mut ContainerSpec, args: &NetworkArgs) -> Result<(), Error> {
    spec.networks = endpoints(args)?;
    for text in &args.publish {
        spec.ports.extend(port::publish(text)?);
    }
    spec.publish_all = args.publish_all;
    for text in &args.expose {
        spec.expose.extend(port::expose(text)?);
    }
    spec.hostname = text(args.hostname.as_ref());
    spec.domainname = text(args.domainname.as_ref());
    spec.dns.clone_from(&args.dns);
    spec.dns_search.clone_from(&args.dns_search);
    spec.dns_options.clone_from(&args.dns_option);
    spec.extra_hosts = args.add_host.iter().map(|host| extra_host(host)).collect::<Result<_, _>>()?;
    spec.links.clone_from(&args.link);
    Ok(())
}

fn endpoints(args: &NetworkArgs) -> Result<Vec<EndpointSpec>, Invalid> {
    let mut endpoints = args.network.iter().map(|text| endpoint(text)).collect::<Result<Vec<_>, _>>()?;
    let wants = !args.network_alias.is_empty()
        || args.ip.is_some()
        || args.ip6.is_some()
        || args.mac_address.is_some();
    if !wants {
        return Ok(endpoints);
    }
    if endpoints.is_empty() {
        endpoints.push(EndpointSpec { network: "bridge".into(), ..EndpointSpec::default() });
    }
    // The flags of their own speak of the first network, as docker's do.
    let Some(first) = endpoints.first_mut() else { return Ok(endpoints) };
    let both = |what: &str| {
        Invalid::new("--network", &first.network, format!("conflicting options: cannot specify both {what}"))
    };
    if !args.network_alias.is_empty() && !first.aliases.is_empty() {
        return Err(both("--network-alias and per-network alias"));
    }
    for (given, flag, what) in [
        (&first.ipv4, &args.ip, "--ip and per-network IPv4 address"),
        (&first.ipv6, &args.ip6, "--ip6 and per-network IPv6 address"),
        (&first.mac, &args.mac_address, "--mac-address and per-network MAC address"),
    ] {
        if flag.is_some() && !given.is_empty() {
            return Err(both(what));
        }
    }
    first.aliases.extend_from_slice(&args.network_alias);
    for (field, flag) in
        [(&mut first.ipv4, &args.ip), (&mut first.ipv6, &args.ip6), (&mut first.mac, &args.mac_address)]
    {
        if let Some(value) = flag {
            field.clone_from(value);
        }
    }
    Ok(endpoints)
}

/// `NAME`, or `name=NAME,alias=…,ip=…`.
fn endpoint(text: &str) -> Result<EndpointSpec, Invalid> {
    let invalid = |rule: &str| Invalid::new("--network", text, rule);
    let mut endpoint = EndpointSpec::default();
    if text.contains('=') {
        for (key, value) in csv::fields("--network", text)? {
            let value =
                value.filter(|value| !value.is_empty()).ok_or_else(|| invalid("a field has no value"))?;
            match key.as_str() {
                "name" => endpoint.network = value,
                "alias" => endpoint.aliases.push(value),
                "ip" => endpoint.ipv4 = value,
                "ip6" => endpoint.ipv6 = value,
                "mac-address" => endpoint.mac = value,
                _ => return Err(invalid(&format!("{key:?} is no field of a network"))),
            }
        }
    } else {
        text.clone_into(&mut endpoint.network);
    }
    if endpoint.network == "default" {
        endpoint.network = "bridge".into();
    }
    if endpoint.network.is_empty() {
        return Err(invalid("which network?"));
    }
    Ok(endpoint)
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, as the engine wants it: with a colon.
pub fn extra_host(text: &str) -> Result<String, Invalid> {
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    match pair {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            Ok(format!("{name}:{address}"))
        }
        _ => Err(Invalid::new("--add-host", text, "NAME:ADDRESS is wanted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(endpoint("host").unwrap().network, "host");
        assert_eq!(endpoint("default").unwrap().network, "bridge");
        assert_eq!(endpoint("container:web").unwrap().network, "container:web");
        let full = endpoint("name=front,alias=a,alias=b,ip=10.0.0.5,mac-address=02:42:ac:11:00:02").unwrap();
        assert_eq!((full.network.as_str(), full.aliases.len(), full.ipv4.as_str()), ("front", 2, "10.0.0.5"));
        for bad in ["", "alias=a", "name=", "name=x,colour=red"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(extra_host("db:10.0.0.1").unwrap(), "db:10.0.0.1");
        assert_eq!(extra_host("db=10.0.0.1").unwrap(), "db:10.0.0.1");
        assert_eq!(extra_host("db:::1").unwrap(), "db:::1");
        assert_eq!(extra_host("db=[::1]").unwrap(), "db:::1");
        assert_eq!(extra_host("up:host-gateway").unwrap(), "up:host-gateway");
        for bad in ["", "db", ":1", "db:"] {
            assert!(extra_host(bad).is_err(), "{bad}");
        }
    }
}
