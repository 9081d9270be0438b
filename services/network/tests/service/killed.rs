//! The service killed in the middle of what it does, and asked again. A process of its own, on a host of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use davit_proto::network::networks_client::NetworksClient;
use davit_proto::network::{
    AttachRequest, CreateRequest, DetachRequest, Endpoint, EndpointRequest, InspectRequest,
    ListHoldersRequest, Subnet,
};
use davit_proto::transport::{self, Address};
use tonic::transport::Channel;

use crate::lab::engine::request;
use crate::lab::{Place, on_a_host, run};

const NETWORKS: [&str; 3] = ["bridge", "blue", "red"];
const ROUNDS: u32 = 30;

/// A service in a process, and its folder.
struct Service {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Service {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), child: None }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("network.sock")
    }

    /// Starts it, and answers with a client once it serves.
    async fn start(&mut self) -> NetworksClient<Channel> {
        let folder = self.folder.path().display();
        let args = format!(
            "--root {folder}/root --run {folder}/run --listen unix://{} --log-level error",
            self.socket().display()
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_davit-network"));
        self.child = Some(command.args(args.split_whitespace()).spawn().unwrap());
        for _ in 0..1000 {
            if let Ok(channel) = transport::dial(&Address::Unix(self.socket())).await {
                let mut client = NetworksClient::new(channel);
                if client.list_holders(ListHoldersRequest {}).await.is_ok() {
                    return client;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not serve");
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a container is asked to do.
#[derive(Debug, Clone)]
enum Wish {
    Join(AttachRequest),
    Leave(DetachRequest),
}

impl Wish {
    async fn ask(self, mut client: NetworksClient<Channel>) -> Result<(), tonic::Status> {
        match self {
            Self::Join(request) => client.attach(request).await.map(drop),
            Self::Leave(request) => client.detach(request).await.map(drop),
        }
    }
}

/// Containers and the networks that they should be on, in order.
struct Containers {
    places: Vec<Place>,
    on: Vec<Vec<&'static str>>,
    random: u64,
}

impl Containers {
    fn random(&mut self, below: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % below
    }

    /// The next thing that one of them does.
    fn wish(&mut self, n: usize) -> Wish {
        let network = NETWORKS[self.random(NETWORKS.len())];
        let place = &self.places[n];
        let mut join = request(place, network, &[&format!("80{n:02}:80/tcp")]);
        if let Some(at) = self.on[n].iter().position(|on| *on == network) {
            self.on[n].remove(at);
            return Wish::Leave(DetachRequest {
                container_id: join.container_id,
                network: network.into(),
                netns_pid: join.netns_pid,
                netns_fd: join.netns_fd,
                netns_inode: join.netns_inode,
            });
        }
        // A new life may ask for all of its networks at once, and a repeat names those that it has.
        self.on[n].push(network);
        let endpoint =
            |name: &&str| EndpointRequest { network: (*name).into(), ..EndpointRequest::default() };
        join.endpoints = self.on[n].iter().map(endpoint).collect();
        Wish::Join(join)
    }

    /// Compares what is with what should be: books, links, addresses, routes and ports.
    async fn check(&self, client: &mut NetworksClient<Channel>) {
        let mut told: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
        for name in NETWORKS {
            let request = InspectRequest { network: name.into() };
            for endpoint in client.inspect(request).await.unwrap().into_inner().network.unwrap().endpoints {
                told.entry(endpoint.container_id.clone()).or_default().push(endpoint);
            }
        }
        let rules = run("nft", "list table inet davit");
        for (n, (place, on)) in self.places.iter().zip(&self.on).enumerate() {
            let endpoints = told.remove(place.id.as_str()).unwrap_or_default();
            let mut names: Vec<&str> = endpoints.iter().map(|endpoint| &*endpoint.network_name).collect();
            let mut wanted = on.clone();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "container {n}");
            let addresses = place.ip("-o addr show scope global");
            assert_eq!(addresses.lines().count(), endpoints.len() + usize::from(on.contains(&"blue")));
            for endpoint in &endpoints {
                let Endpoint { interface, ipv4, ipv6, .. } = endpoint;
                let has = |ip: &str| {
                    addresses.lines().any(|l| l.contains(interface) && l.contains(&format!(" {ip}/")))
                };
                assert!(has(ipv4) && (ipv6.is_empty() || has(ipv6)), "{endpoint:?} in {addresses}");
            }
            let ways_out = place.ip("route show default");
            assert_eq!(ways_out.lines().count(), usize::from(!on.is_empty()), "container {n}: {ways_out}");
            let way6 = place.ip("-6 route show default");
            assert_eq!(way6.lines().count(), usize::from(on.contains(&"blue")), "container {n}: {way6}");
            let port = format!("tcp . 80{n:02} : ");
            let leads = rules.split(&port).nth(1).and_then(|rest| rest.split(' ').next());
            let front = endpoints.iter().find(|e| ways_out.contains(&format!("dev {} ", e.interface)));
            assert_eq!(leads, front.map(|endpoint| &*endpoint.ipv4), "container {n}: {rules}");
        }
        let links = run("ip", "-o link show type veth").lines().count();
        assert_eq!(links, self.on.iter().map(Vec::len).sum::<usize>(), "one link a lease");
    }
}

#[test]
fn privileged_killed_at_any_moment_and_asked_again() {
    on_a_host(async || {
        let mut service = Service::new();
        let mut client = service.start().await;
        let subnets = vec![Subnet { cidr: "fd00:17::/64".into(), ..Subnet::default() }];
        for (name, subnets) in [("blue", subnets), ("red", vec![])] {
            client
                .create(CreateRequest { name: name.into(), subnets, ..CreateRequest::default() })
                .await
                .unwrap();
        }
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
        eprintln!("seed {seed}");
        let places: Vec<Place> = (0..6).map(|_| Place::new()).collect();
        let mut containers = Containers { on: vec![Vec::new(); places.len()], places, random: seed };
        let mut cut = 0;
        for _ in 0..ROUNDS {
            let wishes: Vec<Wish> = (0..containers.places.len()).map(|n| containers.wish(n)).collect();
            let calls: Vec<_> =
                wishes.iter().map(|wish| tokio::spawn(wish.clone().ask(client.clone()))).collect();
            tokio::time::sleep(Duration::from_micros(containers.random(60_000).try_into().unwrap())).await;
            service.kill();
            for call in calls {
                cut += u32::from(call.await.unwrap().is_err());
            }
            client = service.start().await;
            for wish in wishes {
                wish.ask(client.clone()).await.unwrap();
            }
            containers.check(&mut client).await;
        }
        eprintln!("{cut} of {} calls were cut off", ROUNDS * 6);
        assert!((1..ROUNDS * 6).contains(&cut), "all or nothing was cut off");
    });
}
