//! The object "config" of an image, and what settings do to it.

use serde_json::{Map, Value, json};

use super::{Command, Setting};
use crate::error::Problem;

/// The config of an image that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    map: Map<String, Value>,
    /// Whether a command was set here. One that was inherited ends with a new entry point, for it was meant for the
    /// old one.
    own_cmd: bool,
}

/// The shell where nobody chose one.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Config {
    /// Begins with what is inherited.
    #[must_use]
    pub fn new(map: Map<String, Value>) -> Self {
        Self { map, own_cmd: false }
    }

    /// The object.
    #[must_use]
    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// The object, taken out.
    #[must_use]
    pub fn into_map(self) -> Map<String, Value> {
        self.map
    }

    /// A variable of the environment. Of two with one name the last holds.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let entries = self.map.get("Env").and_then(Value::as_array)?;
        let values = entries.iter().rev().filter_map(|entry| {
            let entry = entry.as_str()?;
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then(|| value.to_owned())
        });
        values.into_iter().next()
    }

    /// The environment, as `NAME=value`.
    #[must_use]
    pub fn environment(&self) -> Vec<String> {
        let entries = self.map.get("Env").and_then(Value::as_array).into_iter().flatten();
        entries.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
    }

    /// A field that is one string; empty when it is not there.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.map.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The instructions that wait for whoever builds upon this, which are taken away.
    #[must_use]
    pub fn take_triggers(&mut self) -> Vec<String> {
        let triggers = self.map.remove("OnBuild");
        let triggers = triggers.as_ref().and_then(Value::as_array).into_iter().flatten();
        triggers.filter_map(|trigger| trigger.as_str().map(str::to_owned)).collect()
    }

    /// The program and arguments that a command means: a line is one for the shell.
    #[must_use]
    pub fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => {
                let own = self.map.get("Shell").and_then(Value::as_array).filter(|words| !words.is_empty());
                let mut argv: Vec<String> = match own {
                    Some(words) => words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect(),
                    None => SHELL.map(str::to_owned).to_vec(),
                };
                argv.push(line.clone());
                argv
            }
        }
    }

    /// Sets what is to be set.
    ///
    /// # Errors
    /// The field is there and is not what it should be.
    pub fn apply(&mut self, setting: &Setting) -> Result<(), Problem> {
        match setting {
            Setting::Cmd(command) => {
                self.own_cmd = true;
                self.set("Cmd", json!(self.argv(command)));
            }
            Setting::Entrypoint(command) => {
                let argv = self.argv(command);
                // An empty list is how an inherited entry point is put away.
                self.set("Entrypoint", if argv.is_empty() { Value::Null } else { json!(argv) });
                if !self.own_cmd {
                    self.set("Cmd", Value::Null);
                }
            }
            Setting::Env(pairs) => self.set_variables(pairs)?,
            Setting::Expose(ports) => {
                self.extend("ExposedPorts", ports.iter().map(|p| (p.clone(), json!({}))))?
            }
            Setting::Volume(paths) => self.extend("Volumes", paths.iter().map(|p| (p.clone(), json!({}))))?,
            Setting::Label(pairs) => {
                self.extend("Labels", pairs.iter().map(|(key, value)| (key.clone(), json!(value))))?;
            }
            Setting::Healthcheck(health) => self.set("Healthcheck", health.value()),
            Setting::OnBuild(text) => self.list("OnBuild")?.push(json!(text)),
            Setting::Shell(words) => self.set("Shell", json!(words)),
            Setting::StopSignal(name) => self.set("StopSignal", json!(name)),
            Setting::User(user) => self.set("User", json!(user)),
            Setting::Workdir(path) => {
                let path = joined(self.text("WorkingDir"), path);
                self.set("WorkingDir", json!(path));
            }
        }
        Ok(())
    }

    /// Sets a field, or takes it away when the value is null.
    fn set(&mut self, field: &str, value: Value) {
        if value.is_null() {
            self.map.remove(field);
        } else {
            self.map.insert(field.to_owned(), value);
        }
    }

    fn set_variables(&mut self, pairs: &[(String, String)]) -> Result<(), Problem> {
        let entries = self.list("Env")?;
        for (key, value) in pairs {
            let entry = json!(format!("{key}={value}"));
            let named = |entry: &Value| {
                entry.as_str().is_some_and(|entry| entry.split_once('=').map_or(entry, |(key, _)| key) == key)
            };
            match entries.iter().position(named) {
                Some(at) => {
                    entries[at] = entry;
                    let mut index = 0;
                    entries.retain(|entry| {
                        index += 1;
                        index <= at + 1 || !named(entry)
                    });
                }
                None => entries.push(entry),
            }
        }
        Ok(())
    }

    /// A field that is a list, made when it is not there.
    fn list(&mut self, field: &'static str) -> Result<&mut Vec<Value>, Problem> {
        let value = self.map.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = json!([]);
        }
        value.as_array_mut().ok_or(Problem::Config { field, wanted: "a list" })
    }

    /// Adds to a field that is an object, made when it is not there.
    fn extend(
        &mut self,
        field: &'static str,
        entries: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<(), Problem> {
        let value = self.map.entry(field).or_insert(Value::Null);
        if value.is_null() {
            *value = json!({});
        }
        let object = value.as_object_mut().ok_or(Problem::Config { field, wanted: "an object" })?;
        object.extend(entries);
        Ok(())
    }
}

/// A path from the folder `current`, without `.`, `..` and doubled slashes, which mean what they say and no link.
#[must_use]
pub fn joined(current: &str, path: &str) -> String {
    let current = if path.starts_with('/') { "" } else { current };
    let mut parts: Vec<&str> = Vec::new();
    for part in current.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
