//! RUN: a container of the state before it, and a commit of what it changed.

use std::collections::HashMap;

use davit_dockerfile::change::{Command, Config};
use davit_dockerfile::instruction::{Network, Program, Run, Security};
use davit_proto::build::Limits;
use davit_proto::container::{ContainerSpec, EndpointSpec, HealthCheck, RestartPolicy};
use davit_proto::types::{Exit, exit::How};

use crate::error::Error;
use crate::key::Key;
use crate::limit;
use crate::mount::{Given, Script};

/// The label of containers of steps, by which those that a dead engine left are found.
pub const LABEL: &str = "invalid.build.step";
/// The working folder of an image that says none.
const ROOT: &str = "/";

/// The name of the host that a step's command sees.
const HOSTNAME: &str = "build";

/// What a RUN needs to know beside itself.
#[derive(Debug)]
pub struct Around<'a> {
    /// The config that it runs with.
    pub config: &'a Config,
    /// Arguments of the build in its environment.
    pub args: Vec<(String, String)>,
    /// Arguments that are no part of any result.
    pub proxies: Vec<(String, String)>,
    /// The network that the client chose for those that do not choose.
    pub network: &'a str,
    /// Lines for the hosts file.
    pub extra_hosts: &'a [String],
    /// What it may use.
    pub limits: Option<&'a Limits>,
}

impl Around<'_> {
    /// The folder that it begins in.
    pub fn folder(&self) -> &str {
        let folder = self.config.text("WorkingDir");
        if folder.is_empty() { ROOT } else { folder }
    }
}

/// The program and its arguments.
pub fn argv(run: &Run, config: &Config) -> Vec<String> {
    match &run.program {
        Program::Exec(words) => words.clone(),
        Program::Shell(line) => config.argv(&Command::Shell(line.clone())),
        Program::Script { name, text } => vec![Script::new(name, text).target],
    }
}

/// The document that is its program, where it has an interpreter of its own.
pub fn script(run: &Run) -> Option<Script> {
    match &run.program {
        Program::Script { name, text } => Some(Script::new(name, text)),
        Program::Exec(_) | Program::Shell(_) => None,
    }
}

/// Adds all that goes into the step to its name.
pub fn describe(run: &Run, argv: &[String], around: &Around<'_>, key: &mut Key) {
    argv.iter().for_each(|word| key.add(word.as_bytes()));
    if let Program::Script { text, .. } = &run.program {
        key.add(text.as_bytes());
    }
    for (name, value) in &around.args {
        key.add(name.as_bytes());
        key.add(value.as_bytes());
    }
    key.add(format!("{:?} {:?} {}", run.network, run.security, around.network).as_bytes());
    around.extra_hosts.iter().for_each(|host| key.add(host.as_bytes()));
    limit::describe(around.limits, key);
}

/// The container that does it, with what it is given beside its root.
///
/// # Errors
/// There is no command.
pub fn spec(
    run: &Run,
    image: &str,
    argv: &[String],
    around: &Around<'_>,
    given: Given,
) -> Result<ContainerSpec, Error> {
    let config = around.config;
    let mut env = config.environment();
    let pairs = around.args.iter().chain(&around.proxies);
    env.extend(pairs.map(|(name, value)| format!("{name}={value}")));
    // What the file says of a variable itself counts.
    let said = |entry: &&String| config.variable(entry.split('=').next().unwrap_or_default()).is_some();
    env.extend(given.env.iter().filter(|entry| !said(entry)).cloned());
    let network = match run.network {
        Network::Default => around.network,
        Network::None => "none",
        Network::Host => "host",
    };
    let networks = match network {
        "" | "default" => Vec::new(),
        name => vec![EndpointSpec { network: name.to_owned(), ..EndpointSpec::default() }],
    };
    let (program, rest) =
        argv.split_first().ok_or_else(|| Error::Invalid("there is no command".to_owned()))?;
    let spec = ContainerSpec {
        image: image.to_owned(),
        entrypoint: vec![program.clone()],
        command: rest.to_vec(),
        env,
        // The same in every container of a step: programs write it into what they make.
        hostname: HOSTNAME.to_owned(),
        working_dir: around.folder().to_owned(),
        user: config.text("User").to_owned(),
        labels: HashMap::from([(LABEL.to_owned(), "1".to_owned())]),
        health: Some(HealthCheck { test: vec!["NONE".to_owned()], ..HealthCheck::default() }),
        restart: Some(RestartPolicy::default()),
        extra_hosts: around.extra_hosts.to_vec(),
        networks,
        mounts: given.mounts,
        env_files: given.env_files,
        privileged: run.security == Security::Insecure,
        no_image_volumes: true,
        ..ContainerSpec::default()
    };
    Ok(limit::apply(around.limits, spec))
}

/// Whether it ended well.
///
/// # Errors
/// It did not.
pub fn judge(argv: &[String], exit: &Exit) -> Result<(), Error> {
    let how = match exit.how {
        Some(How::Code(0)) => return Ok(()),
        Some(How::Code(code)) => format!("exit code: {code}"),
        Some(How::Signal(signal)) => format!("killed by signal {signal}"),
        None => "it never ran".to_owned(),
    };
    let how = if exit.reason.is_empty() { how } else { format!("{how} ({})", exit.reason) };
    let how = if exit.oom_killed { format!("{how}, for want of memory") } else { how };
    Err(Error::Command { command: argv.join(" "), how })
}
