//! `davit.volume.driver.v1.Driver` on the wire: decode, call one function, encode.

use davit_proto::id::Name;
use davit_proto::status::status;
use davit_proto::volume_driver::driver_server::Driver;
use davit_proto::volume_driver::{
    CreateRequest, CreateResponse, GetInfoRequest, GetInfoResponse, InspectRequest, InspectResponse,
    ListRequest, ListResponse, MountRequest, MountResponse, RemoveRequest, RemoveResponse, UnmountRequest,
    UnmountResponse,
};
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::store::{Record, Store};

/// The service.
#[derive(Debug)]
pub struct Api {
    store: Store,
}

impl Api {
    /// Serves these volumes.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Runs one call on a thread that may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || call(&store)).await.unwrap_or(Err(Error::Lost));
        done.map_err(|error| status(&error))
    }
}

fn name(text: &str) -> Result<Name, Status> {
    text.parse().map_err(|error| status(&Error::Name(error)))
}

#[tonic::async_trait]
impl Driver for Api {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let version = concat!("davit-volume-loop ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Response::new(GetInfoResponse { version, global: false }))
    }

    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let request = request.into_inner();
        let name = name(&request.name)?;
        self.call(move |store| store.create(&name, &Record::parse(&request.options)?)).await?;
        Ok(Response::new(CreateResponse {}))
    }

    async fn remove(&self, request: Request<RemoveRequest>) -> Result<Response<RemoveResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        self.call(move |store| store.remove(&name)).await?;
        Ok(Response::new(RemoveResponse {}))
    }

    async fn mount(&self, request: Request<MountRequest>) -> Result<Response<MountResponse>, Status> {
        let MountRequest { name: volume, holder } = request.into_inner();
        let name = name(&volume)?;
        let path = self.call(move |store| store.mount(&name, &holder.unwrap_or_default())).await?;
        Ok(Response::new(MountResponse { mountpoint: path.display().to_string() }))
    }

    async fn unmount(&self, request: Request<UnmountRequest>) -> Result<Response<UnmountResponse>, Status> {
        let UnmountRequest { name: volume, holder } = request.into_inner();
        let name = name(&volume)?;
        self.call(move |store| store.unmount(&name, &holder.unwrap_or_default())).await?;
        Ok(Response::new(UnmountResponse {}))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let name = name(&request.into_inner().name)?;
        let volume = self.call(move |store| store.inspect(&name)).await?;
        Ok(Response::new(InspectResponse { volume: Some(volume) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let after = request.into_inner().after;
        let (volumes, more) = self.call(move |store| store.list(&after)).await?;
        Ok(Response::new(ListResponse { volumes, more }))
    }
}
