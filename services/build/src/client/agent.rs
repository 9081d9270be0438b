//! A socket of a step behind which an agent of the client answers.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use davit_proto::build::AgentData;
use davit_sys::file::{self, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use super::{Client, Line};
use crate::error::Error;

/// Bytes of one frame.
const PIECE: usize = 64 << 10;

/// A socket that listens; it ends with this.
#[derive(Debug)]
pub struct Agent {
    accepting: AbortHandle,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Whose the socket is.
#[derive(Debug, Clone, Copy)]
pub struct Permissions {
    /// Mode.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Agent {
    /// Listens at `name` in an open folder for who wants the agent `id`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(
        client: &Client,
        id: &str,
        (folder, name): (&OwnedFd, &str),
        owner: Permissions,
    ) -> Result<Self, Error> {
        let failed = || Error::io(format!("make the socket of the agent {id:?}"));
        // By the folder's descriptor, for the path of a socket may not be long.
        let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let listener = UnixListener::bind(&path).map_err(failed())?;
        let set = || -> std::io::Result<()> {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(owner.mode))?;
            let handle = file::open_at(folder, Path::new(name).as_os_str(), OFlags::PATH, 0)?;
            file::chown(&handle, owner.uid, owner.gid)
        };
        set().map_err(failed())?;
        let accepting = tokio::spawn(accept(listener, client.line(), id.to_owned())).abort_handle();
        Ok(Self { accepting })
    }
}

/// Connections end with the socket that they came by.
async fn accept(listener: UnixListener, line: Line, id: String) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let (line, id) = (line.clone(), id.clone());
        open.spawn(async move {
            let Some((connection, from)) = line.open(&id).await else { return };
            forward(&line, connection, stream, from).await;
            line.close(connection);
        });
    }
}

/// Passes on what both sides say until one of them is gone.
async fn forward(
    line: &Line,
    connection: u32,
    mut stream: UnixStream,
    mut from: tokio::sync::mpsc::Receiver<AgentData>,
) {
    let (mut read, mut write) = stream.split();
    let said = async {
        let mut piece = vec![0; PIECE];
        loop {
            let length = read.read(&mut piece).await.unwrap_or(0);
            let data = piece.get(..length).unwrap_or_default().to_vec().into();
            let last = length == 0;
            if line.send(AgentData { connection, data, last }).await.is_err() || last {
                return;
            }
        }
    };
    let answered = async {
        while let Some(AgentData { data, last, .. }) = from.recv().await {
            if write.write_all(&data).await.is_err() || last {
                return;
            }
        }
    };
    // An agent that closed answers nothing any more; a command that said its last word may still hear.
    tokio::pin!(answered);
    tokio::select! {
        () = &mut answered => {}
        () = said => answered.await,
    }
    // The client's side must not stay open when this one is closed.
    let _ = line.send(AgentData { connection, last: true, ..AgentData::default() }).await;
}
