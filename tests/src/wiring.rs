//! Who is on which network, told by everybody who keeps it: the engine's records, the network service's books, its
//! leases on disk, the files for resolvers, the firewall, the links, and the inside of each container. All must say the
//! same, whatever was killed before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use davit_proto::names::{self, Line};
use serde_json::Value;

use crate::engine::Engine;

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Id of the container.
    pub container: String,
    /// Id of the network.
    pub network: String,
    /// Its IPv4 address there.
    pub address: String,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// Id of the container.
    pub container: String,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// On the host.
    pub port: u64,
}

/// A container as the engine tells of it.
#[derive(Debug)]
struct Told {
    id: String,
    name: String,
    running: bool,
    pid: u64,
    networks: Vec<Value>,
    ports: BTreeSet<Published>,
}

type Places = BTreeSet<Place>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
}

/// Whatever is told differently by two who should tell the same; empty when all agree.
///
/// # Panics
/// When the engine does not answer.
#[must_use]
pub fn faults(engine: &Engine) -> Vec<String> {
    let told = containers(engine);
    let records: Places = told.iter().flat_map(places).collect();
    let mut faults = Vec::new();
    // A shim that is kept ready has its place already.
    let (ahead, leased): (Places, Places) =
        leases(engine).into_iter().partition(|place| engine.is_ahead(&place.container));
    let mut compare = |who: &str, said: Places| {
        let said: Places = said.difference(&ahead).cloned().collect();
        faults.extend(records.difference(&said).map(|place| format!("{who} misses {place:?}")));
        faults.extend(said.difference(&records).map(|place| format!("{who} alone has {place:?}")));
    };
    compare("the leases", leased);
    compare("the service", members(engine));
    compare("the zones", zones(engine));
    faults.extend(doubled(&records));
    faults.extend(unnamed(engine, &told));
    faults.extend(outside_in(engine, &told));
    faults.extend(rules(engine, &told, &records));
    faults.extend(links(engine, records.len() + ahead.len()));
    faults
}

