//! The settings that a container runs with, as the `config` of an image: the image's own, overlaid by what its maker said.
//! Pure.

use std::collections::BTreeSet;

use davit_proto::container::{Container, ContainerSpec, HealthCheck, MountKind};
use prost_types::Duration;
use serde_json::{Map, Value, json};

use crate::container::spec::{Error, OUR_PREFIX, port};

/// The bytes of the settings.
///
/// # Errors
/// When the image's configuration is none.
pub fn merged(container: &Container, image: &[u8]) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::Image(format!("has an unreadable configuration: {error}"));
    let mut document: Map<String, Value> = serde_json::from_slice(image).map_err(unreadable)?;
    let mut config = match document.remove("config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    let nothing = ContainerSpec::default();
    let wish = container.spec.as_ref().unwrap_or(&nothing);
    // It spoke to the container, which is not a Dockerfile.
    config.remove("OnBuild");
    command(&mut config, wish);
    env(&mut config, wish);
    for (key, said) in
        [("User", &wish.user), ("WorkingDir", &wish.working_dir), ("StopSignal", &wish.stop_signal)]
    {
        if !said.is_empty() {
            config.insert(key.to_owned(), json!(said));
        }
    }
    labels(&mut config, wish);
    ports(&mut config, wish)?;
    volumes(&mut config, wish);
    if let Some(health) = &wish.health {
        healthcheck(&mut config, health);
    }
    serde_json::to_vec(&config).map_err(unreadable)
}

/// docker's rule: whoever gives an entrypoint gives the arguments too.
fn command(config: &mut Map<String, Value>, wish: &ContainerSpec) {
    if !wish.entrypoint.is_empty() {
        config.remove("Cmd");
        config.remove("Entrypoint");
        if wish.entrypoint.iter().any(|word| !word.is_empty()) {
            config.insert("Entrypoint".to_owned(), json!(wish.entrypoint));
        }
    }
    if !wish.command.is_empty() {
        config.insert("Cmd".to_owned(), json!(wish.command));
    }
}

