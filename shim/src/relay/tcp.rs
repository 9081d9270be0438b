//! Connections: each direction is a pipe through which the kernel moves the bytes; they are never copied to here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use davit_sys::{fd, port};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections of one port at a time; further ones wait to be accepted.
const MOST: usize = 256;
/// How long the container may take to answer a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// After a refusal to accept: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes that a pipe holds.
const PIPE: usize = 64 << 10;

/// Hands connections on until it is aborted, and ends them with it.
pub async fn serve(listener: TcpListener, target: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST => match accepted {
                Ok((client, _)) => {
                    connections.spawn(hand_on(client, target));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept on [::1]");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn hand_on(client: TcpStream, target: SocketAddr) {
    let done = async {
        let server = timeout(PATIENCE, TcpStream::connect(target)).await??;
        tokio::try_join!(one_way(&client, &server), one_way(&server, &client))
    };
    // Either end may break off as it likes; dropping both tells the other one.
    if let Err(error) = done.await {
        tracing::debug!(%error, %target, "a relayed connection broke off");
    }
}

/// Hands on until the end, and then tells that there is no more, while the other direction goes on.
async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (reader, writer): (OwnedFd, OwnedFd) = fd::pipe(PIPE)?;
    for end in [&reader, &writer] {
        fd::set_nonblocking(end, true)?;
    }
    loop {
        // The pipe is empty, so it is the connection that is not ready.
        let read = from.async_io(Interest::READABLE, || port::splice(from.as_fd(), &writer, PIPE)).await?;
        if read == 0 {
            return port::send_no_more(to.as_fd());
        }
        let mut left = read;
        while left > 0 {
            left -= to.async_io(Interest::WRITABLE, || port::splice(&reader, to.as_fd(), left)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::Shutdown;

    #[tokio::test]
    async fn halves_close_one_after_the_other() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = tokio::spawn(serve(listener, target));
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let talk = tokio::task::spawn_blocking(move || {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            let (mut end, _) = server.accept().unwrap();
            let writer = std::thread::spawn(move || {
                client.write_all(&sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                answer
            });
            let mut heard = Vec::new();
            end.read_to_end(&mut heard).unwrap();
            assert!(heard == expected, "all of it, unchanged");
            end.write_all(b"after your end").unwrap();
            drop(end);
            writer.join().unwrap()
        });
        assert_eq!(talk.await.unwrap(), "after your end");
        relay.abort();
    }

    #[tokio::test]
    async fn who_cannot_be_handed_on_is_let_go_and_all_end_with_the_relay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let relay = tokio::spawn(serve(listener, nobody));
        let refused = tokio::task::spawn_blocking(move || {
            std::net::TcpStream::connect(address).unwrap().read(&mut [0; 1])
        });
        assert!(matches!(refused.await.unwrap(), Ok(0) | Err(_)));
        relay.abort();

        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = tokio::spawn(serve(listener, server.local_addr().unwrap()));
        let open = tokio::task::spawn_blocking(move || {
            let client = std::net::TcpStream::connect(address).unwrap();
            (client, server.accept().unwrap())
        });
        let (mut client, _end) = open.await.unwrap();
        relay.abort();
        let over = tokio::task::spawn_blocking(move || client.read(&mut [0; 1]));
        assert!(matches!(over.await.unwrap(), Ok(0) | Err(_)));
    }
}
