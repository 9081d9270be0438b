//! Volumes, as the engine's clients see them: the volume service's own calls, passed on.

use std::sync::Arc;

use davit_proto::volume::{
    CreateRequest, CreateResponse, DiskUsageRequest, DiskUsageResponse, InspectRequest, InspectResponse,
    ListDriversRequest, ListDriversResponse, ListHoldersRequest, ListHoldersResponse, ListRequest,
    ListResponse, PrepareRequest, PrepareResponse, PruneRequest, PruneResponse, ReleaseRequest,
    ReleaseResponse, RemoveRequest, RemoveResponse, volumes_server,
};
use tonic::{Request, Response, Status, Streaming};

use super::proxy::{internal, note, passed};
use crate::engine::Engine;

/// The public face of the volume service.
#[derive(Debug, Clone)]
pub struct Volumes {
    engine: Arc<Engine>,
}

impl Volumes {
    /// Serves the engine's volume service.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl volumes_server::Volumes for Volumes {
    type ListStream = Streaming<ListResponse>;

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let answer = self.engine.volumes().create(passed(request)).await?;
        if let Some(volume) = &answer.get_ref().volume {
            note(&self.engine, "volume", "create", &volume.name, &volume.name);
        }
        Ok(answer)
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let answers = self.engine.volumes().list(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        self.engine.volumes().inspect(passed(request)).await
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let name = request.get_ref().name.clone();
        let answer = self.engine.volumes().remove(passed(request)).await?;
        note(&self.engine, "volume", "destroy", &name, &name);
        Ok(answer)
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let answer = self.engine.volumes().prune(passed(request)).await?;
        for name in &answer.get_ref().names {
            note(&self.engine, "volume", "destroy", name, name);
        }
        Ok(answer)
    }

    async fn prepare(&self, _: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        Err(internal("Volumes.Prepare"))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        Err(internal("Volumes.Release"))
    }

    async fn list_holders(
        &self,
        _: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        Err(internal("Volumes.ListHolders"))
    }

    type DiskUsageStream = Streaming<DiskUsageResponse>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let answers = self.engine.volumes().disk_usage(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn list_drivers(
        &self,
        request: Request<ListDriversRequest>,
    ) -> Result<Response<ListDriversResponse>, Status> {
        self.engine.volumes().list_drivers(passed(request)).await
    }
}
