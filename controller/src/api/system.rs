//! The engine itself, on the wire.

use std::sync::Arc;

use davit_proto::status::status;
use davit_proto::system::{
    DiskUsageRequest, DiskUsageResponse, InfoRequest, InfoResponse, VersionRequest, VersionResponse,
    WatchRequest, WatchResponse, system_server,
};
use futures_util::{TryStreamExt as _, stream};
use tonic::{Request, Response, Status};

use super::proxy::Answers;
use crate::engine::Engine;
use crate::{events, info, usage};

/// Tells of the engine.
#[derive(Debug, Clone)]
pub struct System {
    engine: Arc<Engine>,
}

impl System {
    /// Tells of this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl system_server::System for System {
    type WatchStream = Answers<WatchResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(info::version()))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        info::info(&self.engine).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes =
            events::watch(&self.engine, request.into_inner()).await.map_err(|error| status(&error))?;
        Ok(Response::new(Box::pin(changes.map_err(|error| status(&error)))))
    }

    type DiskUsageStream = Answers<DiskUsageResponse>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let frames = usage::disk_usage(&self.engine, request.into_inner()).await;
        Ok(Response::new(Box::pin(stream::iter(frames.into_iter().map(Ok)))))
    }
}
