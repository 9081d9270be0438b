//! What a network is: its record on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use davit_proto::id::Name;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::ipam::Range;

/// How containers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of ours.
    Bridge,
    /// The host's own namespace.
    Host,
    /// Loopback alone.
    Null,
}

impl Driver {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// A network's id: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(String);

impl NetworkId {
    /// A new one.
    pub fn generate() -> Result<Self, Error> {
        davit_proto::id::random_hex().map(Self).map_err(|error| Error::Random(error.to_string()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a link: at most 15 of `[a-zA-Z0-9_.-]`, so that it is safe in a path below `/proc` and in a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no name of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid link name {0:?}: 1 to 15 of [a-zA-Z0-9_.-], the first a letter or digit")]
pub struct InvalidLinkName(String);

impl FromStr for LinkName {
    type Err = InvalidLinkName;
    fn from_str(text: &str) -> Result<Self, InvalidLinkName> {
        match text.parse::<Name>() {
            Ok(_) if text.len() <= 15 => Ok(Self(text.to_owned())),
            _ => Err(InvalidLinkName(text.chars().take(200).collect())),
        }
    }
}

impl TryFrom<String> for LinkName {
    type Error = InvalidLinkName;
    fn try_from(text: String) -> Result<Self, InvalidLinkName> {
        text.parse()
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bridge of a network and its ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Name of the link on the host.
    pub link: LinkName,
    /// Its addresses, at least one range of IPv4 among them. Earlier versions wrote a single one.
    #[serde(alias = "range", deserialize_with = "one_or_many")]
    pub ranges: Vec<Range>,
    /// No way out.
    #[serde(default)]
    pub internal: bool,
    /// Largest packet, in bytes; none for the kernel's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Addresses that no container is given, by what they are kept for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, IpAddr>,
    /// Its containers do not reach each other by it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub isolated: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Bridge {
    /// One with these ranges that is like any other.
    pub fn new(link: LinkName, ranges: Vec<Range>) -> Self {
        Self { link, ranges, internal: false, mtu: None, kept: BTreeMap::new(), isolated: false }
    }

    /// Its ranges of one family.
    pub fn family(&self, ipv4: bool) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(move |range| range.is_ipv4() == ipv4)
    }

    /// Whether it has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.family(false).next().is_some()
    }

    /// What an address is kept for.
    pub fn kept_for(&self, ip: IpAddr) -> Option<&str> {
        self.kept.iter().find(|(_, kept)| **kept == ip).map(|(name, _)| name.as_str())
    }

    /// The range that an address is in.
    pub fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.subnet.contains(&ip))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Range>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ranges {
        One(Range),
        Many(Vec<Range>),
    }
    Ok(match Ranges::deserialize(reader)? {
        Ranges::One(range) => vec![range],
        Ranges::Many(ranges) => ranges,
    })
}

/// A network, `<name>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Form of this file; 1.
    pub version: u32,
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: Name,
    /// Its driver.
    pub driver: Driver,
    /// Its bridge, when the driver has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Options as they were given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
}

/// Name of the network that containers join when nobody says otherwise.
pub const BRIDGE: &str = "bridge";
/// Name of the network that is the host's.
pub const HOST: &str = "host";
/// Name of the network that is none.
pub const NONE: &str = "none";

impl Network {
    /// A network made now.
    pub fn new(name: Name, driver: Driver, bridge: Option<Bridge>) -> Result<Self, Error> {
        Ok(Self {
            version: 1,
            id: NetworkId::generate()?,
            name,
            driver,
            bridge,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            created_at: jiff::Timestamp::now(),
        })
    }

    /// Whether every engine has it.
    pub fn is_built_in(&self) -> bool {
        matches!(self.name.as_str(), BRIDGE | HOST | NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_versions_are_read() {
        let old =
            r#"{"link":"davit0","range":{"subnet":"172.17.0.0/16","gateway":"172.17.0.1"},"internal":true}"#;
        let bridge: Bridge = serde_json::from_str(old).unwrap();
        let range = Range::new("172.17.0.0/16".parse::<ipnet::IpNet>().unwrap()).unwrap();
        assert_eq!((&bridge.ranges, bridge.internal), (&vec![range], true));
        let new = serde_json::to_string(&bridge).unwrap();
        assert_eq!(serde_json::from_str::<Bridge>(&new).unwrap(), bridge);
    }
}
