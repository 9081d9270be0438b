//! A network service of a test, and the calls that a controller makes.

use std::path::Path;

use davit_network::{Config, routes};
use davit_proto::network::networks_client::NetworksClient;
use davit_proto::network::{
    AttachRequest, AttachResponse, CreateRequest, DetachRequest, Endpoint, EndpointRequest, InspectRequest,
    ListHoldersRequest, Network, PublishRequest, PublishedPort, ReleaseRequest,
};
use davit_proto::status::RemoteError;
use davit_proto::transport::{self, Address, InProcess};
use tonic::transport::Channel;

use super::Place;

/// A service and its folder.
#[derive(Debug)]
pub struct Engine {
    root: tempfile::TempDir,
    config: Config,
    client: Option<NetworksClient<Channel>>,
}

impl Engine {
    /// One with a bridge and table of the default names.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One with other settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config {
            root: root.path().to_owned(),
            run: root.path().join("run"),
            instance: davit_network::INSTANCE.parse().unwrap(),
            bridge: davit_network::BRIDGE.parse().unwrap(),
            bridge_subnet: None,
        };
        change(&mut config);
        let client = Some(serve(&config).await.unwrap());
        Self { root, config, client }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its client.
    pub fn client(&self) -> NetworksClient<Channel> {
        self.client.clone().unwrap()
    }

    /// Ends the service; it has no chance to do anything about it.
    pub fn kill(&mut self) {
        self.client = None;
    }

    /// Starts it again, as soon as the folder is free, with other settings.
    pub async fn start(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        for _ in 0..500 {
            if let Ok(client) = serve(&self.config).await {
                self.client = Some(client);
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the service did not let go of its folder");
    }

    /// Attaches a container to a network.
    pub async fn attach(
        &self,
        place: &Place,
        network: &str,
        ports: &[&str],
    ) -> Result<AttachResponse, RemoteError> {
        Ok(self.client().attach(request(place, network, ports)).await?.into_inner())
    }

    /// Attaches a container to the default network; answers with its place there.
    pub async fn run(&self, place: &Place, ports: &[&str]) -> Endpoint {
        self.attach(place, "bridge", ports).await.unwrap().endpoints.remove(0)
    }

    /// Says which ports lead to a container.
    pub async fn publish(&self, place: &Place, ports: &[&str]) -> Result<Vec<String>, RemoteError> {
        let ports = ports.iter().map(|port| parse(port)).collect();
        let request = PublishRequest { container_id: place.id.to_string(), ports };
        Ok(self.client().publish(request).await?.into_inner().warnings)
    }

    /// Attaches a container to several networks at once.
    pub async fn join(
        &self,
        place: &Place,
        networks: &[&str],
        ports: &[&str],
    ) -> Result<Vec<Endpoint>, RemoteError> {
        let mut wanted = request(place, "", ports);
        let endpoint =
            |name: &&str| EndpointRequest { network: (*name).into(), ..EndpointRequest::default() };
        wanted.endpoints = networks.iter().map(endpoint).collect();
        Ok(self.client().attach(wanted).await?.into_inner().endpoints)
    }

    /// Takes a network from a container.
    pub async fn detach(&self, place: &Place, network: &str) -> Result<(), RemoteError> {
        let request = DetachRequest {
            container_id: place.id.to_string(),
            network: network.into(),
            netns_pid: i32::try_from(std::process::id()).unwrap(),
            netns_fd: place.fd(),
            netns_inode: place.inode(),
        };
        self.client().detach(request).await?;
        Ok(())
    }

    /// Releases a container.
    pub async fn release(&self, place: &Place) {
        self.client().release(ReleaseRequest { container_id: place.id.to_string() }).await.unwrap();
    }

    /// Tells all of a network but what passed through its interfaces, which differs each time.
    pub async fn inspect(&self, network: &str) -> Result<Network, RemoteError> {
        let mut network = self.inspect_counted(network).await?;
        network.endpoints.iter_mut().for_each(|endpoint| endpoint.traffic = None);
        Ok(network)
    }

    /// Tells all of a network.
    pub async fn inspect_counted(&self, network: &str) -> Result<Network, RemoteError> {
        let answer = self.client().inspect(InspectRequest { network: network.into() }).await?;
        Ok(answer.into_inner().network.unwrap())
    }

    /// Makes a network with a range from the pool.
    pub async fn network(&self, name: &str, internal: bool) -> Network {
        let request = CreateRequest { name: name.into(), internal, ..CreateRequest::default() };
        self.client().create(request).await.unwrap().into_inner().network.unwrap()
    }

    /// Makes a network as a person asks for it.
    pub async fn create(&self, request: CreateRequest) -> Result<Network, RemoteError> {
        Ok(self.client().create(request).await?.into_inner().network.unwrap())
    }

    /// Ids of containers that hold anything.
    pub async fn holders(&self) -> Vec<String> {
        self.client().list_holders(ListHoldersRequest {}).await.unwrap().into_inner().container_ids
    }
}

async fn serve(config: &Config) -> Result<NetworksClient<Channel>, davit_network::Error> {
    let routes = routes(config.clone()).await?;
    Ok(NetworksClient::new(transport::dial(&Address::Here(InProcess::serve(routes))).await.unwrap()))
}

/// What a controller sends; ports as `[ip:]host:container/protocol`.
pub fn request(place: &Place, network: &str, ports: &[&str]) -> AttachRequest {
    let endpoint = EndpointRequest { network: network.into(), ..EndpointRequest::default() };
    AttachRequest {
        container_id: place.id.to_string(),
        netns_pid: if network == "host" { 0 } else { i32::try_from(std::process::id()).unwrap() },
        netns_fd: place.fd(),
        netns_inode: place.inode(),
        endpoints: vec![endpoint],
        ports: ports.iter().map(|port| parse(port)).collect(),
        ..AttachRequest::default()
    }
}

fn parse(text: &str) -> PublishedPort {
    let (text, protocol) = text.split_once('/').unwrap();
    let mut parts = text.rsplitn(3, ':');
    let mut number = || parts.next().unwrap().parse().unwrap();
    let (container_port, host_port) = (number(), number());
    let host_ip = parts.next().unwrap_or_default().to_owned();
    PublishedPort { host_ip, host_port, container_port, protocol: protocol.into() }
}
