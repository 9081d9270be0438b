//! The process of a container: who it is, what it may do, and `execve`.
//!
//! The order is the point: cgroups and mounts are done; then streams, working directory, limits, no-new-privileges,
//! groups, group, user, capabilities, and the filter last, so that nothing of ours runs under it but `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, OFlags, Root};
use davit_sys::privilege::{self, Capabilities, Limited};
use davit_sys::seccomp::{self, Flags, Program};
use davit_sys::{fd, process, pty};

use super::error::{Failure, FailureKind, Step};
use super::plan::ProcessPlan;
use super::user::{Databases, Identity};

/// Where commands are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process at the gate.
#[derive(Debug)]
pub struct Ready {
    plan: ProcessPlan,
    identity: Identity,
    streams: Streams,
}

/// What becomes 0, 1 and 2.
#[derive(Debug)]
pub enum Streams {
    /// The container's end of a terminal.
    Terminal(OwnedFd),
    /// Three of anything.
    Given([OwnedFd; 3]),
}

impl Ready {
    /// Finds out who runs, and makes the working directory; the root is entered already.
    pub fn new(plan: ProcessPlan, streams: Streams) -> Result<Self, Failure> {
        let root = Root::open(Path::new("/")).step("open the root")?;
        let identity = Databases::read(&root)?.resolve(&plan.user)?;
        if plan.makes_cwd {
            root.make_dirs(&plan.cwd, 0o755)
                .step(format_args!("make working directory {}", plan.cwd.display()))?;
        }
        Ok(Self { plan, identity, streams })
    }

    /// What will not be exactly as asked.
    pub fn warnings(&self) -> Vec<String> {
        let clamped = |(name, soft, hard): &(String, u64, u64)| match privilege::allowed_limit(name, *hard) {
            Ok(Limited::Clamped { hard: highest }) if highest < *hard => {
                Some(format!("{name}: {soft}:{hard} cannot be set on this host, {highest} is the highest"))
            }
            _ => None,
        };
        self.plan.limits.iter().filter_map(clamped).collect()
    }

    /// What a reaper may do to the command, where one is to be pid 1.
    pub fn reaper_capabilities(&self) -> Option<Capabilities> {
        let kill = Capabilities::named("KILL").unwrap_or_default();
        self.plan.reaper.then(|| Capabilities(self.plan.bounding).intersection(kill))
    }

    /// Becomes the container's process. Returns only with the reason why not.
    pub fn run(self) -> Result<Infallible, Failure> {
        let Self { mut plan, identity, streams } = self;
        take_streams(&streams, identity.uid)?;
        privilege::set_umask(plan.umask);
        enter_directory(&plan.cwd, plan.makes_cwd)?;
        if !plan.env.iter().any(|e| e.starts_with("HOME=")) {
            plan.env.push(format!("HOME={}", identity.home));
        }
        let command = Command::new(&plan)?;
        // So late that a limit below what we need ourselves, such as no open files, is the program's to live with; and
        // before the right to raise one is gone.
        for (name, soft, hard) in &plan.limits {
            privilege::set_limit(name, *soft, *hard).step(format_args!("set {name}"))?;
        }
        confine(&plan, &identity)?;
        fd::close_on_exec_from(3).step("close descriptors")?;
        process::reset_signals().step("reset signals")?;
        if let Some(filter) = plan.seccomp {
            seccomp::install(&Program(filter.instructions), Flags(filter.flags))
                .step("install the seccomp filter")?;
        }
        Err(command.execute())
    }
}

fn take_streams(streams: &Streams, uid: u32) -> Result<(), Failure> {
    match streams {
        Streams::Terminal(slave) => {
            pty::set_controlling(slave).step("take the terminal")?;
            fd::replace_stdio([slave.as_fd(), slave.as_fd(), slave.as_fd()]).step("open the terminal")?;
            give(slave, uid)
        }
        Streams::Given(streams) => {
            let [a, b, c] = streams;
            fd::replace_stdio([a.as_fd(), b.as_fd(), c.as_fd()]).step("open the standard streams")?;
            streams.iter().try_for_each(|stream| give(stream, uid))
        }
    }
}

/// A user that is not root must be able to open `/dev/stdout` again.
fn give(stream: &OwnedFd, uid: u32) -> Result<(), Failure> {
    let own = || -> io::Result<()> {
        let seen = file::stat(stream)?;
        let null = file::device_numbers(&seen) == (1, 3);
        if seen.st_uid == uid || null { Ok(()) } else { file::chown(stream, uid, seen.st_gid) }
    };
    match own() {
        // A stream on a file system that cannot or may not is as good as it gets.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        other => other.step("give the standard streams to the user"),
    }
}

