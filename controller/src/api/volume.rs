//! Volumes, as the engine's clients see them: the volume service's own calls, passed on.

use std::future::ready;
use std::sync::Arc;

use davit_proto::reason::VOLUME_IN_USE;
use davit_proto::status::{Classify, ErrorKind, RemoteError};
use davit_proto::volume::{
    CloneVolumeRequest, CloneVolumeResponse, CreateRequest, CreateResponse, DiskUsageRequest,
    DiskUsageResponse, ExportRequest, ExportResponse, ImportRequest, ImportResponse, InspectRequest,
    InspectResponse, ListDriversRequest, ListDriversResponse, ListHoldersRequest, ListHoldersResponse,
    ListRequest, ListResponse, PrepareRequest, PrepareResponse, PruneRequest, PruneResponse, ReleaseRequest,
    ReleaseResponse, RemoveRequest, RemoveResponse, volumes_server,
};
use futures_util::StreamExt as _;
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
        let answer = match self.engine.volumes().remove(passed(request)).await {
            Ok(answer) => answer,
            Err(status) => return Err(named(&self.engine, name, status).await),
        };
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

    type ExportStream = Streaming<ExportResponse>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let answers = self.engine.volumes().export(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        // What breaks on this side breaks the stream, and with it what it was to make.
        let frames = request.into_inner();
        let frames = frames.take_while(|frame| ready(frame.is_ok())).filter_map(|frame| ready(frame.ok()));
        let answer = self.engine.volumes().import(frames).await?;
        if let Some(volume) = &answer.get_ref().volume {
            note(&self.engine, "volume", "import", &volume.name, &volume.name);
        }
        Ok(answer)
    }

    async fn clone_volume(
        &self,
        request: Request<CloneVolumeRequest>,
    ) -> Result<Response<CloneVolumeResponse>, Status> {
        let answer = self.engine.volumes().clone_volume(passed(request)).await?;
        if let Some(volume) = &answer.get_ref().volume {
            note(&self.engine, "volume", "create", &volume.name, &volume.name);
        }
        Ok(answer)
    }
}

/// The service knows who uses a volume by id; people know containers by name.
async fn named(engine: &Arc<Engine>, volume: String, status: Status) -> Status {
    if !RemoteError::from(status.clone()).is(VOLUME_IN_USE) {
        return status;
    }
    let request = InspectRequest { name: volume.clone() };
    let Ok(answer) = engine.volumes().inspect(request).await else { return status };
    let ids = answer.into_inner().volume.map(|volume| volume.container_ids).unwrap_or_default();
    let name = |id: &String| {
        let record = engine.store.get(&id.parse().ok()?)?;
        Some(record.container.as_ref()?.name.clone()).filter(|name| !name.is_empty())
    };
    let holders: Vec<String> = ids.iter().map(|id| name(id).unwrap_or_else(|| id.clone())).collect();
    // Let go since: the first answer was right when it was given.
    if holders.is_empty() { status } else { davit_proto::status::status(&InUse { volume, holders }) }
}

/// In docker's words.
#[derive(Debug, thiserror::Error)]
#[error("remove {volume}: volume is in use - [{}]", holders.join(", "))]
struct InUse {
    volume: String,
    holders: Vec<String>,
}

impl Classify for InUse {
    fn kind(&self) -> ErrorKind {
        ErrorKind::FailedPrecondition
    }
    fn reason(&self) -> &str {
        VOLUME_IN_USE
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.volume.clone()), ("containers", self.holders.join(","))]
    }
}
