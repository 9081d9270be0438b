//! Networks, as the engine's clients see them: the network service's own calls, passed on.

use std::sync::Arc;

use davit_proto::network::{
    AttachRequest, AttachResponse, CheckRequest, CheckResponse, CreateRequest, CreateResponse, DetachRequest,
    DetachResponse, InspectRequest, InspectResponse, ListHoldersRequest, ListHoldersResponse, ListRequest,
    ListResponse, PruneRequest, PruneResponse, PublishRequest, PublishResponse, ReleaseRequest,
    ReleaseResponse, RemoveRequest, RemoveResponse, RenameRequest, RenameResponse, networks_server,
};
use davit_proto::reason;
use davit_proto::status::{RemoteError, status};
use futures_util::TryStreamExt as _;
use tonic::{Request, Response, Status};

use super::proxy::{Answers, internal, note, passed};
use crate::container::network;
use crate::engine::Engine;
use crate::error::Error;

/// The public face of the network service.
#[derive(Debug, Clone)]
pub struct Networks {
    engine: Arc<Engine>,
}

impl Networks {
    /// Serves the engine's network service.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl networks_server::Networks for Networks {
    type ListStream = Answers<ListResponse>;

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let answer = self.engine.networks().create(passed(request)).await?;
        if let Some(network) = &answer.get_ref().network {
            note(&self.engine, "network", "create", &network.id, &network.name);
        }
        Ok(answer)
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let answers = self.engine.networks().list(passed(request)).await?;
        let engine = self.engine.clone();
        let named = answers.into_inner().map_ok(move |mut answer: ListResponse| {
            answer.networks.iter_mut().for_each(|network| engine.pool.hide(network));
            answer
        });
        Ok(Response::new(Box::pin(named)))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let mut answer = self.engine.networks().inspect(passed(request)).await?;
        if let Some(found) = &mut answer.get_mut().network {
            network::name_holders(&self.engine, found);
        }
        Ok(answer)
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let name = request.get_ref().network.clone();
        let found = network::find(&self.engine, &name).await.map_err(|error| status(&error))?;
        let mut answer = self.engine.networks().remove(passed(request)).await.map_err(RemoteError::from);
        let is_used = |error: &RemoteError| error.is(reason::NETWORK_IN_USE);
        if answer.as_ref().is_err_and(is_used) && network::settle_holders(&self.engine, &found).await {
            let request = RemoveRequest { network: found.id.clone() };
            answer = self.engine.networks().remove(request).await.map_err(RemoteError::from);
        }
        match answer {
            Ok(answer) => {
                note(&self.engine, "network", "destroy", &found.id, &found.name);
                Ok(answer)
            }
            Err(error) if is_used(&error) => Err(status(&network::in_use(&self.engine, &found.name).await)),
            Err(error) => Err(status(&Error::Remote(error))),
        }
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let answer = self.engine.networks().prune(passed(request)).await?;
        for name in &answer.get_ref().names {
            note(&self.engine, "network", "destroy", name, name);
        }
        Ok(answer)
    }

    async fn attach(&self, _: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        Err(internal("Networks.Attach"))
    }

    async fn detach(&self, _: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        Err(internal("Networks.Detach"))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Err(internal("Networks.Publish"))
    }

    async fn rename(&self, _: Request<RenameRequest>) -> Result<Response<RenameResponse>, Status> {
        Err(internal("Networks.Rename"))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        Err(internal("Networks.Release"))
    }

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Err(internal("Networks.Check"))
    }

    async fn list_holders(
        &self,
        _: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        Err(internal("Networks.ListHolders"))
    }
}
