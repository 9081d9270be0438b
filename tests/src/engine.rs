//! An engine of a test's own, and the command line that talks to it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result};

use crate::host::{Host, first_child};
use crate::wait::until;

/// How the image, volume and network services run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Services {
    /// Inside `davitd`.
    Embedded,
    /// Each as a process of its own, on a socket of its own.
    Separate,
}

impl Services {
    /// What `DAVIT_TEST_SERVICES` says: the whole suite is run both ways.
    ///
    /// # Panics
    /// When it says something else.
    #[must_use]
    pub fn of_this_run() -> Self {
        match std::env::var("DAVIT_TEST_SERVICES").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("separate") => Self::Separate,
            Ok(other) => panic!("DAVIT_TEST_SERVICES={other}: must be embedded or separate"),
        }
    }
}

/// `davitd` on a [`Host`]. Dropping it ends the host and all on it.
#[derive(Debug)]
pub struct Engine {
    host: Host,
    services: Services,
    processes: Vec<(&'static str, Child)>,
    flags: Vec<String>,
    failpoint: String,
    pool: usize,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The last line of standard output, without the newline: an id, usually.
    #[must_use]
    pub fn line(&self) -> &str {
        self.stdout.trim_end().lines().next_back().unwrap_or_default()
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let code = output.status.code().or_else(|| output.status.signal().map(|s| 128 + s)).unwrap_or(-1);
        Self {
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The flag by which an engine on a host knows the driver of volumes in image files as `loop`.
#[must_use]
pub fn loop_driver(host: &Host) -> String {
    format!("--volume-driver=loop=unix://{}/loop.sock", host.folder().display())
}

/// Flags that are the volume service's, wherever it runs.
fn is_of_volumes(flag: &str) -> bool {
    flag.starts_with("--volume-driver=")
}

/// What `DAVIT_TEST_POOL` says: a whole run with shims that are prepared ahead.
fn pool_of_this_run() -> usize {
    std::env::var("DAVIT_TEST_POOL").ok().and_then(|most| most.parse().ok()).unwrap_or(0)
}

/// Folder that builds write to.
#[must_use]
pub fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// Folder of the release binaries: `DAVIT_BIN_DIR`, or where `deploy/build` leaves them.
///
/// # Panics
/// When they are not there.
#[must_use]
pub fn binaries() -> PathBuf {
    let folder = std::env::var_os("DAVIT_BIN_DIR").map_or_else(|| target().join("release"), PathBuf::from);
    assert!(folder.join("davitd").exists(), "no davitd in {}: run deploy/build first", folder.display());
    fs::canonicalize(&folder).unwrap_or(folder)
}

impl Engine {
    /// Starts an engine on a host of its own and gives it the busybox image.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> Result<Self> {
        let engine = Self::start_empty()?;
        engine.load_busybox()?;
        Ok(engine)
    }

    /// Starts an engine that has no image.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_empty() -> Result<Self> {
        Self::start_with(Services::of_this_run(), &[])
    }

    /// Starts an engine with further flags for `davitd`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_with(services: Services, flags: &[&str]) -> Result<Self> {
        Self::start_on(Host::new()?, services, flags)
    }

    /// Starts an engine on a host that was made ready for it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_on(host: Host, services: Services, flags: &[&str]) -> Result<Self> {
        let mut engine = Self {
            host,
            services,
            processes: Vec::new(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            failpoint: String::new(),
            pool: pool_of_this_run(),
        };
        engine.start_services()?;
        engine.start_controller()?;
        Ok(engine)
    }

    /// Says how many shims the controller prepares ahead from its next start on. None by default: they would be counted,
    /// and have the addresses that tests expect.
    pub fn set_pool(&mut self, most: usize) {
        self.pool = most;
    }

    /// Whether this is the id of a shim that is kept ready, and of no container.
    #[must_use]
    pub fn is_ahead(&self, id: &str) -> bool {
        let bundle = self.seen_root().join("containers").join(id);
        bundle.join("ahead").exists() && !bundle.join("spec.json").exists()
    }

    /// The host it is on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Reboots its host: no process, mount, link or run directory of before is there any more. `between` then makes
    /// the host ready, and the engine is started, with a failpoint set or none.
    ///
    /// # Errors
    /// When the host cannot be made anew, or the engine does not come up.
    pub fn reboot(&mut self, failpoint: &str, between: impl FnOnce(&mut Host) -> Result<()>) -> Result<()> {
        self.host.kill_all()?;
        for (_, mut child) in self.processes.drain(..) {
            child.wait()?;
        }
        between(&mut self.host)?;
        if self.run_dir().exists() {
            fs::remove_dir_all(self.run_dir())?;
        }
        failpoint.clone_into(&mut self.failpoint);
        let started = self.start_services().and_then(|()| self.start_controller());
        self.failpoint.clear();
        started
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.host.folder().join("root")
    }

    /// Its root directory as this test sees it, also when it is a disk that only the host has mounted.
    #[must_use]
    pub fn seen_root(&self) -> PathBuf {
        self.host.seen_at(&self.root().display().to_string())
    }

    /// Its run directory.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.host.folder().join("run")
    }

