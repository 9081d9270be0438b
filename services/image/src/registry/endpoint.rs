//! Where a registry answers: mirrors first, then the registry itself, and how far each host is trusted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use reqwest::Url;

use crate::reference::{DEFAULT_DOMAIN, ImageRef};

/// Docker Hub's registry answers under another name than its own.
const HUB_HOST: &str = "registry-1.docker.io";
/// And is searched under a third one.
const HUB_SEARCH: &str = "index.docker.io";

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A mirror is no `http://` or `https://` URL of a host.
    #[error("registry mirror {0:?} is not a http:// or https:// URL of a host")]
    Mirror(String),
    /// An insecure registry is neither `host[:port]` nor a network in CIDR notation.
    #[error("insecure registry {0:?} is neither host[:port] nor a network such as 10.0.0.0/8")]
    Insecure(String),
}

/// How to find out whether a host speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// TLS, or nothing.
    Tls,
    /// Plain HTTP, because the URL of a mirror says so.
    Plain,
    /// TLS if it is spoken there, else plain HTTP.
    Probe,
}

/// One host that may have what a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port as written: the key of credentials and of what was learned about the host.
    pub(super) host: String,
    /// `scheme://host:port/prefix/` with the scheme that is tried first.
    pub(super) base: Url,
    pub(super) transport: Transport,
    /// Credentials are looked up by this name.
    pub(super) domain: String,
    pub(super) is_mirror: bool,
}

/// Which hosts may be spoken to without verified TLS, and who stands in for whom.
#[derive(Debug, Default)]
pub(super) struct Map {
    insecure_hosts: Vec<String>,
    insecure_networks: Vec<Network>,
    mirrors: BTreeMap<String, Vec<Endpoint>>,
}