impl Engine {
    /// Waits until nothing is on its way and all who keep something of the network tell the same.
    ///
    /// # Panics
    /// When they do not in this time, with what they tell.
    pub fn agree(&self, deadline: Duration) {
        let begun = Instant::now();
        loop {
            let states = self.ok(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).stdout;
            let between = states.lines().filter(|line| {
                ["creating", "removing", "unknown", "restarting"].iter().any(|word| line.ends_with(word))
            });
            let mut found: Vec<String> = between.map(str::to_owned).collect();
            found.extend(faults(self));
            if found.is_empty() {
                return;
            }
            if begun.elapsed() > deadline {
                let why = self.why_of(&found);
                panic!("{states}\n{found:#?}\n{why}\n{}", self.end_of_log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Engine {
    /// All that is known of the containers whose ids are in these faults.
    fn why_of(&self, faults: &[String]) -> String {
        let ids = self.ok(["ps", "-a", "-q", "--no-trunc"]).stdout;
        let meant = |id: &&str| faults.iter().any(|fault| fault.contains(id));
        let tell =
            |id: &str| format!("{}{}", self.davit(["why", id]).stdout, self.davit(["inspect", id]).stdout);
        let run = |words: &[&str]| {
            let output = self.host().command("env").args(words).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let who = run(&["ps", "-eo", "pid,ppid,stat,args"]) + &run(&["lsns", "-t", "net"]);
        ids.lines().filter(meant).map(tell).collect::<String>() + &who
    }
}

fn containers(engine: &Engine) -> Vec<Told> {
    let ids = engine.ok(["ps", "-a", "-q", "--no-trunc"]).stdout;
    if ids.trim().is_empty() {
        return Vec::new();
    }
    let words: Vec<&str> = ["inspect"].into_iter().chain(ids.split_whitespace()).collect();
    let told_of = engine.davit(words);
    // One that is being removed may go between the two; the others are told of all the same.
    assert!(told_of.code == 0 || told_of.stderr.to_lowercase().contains("no such"), "{told_of:?}");
    let all = json(told_of.stdout.as_bytes());
    all.as_array().into_iter().flatten().map(told).collect()
}

fn told(container: &Value) -> Told {
    let id = text(&container["Id"]);
    let settings = &container["NetworkSettings"];
    let mut ports = BTreeSet::new();
    // What waits for its start holds its ports, as long as its shim holds them; they are shown when it runs.
    let networks = || settings["Networks"].as_object().into_iter().flatten();
    let waits = ["created", "exited"].iter().any(|status| container["State"]["Status"] == *status)
        && networks().any(|(_, network)| !text(&network["IPAddress"]).is_empty());
    let bindings = if waits { &container["HostConfig"]["PortBindings"] } else { &settings["Ports"] };
    for (inside, bindings) in bindings.as_object().into_iter().flatten() {
        let protocol = inside.split('/').nth(1).unwrap_or("tcp").to_owned();
        for binding in bindings.as_array().into_iter().flatten() {
            if let Ok(port) = text(&binding["HostPort"]).parse() {
                ports.insert(Published { container: id.clone(), protocol: protocol.clone(), port });
            }
        }
    }
    Told {
        name: text(&container["Name"]).trim_start_matches('/').to_owned(),
        running: container["State"]["Running"].as_bool().unwrap_or_default(),
        pid: container["State"]["Pid"].as_u64().unwrap_or_default(),
        networks: networks().map(|(_, network)| network.clone()).collect(),
        ports,
        id,
    }
}

/// Those without an address are places that a stopped container comes back to.
fn places(container: &Told) -> Vec<Place> {
    let on = |network: &Value| Place {
        container: container.id.clone(),
        network: text(&network["NetworkID"]),
        address: text(&network["IPAddress"]),
    };
    container.networks.iter().map(on).filter(|place| !place.address.is_empty()).collect()
}

fn leases(engine: &Engine) -> Places {
    let mut places = Places::new();
    for entry in fs::read_dir(engine.seen_root().join("network/.lease")).into_iter().flatten().flatten() {
        let container = entry.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
        // One that is written just now has another name until it is whole.
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        for lease in json(&bytes)["leases"].as_array().into_iter().flatten() {
            let address = text(&lease["wired"]["ipv4"]);
            if !address.is_empty() {
                places.insert(Place {
                    container: container.clone(),
                    network: text(&lease["network_id"]),
                    address,
                });
            }
        }
    }
    places
}

fn members(engine: &Engine) -> Places {
    let names = engine.ok(["network", "ls", "-q", "--no-trunc"]).stdout;
    let words: Vec<&str> = ["network", "inspect"].into_iter().chain(names.split_whitespace()).collect();
    let networks = json(engine.ok(words).stdout.as_bytes());
    let mut places = Places::new();
    for network in networks.as_array().into_iter().flatten() {
        for (container, endpoint) in network["Containers"].as_object().into_iter().flatten() {
            let address = text(&endpoint["IPv4Address"]);
            let address = address.split('/').next().unwrap_or_default().to_owned();
            let network = text(&network["Id"]);
            if !address.is_empty() {
                places.insert(Place { container: container.clone(), network, address });
            }
        }
    }
    places
}

/// The zones by network, each with its lines.
fn zone_files(engine: &Engine) -> BTreeMap<String, Vec<Line>> {
    let mut zones = BTreeMap::new();
    for entry in fs::read_dir(engine.run_dir().join(names::FOLDER)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(network) = name.strip_suffix(".zone") else { continue };
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let (_, lines) = names::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        zones.insert(network.to_owned(), lines);
    }
    zones
}

fn zones(engine: &Engine) -> Places {
    let mut places = Places::new();
    for (network, lines) in zone_files(engine) {
        for line in lines {
            if let Line::Container(container, addresses) = line {
                places.extend(addresses.iter().filter(|address| address.is_ipv4()).map(|address| Place {
                    container: container.to_string(),
                    network: network.clone(),
                    address: address.to_string(),
                }));
            }
        }
    }
    places
}

/// Containers that the zones of their networks do not call by their name.
fn unnamed(engine: &Engine, told: &[Told]) -> Vec<String> {
    let zones = zone_files(engine);
    let mut faults = Vec::new();
    for container in told {
        for place in places(container) {
            let lines = zones.get(&place.network).map(Vec::as_slice).unwrap_or_default();
            let called = lines.iter().any(|line| {
                matches!(line, Line::Name(name, addresses) if name.as_str() == container.name
                    && addresses.iter().any(|address| address.to_string() == place.address))
            });
            if !called {
                faults.push(format!("the zone does not say that {} is at {place:?}", container.name));
            }
        }
    }
    faults
}

fn doubled(records: &Places) -> Vec<String> {
    let mut owners = BTreeMap::new();
    let mut faults = Vec::new();
    for place in records {
        if let Some(other) = owners.insert((&place.network, &place.address), &place.container) {
            faults.push(format!("{place:?} is {other}'s too"));
        }
    }
    faults
}

/// What each running container has on its own interfaces.
fn outside_in(engine: &Engine, told: &[Told]) -> Vec<String> {
    let mut faults = Vec::new();
    for container in told.iter().filter(|container| container.running) {
        let pid = container.pid.to_string();
        let seen =
            engine.host().command("nsenter").args(["-t", &pid, "-n", "ip", "-j", "-4", "addr"]).output();
        let links = seen.map(|output| json(&output.stdout)).unwrap_or_default();
        let links = links.as_array().into_iter().flatten().filter(|link| link["ifname"] != "lo");
        let addresses = links.flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
        let seen: BTreeSet<String> = addresses.map(|address| text(&address["local"])).collect();
        let wanted: BTreeSet<String> = places(container).into_iter().map(|place| place.address).collect();
        if seen != wanted {
            faults.push(format!("{} has {seen:?} inside, and {wanted:?} in its record", container.name));
        }
    }
    faults
}

/// The elements of the firewall's maps, as (protocol, port on the host, address they lead to); IPv4 alone.
fn elements(engine: &Engine) -> Vec<(String, u64, String)> {
    let listed = engine.host().command("nft").args(["-j", "list", "ruleset"]).output();
    let ruleset = listed.map(|output| json(&output.stdout)).unwrap_or_default();
    let mut found = Vec::new();
    for map in ruleset["nftables"].as_array().into_iter().flatten().map(|object| &object["map"]) {
        for element in map["elem"].as_array().into_iter().flatten() {
            let (key, value) = (&element[0]["concat"], &element[1]["concat"]);
            let key = key.as_array().map(Vec::as_slice).unwrap_or_default();
            let [.., protocol, port] = key else { continue };
            if let (Some(port), address) = (port.as_u64(), text(&value[0]))
                && address.contains('.')
            {
                found.push((text(protocol), port, address));
            }
        }
    }
    found
}

fn rules(engine: &Engine, told: &[Told], records: &Places) -> Vec<String> {
    let owner = |address: &str| {
        let place = records.iter().find(|place| place.address == address);
        place.map_or_else(|| format!("nobody at {address}"), |place| place.container.clone())
    };
    let lead = elements(engine).into_iter();
    let lead: BTreeSet<Published> = lead
        .map(|(protocol, port, address)| Published { container: owner(&address), protocol, port })
        .collect();
    // The ports of one that left all its networks lead nowhere until it joins one.
    let placed = told.iter().filter(|container| !places(container).is_empty());
    let wanted: BTreeSet<Published> = placed.flat_map(|container| container.ports.clone()).collect();
    let missing = wanted.difference(&lead).map(|port| format!("the firewall misses {port:?}"));
    let more = lead.difference(&wanted).map(|port| format!("the firewall alone has {port:?}"));
    missing.chain(more).collect()
}

/// Each place has one port of its network's bridge.
fn links(engine: &Engine, places: usize) -> Vec<String> {
    let listed = engine.host().command("ip").args(["-j", "link", "show", "type", "veth"]).output();
    let links = listed.map(|output| json(&output.stdout)).unwrap_or_default();
    let ports = links.as_array().into_iter().flatten().filter(|link| !link["master"].is_null()).count();
    if ports == places {
        Vec::new()
    } else {
        vec![format!("{ports} ports of bridges for {places} places: {links}")]
    }
}