/// Resolved inside the root and entered by descriptor, so that no link leads out; and it is checked where we are.
fn enter_directory(cwd: &Path, makes: bool) -> Result<(), Failure> {
    const ELOOP: i32 = 40;
    let shown = cwd.display();
    let root = Root::open(Path::new("/")).step("open the root")?;
    let opened = match makes {
        true => root.make_dirs(cwd, 0o755),
        false => root.resolve(cwd, OFlags::PATH | OFlags::DIRECTORY, 0),
    };
    if let (false, Err(error)) = (makes, &opened)
        && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    {
        let why = format!("working directory {shown}: {}", super::error::reason(error));
        return Err(Failure::new(FailureKind::NotFound, why));
    }
    if let (false, Err(error)) = (makes, &opened)
        && error.raw_os_error() == Some(ELOOP)
    {
        // One that is made was refused before.
        return Err(Failure::refused(format!("working directory {shown} leads through a link of /proc")));
    }
    let directory = opened.step(format_args!("open working directory {shown}"))?;
    file::change_directory(&directory).step(format_args!("enter working directory {shown}"))?;
    let here = std::env::current_dir().step(format_args!("find working directory {shown}"))?;
    if !here.is_absolute() {
        return Err(Failure::refused(format!("working directory {shown} is outside the container")));
    }
    Ok(())
}

fn confine(plan: &ProcessPlan, identity: &Identity) -> Result<(), Failure> {
    if plan.no_new_privileges {
        privilege::set_no_new_privileges().step("set no-new-privileges")?;
    }
    let held = privilege::permitted().step("read capabilities")?;
    let allowed = |bits: u64| Capabilities(bits).intersection(held);
    privilege::limit_bounding(Capabilities(plan.bounding)).step("limit capabilities")?;
    privilege::clear_ambient().step("clear ambient capabilities")?;
    privilege::keep_capabilities(true).step("keep capabilities")?;
    let Identity { uid, gid, groups, .. } = identity;
    privilege::set_identity(*uid, *gid, groups).map_err(|e| unknown_identity(identity, &e))?;
    privilege::keep_capabilities(false).step("keep no capabilities")?;
    // Installing a filter without no-new-privileges needs this one; `execve` computes the sets anew, from the
    // bounding set for root and from nothing for others, so it does not reach the program.
    let filter = match plan.seccomp.is_some() && !plan.no_new_privileges {
        true => Capabilities::SYS_ADMIN,
        false => Capabilities::default(),
    };
    let own = |bits| if *uid == 0 { allowed(bits) } else { Capabilities::default() };
    let permitted = own(plan.permitted).with(own(plan.effective)).with(filter);
    privilege::set_capabilities(own(plan.effective).with(filter), permitted, Capabilities::default())
        .step("set capabilities")
}

/// All numbers were checked, so one that the kernel does not know is one that a user namespace does not have.
fn unknown_identity(identity: &Identity, error: &io::Error) -> Failure {
    let Identity { uid, gid, groups, .. } = identity;
    if error.kind() == io::ErrorKind::InvalidInput {
        let why = "not all of these ids are in the container's user namespace";
        return Failure::invalid(format!("become user {uid}:{gid} with groups {groups:?}: {why}"));
    }
    Failure::kernel(format_args!("become user {uid}:{gid}"), error)
}

/// What `execve` gets.
struct Command {
    name: String,
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    fn new(plan: &ProcessPlan) -> Result<Self, Failure> {
        let strings = |list: &[String]| -> Result<Vec<CString>, Failure> {
            let nul = |_| Failure::invalid("argument or environment holds a NUL byte");
            list.iter().map(|s| CString::new(s.as_str()).map_err(nul)).collect()
        };
        let name = plan.args.first().cloned().unwrap_or_default();
        let candidates = strings(&plan_candidates(&name, &plan.env))?;
        Ok(Self { name, candidates, args: strings(&plan.args)?, env: strings(&plan.env)? })
    }

    /// Tries each candidate; what the kernel says about the last one that is there decides.
    fn execute(&self) -> Failure {
        let name = &self.name;
        let mut found = None;
        for candidate in &self.candidates {
            let error = process::execute(candidate, &self.args, &self.env);
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
                _ => found = found.or(Some((candidate, error))),
            }
        }
        match found {
            Some((candidate, error)) => cannot_execute(name, candidate, &error),
            None if name.contains('/') => Failure::new(
                FailureKind::NotFound,
                format!("exec: {name:?}: stat {name}: no such file or directory"),
            ),
            None => Failure::new(
                FailureKind::NotFound,
                format!("exec: {name:?}: executable file not found in $PATH"),
            ),
        }
    }
}

fn cannot_execute(name: &str, candidate: &CString, error: &io::Error) -> Failure {
    const ENOEXEC: i32 = 8;
    let directory = Path::new(std::ffi::OsStr::new(candidate.to_str().unwrap_or_default())).is_dir();
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    if denied || error.raw_os_error() == Some(ENOEXEC) {
        let why = if directory { "is a directory".to_owned() } else { super::error::reason(error) };
        return Failure::new(FailureKind::NotExecutable, format!("exec: {name:?}: {why}"));
    }
    Failure::kernel(format_args!("exec: {name:?}"), error)
}

/// The files that a command may mean, in order.
fn plan_candidates(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    // A relative entry would run what lies in the working directory.
    path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_follow_the_path() {
        let env = |path: &str| vec!["A=b".to_owned(), format!("PATH={path}")];
        assert_eq!(plan_candidates("sh", &env("/a:/b")), ["/a/sh", "/b/sh"]);
        assert_eq!(plan_candidates("sh", &env(":.:rel:/c")), ["/c/sh"]);
        assert_eq!(plan_candidates("./sh", &env("/a")), ["./sh"]);
        assert_eq!(plan_candidates("sh", &[]).len(), 6);
    }
}
