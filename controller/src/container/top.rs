//! `top`: the processes of a container, from the host's `/proc`, so that nothing is needed in the container and no
//! program is run on the host.

pub(super) mod column;
mod process;

use std::sync::Arc;

use davit_proto::container::{Phase, TopRequest, TopResponse, TopRow};
use davit_proto::task;

use self::column::Column;
use self::process::{Clock, Process};
use super::live::status_of;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Lists the processes of a container in the columns that the options choose.
///
/// # Errors
/// When the options are none, or the container does not run.
pub async fn top(engine: &Arc<Engine>, request: TopRequest) -> Result<TopResponse, Error> {
    let columns = column::chosen(&request.columns)?;
    let id = engine.find(&request.container)?;
    engine.heard_from(&id).await;
    let container = engine.container(&id)?;
    let status = status_of(&container);
    match status.phase() {
        Phase::Running | Phase::Paused => {}
        Phase::Unknown => return Err(Error::Unreachable { id, why: status.error }),
        _ => return Err(Error::NotRunning { verb: "list the processes of", container: container.name, id }),
    }
    let shim = engine.shim(&id)?;
    let listed = within(SHORT, "list the processes", shim.tasks().top(task::TopRequest {})).await?;
    let rows = tokio::task::spawn_blocking(move || rows(&columns, &listed.pids));
    rows.await
        .map_err(|error| Error::Task { doing: "read the processes", why: error.to_string() })?
        .map_err(Error::io("read /proc"))
}

fn rows(columns: &[Column], pids: &[i32]) -> std::io::Result<TopResponse> {
    let clock = Clock::read()?;
    let users = process::users();
    let cells = |process: Process| TopRow {
        cells: columns.iter().map(|column| column.cell(&process, &clock, &users)).collect(),
    };
    Ok(TopResponse {
        titles: columns.iter().map(|column| column.title().to_owned()).collect(),
        // One that has ended since it was listed is left out.
        rows: pids.iter().filter_map(|pid| Process::read(*pid)).map(cells).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_listed_as_it_is() {
        let columns = column::chosen(&["-eo".into(), "pid,comm,args".into()]).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let listed = rows(&columns, &[pid, i32::MAX]).unwrap();
        assert_eq!(listed.titles, ["PID", "COMMAND", "COMMAND"]);
        assert_eq!(listed.rows.len(), 1, "what has ended is left out");
        assert_eq!(listed.rows[0].cells[0], pid.to_string());
    }

    #[test]
    fn dockers_columns_are_the_usual_ones() {
        let columns = column::chosen(&[]).unwrap();
        let listed = rows(&columns, &[i32::try_from(std::process::id()).unwrap()]).unwrap();
        assert_eq!(listed.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert!(!listed.rows[0].cells.iter().any(String::is_empty), "{listed:?}");
    }
}
