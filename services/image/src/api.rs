//! `davit.image.v1.Images` on the wire: decode, call one function, encode.

mod encode;
mod stream;

use std::pin::Pin;
use std::sync::Arc;

use davit_proto::id::{ContainerId, Digest};
use davit_proto::image::images_server::Images as Service;
use davit_proto::image::{
    CommitRequest, CommitResponse, DiskUsageRequest, DiskUsageResponse, GetCollectionRequest,
    GetCollectionResponse, HistoryRequest, HistoryResponse, InspectManifestRequest, InspectManifestResponse,
    InspectRequest, InspectResponse, ListHoldersRequest, ListHoldersResponse, ListRequest, ListResponse,
    LoadRequest, LoadResponse, LoginRequest, LoginResponse, PrepareRequest, PrepareResponse, PruneRequest,
    PruneResponse, PullRequest, PullResponse, PushRequest, PushResponse, ReleaseRequest, ReleaseResponse,
    RemoveRequest, RemoveResponse, SaveRequest, SaveResponse, SearchRequest, SearchResponse, TagRequest,
    TagResponse, commit_request, load_request,
};
use davit_proto::status::status;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::archive::SavedImage;
use crate::error::Error;
use crate::filter::Filter;
use crate::gc::Collector;
use crate::lease::Lease;
use crate::pull::Board;
use crate::reference::ImageRef;
use crate::registry;
use crate::remove::How;
use crate::store::Store;

/// Most images of one save.
const SAVED: usize = 1024;

/// The service.
#[derive(Debug)]
pub struct Api {
    store: Store,
    registries: registry::Client,
    collector: Arc<Collector>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Api {
    /// Serves these images, pulled from these registries.
    #[must_use]
    pub fn new(store: Store, registries: registry::Client, collector: Arc<Collector>) -> Self {
        Self { store, registries, collector }
    }

    /// Runs one call on a thread that may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        blocking(move || call(&store)).await.map_err(|error| status(&error))
    }
}

/// Runs what waits for the disk where it may wait.
///
/// # Errors
/// Those of the call; [`Error::Lost`] when it panicked.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(Error::Lost))
}

fn decode<T>(decoded: Result<T, impl Into<Error>>) -> Result<T, Status> {
    decoded.map_err(|error| status(&error.into()))
}

