//! From flags to the [`ContainerSpec`] that the engine takes. What the wire cannot carry is refused here;
//! everything else the engine judges itself, so that there is one judge.

pub mod cache;
pub mod csv;
pub mod env;
pub mod health;
pub mod limit;
pub mod mount;
pub mod network;
pub mod output;
pub mod port;
pub mod security;

use davit_proto::container::{ContainerSpec, LogSpec, RestartMode, RestartPolicy, Streams};

use crate::args::run::ContainerArgs;
use crate::error::Error;
use crate::human;

/// A value that was typed and makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
pub struct Invalid {
    /// What it was for: `--memory`.
    what: String,
    /// What was typed.
    value: String,
    /// What is wanted instead.
    rule: String,
}

impl Invalid {
    /// A value that breaks a rule.
    pub fn new(what: impl Into<String>, value: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into(), rule: rule.into() }
    }
}

/// The streams that `--attach`, `--interactive` and `--detach` ask for together.
pub fn streams(args: &ContainerArgs, detached: bool) -> Result<Streams, Error> {
    if detached {
        if !args.attach.is_empty() {
            return Err(Error::Usage("--attach and --detach exclude each other".into()));
        }
        return Ok(Streams::default());
    }
    if args.attach.is_empty() {
        return Ok(Streams { stdin: args.interactive, stdout: true, stderr: true });
    }
    let mut streams = Streams::default();
    for name in &args.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => return Err(Invalid::new("--attach", name, "stdin, stdout or stderr is wanted").into()),
        }
    }
    streams.stdin &= args.interactive;
    Ok(streams)
}

/// The container that some flags describe.
pub fn of(args: &ContainerArgs, streams: Streams) -> Result<ContainerSpec, Error> {
    let (image, command) = args
        .image_and_command
        .split_first()
        .ok_or_else(|| Error::Usage("the name of an image is wanted".into()))?;
    if image.is_empty() {
        return Err(Invalid::new("image", image.as_str(), "its name must not be empty").into());
    }
    if args.rm && args.restart.as_deref().is_some_and(|policy| policy != "no") {
        return Err(Error::Usage("conflicting options: --restart and --rm".into()));
    }
    let mut spec = ContainerSpec {
        image: image.clone(),
        command: command.to_vec(),
        entrypoint: args.entrypoint.iter().cloned().collect(),
        env: env::without(&args.unsetenv, env::environment(&args.env_file, &args.env)?)?,
        env_defaults: if args.env_host { env::here() } else { Vec::new() },
        working_dir: text(args.workdir.as_ref()),
        user: text(args.user.as_ref()),
        umask: args.umask.as_deref().map(umask).transpose()?,
        labels: env::labels(&args.label_file, &args.label)?,
        annotations: env::pairs(&args.annotation),
        terminal: args.tty,
        open_stdin: args.interactive,
        // With a terminal the next client finds it as this one left it.
        stdin_once: streams.stdin && !args.tty,
        auto_remove: args.rm,
        init: args.init,
        group_add: args.group_add.clone(),
        stop_signal: text(args.stop_signal.as_ref()),
        stop_timeout: args
            .stop_timeout
            .map(|seconds| prost_types::Duration { seconds: seconds.into(), nanos: 0 }),
        restart: args.restart.as_deref().map(restart).transpose()?,
        log: log(&args.log_opt)?,
        platform: text(args.platform.as_ref()),
        ..ContainerSpec::default()
    };
    mount::fill(&mut spec, &args.storage)?;
    network::fill(&mut spec, &args.network)?;
    limit::fill(&mut spec, &args.limit)?;
    security::fill(&mut spec, &args.security)?;
    spec.health = health::of(&args.health)?;
    Ok(spec)
}

/// A flag that may be absent, as the wire says it.
fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

/// Rights in octal digits.
fn umask(text: &str) -> Result<u32, Invalid> {
    let digits = text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| digits && *mask <= 0o777);
    mask.ok_or_else(|| Invalid::new("--umask", text, "octal digits such as 0027 are wanted"))
}

/// A size flag in bytes.
pub fn bytes(flag: &str, value: &str) -> Result<u64, Invalid> {
    human::parse_size(value).ok_or_else(|| Invalid::new(flag, value, "a size such as 64m or 1.5g is wanted"))
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`.
pub fn restart(text: &str) -> Result<RestartPolicy, Error> {
    let refused = |why: &str| Error::Usage(format!("invalid restart policy{why}"));
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => return Err(refused(" format: no policy provided before colon")),
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let mode = match name {
        "no" | "" => RestartMode::No,
        "always" => RestartMode::Always,
        "unless-stopped" => RestartMode::UnlessStopped,
        "on-failure" => RestartMode::OnFailure,
        _ => {
            let rule = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'";
            return Err(refused(&format!(": unknown policy '{name}'; {rule}")));
        }
    };
    let max_retries = match count.map(str::parse::<i32>) {
        None => 0,
        Some(Err(_)) => return Err(refused(" format: maximum retry count must be an integer")),
        Some(Ok(count)) if count != 0 && mode != RestartMode::OnFailure => {
            return Err(refused(": maximum retry count can only be used with 'on-failure'"));
        }
        Some(Ok(count)) => {
            u32::try_from(count).map_err(|_| refused(": maximum retry count cannot be negative"))?
        }
    };
    Ok(RestartPolicy { mode: mode.into(), max_retries })
}

fn log(options: &[String]) -> Result<Option<LogSpec>, Invalid> {
    if options.is_empty() {
        return Ok(None);
    }
    let mut log = LogSpec::default();
    for option in options {
        match option.split_once('=') {
            Some(("max-size", size)) => log.max_size = bytes("--log-opt", size)?,
            Some(("max-file", count)) => {
                log.max_files = count
                    .parse()
                    .map_err(|_| Invalid::new("--log-opt", option, "a whole number is wanted"))?;
            }
            _ => return Err(Invalid::new("--log-opt", option, "only max-size and max-file are served")),
        }
    }
    Ok(Some(log))
}

#[cfg(test)]
mod tests;