impl Map {
    pub(super) fn new(
        insecure: &[String],
        mirrors: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, ConfigError> {
        let mut map = Self::default();
        for entry in insecure {
            match entry.contains('/') {
                true => map.insecure_networks.push(Network::parse(entry)?),
                false if origin(entry, "https").is_some() => {
                    map.insecure_hosts.push(entry.to_ascii_lowercase())
                }
                false => return Err(ConfigError::Insecure(entry.clone())),
            }
        }
        for (domain, urls) in mirrors {
            let endpoints = urls.iter().map(|url| mirror(url)).collect::<Result<_, _>>()?;
            map.mirrors.insert(domain.clone(), endpoints);
        }
        Ok(map)
    }

    /// The hosts to ask for a reference, in order. `None` when the registry's name makes no URL.
    pub(super) fn endpoints(&self, reference: &ImageRef) -> Option<Vec<Endpoint>> {
        let domain = reference.domain();
        let host = if domain == DEFAULT_DOMAIN { HUB_HOST } else { domain };
        let own = self.own(domain, host)?;
        let mut endpoints = self.mirrors.get(domain).cloned().unwrap_or_default();
        endpoints.push(own);
        Some(endpoints)
    }

    /// Where a registry is searched. `None` when its name makes no URL.
    pub(super) fn search(&self, domain: &str) -> Option<Endpoint> {
        self.own(domain, if domain == DEFAULT_DOMAIN { HUB_SEARCH } else { domain })
    }

    fn own(&self, domain: &str, host: &str) -> Option<Endpoint> {
        let base = origin(host, "https")?;
        let probe = is_loopback(host_of(&base)) || self.is_insecure(&base);
        Some(Endpoint {
            host: domain.to_owned(),
            base,
            transport: if probe { Transport::Probe } else { Transport::Tls },
            domain: domain.to_owned(),
            is_mirror: false,
        })
    }

    /// Whether the host of a URL was named insecure: its certificate is not looked at.
    pub(super) fn is_insecure(&self, url: &Url) -> bool {
        let host = host_of(url);
        let port = url.port();
        let named = self.insecure_hosts.iter().any(|entry| match origin(entry, url.scheme()) {
            Some(origin) => host_of(&origin) == host && origin.port() == port,
            None => false,
        });
        named
            || bare(host)
                .parse()
                .is_ok_and(|ip| self.insecure_networks.iter().any(|network| network.contains(ip)))
    }

    /// Whether plain HTTP may be spoken with the host of a URL.
    pub(super) fn allows_plain(&self, url: &Url) -> bool {
        let is_plain_mirror = || {
            self.mirrors
                .values()
                .flatten()
                .any(|mirror| mirror.base.scheme() == "http" && same_origin(&mirror.base, url))
        };
        is_loopback(host_of(url)) || self.is_insecure(url) || is_plain_mirror()
    }
}

/// Scheme, host and port are what credentials belong to.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Whether a token service may be shown the credentials of a registry: the same host, or one below the same parent
/// domain (`auth.docker.io` for `registry-1.docker.io`), over a connection that is no worse.
pub(super) fn same_site(registry: &Url, realm: &Url) -> bool {
    if realm.scheme() != "https" && realm.scheme() != registry.scheme() {
        return false;
    }
    let (registry, realm) = (host_of(registry), host_of(realm));
    if registry == realm {
        return true;
    }
    if bare(registry).parse::<IpAddr>().is_ok() {
        return false;
    }
    let below = |host: &str, parent: &str| {
        host == parent || host.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    let parent = registry.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
    below(realm, registry) || parent.is_some_and(|parent| below(realm, parent))
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || bare(host).parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

pub(super) fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// An address without the brackets of a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn origin(host: &str, scheme: &str) -> Option<Url> {
    let url = Url::parse(&format!("{scheme}://{host}/")).ok()?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    (plain && url.username().is_empty() && url.password().is_none() && url.has_host()).then_some(url)
}

fn mirror(text: &str) -> Result<Endpoint, ConfigError> {
    let wrong = || ConfigError::Mirror(text.to_owned());
    let mut base = Url::parse(text).map_err(|_| wrong())?;
    let transport = match base.scheme() {
        "https" => Transport::Tls,
        "http" => Transport::Plain,
        _ => return Err(wrong()),
    };
    let plain = base.username().is_empty() && base.password().is_none() && base.query().is_none();
    if !plain || base.fragment().is_some() || host_of(&base).is_empty() {
        return Err(wrong());
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let host = match base.port() {
        Some(port) => format!("{}:{port}", host_of(&base)),
        None => host_of(&base).to_owned(),
    };
    Ok(Endpoint { domain: host.clone(), host, base, transport, is_mirror: true })
}

/// A network in CIDR notation.
#[derive(Debug)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Insecure(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > widest { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let (own, other, width) = match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            _ => return false,
        };
        let shift = width - u32::from(self.prefix);
        own.checked_shr(shift).unwrap_or(0) == other.checked_shr(shift).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn map(insecure: &[&str], mirrors: &[&str]) -> Map {
        let insecure: Vec<String> = insecure.iter().map(|entry| (*entry).to_owned()).collect();
        let mirrors = mirrors.iter().map(|entry| (*entry).to_owned()).collect();
        Map::new(&insecure, &BTreeMap::from([("docker.io".to_owned(), mirrors)])).unwrap()
    }

    fn endpoints(map: &Map, reference: &str) -> Vec<(String, Transport)> {
        let reference = ImageRef::parse(reference).unwrap();
        let endpoints = map.endpoints(&reference).unwrap();
        endpoints.into_iter().map(|endpoint| (endpoint.base.to_string(), endpoint.transport)).collect()
    }

    #[test]
    fn plain_http_only_where_it_was_allowed() {
        let map = map(&["10.1.0.0/16", "lab.example:5000", "bare"], &[]);
        let transport = |reference: &str| endpoints(&map, reference)[0].1;
        for probe in [
            "localhost:5000/x",
            "127.0.0.1:5000/x",
            "127.9.9.9/x",
            "[::1]:5000/x",
            "10.1.2.3/x",
            "lab.example:5000/x",
        ] {
            assert_eq!(transport(probe), Transport::Probe, "{probe}");
        }
        for tls in [
            "busybox",
            "quay.io/x",
            "10.2.0.1/x",
            "lab.example/x",
            "localhost.example:5000/x",
            "128.0.0.1:5000/x",
        ] {
            assert_eq!(transport(tls), Transport::Tls, "{tls}");
        }
        assert!(map.is_insecure(&url("https://bare/v2/")) && !map.is_insecure(&url("https://bare:5000/v2/")));
        assert!(
            map.allows_plain(&url("http://127.0.0.1:1/")) && !map.is_insecure(&url("https://127.0.0.1:1/"))
        );
    }

    #[test]
    fn mirrors_come_before_the_hub_and_only_for_it() {
        let map = map(&[], &["https://mirror.example", "http://cache.example:5000/hub"]);
        assert_eq!(
            endpoints(&map, "busybox"),
            [
                ("https://mirror.example/".to_owned(), Transport::Tls),
                ("http://cache.example:5000/hub/".to_owned(), Transport::Plain),
                ("https://registry-1.docker.io/".to_owned(), Transport::Tls),
            ]
        );
        assert_eq!(endpoints(&map, "quay.io/a"), [("https://quay.io/".to_owned(), Transport::Tls)]);
        assert!(map.allows_plain(&url("http://cache.example:5000/x")));
        assert!(!map.allows_plain(&url("http://mirror.example/x")));
    }

    #[test]
    fn refuses_settings_that_make_no_sense() {
        for mirror in ["mirror.example", "ftp://x", "https://user:pw@x", "https://x?y", "https://"] {
            let mirrors = BTreeMap::from([("docker.io".to_owned(), vec![mirror.to_owned()])]);
            assert!(Map::new(&[], &mirrors).is_err(), "{mirror}");
        }
        for insecure in ["10.0.0.0/33", "x/y", "http://x", "a@b", "a b", ""] {
            assert!(Map::new(&[insecure.to_owned()], &BTreeMap::new()).is_err(), "{insecure}");
        }
    }

    #[test]
    fn credentials_stay_on_their_site() {
        let same = [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token"),
            ("https://registry.gitlab.com/", "https://gitlab.com/jwt/auth"),
            ("https://quay.io/", "https://quay.io/v2/auth"),
            ("https://quay.io/", "https://auth.quay.io/v2/auth"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token"),
            ("http://localhost:5000/", "https://localhost:5001/token"),
        ];
        let other = [
            ("https://quay.io/", "https://evil.io/token"),
            ("https://registry.example.com/", "https://example.com.evil.org/token"),
            ("https://registry.example.com/", "https://evilexample.com/token"),
            ("https://registry.example.com/", "http://registry.example.com/token"),
            ("http://127.0.0.1:5000/", "http://127.0.0.2:5000/token"),
            ("http://10.0.0.1/", "http://9.0.0.1/"),
        ];
        for (registry, realm) in same {
            assert!(same_site(&url(registry), &url(realm)), "{registry} {realm}");
        }
        for (registry, realm) in other {
            assert!(!same_site(&url(registry), &url(realm)), "{registry} {realm}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let all = Network::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        let one = Network::parse("fd00::1/128").unwrap();
        assert!(one.contains("fd00::1".parse().unwrap()) && !one.contains("fd00::2".parse().unwrap()));
    }
}
