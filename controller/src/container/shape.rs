//! What of a container cannot change once its init was cloned: the shape that its shim is prepared with.

use davit_proto::container::{ContainerSpec, EndpointSpec, Namespaces};
use davit_proto::task::{Namespace, NamespaceMode, Shape};

use super::join;
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
    /// Another container's, by its name or id.
    Container(String),
}

impl Network {
    /// Networks to be wired to.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointSpec] {
        match self {
            Self::Wired(endpoints) => endpoints,
            Self::None | Self::Host | Self::Container(_) => &[],
        }
    }

    /// Whether the namespace is the container's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Wired(_) | Self::None)
    }

    /// The first network's name, or what stands in its place.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Wired(endpoints) => endpoints.first().map_or("none", |first| &first.network),
            Self::None => "none",
            Self::Host => "host",
            Self::Container(_) => "container",
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
    let is_alone = |name: &str| matches!(name, "none" | "host") || join::other(name).is_some();
    let alone = spec.networks.iter().map(|endpoint| endpoint.network.as_str()).find(|name| is_alone(name));
    match alone {
        Some(name) if spec.networks.len() > 1 => {
            Err(Error::Conflict(format!("the network {name:?} cannot be joined together with another one")))
        }
        Some("host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some(other) => match join::other(other) {
            Some("") | None => Err(Error::invalid("networks.network", other, "must be container:NAME")),
            Some(name) => Ok(Network::Container(name.to_owned())),
        },
        None if spec.unconnected && spec.networks.is_empty() => Ok(Network::Wired(Vec::new())),
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

/// The shape of a container. What it shares of other containers is found when it is started: [`join::find`].
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
    let mode = |text: &str| match text {
        "host" => NamespaceMode::Host,
        text if join::other(text).is_some() => NamespaceMode::Joined,
        _ => NamespaceMode::Own,
    };
    let net = match network(spec)? {
        Network::Host => NamespaceMode::Host,
        Network::Container(_) => NamespaceMode::Joined,
        Network::None | Network::Wired(_) => NamespaceMode::Own,
    };
    let made = |mode: NamespaceMode| Some(Namespace { mode: mode.into(), ..Namespace::default() });
    Ok(Shape {
        net: made(net),
        pid: made(mode(&names.pid)),
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

/// The shape of a container that asks for nothing special.
///
/// # Errors
/// None: nothing that is asked for can be wrong.
pub fn default() -> Result<Shape, Error> {
    of(&ContainerSpec::default())
}

/// Whether the host name is not the container's own to set.
#[must_use]
pub fn shares_name(spec: &ContainerSpec) -> bool {
    spec.namespaces.as_ref().is_some_and(|names| names.uts == "host" || join::other(&names.uts).is_some())
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
        let shares = matches!(field, "namespaces.pid" | "namespaces.ipc" | "namespaces.uts");
        if shares && join::other(text).is_some_and(|name| !name.is_empty()) {
            continue;
        }
        if !words.contains(&text.as_str()) {
            let rule =
                if shares { "must be private, host or container:NAME" } else { "must be private or host" };
            return Err(Error::invalid(field, text, rule));
        }
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
        let unconnected = ContainerSpec { unconnected: true, ..named(&[]) };
        assert_eq!(network(&unconnected).unwrap(), Network::Wired(Vec::new()), "not the default one again");
        assert_eq!(network(&named(&["host"])).unwrap(), Network::Host);
        assert!(network(&named(&["host", "x"])).is_err());
        assert_eq!(network(&named(&["container:x"])).unwrap(), Network::Container("x".into()));
        assert!(network(&named(&["container:"])).is_err());
        assert!(network(&named(&["container:x", "y"])).is_err());
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
            Namespaces { ipc: "container:".into(), ..Default::default() },
            Namespaces { cgroup: "container:x".into(), ..Default::default() },
            Namespaces { user: "keep-id".into(), ..Default::default() },
            Namespaces { cgroup: "odd".into(), ..Default::default() },
            Namespaces { pid: "shareable".into(), ..Default::default() },
        ] {
            assert!(of(&with(names.clone())).is_err(), "{names:?}");
        }
    }
}
