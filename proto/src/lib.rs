//! The wire, and the only thing that every process of davit shares: the generated messages and
//! services, validated identities ([`id`]), the table of errors ([`status`]), the files by which controller and shim
//! speak over each other's deaths ([`journal`], [`wanted`], [`names`]), what both keep containers from
//! ([`confinement`]), the words between controller and copying helper ([`copy`]), conditions of lists ([`condition`]) and, with the feature `transport`, how to serve and dial
//! ([`transport`]) and how threads read and write streams ([`pieces`]).

#[allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated from the protos, which carry the comments"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/davit.rs"));
}

/// `davit.build.v1`: builds.
pub use generated::davit::build::v1 as build;
/// `davit.container.v1`: the engine's main API.
pub use generated::davit::container::v1 as container;
/// `davit.image.v1`: images.
pub use generated::davit::image::v1 as image;
/// `davit.network.v1`: networks.
pub use generated::davit::network::v1 as network;
/// `davit.store.v1`: the controller's records.
pub use generated::davit::store::v1 as store;
/// `davit.system.v1`: the engine itself.
pub use generated::davit::system::v1 as system;
/// `davit.task.v1`: the shim's contract.
pub use generated::davit::task::v1 as task;
/// `davit.types.v1`: what several packages speak of.
pub use generated::davit::types::v1 as types;
/// `davit.volume.driver.v1`: what a driver of volumes serves.
pub use generated::davit::volume::driver::v1 as volume_driver;
/// `davit.volume.v1`: volumes.
pub use generated::davit::volume::v1 as volume;

pub mod condition;
pub mod confinement;
pub mod copy;
pub mod id;
pub mod journal;
pub mod names;
#[cfg(feature = "transport")]
pub mod pieces;
pub mod port;
pub mod reason;
pub mod status;
pub mod step;
pub mod time;
#[cfg(feature = "transport")]
pub mod transport;
pub mod wanted;

/// All protos as one encoded `FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/davit.bin"));
