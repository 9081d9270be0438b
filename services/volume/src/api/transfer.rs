//! Between frames and archives, for the calls that move a volume's files.

use std::io;
use std::sync::Arc;

use davit_proto::id::Name;
use davit_proto::pieces::{Pieces, Sink};
use davit_proto::status::status;
use davit_proto::volume::import_request::Message;
use davit_proto::volume::{CreateRequest, ExportResponse, ImportRequest, ImportResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::error::Error;
use crate::volumes::Volumes;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the other side.
const WAITING: usize = 4;
/// Transfers at a time; more wait.
const AT_ONCE: usize = 16;

/// How many transfers go on.
#[derive(Debug, Clone)]
pub struct Transfers {
    free: Arc<Semaphore>,
}

impl Transfers {
    /// None goes on.
    pub fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Waits until one more may go on.
    pub async fn begin(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.free.clone().acquire_owned().await.map_err(|_| status(&Error::Lost))
    }
}

/// Reads a volume as frames.
pub fn export(
    volumes: Volumes,
    name: Name,
    permit: OwnedSemaphorePermit,
) -> ReceiverStream<Result<ExportResponse, Status>> {
    let (frames, waiting) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let sink = Sink::new(PIECE, |chunk| {
            let sent = frames.blocking_send(Ok(ExportResponse { chunk }));
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        if let Err(error) = volumes.export(&name, sink) {
            // Nobody may be listening any more.
            let _ = frames.blocking_send(Err(status(&error)));
        }
    });
    ReceiverStream::new(waiting)
}

/// The first frame of an import: what is to be made.
pub async fn opening(frames: &mut Streaming<ImportRequest>) -> Result<CreateRequest, Status> {
    let first = frames.message().await?.and_then(|frame| frame.message);
    match first {
        Some(Message::Open(open)) => Ok(open.create.unwrap_or_default()),
        _ => {
            let value = String::new();
            Err(status(&Error::Invalid { field: "first message", value, rule: "must be open" }))
        }
    }
}

/// Extracts what the frames bring.
pub async fn import(
    volumes: Volumes,
    wanted: crate::volume::Wanted,
    mut frames: Streaming<ImportRequest>,
) -> Result<ImportResponse, Status> {
    let (pieces, input) = Pieces::channel(WAITING);
    let extracting = tokio::task::spawn_blocking(move || volumes.import(wanted, input));
    let received = loop {
        let piece = match frames.message().await {
            Ok(Some(ImportRequest { message: Some(Message::Chunk(piece)) })) => Some(piece),
            Ok(Some(ImportRequest { message: Some(Message::End(_)) })) => None,
            Ok(Some(_)) => {
                let (field, rule) = ("message", "must be a chunk or the end");
                break Err(status(&Error::Invalid { field, value: String::new(), rule }));
            }
            // Cut off: the extraction ends with an error, as nobody told it of the end.
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let ended = piece.is_none();
        // Whoever extracts has failed when it takes no more.
        if pieces.send(Ok(piece)).await.is_err() || ended {
            break Ok(());
        }
    };
    drop(pieces);
    let extracted = extracting.await.unwrap_or(Err(Error::Lost));
    received?;
    let (volume, extracted) = extracted.map_err(|error| status(&error))?;
    let (entries, bytes) = (extracted.entries, extracted.bytes);
    Ok(ImportResponse { volume: Some(super::wire(volume)), entries, bytes })
}
