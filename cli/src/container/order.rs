//! What a person at a container wants besides typing, carried out by calls of their own on a connection of their own:
//! input that the container does not read fills the stream's way and the connection's.

use davit_proto::container::containers_client::ContainersClient;
use davit_proto::container::{KillRequest, ResizeRequest};
use davit_proto::status::RemoteError;
use tokio::sync::mpsc;

use crate::client::Engine;
use crate::patience;
use crate::stream::Order;

/// Carries out orders for a container as they come; ends with their source.
pub async fn carry_out(engine: &Engine, container: &str, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        // Too early or too late: whoever sits at the container sees what became of it.
        let _ = patience::ask(async || call(engine, container, order).await).await;
    }
}

async fn call(engine: &Engine, container: &str, order: Order) -> Result<(), RemoteError> {
    let Ok(channel) = engine.dial().await else { return Err(crate::stream::frame::cut_off()) };
    let mut containers = ContainersClient::new(channel);
    let container = container.to_owned();
    match order {
        Order::Resize(size) => {
            let request = ResizeRequest { container, exec_id: String::new(), size: Some(size) };
            containers.resize(request).await?;
        }
        Order::Signal(number) => {
            containers.kill(KillRequest { container, signal: number.to_string() }).await?;
        }
    }
    Ok(())
}
