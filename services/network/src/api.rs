//! `davit.network.v1.Networks` on the wire: decode, call one function, encode.

pub(crate) mod decode;
mod encode;

use std::pin::Pin;

use davit_proto::id::{ContainerId, Name};
use davit_proto::network::networks_server::Networks as Service;
use davit_proto::network::{
    AttachRequest, AttachResponse, CheckRequest, CheckResponse, CreateRequest, CreateResponse, DetachRequest,
    DetachResponse, InspectRequest, InspectResponse, ListHoldersRequest, ListHoldersResponse, ListRequest,
    ListResponse, Network as WireNetwork, PruneRequest, PruneResponse, PublishRequest, PublishResponse,
    ReleaseRequest, ReleaseResponse, RemoveRequest, RemoveResponse, RenameRequest, RenameResponse,
};
use davit_proto::status::status;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::networks::Networks;

/// Networks of one frame of a list.
const PAGE: usize = 100;

/// The service.
#[derive(Debug)]
pub struct Api {
    networks: Networks,
}

impl Api {
    /// Serves these networks.
    pub fn new(networks: Networks) -> Self {
        Self { networks }
    }

    /// Runs one call on a thread that may wait for the kernel.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Networks) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let networks = self.networks.clone();
        blocking(move || call(&networks)).await.map_err(|error| status(&error))
    }
}

/// Runs what waits for the kernel where it may wait.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(Error::Lost))
}

fn decoded<T>(decoded: Result<T, impl Into<Error>>) -> Result<T, Status> {
    decoded.map_err(|error| status(&error.into()))
}

#[tonic::async_trait]
impl Service for Api {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let wanted = decoded(decode::wanted(request.into_inner()))?;
        let network = self.call(move |networks| networks.create(wanted)).await?;
        Ok(Response::new(CreateResponse { network: Some(encode::network(network)) }))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<ListResponse, Status>> + Send>>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let filter = decoded(decode::filter(request.into_inner().filters))?;
        let networks = self.call(|networks| Ok(networks.list())).await?;
        let mut networks =
            networks.into_iter().filter(move |network| filter.admits(network)).map(encode::network);
        let pages = std::iter::from_fn(move || {
            let networks: Vec<WireNetwork> = networks.by_ref().take(PAGE).collect();
            (!networks.is_empty()).then_some(Ok(ListResponse { networks }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let InspectRequest { network } = request.into_inner();
        let network = self.call(move |networks| networks.inspect(&network)).await?;
        Ok(Response::new(InspectResponse { network: Some(encode::network(network)) }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let RemoveRequest { network } = request.into_inner();
        self.call(move |networks| networks.remove(&network)).await?;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let filter = decoded(decode::filter(request.into_inner().filters))?;
        let removed = self.call(move |networks| networks.prune(&filter)).await?;
        Ok(Response::new(PruneResponse { names: removed.into_iter().map(String::from).collect() }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        let request = decoded(decode::attach(request.into_inner()))?;
        let attached = self.call(move |networks| networks.attach(&request)).await?;
        Ok(Response::new(AttachResponse {
            endpoints: attached.endpoints.into_iter().map(encode::endpoint).collect(),
            resolv_conf: attached.resolv_conf,
            names: attached.names,
            warnings: attached.warnings,
        }))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let request = decoded(decode::detach(request.into_inner()))?;
        self.call(move |networks| networks.detach(&request)).await?;
        Ok(Response::new(DetachResponse {}))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let PublishRequest { container_id, ports } = request.into_inner();
        let container_id: ContainerId = decoded(container_id.parse())?;
        let wishes = decoded(decode::wishes(&ports))?;
        let warnings = self.call(move |networks| networks.publish(&container_id, &wishes)).await?;
        Ok(Response::new(PublishResponse { warnings }))
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Result<Response<RenameResponse>, Status> {
        let RenameRequest { container_id, name } = request.into_inner();
        let container_id: ContainerId = decoded(container_id.parse())?;
        let name: Name = decoded(name.parse())?;
        self.call(move |networks| networks.rename(&container_id, name)).await?;
        Ok(Response::new(RenameResponse {}))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let container_id: ContainerId = decoded(request.into_inner().container_id.parse())?;
        self.call(move |networks| networks.release(&container_id)).await?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn check(&self, _request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let warnings = self.call(Networks::warnings).await?;
        Ok(Response::new(CheckResponse { warnings }))
    }

    async fn list_holders(
        &self,
        _request: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        let holders = self.call(|networks| Ok(networks.holders())).await?;
        let container_ids = holders.into_iter().map(String::from).collect();
        Ok(Response::new(ListHoldersResponse { container_ids }))
    }
}
