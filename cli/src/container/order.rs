//! What a person at a process wants besides typing, carried out by calls of their own on a connection of their own:
//! input that the process does not read fills the stream's way and the connection's.

use davit_proto::container::containers_client::ContainersClient;
use davit_proto::container::{KillRequest, ResizeRequest, SeenRequest};
use davit_proto::status::RemoteError;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::client::Engine;
use crate::patience;
use crate::stream::{Order, frame};

/// Where a person sits.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The container.
    pub container: String,
    /// The exec in it; empty for its init.
    pub exec_id: String,
    /// The session at the exec.
    pub session: String,
}

impl Place {
    /// At a container's init.
    pub fn init(container: &str) -> Self {
        Self { container: container.to_owned(), ..Self::default() }
    }
}

/// Carries out orders as they come; ends with their source.
pub async fn carry_out(engine: &Engine, place: &Place, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut line = None;
    while let Some(order) = orders.recv().await {
        // Too early or too late: whoever sits at the process sees what became of it.
        let _ = patience::ask(async || call(engine, &mut line, place, order).await).await;
    }
}

/// Carries out one order, on the connection of the one before where that is still good.
pub async fn call(
    engine: &Engine,
    line: &mut Option<ContainersClient<Channel>>,
    place: &Place,
    order: Order,
) -> Result<(), RemoteError> {
    let mut containers = match line.take() {
        Some(containers) => containers,
        None => ContainersClient::new(engine.dial().await.map_err(|_absent| frame::cut_off())?),
    };
    let Place { container, exec_id, session } = place.clone();
    match order {
        Order::Resize(size) => {
            let request = ResizeRequest { container, exec_id, size: Some(size) };
            containers.resize(request).await?;
        }
        Order::Signal(number) => {
            containers.kill(KillRequest { container, signal: number.to_string(), exec_id }).await?;
        }
        // The output of a container is in its log.
        Order::Seen(_) | Order::Keep if exec_id.is_empty() => {}
        Order::Seen(offsets) => {
            let offsets = Some(offsets);
            containers.seen(SeenRequest { container, exec_id, session, offsets, keep: false }).await?;
        }
        Order::Keep => {
            let request = SeenRequest { container, exec_id, session, offsets: None, keep: true };
            containers.seen(request).await?;
        }
    }
    *line = Some(containers);
    Ok(())
}
