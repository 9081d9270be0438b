//! What is wanted of a container: the file `wanted` of its bundle, written by the controller only, before it signals or
//! answers, and read by the shim before each restart.

use serde::{Deserialize, Serialize};

/// What the controller wants of a container's shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Revision of the record when it was written.
    pub revision: u64,
    /// Whether it shall run.
    pub want: Want,
    /// What happens when its init ends.
    pub restart: Restart,
    /// What happens when it is unhealthy.
    #[serde(default)]
    pub on_unhealthy: OnUnhealthy,
}

/// Whether a container shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// It shall.
    Run,
    /// It shall not: a person stopped it.
    Stop,
}

/// A restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When to start again.
    pub mode: Mode,
    /// For [`Mode::OnFailure`]: give up after so many; 0 for never.
    pub max_retries: u32,
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Never.
    #[default]
    No,
    /// When it failed.
    OnFailure,
    /// Whenever it ends, and after a reboot also when a person had stopped it.
    Always,
    /// Whenever it ends, unless a person stopped it.
    UnlessStopped,
}

/// What happens to a container that is unhealthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// It is only said.
    #[default]
    None,
    /// Its init is killed; the restart policy decides on.
    Kill,
    /// It is stopped and started, whatever the policy.
    Restart,
    /// It is stopped, and the policy does not start it.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_a_promise() {
        let wanted = Wanted {
            revision: 3,
            want: Want::Run,
            restart: Restart { mode: Mode::UnlessStopped, max_retries: 0 },
            on_unhealthy: OnUnhealthy::None,
        };
        let text = r#"{"revision":3,"want":"run","restart":{"mode":"unless-stopped","max_retries":0},"on_unhealthy":"none"}"#;
        assert_eq!(serde_json::to_string(&wanted).unwrap(), text);
        let older = r#"{"revision":3,"want":"run","restart":{"mode":"unless-stopped","max_retries":0}}"#;
        assert_eq!(serde_json::from_str::<Wanted>(older).unwrap(), wanted);
    }
}
