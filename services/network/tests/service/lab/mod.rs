//! A host of its own for each test: a network namespace that the service runs in, with containers and neighbours in
//! further ones. Nothing of it reaches the machine, and all of it goes with the test's threads.

pub mod engine;
pub mod talk;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use davit_proto::id::ContainerId;
use davit_sys::namespace::{self, Kind};

/// Runs a test on a thread in a network namespace of its own, as root; otherwise says that it was skipped.
pub fn on_a_host(test: impl AsyncFnOnce() + Send + 'static) {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = std::thread::spawn(move || {
        namespace::leave(Kind::Net).unwrap();
        namespace::loopback_up().unwrap();
        // Workers inherit this thread's namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

fn missing() -> Option<&'static str> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Some("needs root");
    }
    let runs = |program: &str, arg: &str| Command::new(program).arg(arg).output().is_ok();
    if !runs("ip", "-V") {
        return Some("needs ip (iproute2)");
    }
    (!runs("nft", "-v")).then_some("needs nft (nftables)")
}

/// A network namespace that a test made, kept by a descriptor as a shim keeps a container's.
#[derive(Debug)]
pub struct Place {
    netns: OwnedFd,
    /// What a container in it is called.
    pub id: ContainerId,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let netns = std::thread::spawn(|| {
            namespace::leave(Kind::Net).unwrap();
            namespace::open_own(Kind::Net).unwrap()
        });
        Self { netns: netns.join().unwrap(), id: ContainerId::generate().unwrap() }
    }

    /// An empty one for a later life of the same container.
    pub fn again(&self) -> Self {
        Self { netns: Self::new().netns, id: self.id.clone() }
    }

    /// The host that the test runs on.
    pub fn here() -> Self {
        Self { netns: namespace::open_own(Kind::Net).unwrap(), id: ContainerId::generate().unwrap() }
    }

    /// The number of its descriptor in this process.
    pub fn fd(&self) -> i32 {
        self.netns.as_raw_fd()
    }

    /// Its inode.
    pub fn inode(&self) -> u64 {
        namespace::inode(&self.netns).unwrap()
    }

    /// Does something in it.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                namespace::enter(self.netns.as_fd(), Kind::Net).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }

    /// Runs `ip` in it.
    pub fn ip(&self, args: &str) -> String {
        self.within(|| run("ip", args))
    }

    /// Writes a setting of its kernel.
    pub fn sysctl(&self, key: &str, value: &str) {
        self.within(|| std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap());
    }

    /// Reads one.
    pub fn setting(&self, key: &str) -> String {
        self.within(|| std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_owned())
    }

    /// Makes another host beside this one, with a cable between them: `192.0.2.1` here, `192.0.2.2` there.
    pub fn neighbour(&self) -> Self {
        let there = Self::new();
        self.cable(&there, "cable");
        self.ip("addr add 192.0.2.1/24 dev cable");
        there.ip("addr add 192.0.2.2/24 dev uplink");
        there
    }

    /// Lays a cable from here to there, where it is called `uplink`.
    pub fn cable(&self, there: &Self, name: &str) {
        // A thread of that namespace is what `ip` can name.
        there.within(|| {
            let task = std::fs::read_link("/proc/thread-self").unwrap();
            let task = task.file_name().unwrap().to_str().unwrap().to_owned();
            self.ip(&format!("link add {name} type veth peer name uplink netns {task}"));
        });
        self.ip(&format!("link set {name} up"));
        there.ip("link set lo up");
        there.ip("link set uplink up");
    }
}

/// Runs a program in the calling thread's namespace; it must succeed.
pub fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for what comes within ten seconds.
#[track_caller]
pub fn until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it did not come within ten seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}
