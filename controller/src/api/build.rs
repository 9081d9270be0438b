//! Builds, where a service of its own does them: its calls, passed on as they are. It stands above the engine all the
//! same; this is only so that clients have one address.

use davit_proto::build::builds_client::BuildsClient;
use davit_proto::build::{
    BuildRequest, BuildResponse, DiskUsageRequest, DiskUsageResponse, PruneRequest, PruneResponse,
    builds_server,
};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::proxy::passed;

/// The public face of a build service.
#[derive(Debug, Clone)]
pub struct Builds {
    channel: Channel,
}

impl Builds {
    /// Passes builds on over a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn service(&self) -> BuildsClient<Channel> {
        BuildsClient::new(self.channel.clone())
    }
}

#[tonic::async_trait]
impl builds_server::Builds for Builds {
    type BuildStream = Streaming<BuildResponse>;
    type DiskUsageStream = Streaming<DiskUsageResponse>;

    async fn build(
        &self,
        request: Request<Streaming<BuildRequest>>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        // A client that breaks off takes this call with it, and so the service's.
        let frames = request.into_inner().map_while(Result::ok);
        let answers = self.service().build(Request::new(frames)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        self.service().prune(passed(request)).await
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let answers = self.service().disk_usage(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }
}
