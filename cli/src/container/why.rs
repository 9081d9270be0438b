//! `davit why`: each change of state of a container, with its cause.

use davit_proto::container::WhyRequest;
use davit_proto::status::RemoteError;

use crate::args::container::TargetArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::output::{self, Table};
use crate::{many, time, usage};

/// Shows what happened to a container, and why.
pub async fn run(engine: Engine, args: TargetArgs) -> Result<u8, Error> {
    let several = args.containers.len() > 1;
    let engine = &engine;
    many::in_turn(args.containers, async |container| {
        usage::check_target(&container)?;
        let request = WhyRequest { container };
        let answer = engine.containers().await?.why(request).await.map_err(RemoteError::from)?.into_inner();
        let mut table = Table::default();
        table.row(["WHEN", "CHANGE", "CAUSE"]);
        for entry in answer.entries {
            let at = entry.at.as_ref().map(time::fixed).unwrap_or_default();
            table.row([at, entry.change, entry.cause]);
        }
        let head = if several { format!("{}:\n", output::visible(&answer.name)) } else { String::new() };
        output::print(&format!("{head}{}", table.render()))?;
        Ok(String::new())
    })
    .await
}
