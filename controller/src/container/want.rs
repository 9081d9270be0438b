//! What is wanted of a container's shim: the file `wanted`, written before anybody is signalled or answered.

use davit_proto::container::{ContainerSpec, HealthAction, RestartMode};
use davit_proto::id::ContainerId;
use davit_proto::status::chain;
use davit_proto::wanted::{Mode, OnUnhealthy, Restart, Want, Wanted};

use super::bundle::Bundle;
use crate::engine::Engine;
use crate::error::Error;

/// Writes whether a container shall run, with its present policy.
///
/// # Errors
/// When there is no such container, or the file system refuses.
pub fn want(engine: &Engine, id: &ContainerId, want: Want) -> Result<(), Error> {
    let record = engine.record(id)?;
    let container = record.container.clone().unwrap_or_default();
    let spec = container.spec.unwrap_or_default();
    let wanted = Wanted {
        revision: container.revision,
        want,
        restart: restart(&spec),
        on_unhealthy: on_unhealthy(&spec),
    };
    let never = wanted.restart.mode == Mode::No && wanted.on_unhealthy != OnUnhealthy::Restart;
    let bundle = Bundle::new(engine.config.bundle(id));
    match bundle.write_wanted(&wanted) {
        // Nobody reads it of a container that is never restarted: a full disk must not keep it from being stopped.
        Err(error) if never => {
            tracing::warn!(container_id = %id, %error, "failed to write what is wanted");
            Ok(())
        }
        other => other.map_err(Error::io(format!("write {}", bundle.file("wanted").display()))),
    }
}

/// What is wanted now; what cannot be read is wanted to be left alone.
#[must_use]
pub fn wanted(engine: &Engine, id: &ContainerId) -> Want {
    let bundle = Bundle::new(engine.config.bundle(id));
    match bundle.read_wanted() {
        Ok(Some(wanted)) => wanted.want,
        Ok(None) => Want::Stop,
        Err(error) => {
            let error = chain(&error);
            tracing::error!(container_id = %id, error, "failed to read what is wanted; it is left alone");
            Want::Stop
        }
    }
}

/// The policy of a spec.
#[must_use]
pub fn restart(spec: &ContainerSpec) -> Restart {
    let policy = spec.restart.unwrap_or_default();
    let mode = match policy.mode() {
        RestartMode::Unspecified | RestartMode::No => Mode::No,
        RestartMode::OnFailure => Mode::OnFailure,
        RestartMode::Always => Mode::Always,
        RestartMode::UnlessStopped => Mode::UnlessStopped,
    };
    Restart { mode, max_retries: policy.max_retries }
}

fn on_unhealthy(spec: &ContainerSpec) -> OnUnhealthy {
    match spec.health.as_ref().map(davit_proto::container::HealthCheck::on_failure) {
        None | Some(HealthAction::Unspecified | HealthAction::None) => OnUnhealthy::None,
        Some(HealthAction::Kill) => OnUnhealthy::Kill,
        Some(HealthAction::Restart) => OnUnhealthy::Restart,
        Some(HealthAction::Stop) => OnUnhealthy::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::{HealthCheck, RestartPolicy};

    #[test]
    fn a_spec_says_what_the_shim_is_told() {
        assert_eq!(restart(&ContainerSpec::default()), Restart { mode: Mode::No, max_retries: 0 });
        let policy = RestartPolicy { mode: RestartMode::OnFailure.into(), max_retries: 3 };
        let health = HealthCheck { on_failure: HealthAction::Restart.into(), ..HealthCheck::default() };
        let spec = ContainerSpec { restart: Some(policy), health: Some(health), ..ContainerSpec::default() };
        assert_eq!(restart(&spec), Restart { mode: Mode::OnFailure, max_retries: 3 });
        assert_eq!(on_unhealthy(&spec), OnUnhealthy::Restart);
        assert_eq!(on_unhealthy(&ContainerSpec::default()), OnUnhealthy::None);
    }
}
