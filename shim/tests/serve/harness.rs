//! A real shim around a real container: busybox on an overlay, driven over the socket as the controller drives it.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use davit_proto::id::ContainerId;
use davit_proto::journal::{Entry, entries};
use davit_proto::task::attach_request::Frame as Send;
use davit_proto::task::attach_response::Frame as Got;
use davit_proto::task::tasks_client::TasksClient;
use davit_proto::task::{
    AttachOpen, AttachRequest, AttachResponse, Attached, ConfigureRequest, Namespace, NamespaceMode,
    PrepareRequest, PrepareResponse, Shape, Snapshot, StartRequest, StartResponse, StateRequest,
    WatchRequest,
};
use davit_proto::transport::{Address, InProcess, dial};
use davit_proto::types::{Exit, Input, Stdio};
use davit_proto::wanted::{Mode, OnUnhealthy, Restart, Want, Wanted};
use davit_sys::process::{NewNamespaces, Spawn, spawn};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

const BUSYBOX: &str = "/bin/busybox";
/// What every wait of these tests is bounded by.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this host can do it; says why not.
pub fn possible() -> bool {
    let missing = if !Path::new(BUSYBOX).exists() {
        Some("no busybox-static")
    } else if File::options().write(true).open("/proc/sys/kernel/hostname").is_err() {
        Some("not root")
    } else {
        None
    };
    if let Some(missing) = missing {
        eprintln!("skipped: {missing}");
    }
    missing.is_none()
}

/// A container's two halves on disk, and its shim.
pub struct Shim {
    pub id: ContainerId,
    pub root: tempfile::TempDir,
    pub client: TasksClient<Channel>,
    pub pid: u32,
    unconfigured: Option<OwnedFd>,
    /// Its number may be somebody else's by the time it is to be killed.
    pidfd: Option<OwnedFd>,
}

/// What differs between the containers of these tests.
#[derive(Default)]
pub struct Spec {
    pub args: Vec<String>,
    pub terminal: bool,
    pub volatile: bool,
    /// Most bytes of memory.
    pub memory: Option<u64>,
    /// Not in a pid namespace of its own.
    pub host_pids: bool,
    /// May configure its network.
    pub net_admin: bool,
}

impl Spec {
    pub fn shell(script: &str) -> Self {
        Self { args: vec!["/bin/sh".into(), "-c".into(), script.into()], ..Self::default() }
    }
}

impl Shim {
    /// Starts a shim with nothing in it.
    pub async fn launch() -> Self {
        Self::launch_for(ContainerId::generate().unwrap(), tempfile::tempdir().unwrap()).await
    }

    /// Starts a shim for a container that may have lived before.
    pub async fn launch_for(id: ContainerId, root: tempfile::TempDir) -> Self {
        Self::launch_in(id, root, &[]).await
    }

    /// Starts a shim that stays in the host's pid namespace, as its container will.
    pub async fn launch_shared() -> Self {
        let (id, root) = (ContainerId::generate().unwrap(), tempfile::tempdir().unwrap());
        Self::launch_in(id, root, &["--shared-pid"]).await
    }

