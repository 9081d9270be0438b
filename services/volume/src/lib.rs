//! The volume service: named directories that outlive containers, and who uses them.
//!
//! ```text
//! <root>/volume/
//!   .lock                     held while the service runs
//!   .use/<container id>.json  which volumes a container uses; the file is the use
//!   .new-<hex>  .trash-<hex>  half made, half removed: swept at start
//!   <name>/volume.json        the record
//!   <name>/data/              what containers see
//! ```
//!
//! The files are the truth. A volume appears and goes by one rename, a use by one file.

mod api;
mod error;
mod filter;
mod prepare;
mod release;
mod remove;
mod size;
mod store;
mod usage;
mod volume;
mod volumes;

use std::path::PathBuf;

use davit_proto::volume::volumes_server::VolumesServer;
use tonic::service::Routes;

pub use error::Error;

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine's root folder, `/var/lib/davit`; the service keeps to `volume/` below it.
    pub root: PathBuf,
}

/// Full names of the gRPC services that [`routes`] serves.
pub const SERVICES: &[&str] = &["davit.volume.v1.Volumes"];

/// Opens the volumes below the root and answers with the service over them.
///
/// # Errors
/// When the folder cannot be made or read, or another process serves it.
pub async fn routes(config: Config) -> Result<Routes, Error> {
    let volumes = api::blocking(move || volumes::Volumes::open(&config.root)).await?;
    Ok(Routes::new(VolumesServer::new(api::Api::new(volumes))))
}
