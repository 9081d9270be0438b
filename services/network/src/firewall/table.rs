//! The text of our table: what is to hold, as one transaction that replaces what held before. Pure.
//!
//! The rules do not grow with containers or ports: those are elements of sets and maps. Why each line is there:
//!
//! * `guard`: `route_localnet` lets a bridge carry 127.0.0.0/8; without these lines a container reads what listens on
//!   the host's loopback. A router's advertisement from a container is nobody's to take.
//!   Every packet of the host passes here, so the cheap comparison comes before the look into the set.
//! * `prerouting` leaves 127.0.0.0/8 alone: translation comes before the kernel's own check, so a neighbour that
//!   routes 127.0.0.0/8 to us would reach a port that is published on 127.0.0.1 only.
//! * `postrouting`: a container that is called through its own host's loopback answers the bridge; one that calls
//!   itself or a sibling through the host's address must see the answer come back through the host.
//! * `forward`: into a bridge only what was published, what answers, and what comes from the same bridge.
//! * `closed`: when forwarding was switched on for us alone, what neither comes from nor goes to a bridge of an
//!   engine is dropped, so that the host does not become a router.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::forwarding::Families;
use super::map::{self, MAPS};
use crate::link::BRIDGE_GROUP;
use crate::network::LinkName;
use crate::port::Publication;

/// A bridge in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its link.
    pub link: LinkName,
    /// Its ranges, of both families.
    pub subnets: Vec<IpNet>,
    /// No way out.
    pub internal: bool,
}

/// What the table is made from.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// Its name.
    pub name: &'a str,
    /// The bridges.
    pub bridges: &'a [Bridge],
    /// The ports.
    pub ports: &'a [Publication],
    /// Families that are forwarded for us alone.
    pub closed: Families,
}

/// Rules that the table has; so many are counted to see that it is whole.
pub const RULES: usize = 28;

const RULES_TEXT: &str = "
  chain guard { type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname @bridges counter drop
    ip saddr 127.0.0.0/8 iifname @bridges counter drop
    icmpv6 type nd-router-advert iifname @bridges counter drop
  }
  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip to ip daddr . meta l4proto . th dport map @one4r
    dnat ip to meta l4proto . th dport map @any4
    dnat ip to meta l4proto . th dport map @any4r
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6r
    dnat ip6 to meta l4proto . th dport map @any6
    dnat ip6 to meta l4proto . th dport map @any6r
  }
  chain prerouting { type nat hook prerouting priority dstnat; policy accept;
    iifname @internal return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump publish
  }
  chain output { type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump publish
  }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ip saddr @subnets4 ct status dnat masquerade
    oifname @bridges ip6 saddr @subnets6 ct status dnat masquerade
    oifname != @bridges ip saddr @subnets4 masquerade
    oifname != @bridges ip6 saddr @subnets6 masquerade
  }
  chain forward { type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @within accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges ct status dnat accept
    oifname @bridges counter drop
  }
";

impl Table<'_> {
    /// The transaction. A table of that name that is there is replaced; flows that run go on.
    pub fn text(&self) -> String {
        let name = self.name;
        let mut text = format!("table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n");
        let links = |internal_only: bool| {
            let bridges = self.bridges.iter().filter(move |b| b.internal || !internal_only);
            bridges.map(|bridge| format!("\"{}\"", bridge.link))
        };
        let within = links(false).map(|link| format!("{link} . {link}"));
        let subnets = |ipv4: bool| {
            let all = self.bridges.iter().flat_map(|bridge| &bridge.subnets);
            all.filter(move |subnet| matches!(subnet, IpNet::V4(_)) == ipv4).map(ToString::to_string)
        };
        set(&mut text, "set bridges", "type ifname;", links(false));
        set(&mut text, "set internal", "type ifname;", links(true));
        set(&mut text, "set within", "type ifname . ifname;", within);
        set(&mut text, "set subnets4", "type ipv4_addr; flags interval;", subnets(true));
        set(&mut text, "set subnets6", "type ipv6_addr; flags interval;", subnets(false));
        self.maps(&mut text);
        text.push_str(RULES_TEXT);
        text.push_str("  chain closed { type filter hook forward priority filter + 10; policy accept;\n");
        for family in self.closed_families() {
            writeln!(
                text,
                "    meta nfproto {family} meta iifgroup != {BRIDGE_GROUP} meta oifgroup != {BRIDGE_GROUP} counter drop"
            )
            .expect("writing to a string cannot fail");
        }
        text.push_str("  }\n}\n");
        text
    }

    fn maps(&self, text: &mut String) {
        for map in MAPS {
            let elements = map::elements(self.ports).filter(|element| element.map == map);
            set(text, &format!("map {}", map.name), &map.kind(), elements.map(|element| element.text()));
        }
    }

    /// Rules that a whole table has.
    pub fn rules(&self) -> usize {
        RULES + self.closed_families().count()
    }

    fn closed_families(&self) -> impl Iterator<Item = &'static str> + use<> {
        let Families { ipv4, ipv6 } = self.closed;
        [(ipv4, "ipv4"), (ipv6, "ipv6")].into_iter().filter_map(|(closed, family)| closed.then_some(family))
    }
}

fn set(text: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    write!(text, "  {name} {{ {kind} ").expect("writing to a string cannot fail");
    if !elements.is_empty() {
        write!(text, "elements = {{ {} }} ", elements.join(", ")).expect("writing to a string cannot fail");
    }
    text.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Wish;

    fn port(ip: &str) -> Publication {
        let wish = Wish::parse(ip, 8080, 80, "udp").unwrap();
        wish.lead(Some([172, 17, 0, 2].into()), None).remove(0)
    }

    #[test]
    fn elements_go_where_they_belong() {
        let bridge = |link: &str, internal| Bridge {
            link: link.parse().unwrap(),
            subnets: vec!["172.17.0.0/16".parse().unwrap(), "fd00:17::/64".parse().unwrap()],
            internal,
        };
        let bridges = [bridge("davit0", false), bridge("dvb1", true)];
        let ports = [port(""), port("127.0.0.1")];
        let table = Table {
            name: "davit-x",
            bridges: &bridges,
            ports: &ports,
            closed: Families { ipv4: true, ipv6: false },
        };
        let text = table.text();
        for line in [
            "set bridges { type ifname; elements = { \"davit0\", \"dvb1\" } }",
            "set internal { type ifname; elements = { \"dvb1\" } }",
            "elements = { \"davit0\" . \"davit0\", \"dvb1\" . \"dvb1\" }",
            "elements = { udp . 8080 : 172.17.0.2 . 80 }",
            "elements = { 127.0.0.1 . udp . 8080 : 172.17.0.2 . 80 }",
            "set subnets4 { type ipv4_addr; flags interval; elements = { 172.17.0.0/16, 172.17.0.0/16 } }",
            "set subnets6 { type ipv6_addr; flags interval; elements = { fd00:17::/64, fd00:17::/64 } }",
            "map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }",
            "map one4r { type ipv4_addr . inet_proto . inet_service : ipv4_addr; flags interval; }",
            "meta nfproto ipv4 meta iifgroup != 25718",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        let open = Table { closed: Families::default(), ..table.clone() };
        assert!(!open.text().contains("iifgroup"));
        assert_eq!(table.rules(), open.rules() + 1);
    }

    #[test]
    fn the_rules_are_counted_right() {
        let rules = RULES_TEXT.lines().filter(|line| line.starts_with("    ")).count();
        assert_eq!(rules, RULES);
    }
}
