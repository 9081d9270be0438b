//! Update: other limits, while the container runs.

use davit_proto::journal::What;
use oci_spec::runtime::LinuxResources;

use super::driver::{Body, Driver};
use super::error::TaskError;
use super::state::{Denied, Task};
use crate::bundle::Bundle;

/// Limits and who wants them.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// What is named is set; the device rules are not looked at.
    pub resources: LinuxResources,
    /// Who asks, for the journal.
    pub actor: String,
}

/// Sets limits, all or none, and answers with what this host cannot limit.
pub(super) fn update(driver: &mut Driver, update: Update) -> Result<Vec<String>, TaskError> {
    let body = match &driver.task {
        // The next life gets what the bundle says then; what is refused is refused now.
        Task::Restarting { init, .. } => init,
        task => configured(task)?,
    };
    let set = body.cgroup.update_limits(&update.resources);
    if set.is_err() {
        restore(&driver.bundle, body);
    }
    let warnings = set?;
    driver.note(What::Update, update.actor);
    Ok(warnings)
}

/// The body of a task that has a container, which may be changed and counted.
pub(super) fn configured(task: &Task<Body>) -> Result<&Body, TaskError> {
    let body = task.living().ok_or(Denied::NotRunning)?;
    if body.life.is_some() { Ok(body) } else { Err(Denied::NotConfigured.into()) }
}

/// What was set before the kernel refused goes back to what the bundle still says.
fn restore(bundle: &Bundle, body: &Body) {
    let old = bundle.spec().map(|spec| spec.linux().as_ref().and_then(|linux| linux.resources().clone()));
    let restored = old.map_err(TaskError::from).and_then(|resources| {
        let resources = resources.unwrap_or_default();
        body.cgroup.update_limits(&resources).map_err(TaskError::from)
    });
    if let Err(error) = restored {
        let error = davit_proto::status::chain(&error);
        tracing::warn!(%error, "cannot set the old limits again");
    }
}
