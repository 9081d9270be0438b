//! Attach on the wire: frames of a client to the container's streams, and back.

use std::time::Duration;

use davit_proto::status::status;
use davit_proto::task::attach_request::Frame as FromClient;
use davit_proto::task::attach_response::Frame as ToClient;
use davit_proto::task::{AttachOffsets, AttachOpen, AttachRequest, AttachResponse, Attached};
use davit_proto::types::{Dropped, Exit, Input, Output, Stdio};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{Api, BoxStream, exec, failed, window_size};
use crate::stdio::Stream;
use crate::stdio::client::Frame;
use crate::stdio::input::Typist;
use crate::stdio::pump::{self, Attach, StdioError};
use crate::task::TaskError;

/// How long a client may take to say how it attaches.
const OPEN: Duration = Duration::from_secs(10);
/// Most bytes of one frame of input.
const INPUT: usize = 32 << 10;
/// Most bytes of a session's name.
const SESSION: usize = 64;

/// Joins a client; the answer ends with the exit, with an error, or when the client goes.
pub async fn attach(
    api: &Api,
    mut frames: Streaming<AttachRequest>,
) -> Result<BoxStream<AttachResponse>, Status> {
    let open = first_frame(&mut frames).await?;
    let (stdio, exit) = match open.exec_id.as_str() {
        "" => (api.stdio().map_err(failed)?, None),
        id => {
            let view = exec::view(api, id).await.map_err(failed)?;
            let exit = view.exit.borrow().clone();
            (view.stdio, exit)
        }
    };
    if let Some(size) = open.size {
        let size = window_size(size).map_err(failed)?;
        match stdio.resize(size).await {
            // A client sends its size without knowing what the container has.
            Ok(()) | Err(StdioError::NoTerminal) => {}
            // An exec that has ended is told from its end.
            Err(StdioError::Closed) if exit.is_some() => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    let attach = Attach {
        says_seen: open.says_seen.then(|| open.session.clone()),
        session: open.stdin.then_some(open.session),
        wants: [open.stdout, open.stderr],
        from: open.from.map(|from| [from.stdout, from.stderr]),
    };
    let attachment = match (stdio.attach(attach).await, exit) {
        (Err(StdioError::Closed), Some(exit)) => return Ok(epilogue(open.from, exit)),
        (attachment, _) => attachment.map_err(|error| failed(error.into()))?,
    };
    let [stdout_offset, stderr_offset] = attachment.starts;
    let stdin_offset = attachment.typist.as_ref().map_or(0, Typist::taken);
    let attached = ToClient::Attached(Attached { stdin_offset, stdout_offset, stderr_offset });

    let (report, fault) = oneshot::channel();
    tokio::spawn(relay(frames, attachment.typist, stdio, attachment.alive, report));
    let replay = attachment.replay.into_iter().map(encode);
    let first = stream::iter(std::iter::once(attached).chain(replay).map(|frame| Ok(response(frame))));
    Ok(Box::pin(first.chain(live(attachment.frames, fault))))
}

/// All that is left of an exec whose output was forgotten.
fn epilogue(from: Option<AttachOffsets>, exit: Exit) -> BoxStream<AttachResponse> {
    let AttachOffsets { stdout, stderr } = from.unwrap_or_default();
    let attached = Attached { stdin_offset: 0, stdout_offset: stdout, stderr_offset: stderr };
    let frames = [ToClient::Attached(attached), ToClient::Exit(exit)];
    Box::pin(stream::iter(frames.map(|frame| Ok(response(frame)))))
}

async fn first_frame(frames: &mut Streaming<AttachRequest>) -> Result<AttachOpen, Status> {
    let frame = timeout(OPEN, frames.message())
        .await
        .map_err(|_elapsed| Status::deadline_exceeded("no open frame within 10 s"))??;
    match frame.and_then(|request| request.frame) {
        Some(FromClient::Open(open)) if open.session.len() <= SESSION => Ok(open),
        Some(FromClient::Open(open)) => {
            let rule = "must be at most 64 bytes";
            Err(failed(TaskError::Invalid { name: "session", value: open.session, rule }))
        }
        _ => Err(Status::invalid_argument("the first frame of an attach must be open")),
    }
}

/// What comes from the pump, up to and including the exit, or up to a fault of the client.
fn live(
    frames: mpsc::Receiver<Frame>,
    fault: oneshot::Receiver<Status>,
) -> impl futures_util::Stream<Item = Result<AttachResponse, Status>> + Send {
    stream::unfold(Some((frames, Some(fault))), |open| async {
        let (mut frames, mut fault) = open?;
        loop {
            tokio::select! {
                biased;
                told = wait(&mut fault), if fault.is_some() => match told {
                    Some(status) => return Some((Err(status), None)),
                    None => fault = None,
                },
                frame = frames.recv() => {
                    let frame = frame?;
                    let is_last = matches!(frame, Frame::Exit(_));
                    let rest = (!is_last).then_some((frames, fault));
                    return Some((Ok(response(encode(frame))), rest));
                }
            }
        }
    })
}

/// The fault, or none when there will be none.
async fn wait(fault: &mut Option<oneshot::Receiver<Status>>) -> Option<Status> {
    match fault {
        Some(fault) => fault.await.ok(),
        None => None,
    }
}

/// Takes what a client sends until it goes, or its answer has ended.
async fn relay(
    mut frames: Streaming<AttachRequest>,
    mut typist: Option<Typist>,
    stdio: pump::Handle,
    alive: mpsc::Sender<Frame>,
    report: oneshot::Sender<Status>,
) {
    let clean = loop {
        let step = async {
            let Ok(frame) = frames.message().await else { return Step::CutOff };
            match frame {
                None => Step::Left,
                Some(request) => match obey(request, typist.as_mut(), &stdio).await {
                    Ok(()) => Step::Next,
                    Err(status) => Step::Fault(status),
                },
            }
        };
        let step = tokio::select! {
            step = step => step,
            () = alive.closed() => Step::CutOff,
        };
        match step {
            Step::Next => {}
            Step::Left => break true,
            Step::CutOff => break false,
            Step::Fault(status) => {
                // A client that has gone does not hear of it.
                let _ = report.send(status);
                break false;
            }
        }
    };
    if let Some(typist) = typist {
        typist.leave(clean).await;
    }
}

enum Step {
    Next,
    Left,
    CutOff,
    Fault(Status),
}

async fn obey(
    request: AttachRequest,
    typist: Option<&mut Typist>,
    stdio: &pump::Handle,
) -> Result<(), Status> {
    match request.frame {
        Some(FromClient::Input(Input { data, .. })) if data.len() > INPUT => {
            Err(Status::invalid_argument(format!("input of {} bytes: at most 32768 fit a frame", data.len())))
        }
        Some(FromClient::Input(Input { offset, data, eof })) => match typist {
            Some(typist) => {
                typist.put(offset, data, eof).await.map_err(|gap| Status::out_of_range(gap.to_string()))
            }
            // The container's input is not open: as with docker, what is typed goes nowhere.
            None => Ok(()),
        },
        Some(FromClient::Resize(size)) => {
            let size = window_size(size).map_err(failed)?;
            match stdio.resize(size).await {
                Ok(()) | Err(StdioError::NoTerminal | StdioError::Closed) => Ok(()),
                Err(error) => Err(status(&TaskError::from(error))),
            }
        }
        Some(FromClient::Open(_)) => Err(Status::invalid_argument("open is the first frame and comes once")),
        // A newer client's kind of frame.
        None => Ok(()),
    }
}

fn response(frame: ToClient) -> AttachResponse {
    AttachResponse { frame: Some(frame) }
}

fn encode(frame: Frame) -> ToClient {
    let stdio = |stream| match stream {
        Stream::Stdout => Stdio::Stdout.into(),
        Stream::Stderr => Stdio::Stderr.into(),
    };
    match frame {
        Frame::Output { stream, offset, data } => {
            ToClient::Output(Output { stream: stdio(stream), offset, data })
        }
        Frame::Dropped { stream, bytes } => ToClient::Dropped(Dropped { stream: stdio(stream), bytes }),
        Frame::Exit(exit) => ToClient::Exit(exit),
    }
}