    async fn launch_in(id: ContainerId, root: tempfile::TempDir, more: &[&str]) -> Self {
        let (bundle, run) = (root.path().join("bundle"), root.path().join("run"));
        for folder in [&bundle.join("log"), &run] {
            fs::create_dir_all(folder).unwrap();
        }
        let socket = run.join("shim.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (reader, writer) = davit_sys::fd::pipe(4096).unwrap();
        launch(&id, &root, (&listener, reader), more);
        let client = dial_shim(&socket).await;
        let mut shim = Self { id, root, client, pid: 0, unconfigured: Some(writer), pidfd: None };
        // The first answer comes when shim.json is there.
        shim.client.state(StateRequest {}).await.unwrap();
        shim.pid = u32::try_from(shim.announcement()["pid"].as_u64().unwrap()).unwrap();
        shim.pidfd = davit_sys::process::pidfd_open(i32::try_from(shim.pid).unwrap()).ok();
        shim
    }

    /// As [`Shim::launch`], up to a container at the gate.
    pub async fn create(spec: &Spec, configure: ConfigureRequest) -> Self {
        let mut shim = Self::launch().await;
        shim.make(spec, configure).await.unwrap();
        shim
    }

    pub async fn make(&mut self, spec: &Spec, configure: ConfigureRequest) -> Result<(), Status> {
        let host = Namespace { mode: NamespaceMode::Host.into(), ..Namespace::default() };
        let shape = spec.host_pids.then(|| Shape { pid: Some(host), ..Shape::default() });
        self.client.prepare(PrepareRequest { container_id: self.id.to_string(), shape }).await?;
        self.write_spec(spec);
        self.client.configure(configure).await?;
        self.unconfigured = None;
        Ok(())
    }

    pub async fn prepare(&mut self) -> Result<PrepareResponse, Status> {
        let request = PrepareRequest { container_id: self.id.to_string(), shape: None };
        Ok(self.client.prepare(request).await?.into_inner())
    }

    pub async fn start(&mut self, life: u64) -> Result<StartResponse, Status> {
        Ok(self.client.start(StartRequest { life, ..Default::default() }).await?.into_inner())
    }

    pub fn bundle(&self) -> PathBuf {
        self.root.path().join("bundle")
    }

    pub fn socket(&self) -> PathBuf {
        self.root.path().join("run/shim.sock")
    }

    pub fn announcement(&self) -> Value {
        serde_json::from_slice(&fs::read(self.root.path().join("run/shim.json")).unwrap()).unwrap()
    }

    /// The controller dies.
    pub fn abandon(&mut self) {
        self.unconfigured = None;
    }

    pub fn exit_record(&self) -> Option<Exit> {
        let bytes = fs::read(self.bundle().join("exit")).ok()?;
        Some(Exit::decode(bytes.as_slice()).unwrap())
    }

    /// Every entry of the journal; their numbers have no gap.
    pub fn journal(&self) -> Vec<Entry> {
        let text = fs::read(self.bundle().join("life")).unwrap_or_default();
        let all: Vec<Entry> = entries(&text).collect();
        let first = all.first().map_or(1, |entry| entry.n);
        let numbers: Vec<u64> = all.iter().map(|entry| entry.n).collect();
        assert_eq!(numbers, (first..first + all.len() as u64).collect::<Vec<_>>());
        assert!(all.iter().map(|entry| &entry.at).is_sorted(), "{all:#?}");
        all
    }

    /// What the controller writes of its wishes.
    pub fn want(&self, want: Want, mode: Mode, max_retries: u32) {
        let restart = Restart { mode, max_retries };
        let wanted = Wanted { revision: 1, want, restart, on_unhealthy: OnUnhealthy::None };
        let path = self.bundle().join("wanted");
        fs::write(path.with_extension("new"), serde_json::to_vec(&wanted).unwrap()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// Waits for a state.
    pub async fn await_state(&mut self, what: &str, check: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut watch = self.client.watch(WatchRequest::default()).await.unwrap().into_inner();
        let mut last = None;
        let waiting = async {
            while let Some(state) = watch.message().await.unwrap() {
                let snapshot = state.snapshot.unwrap();
                if check(&snapshot) {
                    return snapshot;
                }
                last = Some(snapshot);
            }
            panic!("the task is over before {what}")
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("not in time: {what}; last {last:#?}"))
    }

    /// The state now.
    pub async fn state(&mut self) -> Snapshot {
        self.client.state(StateRequest {}).await.unwrap().into_inner().snapshot.unwrap()
    }

    /// The lines of the whole log without their times, each with its stream; parts of a line are put together.
    pub fn log(&self) -> Vec<String> {
        let files = (0..10).rev().map(|n| match n {
            0 => self.bundle().join("log/stdio.log"),
            n => self.bundle().join(format!("log/stdio.log.{n}")),
        });
        let text: String = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
        let mut parts = std::collections::HashMap::<&str, String>::new();
        let mut lines = Vec::new();
        for entry in text.lines() {
            let (stream, rest) = entry.get(31..).unwrap().split_once(' ').unwrap();
            let (tag, text) = rest.split_once(' ').unwrap();
            parts.entry(stream).or_default().push_str(text);
            if tag == "F" {
                lines.push(format!("{stream} {}", parts.remove(stream).unwrap()));
            }
        }
        lines.extend(parts.into_iter().map(|(stream, text)| format!("{stream} {text} without an end")));
        lines
    }

    /// Waits until the shim and everything of its container has gone.
    pub async fn gone(&self) {
        until("the shim is gone", || !is_alive(self.pid)).await;
        let left = cgroups(&self.id);
        assert!(left.is_empty(), "cgroups are left: {left:?}\n{}", self.shim_log());
    }

    pub fn shim_log(&self) -> String {
        fs::read_to_string(self.root.path().join("run/shim.log")).unwrap_or_default()
    }

    pub async fn attach(&mut self, open: AttachOpen) -> Attachment {
        let (frames, queue) = mpsc::channel(8);
        frames.send(AttachRequest { frame: Some(Send::Open(open)) }).await.unwrap();
        let answer = self.client.attach(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut attachment = Attachment { frames: Some(frames), answer, attached: Attached::default() };
        let Got::Attached(attached) = attachment.next().await.unwrap() else { panic!("first frame") };
        attachment.attached = attached;
        attachment
    }

    fn write_spec(&self, spec: &Spec) {
        let path = |name: &str| self.bundle().join(name).display().to_string();
        for name in ["lower/bin", "lower/etc", "lower/tmp", "lower/dev", "lower/proc", "upper", "work"] {
            fs::create_dir_all(self.bundle().join(name)).unwrap();
        }
        let lower = self.bundle().join("lower");
        if !lower.join("bin/busybox").exists() {
            fs::copy(BUSYBOX, lower.join("bin/busybox")).unwrap();
            for applet in [
                "sh", "test", "rm", "ip", "touch", "cat", "echo", "sleep", "stty", "seq", "yes", "head",
                "dd", "true", "id", "awk", "tail",
            ] {
                symlink("busybox", lower.join("bin").join(applet)).unwrap();
            }
            fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        }
        let mut options = vec![
            format!("lowerdir={}", path("lower")),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ];
        options.extend(spec.volatile.then(|| "volatile".to_owned()));
        let kinds = ["mount", "ipc", "uts", "network", "cgroup", "pid"];
        let kinds = &kinds[..kinds.len() - usize::from(spec.host_pids)];
        let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let resources = spec.memory.map_or(json!({}), |limit| json!({"memory": {"limit": limit}}));
        let capabilities: &[&str] = if spec.net_admin { &["CAP_NET_ADMIN"] } else { &[] };
        let capabilities = json!({
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
        });
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": spec.terminal,
                "user": {"uid": 0, "gid": 0},
                "args": spec.args,
                "env": ["PATH=/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": capabilities,
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                {"destination": "/", "type": "overlay", "source": "overlay", "options": options},
            ],
            "linux": {
                "namespaces": namespaces,
                "resources": resources,
            },
        });
        fs::write(self.bundle().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // Ends the container too; a shim that has ended already does not hear it.
        if let Some(pidfd) = &self.pidfd {
            let _ = davit_sys::process::signal(pidfd, davit_sys::process::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- shim.log\n{}", self.shim_log());
            let journal = fs::read_to_string(self.bundle().join("life")).unwrap_or_default();
            eprintln!("--- life\n{journal}");
        }
        for _ in 0..500 {
            let parents = cgroups_named(&parent(&self.id));
            if parents.is_empty() {
                break;
            }
            for parent in parents {
                for folder in [parent.join(self.id.as_str()), parent.join("shims"), parent] {
                    let _ = fs::remove_dir(folder);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn launch(id: &ContainerId, root: &tempfile::TempDir, fds: (&UnixListener, OwnedFd), more: &[&str]) {
    let (listener, pipe) = fds;
    let path = |name: &str| root.path().join(name).display().to_string();
    let words = [
        "davit-shim",
        "launch",
        "--id",
        id.as_str(),
        "--bundle",
        &path("bundle"),
        "--run",
        &path("run"),
        "--instance",
        "test",
        "--cgroup-parent",
        &format!("/{}", parent(id)),
        "--unconfigured-fd",
        "4",
    ];
    let words = words.into_iter().chain(more.iter().copied());
    let args: Vec<CString> = words.map(|word| CString::new(word).unwrap()).collect();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let log = File::options().append(true).create(true).open(path("run/shim.log")).unwrap();
    let child = spawn(&Spawn {
        program: &CString::new(env!("CARGO_BIN_EXE_davit-shim")).unwrap(),
        args: &args,
        env: &[],
        fds: &[
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (log.as_fd(), 2),
            (listener.as_fd(), 3),
            (pipe.as_fd(), 4),
        ],
        namespaces: NewNamespaces::NONE,
        cgroup: None,
        session: true,
    })
    .unwrap();
    let exit = davit_sys::process::wait(&child.pidfd).unwrap();
    assert_eq!(exit.code(), 0, "launch: {}", fs::read_to_string(path("run/shim.log")).unwrap());
}

/// A connection of its own.
pub async fn dial_shim(socket: &Path) -> TasksClient<Channel> {
    TasksClient::new(dial(&Address::Unix(socket.to_owned())).await.unwrap())
}

/// A client of nobody: for a test that wants its shim to have no client.
pub async fn nobody() -> TasksClient<Channel> {
    let nobody = InProcess::serve(tonic::service::Routes::default());
    TasksClient::new(dial(&Address::Here(nobody)).await.unwrap())
}

/// One attached client.
pub struct Attachment {
    frames: Option<mpsc::Sender<AttachRequest>>,
    answer: Streaming<AttachResponse>,
    pub attached: Attached,
}

impl Attachment {
    pub async fn next(&mut self) -> Option<Got> {
        let answer = tokio::time::timeout(PATIENCE, self.answer.message()).await.expect("an answer in time");
        answer.unwrap().map(|answer| answer.frame.unwrap())
    }

    /// What the next frame fails with.
    pub async fn error(&mut self) -> Status {
        let answer = tokio::time::timeout(PATIENCE, self.answer.message()).await.expect("an answer in time");
        answer.unwrap_err()
    }

    pub async fn send(&mut self, frame: Send) {
        let frames = self.frames.as_ref().expect("still sending");
        frames.send(AttachRequest { frame: Some(frame) }).await.unwrap();
    }

    pub async fn type_at(&mut self, offset: u64, text: &str, eof: bool) {
        self.send(Send::Input(Input { offset, data: text.to_owned().into(), eof })).await;
    }

    /// Goes without a word, as when the controller is killed: a reset and no end of what it sends.
    pub fn cut_off(mut self) {
        std::mem::forget(self.frames.take());
    }

    /// Sends nothing more.
    pub fn hang_up(&mut self) {
        self.frames = None;
    }

    /// Output of a stream until it has said `text`.
    pub async fn says(&mut self, text: &str) -> String {
        let mut said = String::new();
        while !said.contains(text) {
            match self.next().await {
                Some(Got::Output(output)) => said.push_str(&String::from_utf8_lossy(&output.data)),
                other => panic!("{other:?} instead of {text:?} after {said:?}"),
            }
        }
        said
    }

    /// Everything up to the exit: both streams, how many bytes were dropped, and the exit.
    pub async fn rest(&mut self) -> ([Vec<u8>; 2], u64, Exit) {
        let (mut said, mut dropped) = ([Vec::new(), Vec::new()], 0);
        loop {
            match self.next().await.expect("an exit before the end") {
                Got::Output(output) => {
                    let index = usize::from(output.stream() == Stdio::Stderr);
                    said[index].extend_from_slice(&output.data);
                }
                Got::Dropped(d) => dropped += d.bytes,
                Got::Exit(exit) => {
                    assert!(self.next().await.is_none(), "the exit is last");
                    return (said, dropped, exit);
                }
                Got::Attached(_) => panic!("attached twice"),
            }
        }
    }
}

/// Wants both outputs from now on.
pub fn listening() -> AttachOpen {
    AttachOpen { stdout: true, stderr: true, ..AttachOpen::default() }
}

/// Wants both outputs and types.
pub fn typing(session: &str) -> AttachOpen {
    AttachOpen { stdin: true, session: session.into(), ..listening() }
}

/// Waits until something is true.
pub async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process lives: a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// The cgroup parent of one container, so that no test meets another.
fn parent(id: &ContainerId) -> String {
    format!("davit-shim-test-{}", id.short())
}

/// The cgroup directories of a container.
pub fn cgroups(id: &ContainerId) -> Vec<PathBuf> {
    cgroups_named(&format!("{}/{id}", parent(id)))
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let cgroups = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let target = fields.nth(1)?;
        fields.next()?.starts_with("cgroup").then(|| PathBuf::from(target))
    });
    cgroups.map(|at| at.join(name)).filter(|at| at.exists()).collect()
}
