//! Images, as the engine's clients see them: the image service's own calls, passed on.

use std::sync::Arc;

use davit_proto::image::{
    CommitRequest, CommitResponse, DiskUsageRequest, DiskUsageResponse, GetCollectionRequest,
    GetCollectionResponse, HistoryRequest, HistoryResponse, InspectManifestRequest, InspectManifestResponse,
    InspectRequest, InspectResponse, ListHoldersRequest, ListHoldersResponse, ListRequest, ListResponse,
    LoadRequest, LoadResponse, LoginRequest, LoginResponse, PrepareRequest, PrepareResponse, PruneRequest,
    PruneResponse, PullRequest, PullResponse, PushRequest, PushResponse, ReleaseRequest, ReleaseResponse,
    RemoveRequest, RemoveResponse, Removed, SaveRequest, SaveResponse, SearchRequest, SearchResponse,
    TagRequest, TagResponse, commit_request, images_server, load_response, pull_response, push_response,
    removed,
};
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status, Streaming};

use super::proxy::{Answers, internal, note, passed};
use crate::container::commit;
use crate::container::live;
use crate::engine::Engine;

/// The public face of the image service.
#[derive(Debug, Clone)]
pub struct Images {
    engine: Arc<Engine>,
}

impl Images {
    /// Serves the engine's image service.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn note_removed(&self, removed: &[Removed]) {
        for Removed { what } in removed {
            match what {
                Some(removed::What::Untagged(reference)) => {
                    note(&self.engine, "image", "untag", reference, reference);
                }
                Some(removed::What::Deleted(id)) => note(&self.engine, "image", "delete", id, id),
                None => {}
            }
        }
    }
}

#[tonic::async_trait]
impl images_server::Images for Images {
    type PullStream = Answers<PullResponse>;
    type PushStream = Answers<PushResponse>;
    type ListStream = Streaming<ListResponse>;
    type LoadStream = Answers<LoadResponse>;
    type SaveStream = Streaming<SaveResponse>;
    type DiskUsageStream = Streaming<DiskUsageResponse>;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let answers = self.engine.images().pull(passed(request)).await?.into_inner();
        let engine = self.engine.clone();
        Ok(Response::new(Box::pin(answers.inspect(move |answer| {
            if let Ok(PullResponse { event: Some(pull_response::Event::Pulled(pulled)) }) = answer {
                note(&engine, "image", "pull", &pulled.image_id, &pulled.reference);
            }
        }))))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        let answers = self.engine.images().push(passed(request)).await?.into_inner();
        let engine = self.engine.clone();
        Ok(Response::new(Box::pin(answers.inspect(move |answer| {
            if let Ok(PushResponse { event: Some(push_response::Event::Pushed(pushed)) }) = answer {
                note(&engine, "image", "push", &pushed.reference, &pushed.reference);
            }
        }))))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let answers = self.engine.images().list(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        self.engine.images().inspect(passed(request)).await
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        self.engine.images().history(passed(request)).await
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let mut request = passed(request);
        request.get_mut().running_container_ids = live::running(&self.engine);
        let answer = self.engine.images().remove(request).await?;
        self.note_removed(&answer.get_ref().removed);
        Ok(answer)
    }

    async fn tag(&self, request: Request<TagRequest>) -> Result<Response<TagResponse>, Status> {
        let TagRequest { target, unnamed, .. } = request.get_ref().clone();
        let answer = self.engine.images().tag(passed(request)).await?;
        if !unnamed {
            note(&self.engine, "image", "tag", &target, &target);
        }
        Ok(answer)
    }

    async fn load(
        &self,
        request: Request<Streaming<LoadRequest>>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        // A client that breaks off takes this call with it, and so the service's: it never sees a whole
        // archive in what is only its beginning.
        let frames = request.into_inner().take_while(|frame| std::future::ready(frame.is_ok()));
        let frames = frames.filter_map(|frame| std::future::ready(frame.ok()));
        let answers = self.engine.images().load(Request::new(frames)).await?.into_inner();
        let engine = self.engine.clone();
        Ok(Response::new(Box::pin(answers.inspect(move |answer| {
            if let Ok(LoadResponse { event: Some(load_response::Event::Loaded(name)) }) = answer {
                note(&engine, "image", "load", name, name);
            }
        }))))
    }

    async fn commit(
        &self,
        request: Request<Streaming<CommitRequest>>,
    ) -> Result<Response<CommitResponse>, Status> {
        let mut frames = request.into_inner();
        let first = frames.message().await?;
        let based = matches!(&first, Some(CommitRequest { frame: Some(commit_request::Frame::Open(open)) })
            if !open.base.is_empty());
        let answer = self.engine.images().commit(Request::new(whole(first, frames))).await?;
        let CommitResponse { image_id, reference, .. } = answer.get_ref();
        let name = if reference.is_empty() { image_id } else { reference };
        note(&self.engine, "image", if based { "commit" } else { "import" }, image_id, name);
        Ok(answer)
    }

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<Self::SaveStream>, Status> {
        let answers = self.engine.images().save(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let answer = self.engine.images().prune(passed(request)).await?;
        self.note_removed(&answer.get_ref().removed);
        Ok(answer)
    }

    async fn prepare(&self, _: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        Err(internal("Images.Prepare"))
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        Err(internal("Images.Release"))
    }

    async fn list_holders(
        &self,
        _: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        Err(internal("Images.ListHolders"))
    }

    async fn get_collection(
        &self,
        request: Request<GetCollectionRequest>,
    ) -> Result<Response<GetCollectionResponse>, Status> {
        self.engine.images().get_collection(passed(request)).await
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        self.engine.images().login(passed(request)).await
    }

    type InspectManifestStream = Streaming<InspectManifestResponse>;

    async fn inspect_manifest(
        &self,
        request: Request<InspectManifestRequest>,
    ) -> Result<Response<Self::InspectManifestStream>, Status> {
        let answers = self.engine.images().inspect_manifest(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        self.engine.images().search(passed(request)).await
    }

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let answers = self.engine.images().disk_usage(passed(request)).await?;
        Ok(Response::new(answers.into_inner()))
    }
}

/// A client's frames, which end only when the client ended them: what breaks off must not be taken for the whole.
fn whole(
    first: Option<CommitRequest>,
    rest: Streaming<CommitRequest>,
) -> impl Stream<Item = CommitRequest> + Send + 'static {
    let rest = rest.map(|frame| frame.unwrap_or_else(|broken| commit::abort(broken.message())));
    stream::iter(first).chain(rest)
}
