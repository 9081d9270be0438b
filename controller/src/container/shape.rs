//! What of a container cannot change once its init was cloned: the shape that its shim is prepared with.

use davit_proto::container::{ContainerSpec, EndpointSpec, Namespaces};
use davit_proto::task::{Namespace, NamespaceMode, Shape};

use super::spec::{Error, security};
use super::userns;

/// Most networks of one container.
const NETWORKS: usize = 64;

/// Where a container's network comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A namespace of its own, wired to these networks.
    Wired(Vec<EndpointSpec>),
    /// A namespace of its own with nothing in it.
    None,
    /// The host's.
    Host,
}

impl Network {
    /// Networks to be wired to.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointSpec] {
        match self {
            Self::Wired(endpoints) => endpoints,
            Self::None | Self::Host => &[],
        }
    }

    /// The first network's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Wired(endpoints) => endpoints.first().map_or("none", |first| &first.network),
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// Where the network comes from, as the request says it.
///
/// # Errors
/// When the request names networks that exclude each other.
pub fn network(spec: &ContainerSpec) -> Result<Network, Error> {
    if spec.networks.len() > NETWORKS {
        let count = spec.networks.len().to_string();
        return Err(Error::invalid("networks", &count, format!("at most {NETWORKS}")));
    }
    if spec.networks.iter().any(|endpoint| endpoint.network.starts_with("container:")) {
        return Err(Error::Unserved("sharing another container's network is".to_owned()));
    }
    let alone = ["none", "host"].into_iter().find(|name| spec.networks.iter().any(|n| n.network == *name));
    match alone {
        Some(name) if spec.networks.len() > 1 => {
            Err(Error::Conflict(format!("the network {name:?} cannot be joined together with another one")))
        }
        Some("host") => Ok(Network::Host),
        Some(_) => Ok(Network::None),
        None => Ok(Network::Wired(endpoints(&spec.networks))),
    }
}

/// The networks to be wired to, the default bridge where none is named.
fn endpoints(named: &[EndpointSpec]) -> Vec<EndpointSpec> {
    let full = |endpoint: &EndpointSpec| match endpoint.network.as_str() {
        "" | "default" => EndpointSpec { network: "bridge".to_owned(), ..endpoint.clone() },
        _ => endpoint.clone(),
    };
    if named.is_empty() { vec![full(&EndpointSpec::default())] } else { named.iter().map(full).collect() }
}

/// The shape of a container.
///
/// # Errors
/// When it shares what this version cannot share.
pub fn of(spec: &ContainerSpec) -> Result<Shape, Error> {
    let names = spec.namespaces.clone().unwrap_or_default();
    let user = userns::parse(&names.user)?;
    if user.is_own() {
        check_own_users(spec, &names)?;
    }
    check(&names)?;
    let mode = |text: &str| if text == "host" { NamespaceMode::Host } else { NamespaceMode::Own };
    let net = match network(spec)? {
        Network::Host => NamespaceMode::Host,
        Network::None | Network::Wired(_) => NamespaceMode::Own,
    };
    let made = |mode: NamespaceMode| Some(Namespace { mode: mode.into(), ..Namespace::default() });
    Ok(Shape {
        net: made(net),
        pid: made(NamespaceMode::Own),
        ipc: made(mode(&names.ipc)),
        uts: made(mode(&names.uts)),
        cgroup: made(mode(&names.cgroup)),
        // The host's is the one that the engine itself is in.
        user: made(if user.is_own() { NamespaceMode::Own } else { NamespaceMode::Host }),
        ids: user.ids(),
        privileged: spec.privileged,
        unmask: security::parse(&spec.security_opt)?.unmask,
        cgroup_parent: String::new(),
        shm: None,
    })
}

fn check(names: &Namespaces) -> Result<(), Error> {
    let fields = [
        ("namespaces.pid", &names.pid),
        ("namespaces.ipc", &names.ipc),
        ("namespaces.uts", &names.uts),
        ("namespaces.cgroup", &names.cgroup),
    ];
    for (field, text) in fields {
        let words: &[&str] = match field {
            "namespaces.ipc" => &["", "private", "shareable", "host"],
            _ => &["", "private", "host"],
        };
        if text.starts_with("container:") {
            return Err(Error::Unserved(format!(
                "sharing another container's {} namespace is",
                &field[11..]
            )));
        }
        if !words.contains(&text.as_str()) {
            return Err(Error::invalid(field, text, "must be private, host or container:NAME"));
        }
    }
    if names.pid == "host" {
        return Err(Error::Unserved("sharing the host's processes is".to_owned()));
    }
    Ok(())
}

