//! `davit why`: each change of state of a container, with its cause.

use davit_proto::container::WhyRequest;
use davit_proto::status::RemoteError;

use crate::args::container::TargetArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::output::{self, Table};
use crate::{exit, time, usage};

/// Shows what happened to a container, and why.
pub async fn run(engine: Engine, args: TargetArgs) -> Result<u8, Error> {
    let mut table = Table::default();
    table.row(["WHEN", "CHANGE", "CAUSE"]);
    for container in args.containers {
        usage::check_target(&container)?;
        let request = WhyRequest { container };
        let answer = engine.containers().await?.why(request).await.map_err(RemoteError::from)?.into_inner();
        for entry in answer.entries {
            table.row([time::exact(entry.at.as_ref()), entry.change, entry.cause]);
        }
    }
    output::print(&table.render())?;
    Ok(exit::SUCCESS)
}
