//! Steps that come from other machines and go to them.
//!
//! ```text
//! registry   an index of the steps' images, read and fetched by the engine    sent by it after the build
//! folder     an OCI layout, loaded before the build                           saved after it
//! inline     the index beside an image that is sent, by that image's digest
//! ```

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use davit_archive::write::Writer;
use davit_archive::{Source, pack};
use davit_proto::build::{Built, CacheSource};
use davit_proto::image::{ArchiveFormat, ListRequest, LoadOpen, LoadRequest, SaveRequest, load_request};
use davit_proto::status::{RemoteError, chain};
use davit_proto::step;
use davit_sys::file::{self, OFlags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::files::Files;
use crate::args::build::BuildArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::image::{pull::Place as Told, push};
use crate::spec::cache::{self as spec, From, Place, To};
use crate::{credential, output, reference};

/// Bytes of a frame, and how many may wait.
const PIECE: usize = 64 << 10;
const WAITING: usize = 8;
/// Images that may be saved at once.
const SAVED: usize = 1024;
/// Where an archive's index has the names of its images.
const NAME: &str = "io.containerd.image.name";

/// What flags say of caches.
pub struct Caches {
    from: Vec<From>,
    to: Vec<To>,
}

impl Caches {
    /// As flags say.
    pub fn of(args: &BuildArgs) -> Result<Self, Error> {
        let from = args.cache_from.iter().map(|text| spec::from(text)).collect::<Result<_, _>>()?;
        let to = args.cache_to.iter().map(|text| spec::to(text)).collect::<Result<_, _>>()?;
        Ok(Self { from, to })
    }

    /// Those at registries, which the engine asks itself.
    pub fn sources(&self) -> Vec<CacheSource> {
        let source = |from: &From| match from {
            From::Registry(reference) => {
                let credential = credential::of_image(reference);
                Some(CacheSource { reference: reference.clone(), credential })
            }
            From::Folder(_) => None,
        };
        self.from.iter().filter_map(source).collect()
    }

    /// Takes in those of folders. One that cannot be taken in is told of, and passed over.
    pub async fn take_in(&self, engine: &Engine) -> Result<(), Error> {
        for from in &self.from {
            let From::Folder(folder) = from else { continue };
            if let Err(error) = load(engine, folder).await {
                output::complain(&format!("WARNING: cache {folder} is not used: {error}"));
            }
        }
        Ok(())
    }

    /// Sends steps where they are wanted. `pushed` are the names under which the image went to registries.
    pub async fn finish(
        &self,
        engine: &Engine,
        built: &Built,
        (pushed, quiet): (&[String], bool),
    ) -> Result<(), Error> {
        for To { place, all } in &self.to {
            let steps = if *all { &built.steps } else { &built.result_steps };
            if steps.is_empty() {
                output::complain("WARNING: there are no steps that could be kept elsewhere");
                continue;
            }
            match place {
                Place::Registry(name) => {
                    push::beside(engine, (name, steps.clone()), quiet, Told::Stderr).await?;
                }
                Place::Folder(folder) => save(engine, steps, folder).await?,
                Place::Inline if pushed.is_empty() => {
                    output::complain("WARNING: type=inline goes along with what is pushed, and nothing is");
                }
                Place::Inline => {
                    for name in pushed {
                        let full = reference::full(name);
                        let hex = built.digest.trim_start_matches("sha256:");
                        let name = step::beside(reference::split(&full).0, hex);
                        push::beside(engine, (&name, steps.clone()), quiet, Told::Stderr).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes steps into a folder, as an OCI layout.
async fn save(engine: &Engine, steps: &[String], folder: &str) -> Result<(), Error> {
    if steps.len() > SAVED {
        let text = format!("a folder can have {SAVED} steps, and there are {}: use mode=min", steps.len());
        return Err(Error::Usage(text));
    }
    let mut files = Files::default();
    files.add_folder(folder)?;
    let request = SaveRequest { images: steps.to_vec(), format: ArchiveFormat::Oci.into() };
    let mut chunks = engine.images().await?.save(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(chunk) = chunks.message().await.map_err(RemoteError::from)? {
        files.write(&chunk.chunk).await?;
    }
    files.finish().await
}

/// Takes in the steps of a folder, unless all of them are here.
async fn load(engine: &Engine, folder: &str) -> Result<(), Error> {
    let failed = |error| Error::io(format!("read {folder}"), error);
    let index = file::read_bounded(&Path::new(folder).join("index.json"), 64 << 20).map_err(failed)?;
    if is_here(engine, &index).await? {
        return Ok(());
    }
    let root = file::Root::open(Path::new(folder)).map_err(failed)?;
    let handle = root.resolve(Path::new("."), OFlags::PATH | OFlags::DIRECTORY, 0).map_err(failed)?;
    let (frames, waiting) = mpsc::channel(WAITING);
    let open = LoadOpen { steps: true, ..LoadOpen::default() };
    let open = LoadRequest { frame: Some(load_request::Frame::Open(open)) };
    // A channel that nobody reads from yet has room for one.
    let _ = frames.try_send(open);
    let packing = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(io::BufWriter::with_capacity(PIECE, Frames(frames)));
        let source = Source { handle, name: b"./".to_vec(), skipped_dev: None };
        pack(source, None, &mut writer).map_err(|error| chain(&error))?;
        writer.end().map_err(|error| error.to_string())
    });
    let mut images = engine.images().await?;
    let mut events = images.load(ReceiverStream::new(waiting)).await.map_err(RemoteError::from)?.into_inner();
    while events.message().await.map_err(RemoteError::from)?.is_some() {}
    let packed = packing.await.map_err(|_| Error::Usage("reading the cache ended early".to_owned()))?;
    packed.map_err(Error::Usage)
}

/// Whether all images of an index are here by their names.
async fn is_here(engine: &Engine, index: &[u8]) -> Result<bool, Error> {
    let index: serde_json::Value = serde_json::from_slice(index).unwrap_or_default();
    let manifests = index.get("manifests").and_then(serde_json::Value::as_array);
    let name =
        |manifest: &serde_json::Value| Some(manifest.get("annotations")?.get(NAME)?.as_str()?.to_owned());
    let wanted: Option<BTreeSet<String>> = manifests.map(|list| list.iter().filter_map(name).collect());
    let Some(mut wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(false) };
    let request = ListRequest { all: true, ..ListRequest::default() };
    let mut frames = engine.images().await?.list(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
        for reference in frame.images.iter().flat_map(|image| &image.references) {
            wanted.remove(reference);
        }
    }
    Ok(wanted.is_empty())
}

/// Pieces of an archive on their way to the engine.
struct Frames(mpsc::Sender<LoadRequest>);

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        let frame = load_request::Frame::Chunk(Bytes::copy_from_slice(piece));
        // An engine that takes no more has said why.
        let sent = self.0.blocking_send(LoadRequest { frame: Some(frame) });
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