/// What is the host's or another container's is not a user namespace's to mount from or to configure.
fn check_own_users(spec: &ContainerSpec, names: &Namespaces) -> Result<(), Error> {
    let conflict = |text: &str| Err(Error::Conflict(text.to_owned()));
    if spec.privileged {
        return conflict(
            "privileged mode is incompatible with user namespaces: --userns=host goes with --privileged",
        );
    }
    if spec.networks.iter().any(|endpoint| endpoint.network == "host") {
        return conflict("cannot share the host's network namespace when user namespaces are enabled");
    }
    if names.pid == "host" {
        return conflict("cannot share the host PID namespace when user namespaces are enabled");
    }
    let networks = spec.networks.iter().map(|endpoint| &endpoint.network);
    let named = [&names.pid, &names.ipc, &names.uts, &names.cgroup];
    if networks.chain(named).any(|name| name.starts_with("container:")) {
        return conflict(
            "cannot share a namespace of another container when user namespaces are enabled: it belongs to \
             that one's users",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(networks: &[&str]) -> ContainerSpec {
        let one = |name: &&str| EndpointSpec { network: (*name).to_owned(), ..Default::default() };
        ContainerSpec { networks: networks.iter().map(one).collect(), ..Default::default() }
    }

    #[test]
    fn the_network_is_wired_none_or_the_hosts() {
        assert_eq!(network(&named(&[])).unwrap().name(), "bridge");
        assert_eq!(network(&named(&["default", "x"])).unwrap().endpoints().len(), 2);
        assert_eq!(network(&named(&["none"])).unwrap(), Network::None);
        assert_eq!(network(&named(&["host"])).unwrap(), Network::Host);
        assert!(network(&named(&["host", "x"])).is_err());
        assert!(network(&named(&["container:x"])).is_err());
        assert!(network(&named(&["n"; 65])).is_err());
    }

    #[test]
    fn shapes_say_where_each_namespace_comes_from() {
        let mut spec = named(&["host"]);
        spec.namespaces =
            Some(Namespaces { uts: "host".into(), ipc: "shareable".into(), ..Default::default() });
        spec.security_opt = vec!["unmask=/proc/acpi".into()];
        let shape = of(&spec).unwrap();
        let mode = |namespace: &Option<Namespace>| namespace.as_ref().unwrap().mode();
        assert_eq!(mode(&shape.net), NamespaceMode::Host);
        assert_eq!(mode(&shape.uts), NamespaceMode::Host);
        assert_eq!(mode(&shape.ipc), NamespaceMode::Own);
        assert_eq!(shape.unmask, ["/proc/acpi"]);
    }

    #[test]
    fn users_of_its_own_exclude_what_is_the_hosts() {
        let own = Namespaces { user: "100000:100000:65536".into(), ..Default::default() };
        let spec = ContainerSpec { namespaces: Some(own.clone()), ..Default::default() };
        let shape = of(&spec).unwrap();
        assert_eq!(shape.user.unwrap().mode(), NamespaceMode::Own);
        assert_eq!(shape.ids.unwrap().host_uid, 100_000);
        let said = |spec: ContainerSpec| of(&spec).unwrap_err().to_string();
        assert!(said(ContainerSpec { privileged: true, ..spec.clone() }).contains("--userns=host"));
        assert!(
            said(ContainerSpec { networks: named(&["host"]).networks, ..spec.clone() }).contains("network")
        );
        for names in [
            Namespaces { pid: "host".into(), ..own.clone() },
            Namespaces { pid: "container:x".into(), ..own.clone() },
            Namespaces { ipc: "container:x".into(), ..own },
        ] {
            assert!(of(&ContainerSpec { namespaces: Some(names), ..Default::default() }).is_err());
        }
    }

    #[test]
    fn what_cannot_be_shared_yet_is_said() {
        let with = |names: Namespaces| ContainerSpec { namespaces: Some(names), ..Default::default() };
        for names in [
            Namespaces { pid: "host".into(), ..Default::default() },
            Namespaces { ipc: "container:x".into(), ..Default::default() },
            Namespaces { user: "keep-id".into(), ..Default::default() },
            Namespaces { cgroup: "odd".into(), ..Default::default() },
            Namespaces { pid: "shareable".into(), ..Default::default() },
        ] {
            assert!(of(&with(names.clone())).is_err(), "{names:?}");
        }
    }
}
