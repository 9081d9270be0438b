//! Configure: the half of a start that is the container's own.

use davit_sys::file::Durability;
use davit_sys::pty::WindowSize;
use oci_spec::runtime::Spec;

use super::driver::{Body, Driver, Life};
use super::error::TaskError;
use super::health::{self, Health};
use super::oom::Alarm;
use super::state::{Admit, Command, Denied, Event, Task};
use crate::bundle::{Bundle, Journal};
use crate::failpoint::{self, pass};
use crate::init::{Configuration, Stdio};
use crate::names::{self, Resolver};
use crate::stdio::log::Limits;
use crate::stdio::pump::{self, Audience};
use crate::stdio::source::{self, Ends};

/// What Configure is told beside the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Keep standard input open for clients.
    pub open_stdin: bool,
    /// Close it after its first client.
    pub stdin_once: bool,
    /// How long the log may grow.
    pub limits: Limits,
    /// Size of the terminal at the start.
    pub size: Option<WindowSize>,
}

/// All that Configure is told.
#[derive(Debug)]
pub struct Orders {
    /// About its streams.
    pub options: Options,
    /// How to see whether it works.
    pub check: Option<health::Check>,
    /// What its resolver answers; none for a container without one.
    pub names: Option<names::Config>,
}

/// Gives the prepared init its container. When that fails nothing of it can be used any more, and the shim ends.
/// Answers with what is not exactly as asked.
pub(super) fn configure(driver: &mut Driver, orders: Orders) -> Result<Vec<String>, TaskError> {
    if driver.admit(Command::Configure)? == Admit::Repeat {
        return Ok(Vec::new());
    }
    let Task::Prepared { init: body } = &mut driver.task else {
        return Err(Denied::NotPrepared.into());
    };
    let Orders { options, check, names } = orders;
    let sockets = body.init.take_names();
    if let (Some(names), None) = (&names, &sockets) {
        let rule = "wants a network namespace of the container's own";
        let value = names.view.display().to_string();
        return Err(TaskError::Invalid { name: "names.view", value, rule });
    }
    let journalled = driver.journal.as_ref().map_or(0, Journal::life);
    let set_up = set_up(&driver.bundle, body, options).and_then(|set_up| {
        let resolver = sockets.zip(names).map(|(sockets, names)| Resolver::start(sockets, names));
        Ok((set_up, resolver.transpose().map_err(TaskError::Names)?))
    });
    match set_up {
        Ok((SetUp { life, ended, warnings }, resolver)) => {
            body.life = Some(life);
            body.names = resolver;
            if driver.health.is_none() {
                driver.health = check.map(|check| Box::new(Health::new(check)));
            }
            driver.oom = Alarm::set(&body.cgroup);
            driver.unconfigured = None;
            driver.apply(Event::Configured { last_life: journalled.max(ended) });
            Ok(warnings)
        }
        Err(error) => {
            driver.ending = true;
            Err(error)
        }
    }
}

struct SetUp {
    life: Life,
    /// The last life that has an exit record.
    ended: u64,
    warnings: Vec<String>,
}

fn set_up(bundle: &Bundle, body: &mut Body, options: Options) -> Result<SetUp, TaskError> {
    let ended = bundle.last_exit()?;
    let Furnished { ends, oom_kills, durability, warnings } = furnish(bundle, body, options)?;
    pass(failpoint::CONFIGURED).map_err(TaskError::Failpoint)?;
    let (stdio, pump) = start_pump(bundle, ends, options);
    Ok(SetUp { life: Life { stdio, pump, oom_kills, durability, options }, ended, warnings })
}

/// Gives the init of a later life its container, and hands its streams to the pump of the life before.
pub(super) async fn configure_again(bundle: &Bundle, body: &mut Body) -> Result<(), TaskError> {
    let options = body.life.as_ref().map(|life| life.options).ok_or(Denied::NotConfigured)?;
    let Furnished { ends, oom_kills, durability, warnings: _ } = furnish(bundle, body, options)?;
    let life = body.life.as_mut().ok_or(Denied::NotConfigured)?;
    (life.oom_kills, life.durability) = (oom_kills, durability);
    Ok(life.stdio.renew(ends).await?)
}

/// An init at the gate, as far as a life is concerned.
struct Furnished {
    ends: Ends,
    oom_kills: u64,
    durability: Durability,
    warnings: Vec<String>,
}

fn furnish(bundle: &Bundle, body: &mut Body, options: Options) -> Result<Furnished, TaskError> {
    let spec = bundle.spec()?;
    let terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let (stdio, pipes) = if terminal {
        (Stdio::Terminal(options.size), None)
    } else {
        let (given, ends) = source::pipes(options.open_stdin).map_err(TaskError::Streams)?;
        (Stdio::Given(given), Some(ends))
    };
    let configured = body.init.configure(Configuration {
        spec: &spec,
        bundle: bundle.folder(),
        lock: &body.lock,
        cgroup: &body.cgroup,
        stdio,
    })?;
    for warning in &configured.warnings {
        tracing::warn!("{warning}");
    }
    let ends = match (pipes, configured.terminal) {
        (Some(ends), _) => ends,
        (None, Some(master)) => source::terminal(master, options.open_stdin).map_err(TaskError::Streams)?,
        (None, None) => return Err(TaskError::Streams(std::io::Error::other("init sent no terminal"))),
    };
    let oom_kills = body.cgroup.oom_kills()?;
    Ok(Furnished { ends, oom_kills, durability: durability(&spec), warnings: configured.warnings })
}

fn start_pump(bundle: &Bundle, ends: Ends, options: Options) -> (pump::Handle, tokio::task::JoinHandle<()>) {
    let Options { stdin_once, limits, .. } = options;
    let log = Some((bundle.log(), limits));
    pump::start(pump::Setup { ends, stdin_once, log, audience: Audience::Any })
}

/// A container whose files do not survive a power cut has no use for an exit record that does.
fn durability(spec: &Spec) -> Durability {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let root = mounts.iter().find(|mount| mount.destination().as_os_str() == "/");
    let options = root.and_then(|mount| mount.options().as_deref()).unwrap_or_default();
    if options.iter().any(|option| option == "volatile") { Durability::Cached } else { Durability::Synced }
}
