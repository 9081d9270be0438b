//! A busybox image, a bundle of its own for each container, and a way to run it and read what it wrote.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use davit_sys::file::Flock;
use davit_sys::process::Exit;
use serde_json::{Value, json};

use crate::cgroup::ContainerCgroup;
use crate::init::parent::{Configured, Kept};
use crate::init::{Configuration, Init, InitError, Shape, Stdio};

const BUSYBOX: &str = "/bin/busybox";
/// What Docker gives by default.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Why nothing can be run here.
pub fn missing() -> Option<&'static str> {
    match (effective_root(), Path::new(BUSYBOX).exists()) {
        (false, _) => Some("needs root"),
        (_, false) => Some("needs /bin/busybox (busybox-static)"),
        _ => None,
    }
}

fn effective_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|l| l == "Uid:\t0\t0\t0\t0")
}

fn parent() -> String {
    format!("davit-start-{}", std::process::id())
}

/// Takes the cgroup parent away again.
pub fn clean_up() {
    remove_parent(&parent());
}

/// Takes a cgroup parent away, from wherever it is.
pub fn remove_parent(parent: &str) {
    let layout = crate::cgroup::Layout::of_this_host().unwrap();
    for at in layout.legacy.into_iter().map(|l| l.at).chain(layout.unified) {
        let gone = fs::remove_dir(at.join(parent));
        assert!(gone.is_ok() || !at.join(parent).exists(), "{parent} cannot be removed: {gone:?}");
    }
}

/// The same where the hierarchy is not mounted.
pub fn clean_up_unified() {
    let root = davit_sys::mount::FileSystem::open("cgroup2").unwrap();
    let root = root.mount(davit_sys::mount::Attributes::NONE).unwrap();
    davit_sys::file::remove_dir_at(root, parent().as_ref()).unwrap();
}

/// One container to be.
pub struct Container {
    pub dir: tempfile::TempDir,
    pub spec: Value,
    pub shape: Shape,
    pub cgroup: ContainerCgroup,
    pub lock: Flock,
    id: String,
}

/// What it wrote and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub out: String,
    pub exit: Exit,
}

impl Container {
    /// A container that will run a script in busybox's shell.
    pub fn shell(script: &str) -> Self {
        Self::command(&["sh", "-c", script])
    }

    pub fn command(args: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new().prefix("davit-start").tempdir_in("/var/tmp").unwrap();
        let lower = dir.path().join("lower");
        for name in ["bin", "etc", "tmp", "home", "lib"] {
            fs::create_dir_all(lower.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, lower.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "mkdir", "mount", "sleep", "hostname", "stat", "readlink", "env",
            "mknod", "grep", "ip", "test", "echo", "kill", "touch", "unshare", "true", "setsid", "stty",
            "chmod", "dd", "chown", "rm", "head",
        ] {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\n")
            .unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\nstaff:x:50:app\n").unwrap();
        let spec = spec(dir.path(), args);
        let id = format!("c{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let cgroup = ContainerCgroup::create(&parent(), &id).unwrap();
        let lock = Flock::try_lock(&dir.path().join("lock")).unwrap().unwrap();
        Self { dir, spec, shape: Shape::standard(), cgroup, lock, id }
    }

    /// Makes its cgroup once more.
    pub fn remake_cgroup(&mut self) {
        self.cgroup = ContainerCgroup::create(&parent(), &self.id).unwrap();
    }

    /// Where its image lies.
    pub fn lower(&self) -> PathBuf {
        self.dir.path().join("lower")
    }

    /// Changes the spec by a JSON pointer.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (above, key) = pointer.rsplit_once('/').unwrap();
        let above = self.spec.pointer_mut(above).unwrap();
        match above {
            Value::Array(list) => list.push(value),
            other => other[key] = value,
        }
        self
    }

    #[must_use]
    pub fn annotated(self, key: &str, value: &str) -> Self {
        self.with(&format!("/annotations/{key}"), json!(value))
    }

    pub fn prepare(&self, kept: Option<&Kept>) -> Init {
        Init::prepare(&self.shape, &self.cgroup, kept).unwrap()
    }

    /// Up to the gate.
    pub fn configure(&self, init: &mut Init, stdio: Stdio) -> Result<Configured, InitError> {
        let spec = serde_json::from_value(self.spec.clone()).unwrap();
        init.configure(Configuration {
            spec: &spec,
            bundle: self.dir.path(),
            lock: &self.lock,
            cgroup: &self.cgroup,
            stdio,
        })
    }

    /// The whole life.
    pub fn try_run(&self) -> Result<Outcome, InitError> {
        let mut init = Init::prepare(&self.shape, &self.cgroup, None)?;
        let (stdio, reader) = piped();
        self.configure(&mut init, stdio)?;
        init.start()?;
        let out = read(reader);
        Ok(Outcome { out, exit: init.reap_blocking().unwrap() })
    }

    pub fn run(&self) -> Outcome {
        self.try_run().unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.cgroup.kill().unwrap();
        self.cgroup.remove().unwrap();
    }
}

/// Nothing to read, one pipe for both outputs.
pub fn piped() -> (Stdio, OwnedFd) {
    let (reader, writer) = davit_sys::fd::pipe(65536).unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    (Stdio::Given([null.into(), writer.try_clone().unwrap(), writer]), reader)
}

/// Everything until the last writer has gone.
pub fn read(reader: OwnedFd) -> String {
    let mut out = Vec::new();
    fs::File::from(reader).read_to_end(&mut out).unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

fn spec(dir: &Path, args: &[&str]) -> Value {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let overlay = [
        format!("lowerdir={}", path("lower")),
        format!("upperdir={}", path("upper")),
        format!("workdir={}", path("work")),
        "volatile".to_owned(),
    ];
    let set = json!(CAPABILITIES);
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "unused"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/", "type": "overlay", "source": "overlay", "options": overlay},
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}
        ],
        "process": {
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "COLOUR=red"],
            "capabilities": {"bounding": set, "effective": set, "permitted": set}
        },
        "annotations": {},
        "linux": {"resources": {"pids": {"limit": 4096}}, "sysctl": {}, "devices": []}
    })
}
