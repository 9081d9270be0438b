//! From the spec of a container and the wishes of a caller to a process that is added to it: pure.

use std::path::PathBuf;

use davit_sys::namespace::Kind;
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use super::error::Failure;
use super::plan::{ProcessPlan, StdioPlan};
use super::process_plan::{REAPER, SECCOMP, USER, plan_process};
use super::shape::{Namespace, Shape};

/// What a terminal calls itself where nobody said.
const TERM: &str = "TERM=xterm";

/// What is wanted of a process, beside what the container's own has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Program and arguments.
    pub args: Vec<String>,
    /// More environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; empty for the container's.
    pub cwd: String,
    /// `user[:group]`; empty for the container's.
    pub user: String,
    /// It gets a terminal.
    pub terminal: bool,
    /// All capabilities and no filter.
    pub privileged: bool,
}

/// What an added process is to do before it executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// v1 `tasks` files to write `0` to.
    pub tasks: Vec<String>,
    /// Whether init has a user namespace of its own.
    pub joins_user: bool,
    /// Adjustment of the badness for the out-of-memory killer.
    pub oom_score_adj: Option<i32>,
    /// What runs.
    pub process: ProcessPlan,
}

impl ExecPlan {
    /// The namespaces to join, the one of process ids apart: that takes a new process.
    pub fn namespaces(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Mount, Kind::Net, Kind::Ipc, Kind::Uts, Kind::Cgroup];
        if self.joins_user {
            kinds.push(Kind::User);
        }
        kinds
    }
}

/// Plans a process with the rights of the container's own, but for what was wished.
pub fn plan_exec(
    mut spec: Spec,
    shape: &Shape,
    tasks: Vec<String>,
    wishes: Wishes,
    stdio: StdioPlan,
) -> Result<ExecPlan, Failure> {
    let mut process = spec.process().clone().ok_or_else(|| Failure::invalid("spec has no process"))?;
    let oom_score_adj = process.oom_score_adj();
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    annotations.remove(REAPER);
    if !wishes.user.is_empty() {
        annotations.insert(USER.to_owned(), wishes.user);
    }
    if wishes.privileged && shape.own_ids().is_some() {
        return Err(Failure::invalid(
            "privileged mode is incompatible with a container's own user namespace",
        ));
    }
    if wishes.privileged {
        annotations.insert(SECCOMP.to_owned(), "unconfined".to_owned());
        if let Some(mut linux) = spec.linux().clone() {
            linux.set_seccomp(None);
            spec.set_linux(Some(linux));
        }
    }
    if !wishes.cwd.is_empty() {
        process.set_cwd(PathBuf::from(wishes.cwd));
    }
    process.set_args(Some(wishes.args));
    add_environment(&mut process, wishes.env, wishes.terminal);
    spec.set_annotations(Some(annotations));
    spec.set_process(Some(process));
    let mut process = plan_process(&spec, shape, stdio)?;
    process.makes_cwd = false;
    if wishes.privileged {
        (process.bounding, process.effective, process.permitted) = (u64::MAX, u64::MAX, u64::MAX);
    }
    let joins_user = shape.user != Namespace::Host;
    Ok(ExecPlan { tasks, joins_user, oom_score_adj, process })
}

/// A name that comes again replaces the earlier one.
fn add_environment(process: &mut Process, more: Vec<String>, terminal: bool) {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut env = process.env().clone().unwrap_or_default();
    for entry in more {
        let of = name(&entry);
        env.retain(|known| name(known) != of);
        env.push(entry);
    }
    if terminal && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push(TERM.to_owned());
    }
    process.set_env(Some(env));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::plan::UserPlan;

    const SPEC: &str = r#"{"ociVersion":"1.0.2","process":{"cwd":"/srv","user":{"uid":1,"gid":2},"args":["sh"],
        "env":["A=1","PATH=/bin"],"oomScoreAdj":100,"noNewPrivileges":true,
        "capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]}},
        "annotations":{"davit.user":"app","davit.group-add":"audio","davit.init":"true"}}"#;

    fn plan(wishes: Wishes) -> ExecPlan {
        let spec = serde_json::from_str(SPEC).unwrap();
        let wishes = Wishes { args: vec!["id".into()], ..wishes };
        plan_exec(spec, &Shape::standard(), Vec::new(), wishes, StdioPlan::Given).unwrap()
    }

    #[test]
    fn what_is_not_wished_is_the_containers() {
        let ExecPlan { process, oom_score_adj, joins_user, .. } = plan(Wishes::default());
        assert_eq!((process.bounding, process.effective, process.permitted), (1, 1, 1));
        assert_eq!(process.user, UserPlan::Named { user: "app".into(), groups: vec!["audio".into()] });
        assert_eq!((process.cwd.to_str(), process.makes_cwd), (Some("/srv"), false));
        assert_eq!(process.env, ["A=1", "PATH=/bin"]);
        assert!(process.no_new_privileges && process.seccomp.is_some() && !process.reaper && !joins_user);
        assert_eq!(oom_score_adj, Some(100));
    }

    #[test]
    fn wishes_replace() {
        let wishes = Wishes {
            env: vec!["A=2".into(), "B=x=y".into(), "B=3".into()],
            cwd: "/tmp".into(),
            user: "7:8".into(),
            terminal: true,
            privileged: true,
            ..Wishes::default()
        };
        let process = plan(wishes).process;
        assert_eq!(process.env, ["PATH=/bin", "A=2", "B=3", "TERM=xterm"]);
        assert_eq!(process.cwd.to_str(), Some("/tmp"));
        assert_eq!(process.user, UserPlan::Named { user: "7:8".into(), groups: vec!["audio".into()] });
        assert!(process.seccomp.is_none() && process.bounding == u64::MAX);
    }
}