#[tonic::async_trait]
impl Service for Api {
    type PullStream = Answers<PullResponse>;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let all = request.get_ref().all_tags;
        let request = decode(encode::pull_request(request.into_inner()))?;
        let (store, registries, board) =
            (self.store.clone(), self.registries.clone(), Arc::new(Board::default()));
        let told = Arc::clone(&board);
        let work = async move {
            if all {
                crate::pull::pull_all(&store, &registries, request, told).await?;
                return Ok(None);
            }
            Ok(Some(crate::pull::pull(&store, &registries, request, told).await?))
        };
        let answers = stream::with_progress(board, work, encode::progress_of_pull, |pulled| {
            pulled.into_iter().map(encode::pulled).collect()
        });
        Ok(Response::new(answers))
    }

    type PushStream = Answers<PushResponse>;

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        let request = decode(encode::push_request(request.into_inner()))?;
        let (store, registries, board) =
            (self.store.clone(), self.registries.clone(), Arc::new(Board::default()));
        let told = Arc::clone(&board);
        let work = async move { Ok(crate::push::push(&store, &registries, request, told).await?) };
        Ok(Response::new(stream::with_progress(board, work, encode::progress_of_push, |()| Vec::new())))
    }

    type ListStream = Answers<ListResponse>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let ListRequest { filters, all } = request.into_inner();
        let conditions = encode::conditions(filters);
        let list = self
            .call(move |store| {
                let filter = Filter::parse(&conditions, store)?;
                let list = store.list()?;
                Ok(list
                    .into_iter()
                    .filter(|summary| filter.shows(summary))
                    .filter_map(|summary| encode::shown(summary, all))
                    .collect())
            })
            .await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(encode::pages(list).map(Ok)))))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let named = request.into_inner().image;
        let answer = self
            .call(move |store| {
                let summary = store.inspect(&named)?;
                if davit_proto::step::is_step(&named) {
                    // Builds ask for a step because they need it.
                    store.touch(&summary.image.descriptor);
                }
                let paths = store.snapshots().paths(summary.image.diff_ids());
                Ok(encode::inspected(summary, paths))
            })
            .await?;
        Ok(Response::new(answer))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryResponse>, Status> {
        let named = request.into_inner().image;
        let steps = self.call(move |store| Ok(store.history(&named)?)).await?;
        Ok(Response::new(HistoryResponse { steps: steps.into_iter().map(encode::step).collect() }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let RemoveRequest { image, force, running_container_ids, no_prune: _ } = request.into_inner();
        let running = running_container_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
        let how = How { force, running: decode(running)? };
        let removed = self.call(move |store| Ok(store.remove(&image, &how)?)).await?;
        Ok(Response::new(RemoveResponse { removed: removed.into_iter().map(encode::removed).collect() }))
    }

    async fn tag(&self, request: Request<TagRequest>) -> Result<Response<TagResponse>, Status> {
        let TagRequest { source, target, unnamed } = request.into_inner();
        let named = move |store: &Store| match unnamed {
            true => store.list_unnamed(&source),
            false => store.tag(&source, &target),
        };
        self.call(move |store| Ok(named(store)?)).await?;
        Ok(Response::new(TagResponse {}))
    }

    type LoadStream = Answers<LoadResponse>;

    async fn load(
        &self,
        request: Request<Streaming<LoadRequest>>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        let mut frames = request.into_inner();
        let first = frames.next().await.transpose()?.and_then(|frame| frame.frame);
        let Some(load_request::Frame::Open(open)) = first else {
            return Err(status(&Error::Invalid { field: "frame", rule: "the first must be open" }));
        };
        let platform = encode::platform(open.platform).unwrap_or_else(|| self.store.platform().clone());
        let how = crate::load::How { platform, steps: open.steps };
        let (store, board) = (self.store.clone(), Arc::new(Board::default()));
        let told = Arc::clone(&board);
        let source = stream::source(frames);
        let work = blocking(move || crate::load::load(&store, source, &how, &told));
        let answers = stream::with_progress(board, work, encode::progress_of_load, |loaded| {
            loaded.into_iter().map(encode::loaded).collect()
        });
        Ok(Response::new(answers))
    }

    type SaveStream = Answers<SaveResponse>;

    async fn save(&self, request: Request<SaveRequest>) -> Result<Response<Self::SaveStream>, Status> {
        let format = decode(encode::format(request.get_ref().format()))?;
        let named = request.into_inner().images;
        if named.is_empty() || named.len() > SAVED {
            return Err(status(&Error::Invalid { field: "images", rule: "must be 1 to 1024" }));
        }
        let (images, leases) = self.call(move |store| select(store, &named)).await?;
        let content = self.store.content().clone();
        let answers = stream::sink(move |out| {
            let _held = leases;
            Ok(crate::archive::save(&images, &content, format, out)?)
        });
        Ok(Response::new(answers))
    }

    async fn commit(
        &self,
        request: Request<Streaming<CommitRequest>>,
    ) -> Result<Response<CommitResponse>, Status> {
        let mut frames = request.into_inner();
        let first = frames.next().await.transpose()?.and_then(|frame| frame.frame);
        let Some(commit_request::Frame::Open(open)) = first else {
            return Err(status(&Error::Invalid { field: "frame", rule: "the first must be open" }));
        };
        let request = decode(encode::commit_request(open))?;
        let source = stream::source(frames);
        let committed = self.call(move |store| Ok(crate::commit::commit(store, &request, source)?)).await?;
        Ok(Response::new(encode::committed(committed)))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let PruneRequest { all, filters } = request.into_inner();
        let filter = decode(Filter::parse_prune(&encode::conditions(filters)))?;
        let (removed, reclaimed_bytes) =
            self.call(move |store| Ok(store.prune(filter.scope(all), |image| filter.holds(image))?)).await?;
        let removed = removed.into_iter().map(encode::removed).collect();
        Ok(Response::new(PruneResponse { removed, reclaimed_bytes }))
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let PrepareRequest { container_id, image, mounted } = request.into_inner();
        let container_id: ContainerId = decode(container_id.parse::<ContainerId>())?;
        let prepared = self.call(move |store| {
            let own = store.prepare(&container_id, &image)?;
            Ok((own, store.prepare_further(&container_id, &mounted)?))
        });
        let (own, further) = prepared.await?;
        Ok(Response::new(encode::prepared(own, further)))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let container_id: ContainerId = decode(request.into_inner().container_id.parse::<ContainerId>())?;
        self.call(move |store| Ok(store.release(&container_id)?)).await?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn list_holders(
        &self,
        _: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        let container_ids = self.store.holders().container_ids().iter().map(ToString::to_string).collect();
        Ok(Response::new(ListHoldersResponse { container_ids }))
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let LoginRequest { registry, credential } = request.into_inner();
        let registry = decode(ImageRef::of_registry(&registry))?;
        let Some(credential) = encode::credential(credential) else {
            return Err(status(&Error::Invalid { field: "credential", rule: "must not be empty" }));
        };
        let token = decode(self.registries.login(&registry, credential).await)?;
        let identity_token = token.map(|token| token.reveal().to_owned()).unwrap_or_default();
        Ok(Response::new(LoginResponse { identity_token }))
    }

    type InspectManifestStream = Answers<InspectManifestResponse>;

    async fn inspect_manifest(
        &self,
        request: Request<InspectManifestRequest>,
    ) -> Result<Response<Self::InspectManifestStream>, Status> {
        let InspectManifestRequest { reference, credential, verbose } = request.into_inner();
        let reference = decode(reference.parse::<ImageRef>())?;
        let credential = encode::credential(credential);
        let parts = crate::manifest::inspect(&self.registries, &reference, credential, verbose).await;
        let parts = decode(parts)?.into_iter().map(|part| Ok(encode::part(part)));
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let request = encode::search_request(request.into_inner());
        let found = decode(crate::search::search(&self.registries, request).await)?;
        Ok(Response::new(SearchResponse { images: found.into_iter().map(encode::found).collect() }))
    }

    async fn get_collection(
        &self,
        _: Request<GetCollectionRequest>,
    ) -> Result<Response<GetCollectionResponse>, Status> {
        Ok(Response::new(encode::collection(&self.collector)))
    }

    type DiskUsageStream = Answers<DiskUsageResponse>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let verbose = request.into_inner().verbose;
        let usage = self.call(|store| Ok(store.disk_usage()?)).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(encode::disk_usage(usage, verbose).map(Ok)))))
    }
}

/// The images that are to be saved, each once, with all the references that it was asked for by, held until the end.
fn select(store: &Store, named: &[String]) -> Result<(Vec<SavedImage>, Vec<Lease>), Error> {
    let (mut images, mut leases): (Vec<SavedImage>, Vec<Lease>) = (Vec::new(), Vec::new());
    for text in named {
        let (found, lease) = store.find_held(text)?;
        leases.push(lease);
        let digest: &Digest = &found.image.descriptor.digest;
        let references: Vec<ImageRef> = found.reference.into_iter().collect();
        match images.iter_mut().find(|image| image.manifest.digest == *digest) {
            Some(image) => image.references.extend(references),
            None => images.push(SavedImage { references, manifest: found.image.descriptor.clone() }),
        }
    }
    Ok((images, leases))
}
