//! Which gateway and which part belong to which address range: the one that they are in, as docker has it.

use std::net::IpAddr;

use davit_proto::network::Subnet;

use crate::args::network::CreateArgs;
use crate::error::Error;

/// The ranges of a network to be made.
pub fn subnets(args: &CreateArgs) -> Result<Vec<Subnet>, Error> {
    let parts = [&args.gateway, &args.ip_range, &args.aux_address];
    if args.subnet.is_empty() && parts.into_iter().any(|texts| !texts.is_empty()) {
        return Err(Error::Usage("every ip-range or gateway must have a corresponding subnet".into()));
    }
    let mut subnets: Vec<Subnet> = Vec::with_capacity(args.subnet.len());
    for text in &args.subnet {
        let new = range("--subnet", text)?;
        for known in &subnets {
            if range("--subnet", &known.cidr)?.overlaps(&new) {
                return Err(Error::Usage(
                    "multiple overlapping subnet configuration is not supported".into(),
                ));
            }
        }
        subnets.push(Subnet { cidr: text.clone(), ..Subnet::default() });
    }
    for text in &args.ip_range {
        let part = range("--ip-range", text)?;
        let subnet = home(&mut subnets, &part, || format!("no matching subnet for range {text}"))?;
        if !subnet.ip_range.is_empty() {
            return Err(Error::Usage(format!(
                "cannot configure multiple ranges ({text}, {}) on the same subnet ({})",
                subnet.ip_range, subnet.cidr
            )));
        }
        subnet.ip_range.clone_from(text);
    }
    for text in &args.gateway {
        let address = text.parse().map_err(|_| Error::Usage(format!("invalid IP address: {text}")))?;
        let gateway = Range { address, prefix: width(address) };
        let subnet = home(&mut subnets, &gateway, || format!("no matching subnet for gateway {text}"))?;
        if !subnet.gateway.is_empty() {
            return Err(Error::Usage(format!(
                "cannot configure multiple gateways ({text}, {}) for the same subnet ({})",
                subnet.gateway, subnet.cidr
            )));
        }
        subnet.gateway.clone_from(text);
    }
    for text in &args.aux_address {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = pair.and_then(|(name, address)| Some((name, address.parse::<IpAddr>().ok()?)));
        let (name, address) = pair
            .ok_or_else(|| Error::Usage(format!("invalid --aux-address {text}: NAME=ADDRESS is wanted")))?;
        let kept = Range { address, prefix: width(address) };
        let missing = || format!("no matching subnet for aux-address {address}");
        let subnet = home(&mut subnets, &kept, missing)?;
        subnet.aux_addresses.insert(name.to_owned(), address.to_string());
    }
    Ok(subnets)
}

/// The range that holds another one.
fn home<'a>(
    subnets: &'a mut [Subnet],
    part: &Range,
    missing: impl Fn() -> String,
) -> Result<&'a mut Subnet, Error> {
    let holds = |subnet: &&mut Subnet| range("--subnet", &subnet.cidr).is_ok_and(|range| range.holds(part));
    subnets.iter_mut().find(holds).ok_or_else(|| Error::Usage(missing()))
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    address: IpAddr,
    prefix: u32,
}

impl Range {
    fn holds(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.overlaps(other)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        width(self.address) == width(other.address)
            && network(self.address, prefix) == network(other.address, prefix)
    }
}

fn range(flag: &str, text: &str) -> Result<Range, Error> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let (address, prefix): (IpAddr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
        (prefix <= width(address)).then_some(Range { address, prefix })
    });
    parsed.ok_or_else(|| Error::Usage(format!("invalid CIDR address for {flag}: {text}")))
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits of the network, right-aligned.
fn network(address: IpAddr, prefix: u32) -> u128 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    bits.checked_shr(width(address) - prefix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets_of(subnet: &[&str], gateway: &[&str], part: &[&str]) -> Result<Vec<Subnet>, String> {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let args = CreateArgs {
            subnet: own(subnet),
            gateway: own(gateway),
            ip_range: own(part),
            ..CreateArgs::default()
        };
        subnets(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn each_gateway_and_part_finds_its_range() {
        let both = ["10.1.0.0/16", "fd00:7::/64"];
        let made = subnets_of(&both, &["fd00:7::9", "10.1.9.9"], &["10.1.4.0/24"]).unwrap();
        assert_eq!((made[0].gateway.as_str(), made[1].gateway.as_str()), ("10.1.9.9", "fd00:7::9"));
        assert_eq!((made[0].ip_range.as_str(), made[1].ip_range.as_str()), ("10.1.4.0/24", ""));
        assert!(subnets_of(&[], &[], &[]).unwrap().is_empty());
        assert_eq!(subnets_of(&["0.0.0.0/0"], &["9.9.9.9"], &[]).unwrap()[0].gateway, "9.9.9.9");
    }

    #[test]
    fn what_fits_nowhere_is_refused_in_dockers_words() {
        let said =
            |subnet: &[&str], gateway: &[&str], part: &[&str]| subnets_of(subnet, gateway, part).unwrap_err();
        assert!(said(&[], &["10.0.0.1"], &[]).contains("must have a corresponding subnet"));
        assert!(
            said(&["10.0.0.0/24"], &["10.0.1.1"], &[]).contains("no matching subnet for gateway 10.0.1.1")
        );
        assert!(said(&["10.0.0.0/24"], &[], &["10.0.0.0/16"]).contains("no matching subnet for range"));
        assert!(said(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[]).contains("overlapping"));
        assert!(said(&["10.0.0.0/8"], &["10.0.0.1", "10.0.0.2"], &[]).contains("multiple gateways"));
        assert!(said(&["10.0.0.0/8"], &[], &["10.0.0.0/16", "10.1.0.0/16"]).contains("multiple ranges"));
        assert!(said(&["10.0.0.0/33"], &[], &[]).contains("invalid CIDR address"));
        assert!(said(&["10.0.0.0"], &[], &[]).contains("invalid CIDR address"));
        assert!(said(&["10.0.0.0/8"], &["gate"], &[]).contains("invalid IP address"));
    }
}
