//! The volume service: named directories that outlive containers, and who uses them.
//!
//! A local volume is a folder, or a file system that is mounted on that folder while somebody uses it ([`options`],
//! [`local`], [`ready`]). Volumes of other drivers are theirs to make and to mount ([`driver`], [`sweep`]).
//!
//! ```text
//! <root>/volume/
//!   .lock                     held while the service runs
//!   .use/<container id>.json  which volumes a container uses; the file is the use
//!   .new-<hex>  .trash-<hex>  half made, half removed: swept at start
//!   <name>/volume.json        the record
//!   <name>/data/              what containers see
//!   .id                       by which drivers know this engine
//! ```
//!
//! The files are the truth. A volume appears and goes by one rename, a use by one file.

mod api;
mod clone;
mod deadline;
mod driver;
mod error;
mod export;
pub mod failpoint;
mod fill;
mod filter;
#[cfg(fuzzing)]
pub mod fuzz;
mod import;
mod local;
mod measure;
mod options;
mod prepare;
mod quota;
mod ready;
mod release;
mod remove;
mod size;
mod store;
mod sweep;
mod turn;
mod usage;
mod volume;
mod volumes;

use std::path::PathBuf;

use davit_proto::volume::volumes_server::VolumesServer;
use tonic::service::Routes;

pub use driver::{DriverAddress, InvalidDriver};
pub use error::Error;
pub use options::size as parse_size;

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine's root folder, `/var/lib/davit`; the service keeps to `volume/` below it.
    pub root: PathBuf,
    /// Drivers beside our own.
    pub drivers: Vec<DriverAddress>,
}

/// Full names of the gRPC services that [`routes`] serves.
pub const SERVICES: &[&str] = &["davit.volume.v1.Volumes"];

/// Opens the volumes below the root and answers with the service over them.
///
/// # Errors
/// When the folder cannot be made or read, or another process serves it.
pub async fn routes(config: Config) -> Result<Routes, Error> {
    let volumes = api::blocking(move || volumes::Volumes::open(&config.root, config.drivers)).await?;
    Ok(Routes::new(VolumesServer::new(api::Api::new(volumes))))
}
