//! What an image's configuration says of the containers made from it: read with limits, never trusted.

use davit_proto::container::HealthCheck;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Error;

/// Most bytes that a configuration may have.
const CONFIG_LIMIT: usize = 4 << 20;
/// Most bytes of all texts that go from an image into a container's record, which has to stay small.
const TEXT_LIMIT: usize = 64 << 10;
/// Labels below this prefix are ours to give, so no image may bring them.
const OUR_PREFIX: &str = "davit.";

/// The document, as far as a container takes anything from it. Null means absent, as docker writes it.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<RunConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    stop_signal: Option<String>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
    #[serde(default)]
    shell: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(default)]
    test: Option<Vec<String>>,
    /// Nanoseconds, as all that follow.
    #[serde(default)]
    interval: i64,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    start_period: i64,
    #[serde(default)]
    start_interval: i64,
    #[serde(default)]
    retries: i64,
}

impl From<Healthcheck> for HealthCheck {
    /// Nonsense in an image counts as not said.
    fn from(check: Healthcheck) -> Self {
        let time = |nanoseconds: i64| {
            let time = std::time::Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
            (!time.is_zero()).then(|| davit_proto::time::proto_duration(time))
        };
        Self {
            test: check.test.unwrap_or_default(),
            interval: time(check.interval),
            timeout: time(check.timeout),
            start_period: time(check.start_period),
            start_interval: time(check.start_interval),
            retries: u32::try_from(check.retries).unwrap_or(0),
            on_failure: 0,
        }
    }
}

/// An image's wishes for its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Platform it is for: "linux/amd64"; empty when it does not say.
    pub platform: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// "80/tcp".
    pub exposed_ports: Vec<String>,
    /// KEY=value.
    pub env: Vec<String>,
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Paths that want a volume.
    pub volumes: Vec<String>,
    /// Directory to start in.
    pub working_dir: String,
    /// Labels, without those that only the engine may give.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end.
    pub stop_signal: String,
    /// How to see whether it works.
    pub health: Option<HealthCheck>,
    /// What runs a line of shell; empty where it does not say.
    pub shell: Vec<String>,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is not one, or too large to make a container from.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CONFIG_LIMIT {
            return Err(Error::Image(format!("has a configuration of more than {CONFIG_LIMIT} bytes")));
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| Error::Image(format!("has an unreadable configuration: {error}")))?;
        let run = document.config.unwrap_or_default();
        let platform = [document.os, document.architecture, document.variant];
        let config = Self {
            platform: platform.into_iter().flatten().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/"),
            user: run.user.unwrap_or_default(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            env: run.env.unwrap_or_default(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            working_dir: run.working_dir.unwrap_or_default(),
            labels: run
                .labels
                .unwrap_or_default()
                .into_iter()
                .filter(|(key, _)| !key.starts_with(OUR_PREFIX))
                .collect(),
            stop_signal: run.stop_signal.unwrap_or_default(),
            health: run.healthcheck.map(HealthCheck::from),
            shell: run.shell.unwrap_or_default(),
        };
        config.bounded()
    }

    fn bounded(self) -> Result<Self, Error> {
        let test = self.health.as_ref().map(|health| &health.test);
        let lists = [&self.exposed_ports, &self.env, &self.entrypoint, &self.cmd, &self.volumes, &self.shell];
        let lists = lists.into_iter().chain(test);
        let labels = self.labels.iter().flat_map(|(key, value)| [key, value]);
        let single = [&self.platform, &self.user, &self.working_dir, &self.stop_signal];
        let mut total = 0_usize;
        for text in lists.flatten().chain(labels).chain(single) {
            if text.contains('\0') {
                return Err(Error::Image("has a NUL byte in its configuration".to_owned()));
            }
            total = total.saturating_add(text.len());
        }
        if total > TEXT_LIMIT {
            return Err(Error::Image(format!(
                "asks for {total} bytes of environment, command and labels; {TEXT_LIMIT} are allowed"
            )));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_config_with_nulls_is_read() {
        let config = ImageConfig::parse(
            br#"{"architecture":"arm64","variant":"v8","os":"linux","config":{"Cmd":["sh"],"Entrypoint":null,
                "Env":["PATH=/bin"],"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"Labels":{"a":"b","davit.x":"y"},
                "StopSignal":"SIGQUIT","Healthcheck":{"Test":["CMD","x"],"Interval":1500000000,"Retries":-2},"OnBuild":null},"history":[]}"#,
        )
        .unwrap();
        assert_eq!(config.platform, "linux/arm64/v8");
        assert_eq!(config.cmd, ["sh"]);
        assert_eq!(config.volumes, ["/data"]);
        assert_eq!(config.labels.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "b".to_owned())]);
        let health = config.health.unwrap();
        assert_eq!((health.test, health.retries, health.timeout), (vec!["CMD".into(), "x".into()], 0, None));
        assert_eq!(health.interval.map(|time| (time.seconds, time.nanos)), Some((1, 500_000_000)));
        assert!(config.entrypoint.is_empty());
        assert_eq!(ImageConfig::parse(b"{\"config\":null}").unwrap(), ImageConfig::default());
    }

    #[test]
    fn hostile_configs_are_refused() {
        let long = format!("{{\"config\":{{\"Env\":[\"A={}\"]}}}}", "x".repeat(TEXT_LIMIT));
        for (bad, word) in [
            ("", "unreadable"),
            ("{\"config\":{\"Env\":\"A=1\"}}", "unreadable"),
            ("{\"config\":{\"Cmd\":[\"a\\u0000\"]}}", "NUL"),
            (&"[".repeat(10_000), "unreadable"),
            (&long, "allowed"),
        ] {
            let error = ImageConfig::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
