//! `davit system drain`: what a host does with its containers before it goes down. Their restart policies hold: what ran
//! and shall run runs again when the host is back.

use davit_proto::container::{ListRequest, StopRequest};
use davit_proto::status::RemoteError;
use prost_types::Duration;

use crate::args::system::DrainArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{many, patience};

/// Ends all containers that run, each by its own signal and in its own time, and prints their names.
pub async fn run(engine: Engine, args: DrainArgs) -> Result<u8, Error> {
    let engine = &engine;
    let timeout = args.timeout.map(|seconds| Duration { seconds: i64::from(seconds), nanos: 0 });
    many::together(running(engine).await?, |name: String| async move {
        let containers = engine.containers().await?;
        let request =
            StopRequest { container: name.clone(), timeout, host_goes_down: true, ..StopRequest::default() };
        patience::ask(async || containers.clone().stop(request.clone()).await.map_err(RemoteError::from))
            .await?;
        Ok(name)
    })
    .await
}

async fn running(engine: &Engine) -> Result<Vec<String>, Error> {
    let listed = engine.containers().await?.list(ListRequest::default()).await;
    let mut listed = listed.map_err(RemoteError::from)?.into_inner();
    let mut names = Vec::new();
    while let Some(frame) = listed.message().await.map_err(RemoteError::from)? {
        names.extend(frame.containers.into_iter().map(|container| container.name));
    }
    Ok(names)
}
