//! `davit top`.

use davit_proto::container::TopRequest;
use davit_proto::status::RemoteError;

use crate::args::container::TopArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::output::{self, Table};
use crate::{exit, usage};

/// Shows the processes of a container.
pub async fn run(engine: Engine, args: TopArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    let request = TopRequest { container: args.container, columns: args.columns };
    let answer = engine.containers().await?.top(request).await.map_err(RemoteError::from)?.into_inner();
    let mut table = Table::default();
    table.row(&answer.titles);
    for row in &answer.rows {
        table.row(&row.cells);
    }
    output::print(&table.render())?;
    Ok(exit::SUCCESS)
}