    /// The controller's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("davitd.sock")
    }

    fn spawn(&mut self, name: &'static str, arguments: &[String]) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.log(name))?;
        let child = self
            .host
            .command(binaries().join(name))
            .args(arguments)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .env("DAVIT_FAILPOINT", &self.failpoint)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        self.processes.push((name, child));
        Ok(())
    }

    /// Log file of one of its processes.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.host.folder().join(format!("{name}.log"))
    }

    fn service_socket(&self, name: &str) -> PathBuf {
        self.run_dir().join(format!("{name}.sock"))
    }

    fn start_services(&mut self) -> Result<()> {
        fs::create_dir_all(self.run_dir())?;
        if self.services == Services::Embedded {
            return Ok(());
        }
        ["davit-image", "davit-volume", "davit-network"]
            .into_iter()
            .try_for_each(|name| self.start_service(name))
    }

    /// Starts a service as a process of its own: `davit-image`, `davit-volume`, `davit-network`, `davit-build`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_service(&mut self, name: &'static str) -> Result<()> {
        let socket = name.trim_start_matches("davit-");
        let path = self.service_socket(socket);
        let listen = format!("unix://{}", path.display());
        let root = self.root().display().to_string();
        let mut arguments = vec!["--root".into(), root, "--listen".into(), listen];
        if socket == "network" {
            arguments.extend(["--run".into(), self.run_dir().display().to_string()]);
            arguments.extend(["--instance".into(), self.host.name()]);
            arguments.extend(["--bridge".into(), "davit0".into()]);
        }
        if socket == "build" {
            arguments.extend(["--engine".into(), format!("unix://{}", self.socket().display())]);
        }
        if socket == "volume" {
            arguments.extend(self.flags.iter().filter(|flag| is_of_volumes(flag)).cloned());
        }
        self.spawn(name, &arguments)?;
        // One that was killed left its socket behind.
        until(&format!("{name} listens"), || std::os::unix::net::UnixStream::connect(&path).ok());
        Ok(())
    }

    /// The services that are processes of their own.
    #[must_use]
    pub fn service_names(&self) -> Vec<&'static str> {
        let services = self.processes.iter().map(|(name, _)| *name);
        services.filter(|name| ["davit-image", "davit-volume", "davit-network"].contains(name)).collect()
    }

    /// Starts the controller or a service again, by name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_process(&mut self, name: &'static str) -> Result<()> {
        if name == "davitd" { self.start_controller() } else { self.start_service(name) }
    }

    /// Starts the driver of volumes in image files; the flag of [`loop_driver`] names it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_loop_driver(&mut self) -> Result<()> {
        let socket = self.host.folder().join("loop.sock");
        let images = self.host.folder().join("images").display().to_string();
        let listen = format!("unix://{}", socket.display());
        self.spawn("davit-volume-loop", &["--root".into(), images, "--listen".into(), listen])?;
        until("davit-volume-loop listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
        Ok(())
    }

    /// Starts `davitd` and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller(&mut self) -> Result<()> {
        let mut arguments: Vec<String> = vec![
            "--root".into(),
            self.root().display().to_string(),
            "--run".into(),
            self.run_dir().display().to_string(),
            "--listen".into(),
            format!("unix://{}", self.socket().display()),
            "--cgroup-parent".into(),
            format!("/{}", self.host.name()),
            "--bridge".into(),
            "davit0".into(),
        ];
        if self.services == Services::Separate {
            for service in ["image", "volume", "network", "build"] {
                arguments.push(format!("--{service}-service"));
                arguments.push(format!("unix://{}", self.service_socket(service).display()));
            }
        }
        arguments.push(format!("--pool={}", self.pool));
        let elsewhere = |flag: &&String| self.services == Services::Separate && is_of_volumes(flag);
        arguments.extend(self.flags.iter().filter(|flag| !elsewhere(flag)).cloned());
        self.spawn("davitd", &arguments)?;
        self.wait_until_it_answers_or(|engine| !engine.failpoint.is_empty() && engine.has_ended("davitd"));
        let builds = self.processes.iter().any(|(name, _)| *name == "davit-build");
        if self.services == Services::Separate && !builds {
            self.start_service("davit-build")?;
        }
        Ok(())
    }

    /// Starts `davitd` with failpoints set, such as `create.intent=abort`. It may have ended at one when this returns: what
    /// it found at its start may have led there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_controller_at(&mut self, failpoint: &str) -> Result<()> {
        failpoint.clone_into(&mut self.failpoint);
        let started = self.start_controller();
        self.failpoint.clear();
        started
    }

    /// Makes sure that the controller is dead, whether or not it died by itself.
    ///
    /// # Errors
    /// When it was never started.
    pub fn end_controller(&mut self) -> Result<()> {
        let at =
            self.processes.iter().position(|(name, _)| *name == "davitd").context("davitd was started")?;
        let (_, mut child) = self.processes.remove(at);
        // One that has just died is there no longer, and what held it is there for a moment still.
        let killed = until("davitd is dead or can be killed", || match child.try_wait() {
            Ok(None) => first_child(child.id()).and_then(|pid| kill_pid(pid).ok()).map(Ok),
            Ok(Some(_)) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        killed?;
        child.wait()?;
        Ok(())
    }

    /// Whether one of its processes ended by itself.
    pub fn has_ended(&mut self, name: &str) -> bool {
        let child = self.processes.iter_mut().find(|(known, _)| *known == name);
        child.is_some_and(|(_, child)| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// Waits until the controller answers.
    ///
    /// # Panics
    /// When it does not, with the end of its log.
    pub fn wait_until_it_answers(&mut self) {
        self.wait_until_it_answers_or(|_| false);
    }

    fn wait_until_it_answers_or(&mut self, enough: impl Fn(&mut Self) -> bool) {
        let begun = std::time::Instant::now();
        while self.davit(["version"]).code != 0 && !enough(self) {
            if begun.elapsed() > crate::wait::DEADLINE {
                let log = fs::read_to_string(self.log("davitd")).unwrap_or_default();
                panic!("davitd does not answer; the end of its log:\n{}", tail(&log, 4000));
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// `kill -9` of the controller.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_controller(&mut self) -> Result<()> {
        self.kill("davitd")
    }

    /// `kill -9` of one of its processes by name.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let at =
            self.processes.iter().position(|(n, _)| *n == name).with_context(|| format!("{name} runs"))?;
        let (_, mut child) = self.processes.remove(at);
        kill_pid(Host::inner_pid(&child))?;
        child.wait()?;
        Ok(())
    }

    /// The controller's process id, as this test sees it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn controller_pid(&self) -> Result<u32> {
        let (_, child) = self.processes.iter().find(|(n, _)| *n == "davitd").context("davitd runs")?;
        Ok(Host::inner_pid(child))
    }

    /// A `davit` command, to be run by the caller.
    #[must_use]
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.host.command(binaries().join("davit"));
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.args(arguments);
        command
    }

    /// Runs `davit` with nothing on its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn davit<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Answer {
        let output = self.command(arguments).stdin(Stdio::null()).output().expect("start davit");
        Answer::from(output)
    }

    /// Runs `davit`, which must succeed.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn ok<S: AsRef<std::ffi::OsStr> + std::fmt::Debug>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Answer {
        let arguments: Vec<S> = arguments.into_iter().collect();
        let answer = self.davit(&arguments);
        assert_eq!(answer.code, 0, "davit {arguments:?} failed: {answer:#?}\n{}", self.end_of_log());
        answer
    }

    /// Runs `davit` with bytes on its standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not take them.
    pub fn davit_with_input<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Answer {
        speak(&mut self.command(arguments), input)
    }

    /// Runs `davit` with these variables and this text on its standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not take it.
    pub fn davit_in(&self, environment: &[(&str, &str)], arguments: &[&str], input: &str) -> Answer {
        speak(self.command(arguments).envs(environment.iter().copied()), input.as_bytes())
    }

    /// Loads Debian's busybox as `busybox:latest`.
    ///
    /// # Errors
    /// When the image cannot be made or loaded.
    pub fn load_busybox(&self) -> Result<()> {
        let archive = crate::image::busybox()?;
        self.ok(["load", "-q", "-i", &archive.display().to_string()]);
        Ok(())
    }

    /// The last 4,000 bytes of the controller's log, for failures.
    #[must_use]
    pub fn end_of_log(&self) -> String {
        tail(&fs::read_to_string(self.log("davitd")).unwrap_or_default(), 4000)
    }

    /// The network namespace of a container that runs.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn place(&self, container: &str) -> Result<crate::place::Place> {
        let pid = self.field(container, "{{.State.Pid}}");
        crate::place::Place::open(&self.host.seen_at(&format!("/proc/{pid}/ns/net")))
    }

    /// One field of `inspect` by a Go template.
    #[must_use]
    pub fn field(&self, container: &str, template: &str) -> String {
        self.ok(["inspect", "--format", template, container]).stdout.trim_end().to_owned()
    }

    /// Process ids, as this test sees them, of everything on the host whose command line has `needle`.
    #[must_use]
    pub fn processes_with(&self, needle: &str) -> Vec<u32> {
        let listed = self.host.command("pgrep").args(["-f", needle]).output();
        let Ok(listed) = listed else { return Vec::new() };
        String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// `kill -9` of a process id as the host sees it.
    ///
    /// # Errors
    /// When the process does not exist.
    pub fn kill_on_host(&self, pid: &str) -> Result<()> {
        let killed = self.host.command("kill").args(["-9", pid]).output()?;
        anyhow::ensure!(killed.status.success(), "kill {pid}: {}", String::from_utf8_lossy(&killed.stderr));
        Ok(())
    }
}

fn kill_pid(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL)?;
    Ok(())
}

fn tail(text: &str, bytes: usize) -> String {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default().to_owned()
}

/// Runs a command with bytes on its standard input.
fn speak(command: &mut Command, input: &[u8]) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start davit");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let bytes = input.to_vec();
    // Beside reading: a command that echoes would fill its pipe otherwise.
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("wait for davit");
    if let Err(error) = writer.join().expect("the writer does not panic") {
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "write to davit");
    }
    Answer::from(output)
}
