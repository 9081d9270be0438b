//! `davit.volume.v1.Volumes` on the wire: decode, call one function, encode.

mod transfer;

use std::pin::Pin;

use davit_proto::id::{ContainerId, Name};
use davit_proto::status::status;
use davit_proto::types::{Filter as WireFilter, Mount};
use davit_proto::volume::volumes_server::Volumes as Service;
use davit_proto::volume::{
    CloneVolumeRequest, CloneVolumeResponse, CreateRequest, CreateResponse, DiskUsageRequest,
    DiskUsageResponse, Driver, ExportRequest, ExportResponse, ImportRequest, ImportResponse, InspectRequest,
    InspectResponse, ListDriversRequest, ListDriversResponse, ListHoldersRequest, ListHoldersResponse,
    ListRequest, ListResponse, PrepareRequest, PrepareResponse, PruneRequest, PruneResponse, ReleaseRequest,
    ReleaseResponse, RemoveRequest, RemoveResponse, Use as WireUse, Volume as WireVolume, VolumeUsage,
};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use self::transfer::Transfers;
use crate::error::Error;
use crate::filter::Filter;
use crate::prepare::{Prepared, Use};
use crate::volume::{LOCAL, Volume, Wanted};
use crate::volumes::Volumes;

/// Volumes of one frame of a list.
const PAGE: usize = 100;

/// The service.
#[derive(Debug)]
pub struct Api {
    volumes: Volumes,
    transfers: Transfers,
}

impl Api {
    /// Serves these volumes.
    pub fn new(volumes: Volumes) -> Self {
        Self { volumes, transfers: Transfers::new() }
    }

    /// Runs one call on a thread that may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Volumes) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let volumes = self.volumes.clone();
        blocking(move || call(&volumes)).await.map_err(|error| status(&error))
    }
}