fn env(config: &mut Map<String, Value>, wish: &ContainerSpec) {
    let key = |entry: &str| entry.split_once('=').map_or(entry, |(key, _)| key).to_owned();
    let mut merged: Vec<String> = match config.remove("Env") {
        Some(Value::Array(entries)) => {
            entries.into_iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    for entry in &wish.env {
        let place = merged.iter().position(|known| key(known) == key(entry));
        match (place, entry.contains('=')) {
            (Some(at), true) => merged[at].clone_from(entry),
            (None, true) => merged.push(entry.clone()),
            (Some(at), false) => drop(merged.remove(at)),
            (None, false) => {}
        }
    }
    if !merged.is_empty() {
        config.insert("Env".to_owned(), json!(merged));
    }
}

fn labels(config: &mut Map<String, Value>, wish: &ContainerSpec) {
    let mut labels = taken(config, "Labels");
    labels.extend(wish.labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    // Those are the engine's to give, and no image's.
    labels.retain(|key, _| !key.starts_with(OUR_PREFIX));
    put(config, "Labels", labels);
}

fn ports(config: &mut Map<String, Value>, wish: &ContainerSpec) -> Result<(), Error> {
    let mut exposed = taken(config, "ExposedPorts");
    let (nothing, mut warnings) = (crate::container::spec::ImageConfig::default(), Vec::new());
    for port in port::exposed(wish, &nothing, &mut warnings)? {
        exposed.insert(port, json!({}));
    }
    put(config, "ExposedPorts", exposed);
    Ok(())
}

/// Volumes without a name are a wish for the next container too.
fn volumes(config: &mut Map<String, Value>, wish: &ContainerSpec) {
    let mut volumes = taken(config, "Volumes");
    let nameless = wish.mounts.iter().filter(|mount| {
        mount.kind() == MountKind::Volume && mount.source.is_empty() && mount.taken_from.is_empty()
    });
    let targets: BTreeSet<&String> = nameless.map(|mount| &mount.target).collect();
    volumes.extend(targets.into_iter().map(|target| (target.clone(), json!({}))));
    put(config, "Volumes", volumes);
}

fn healthcheck(config: &mut Map<String, Value>, asked: &HealthCheck) {
    let mut check = taken(config, "Healthcheck");
    if !asked.test.is_empty() {
        check.insert("Test".to_owned(), json!(asked.test));
    }
    let times = [
        ("Interval", &asked.interval),
        ("Timeout", &asked.timeout),
        ("StartPeriod", &asked.start_period),
        ("StartInterval", &asked.start_interval),
    ];
    for (key, time) in times {
        let nanoseconds = |time: &Duration| {
            time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
        };
        if let Some(time) = time.as_ref().map(nanoseconds).filter(|time| *time != 0) {
            check.insert(key.to_owned(), json!(time));
        }
    }
    if asked.retries != 0 {
        check.insert("Retries".to_owned(), json!(asked.retries));
    }
    put(config, "Healthcheck", check);
}

/// An object of the settings, which is then no more in them.
fn taken(config: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match config.remove(key) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn put(config: &mut Map<String, Value>, key: &str, object: Map<String, Value>) {
    if !object.is_empty() {
        config.insert(key.to_owned(), Value::Object(object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::MountSpec;

    fn config(wish: ContainerSpec, image: Value) -> Value {
        let container = Container { spec: Some(wish), ..Container::default() };
        let image = serde_json::to_vec(&json!({ "os": "linux", "config": image })).unwrap();
        serde_json::from_slice(&merged(&container, &image).unwrap()).unwrap()
    }

    fn own(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_nobody_said_is_the_images() {
        let image = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"], "Shell": ["/bin/ash"], "Unheard": 1,
            "Labels": { "a": "b" }, "WorkingDir": "/w", "OnBuild": ["RUN x"] });
        let mut wanted = image.clone();
        wanted.as_object_mut().unwrap().remove("OnBuild");
        assert_eq!(config(ContainerSpec::default(), image), wanted);
        assert_eq!(config(ContainerSpec::default(), Value::Null), json!({}));
    }

    #[test]
    fn an_entrypoint_takes_the_images_arguments_away() {
        let image = || json!({ "Cmd": ["serve"], "Entrypoint": ["/app"] });
        let only = |wish| config(wish, image());
        let wish = ContainerSpec { command: own(&["other"]), ..Default::default() };
        assert_eq!(only(wish), json!({ "Cmd": ["other"], "Entrypoint": ["/app"] }));
        let wish = ContainerSpec { entrypoint: own(&["sh"]), ..Default::default() };
        assert_eq!(only(wish), json!({ "Entrypoint": ["sh"] }));
        let wish = ContainerSpec { entrypoint: own(&[""]), command: own(&["ls"]), ..Default::default() };
        assert_eq!(only(wish), json!({ "Cmd": ["ls"] }));
    }

    #[test]
    fn what_was_said_goes_over_it() {
        let image = json!({ "Env": ["A=1", "B=2"], "Labels": { "x": "1", "davit.y": "2" },
            "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "Healthcheck": { "Retries": 3 } });
        let volume = |source: &str, target: &str| MountSpec {
            kind: MountKind::Volume.into(),
            source: source.to_owned(),
            target: target.to_owned(),
            ..Default::default()
        };
        let wish = ContainerSpec {
            env: own(&["B=3", "C=4", "A"]),
            labels: [("x".to_owned(), "9".to_owned())].into(),
            expose: own(&["53/udp"]),
            mounts: vec![volume("", "/more"), volume("named", "/not")],
            user: "7".to_owned(),
            hostname: "never".to_owned(),
            health: Some(HealthCheck {
                test: own(&["NONE"]),
                interval: Some(Duration { seconds: 2, nanos: 5 }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let wanted = json!({ "Env": ["B=3", "C=4"], "Labels": { "x": "9" }, "User": "7",
            "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "Volumes": { "/data": {}, "/more": {} },
            "Healthcheck": { "Retries": 3, "Test": ["NONE"], "Interval": 2_000_000_005_i64 } });
        assert_eq!(config(wish, image), wanted);
    }
}
