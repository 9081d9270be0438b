//! How much a container wrote: a walk of its writable layer, which the container itself may change at the
//! same time. It holds no lock, and what it could not count in time it leaves out.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use davit_proto::container::Container;
use davit_proto::id::ContainerId;
use davit_proto::image;
use davit_proto::status::{Classify as _, ErrorKind};
use davit_sys::file::{Usage, open_dir, usage_below};

use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// How long one container's files may be walked.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a container takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Its writable layer.
    pub layer: Usage,
    /// Its logs.
    pub logs: Usage,
}

impl Size {
    /// Bytes of disk that removing it gives back.
    #[must_use]
    pub fn disk(&self) -> u64 {
        self.layer.disk.saturating_add(self.logs.disk)
    }
}

/// Fills in the sizes of a container.
///
/// # Errors
/// When its layer cannot be read, or the image service does not answer.
pub async fn measure(engine: &Arc<Engine>, container: &mut Container) -> Result<(), Error> {
    let id: ContainerId = container.id.parse()?;
    let size = of(engine, &id, Instant::now() + PATIENCE).await?;
    let image = image_size(engine, &container.image_id).await?;
    let status = container.status.get_or_insert_default();
    status.size_rw = size.layer.bytes;
    status.size_root = size.layer.bytes.saturating_add(image);
    status.size_disk = size.disk();
    Ok(())
}

/// What a container takes, as far as it can be counted until then. One that is gone takes nothing.
///
/// # Errors
/// When its files cannot be read.
pub async fn of(engine: &Arc<Engine>, id: &ContainerId, until: Instant) -> Result<Size, Error> {
    let bundle = engine.config.bundle(id);
    let walk = move || -> io::Result<Size> {
        Ok(Size { layer: below(&bundle.join("upper"), until)?, logs: below(&bundle.join("log"), until)? })
    };
    let walked = tokio::task::spawn_blocking(walk).await.map_err(io::Error::other);
    walked.and_then(|walked| walked).map_err(Error::io(format!("measure container {id}")))
}

fn below(folder: &Path, until: Instant) -> io::Result<Usage> {
    match open_dir(folder) {
        Ok(top) => usage_below(top, until),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Usage::default()),
        Err(error) => Err(error),
    }
}

async fn image_size(engine: &Arc<Engine>, image_id: &str) -> Result<u64, Error> {
    if image_id.is_empty() {
        return Ok(0);
    }
    let request = image::InspectRequest { image: image_id.to_owned() };
    match within(SHORT, "look for the image", engine.images().inspect(request)).await {
        Ok(answer) => Ok(answer.image.map_or(0, |image| image.size)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
