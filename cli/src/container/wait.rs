//! `davit wait`.

use davit_proto::container::{WaitCondition, WaitRequest};
use davit_proto::status::RemoteError;

use crate::args::container::{WaitArgs, WaitFor};
use crate::client::Engine;
use crate::error::Error;
use crate::{exit, many, patience, usage};

/// Waits until containers have ended, and prints their exit codes.
pub async fn run(engine: Engine, args: WaitArgs) -> Result<u8, Error> {
    let engine = &engine;
    let condition = match args.condition {
        WaitFor::NotRunning => WaitCondition::NotRunning,
        WaitFor::NextExit => WaitCondition::NextExit,
        WaitFor::Removed => WaitCondition::Removed,
        WaitFor::Healthy => WaitCondition::Healthy,
    };
    many::together(args.target.containers, async move |name| {
        usage::check_target(&name)?;
        let request = WaitRequest { container: name, condition: condition.into() };
        let containers = engine.containers().await?;
        let wait = async || {
            Ok(containers.clone().wait(request.clone()).await.map_err(RemoteError::from)?.into_inner())
        };
        let answer = patience::ask(wait).await?;
        if condition == WaitCondition::Healthy {
            return Ok("healthy".to_owned());
        }
        Ok(answer.exit.map_or(exit::SUCCESS, |exit| exit::of_container(&exit)).to_string())
    })
    .await
}
