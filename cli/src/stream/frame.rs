//! The frames of the three streams as one pair of types.

use davit_proto::container::{
    AttachRequest, AttachResponse, Attached, CreateResponse, ExecRequest, ExecResponse, ExecStarted,
    RunRequest, RunResponse, attach_request, attach_response, exec_request, exec_response, run_request,
    run_response,
};
use davit_proto::reason;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::types::{Dropped, Exit, Input, Output};

/// A frame to the engine, after the first one: what was typed.
#[derive(Debug)]
pub struct Up(pub Input);

/// A frame from the engine.
#[derive(Debug)]
pub enum Down {
    /// The container was made.
    Created(CreateResponse),
    /// It was started, with this process id; 0 when it has ended again.
    Started(i32),
    /// The client is attached.
    Attached(Attached),
    /// The exec runs.
    ExecStarted(ExecStarted),
    /// Output.
    Output(Output),
    /// Output that is missing.
    Dropped(Dropped),
    /// The process ended.
    Exit(Exit),
    /// A frame of a newer engine.
    Unknown,
}

/// A stream that ended without its last frame.
pub fn cut_off() -> RemoteError {
    RemoteError {
        kind: ErrorKind::Unavailable,
        reason: String::new(),
        message: "the engine ended the connection".into(),
        values: Vec::new(),
    }
}

/// Whether an error tells of the connection and not of the container.
pub fn is_connection(error: &RemoteError) -> bool {
    error.reason == reason::ATTACH_BROKEN
        || error.reason.is_empty()
            && matches!(
                error.kind,
                ErrorKind::Unavailable | ErrorKind::Cancelled | ErrorKind::Internal | ErrorKind::Aborted
            )
}

impl From<Up> for RunRequest {
    fn from(Up(input): Up) -> Self {
        Self { frame: Some(run_request::Frame::Input(input)) }
    }
}

impl From<Up> for AttachRequest {
    fn from(Up(input): Up) -> Self {
        Self { frame: Some(attach_request::Frame::Input(input)) }
    }
}

impl From<Up> for ExecRequest {
    fn from(Up(input): Up) -> Self {
        Self { frame: Some(exec_request::Frame::Input(input)) }
    }
}

impl From<RunResponse> for Down {
    fn from(response: RunResponse) -> Self {
        use run_response::Frame;
        match response.frame {
            Some(Frame::Created(created)) => Self::Created(created),
            Some(Frame::Started(started)) => Self::Started(started.pid),
            Some(Frame::Output(output)) => Self::Output(output),
            Some(Frame::Exit(exit)) => Self::Exit(exit),
            Some(Frame::Dropped(dropped)) => Self::Dropped(dropped),
            None => Self::Unknown,
        }
    }
}

impl From<AttachResponse> for Down {
    fn from(response: AttachResponse) -> Self {
        use attach_response::Frame;
        match response.frame {
            Some(Frame::Attached(attached)) => Self::Attached(attached),
            Some(Frame::Output(output)) => Self::Output(output),
            Some(Frame::Exit(exit)) => Self::Exit(exit),
            Some(Frame::Dropped(dropped)) => Self::Dropped(dropped),
            None => Self::Unknown,
        }
    }
}

impl From<ExecResponse> for Down {
    fn from(response: ExecResponse) -> Self {
        use exec_response::Frame;
        match response.frame {
            Some(Frame::Started(started)) => Self::ExecStarted(started),
            Some(Frame::Output(output)) => Self::Output(output),
            Some(Frame::Exit(exit)) => Self::Exit(exit),
            Some(Frame::Dropped(dropped)) => Self::Dropped(dropped),
            None => Self::Unknown,
        }
    }
}
