//! Tells systemd that the engine serves (`Type=notify`): who waits for the unit's start then finds an engine that answers.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd listens, in the environment of a service of that type.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Says that the engine is ready, where somebody asked to be told.
///
/// # Errors
/// When the socket that is named cannot be written to.
pub fn ready() -> io::Result<()> {
    match std::env::var_os(SOCKET) {
        Some(socket) if !socket.is_empty() => tell(socket.as_bytes()),
        _ => Ok(()),
    }
}

/// A name that begins with `@` is an abstract one.
fn tell(socket: &[u8]) -> io::Result<()> {
    let address = match socket {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_hear_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let name = format!("davit-notify-{}", std::process::id());
        let abstracted = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell(path.as_os_str().as_bytes()).unwrap();
        tell(format!("@{name}").as_bytes()).unwrap();
        for socket in [named, abstracted] {
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(heard.get(..length), Some(&b"READY=1"[..]));
        }
        assert!(tell(b"/nowhere/notify").is_err());
    }
}