/// Runs what waits for the disk where it may wait.
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
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let wanted = decode(wanted(request.into_inner()))?;
        let volume = self.call(move |volumes| volumes.create(wanted)).await?;
        Ok(Response::new(CreateResponse { volume: Some(wire(volume)) }))
    }

    type ListStream = Pin<Box<dyn Stream<Item = Result<ListResponse, Status>> + Send>>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let filter = decode(filter(request.into_inner().filters))?;
        let volumes = self.call(move |volumes| Ok(volumes.list(&filter))).await?;
        let mut volumes = volumes.into_iter().map(wire);
        let pages = std::iter::from_fn(move || {
            let volumes: Vec<WireVolume> = volumes.by_ref().take(PAGE).collect();
            (!volumes.is_empty()).then_some(Ok(ListResponse { volumes }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let name: Name = decode(request.into_inner().name.parse())?;
        let volume = self.call(move |volumes| volumes.inspect(&name)).await?;
        Ok(Response::new(InspectResponse { volume: Some(wire(volume)) }))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let RemoveRequest { name, force } = request.into_inner();
        let name: Name = decode(name.parse())?;
        self.call(move |volumes| volumes.remove(&name, force)).await?;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Result<Response<PruneResponse>, Status> {
        let PruneRequest { all, filters } = request.into_inner();
        let filter = decode(filter(filters))?;
        let pruned = self.call(move |volumes| volumes.prune(all, &filter)).await?;
        let names = pruned.names.into_iter().map(String::from).collect();
        Ok(Response::new(PruneResponse { names, reclaimed_bytes: pruned.reclaimed }))
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let PrepareRequest { container_id, uses, again } = request.into_inner();
        let container_id: ContainerId = decode(container_id.parse())?;
        if again {
            self.call(move |volumes| volumes.remount(&container_id)).await?;
            return Ok(Response::new(PrepareResponse::default()));
        }
        let uses = decode(uses.into_iter().map(use_).collect::<Result<Vec<Use>, Error>>())?;
        let prepared = self.call(move |volumes| volumes.prepare(&container_id, uses)).await?;
        let mounts = prepared.iter().map(mount).collect();
        let volumes = prepared.into_iter().map(|prepared| wire(prepared.volume)).collect();
        Ok(Response::new(PrepareResponse { mounts, volumes }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let ReleaseRequest { container_id, remove_anonymous, targets } = request.into_inner();
        let container_id: ContainerId = decode(container_id.parse())?;
        self.call(move |volumes| match targets.is_empty() {
            true => volumes.release(&container_id, remove_anonymous),
            false => volumes.release_at(&container_id, &targets),
        })
        .await?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn list_holders(
        &self,
        _request: Request<ListHoldersRequest>,
    ) -> Result<Response<ListHoldersResponse>, Status> {
        let holders = self.call(|volumes| Ok(volumes.holders())).await?;
        let container_ids = holders.into_iter().map(String::from).collect();
        Ok(Response::new(ListHoldersResponse { container_ids }))
    }

    type DiskUsageStream = Pin<Box<dyn Stream<Item = Result<DiskUsageResponse, Status>> + Send>>;

    async fn disk_usage(
        &self,
        request: Request<DiskUsageRequest>,
    ) -> Result<Response<Self::DiskUsageStream>, Status> {
        let filter = decode(filter(request.into_inner().filters))?;
        let measured = self.call(move |volumes| Ok(volumes.disk_usage(&filter))).await?;
        let mut measured = measured
            .into_iter()
            .map(|(volume, size_bytes)| VolumeUsage { volume: Some(wire(volume)), size_bytes });
        let pages = std::iter::from_fn(move || {
            let usages: Vec<VolumeUsage> = measured.by_ref().take(PAGE).collect();
            (!usages.is_empty()).then_some(Ok(DiskUsageResponse { usages }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    type ExportStream = ReceiverStream<Result<ExportResponse, Status>>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let name: Name = decode(request.into_inner().name.parse())?;
        // Told before the first byte, and not after it.
        let known = name.clone();
        self.call(move |volumes| volumes.state().volume(&known).map(drop)).await?;
        let permit = self.transfers.begin().await?;
        Ok(Response::new(transfer::export(self.volumes.clone(), name, permit)))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        let mut frames = request.into_inner();
        let wanted = decode(wanted(transfer::opening(&mut frames).await?))?;
        let _permit = self.transfers.begin().await?;
        transfer::import(self.volumes.clone(), wanted, frames).await.map(Response::new)
    }

    async fn clone_volume(
        &self,
        request: Request<CloneVolumeRequest>,
    ) -> Result<Response<CloneVolumeResponse>, Status> {
        let CloneVolumeRequest { source, create } = request.into_inner();
        let source: Name = decode(source.parse())?;
        let wanted = decode(wanted(create.unwrap_or_default()))?;
        let _permit = self.transfers.begin().await?;
        let (volume, cloned) = self.call(move |volumes| volumes.clone_volume(&source, wanted)).await?;
        Ok(Response::new(CloneVolumeResponse {
            volume: Some(wire(volume)),
            entries: cloned.entries,
            bytes: cloned.bytes,
            shared_bytes: cloned.shared,
        }))
    }

    async fn list_drivers(
        &self,
        _request: Request<ListDriversRequest>,
    ) -> Result<Response<ListDriversResponse>, Status> {
        let mut drivers = vec![Driver { name: LOCAL.to_owned(), address: String::new() }];
        let others = self.volumes.drivers().all();
        drivers.extend(others.map(|(name, address)| Driver { name: name.to_owned(), address }));
        Ok(Response::new(ListDriversResponse { drivers }))
    }
}

pub(crate) fn wanted(request: CreateRequest) -> Result<Wanted, Error> {
    let wanted = match request.name.as_str() {
        "" => Wanted::anonymous()?,
        name => Wanted::named(name.parse()?),
    };
    let wanted = wanted.driven(request.driver, request.options.into_iter().collect());
    wanted.labelled(request.labels.into_iter().collect())
}

pub(crate) fn use_(wire: WireUse) -> Result<Use, Error> {
    if !wire.subpath.is_empty() {
        return Err(Error::Unserved { what: "a folder inside a volume,", value: wire.subpath });
    }
    let name = if wire.name.is_empty() { None } else { Some(wire.name.parse()?) };
    Ok(Use {
        name,
        target: wire.target.try_into()?,
        read_only: wire.read_only,
        driver: wire.driver,
        options: wire.options.into_iter().collect(),
        labels: wire.labels.into_iter().collect(),
    })
}

pub(crate) fn filter(conditions: Vec<WireFilter>) -> Result<Filter, Error> {
    Filter::parse(conditions.into_iter().map(|condition| (condition.key, condition.value)))
}

fn wire(volume: Volume) -> WireVolume {
    let record = volume.record;
    WireVolume {
        name: record.name.into(),
        driver: record.driver,
        mountpoint: volume.mountpoint,
        labels: record.labels.into_iter().collect(),
        options: record.options.into_iter().collect(),
        created_at: Some(davit_proto::time::timestamp(record.created_at.into())),
        anonymous: record.anonymous,
        container_ids: volume.holders.into_iter().map(String::from).collect(),
        status: volume.status.into_iter().collect(),
        scope: if record.global { "global" } else { "local" }.to_owned(),
    }
}

/// Volumes are without devices and setuid programs: an image brings neither by way of one.
fn mount(prepared: &Prepared) -> Mount {
    let mut options: Vec<String> = ["rbind", "rprivate", "nosuid", "nodev"].map(str::to_owned).into();
    if prepared.read_only {
        options.push("ro".to_owned());
    }
    Mount {
        r#type: "bind".to_owned(),
        source: prepared.volume.mountpoint.clone(),
        target: prepared.target.as_str().to_owned(),
        options,
    }
}
