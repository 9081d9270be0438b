//! RUN: a container of the state before it, and a commit of what it changed.

use std::collections::HashMap;

use davit_dockerfile::change::{Command, Config};
use davit_dockerfile::instruction::{Mount, MountKind, Network, Program, Run, Security, Sharing};
use davit_proto::build::Limits;
use davit_proto::container::{
    ContainerSpec, EndpointSpec, HealthCheck, MountKind as WireKind, MountSpec, RestartPolicy,
};
use davit_proto::types::{Exit, exit::How};

use crate::error::Error;
use crate::key::Key;
use crate::limit;

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
    /// The mounts, with values.
    pub mounts: Vec<Mount>,
}

/// The program and its arguments.
///
/// # Errors
/// It is a script with an interpreter of its own.
pub fn argv(run: &Run, config: &Config) -> Result<Vec<String>, Error> {
    match &run.program {
        Program::Exec(words) => Ok(words.clone()),
        Program::Shell(line) => Ok(config.argv(&Command::Shell(line.clone()))),
        Program::Script { .. } => Err(Error::Unserved("a here-document with an interpreter of its own")),
    }
}

/// Adds all that goes into the step to its name.
pub fn describe(run: &Run, argv: &[String], around: &Around<'_>, key: &mut Key) {
    argv.iter().for_each(|word| key.add(word.as_bytes()));
    for (name, value) in &around.args {
        key.add(name.as_bytes());
        key.add(value.as_bytes());
    }
    key.add(format!("{:?} {:?} {}", run.network, run.security, around.network).as_bytes());
    around.extra_hosts.iter().for_each(|host| key.add(host.as_bytes()));
    limit::describe(around.limits, key);
    around.mounts.iter().for_each(|mount| key.add(format!("{mount:?}").as_bytes()));
}

/// The container that does it.
///
/// # Errors
/// It wants something that is not served.
pub fn spec(run: &Run, image: &str, argv: &[String], around: &Around<'_>) -> Result<ContainerSpec, Error> {
    if run.security == Security::Insecure {
        return Err(Error::Unserved("RUN --security=insecure"));
    }
    let config = around.config;
    let mut env = config.environment();
    let pairs = around.args.iter().chain(&around.proxies);
    env.extend(pairs.map(|(name, value)| format!("{name}={value}")));
    let network = match run.network {
        Network::Default => around.network,
        Network::None => "none",
        Network::Host => "host",
    };
    let networks = match network {
        "" | "default" => Vec::new(),
        name => vec![EndpointSpec { network: name.to_owned(), ..EndpointSpec::default() }],
    };
    let folder = config.text("WorkingDir");
    let folder = if folder.is_empty() { ROOT } else { folder };
    let (program, rest) =
        argv.split_first().ok_or_else(|| Error::Invalid("there is no command".to_owned()))?;
    let mounts = around.mounts.iter().map(|mount| mounted(mount, folder)).collect::<Result<_, _>>()?;
    let spec = ContainerSpec {
        image: image.to_owned(),
        entrypoint: vec![program.clone()],
        command: rest.to_vec(),
        env,
        // The same in every container of a step: programs write it into what they make.
        hostname: HOSTNAME.to_owned(),
        working_dir: folder.to_owned(),
        user: config.text("User").to_owned(),
        labels: HashMap::from([(LABEL.to_owned(), "1".to_owned())]),
        health: Some(HealthCheck { test: vec!["NONE".to_owned()], ..HealthCheck::default() }),
        restart: Some(RestartPolicy::default()),
        extra_hosts: around.extra_hosts.to_vec(),
        networks,
        mounts,
        no_image_volumes: true,
        ..ContainerSpec::default()
    };
    Ok(limit::apply(around.limits, spec))
}

/// A mount as the engine takes it.
fn mounted(mount: &Mount, folder: &str) -> Result<MountSpec, Error> {
    let target = davit_dockerfile::change::joined(folder, &mount.target);
    let mut spec = MountSpec { target, read_only: mount.readonly, ..MountSpec::default() };
    match &mount.kind {
        MountKind::Tmpfs { size } => {
            spec.set_kind(WireKind::Tmpfs);
            spec.options.extend(size.map(|size| format!("size={size}")));
        }
        MountKind::Cache { id, from: None, sharing: Sharing::Shared, owner, .. }
            if (owner.mode, owner.uid, owner.gid) == (0o755, 0, 0) =>
        {
            use sha2::Digest as _;
            spec.set_kind(WireKind::Volume);
            spec.source = format!("build-cache-{}", &hex::encode(sha2::Sha256::digest(id.as_bytes()))[..32]);
            spec.no_copy = true;
        }
        MountKind::Cache { .. } => {
            return Err(Error::Unserved("a cache with from, sharing, mode, uid or gid"));
        }
        MountKind::Bind { .. } => return Err(Error::Unserved("RUN --mount=type=bind")),
        MountKind::Secret { .. } => return Err(Error::Unserved("RUN --mount=type=secret")),
        MountKind::Ssh { .. } => return Err(Error::Unserved("RUN --mount=type=ssh")),
    }
    Ok(spec)
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
