//! One process as `/proc` tells it, and what is needed to read its times.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most bytes of a command line that are read.
const COMMAND: usize = 4096;

/// What is known of one process.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Process {
    /// Its id as the host counts.
    pub pid: i32,
    /// Its parent's.
    pub ppid: i32,
    /// Its group's.
    pub pgid: i32,
    /// Its session's.
    pub session: i32,
    /// Number of its terminal; 0 for none.
    pub tty: u32,
    /// The leader of the terminal's group.
    pub tpgid: i32,
    /// One letter.
    pub state: char,
    /// Time used, in ticks.
    pub ticks: u64,
    /// When it began, in ticks after the boot.
    pub began: u64,
    /// The kernel's priority.
    pub priority: i64,
    /// Niceness.
    pub nice: i64,
    /// Threads.
    pub threads: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Resident memory, in kibibytes.
    pub resident: u64,
    /// Memory locked in place, in kibibytes.
    pub locked: u64,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Its own name.
    pub comm: String,
    /// Its arguments in one line.
    pub args: String,
}

impl Process {
    /// Reads a process; none when it has ended.
    pub fn read(pid: i32) -> Option<Self> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let stat = file("stat")?;
        let mut process = Self::of_stat(&String::from_utf8_lossy(&stat))?;
        process.add_status(&String::from_utf8_lossy(&file("status")?));
        let mut line = file("cmdline").unwrap_or_default();
        line.truncate(COMMAND);
        process.args = match words(&line) {
            args if args.is_empty() => format!("[{}]", process.comm),
            args => args,
        };
        Some(process)
    }

    /// The name stands in parentheses, and may hold some itself.
    fn of_stat(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let signed = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let id = |at: usize| i32::try_from(signed(at)?).ok();
        let count = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: id(1)?,
            pgid: id(2)?,
            session: id(3)?,
            tty: u32::try_from(signed(4)?).unwrap_or(0),
            tpgid: id(5)?,
            ticks: count(11)?.saturating_add(count(12)?),
            priority: signed(15)?,
            nice: signed(16)?,
            threads: count(17)?,
            began: count(19)?,
            virtual_bytes: count(20)?,
            ..Self::default()
        })
    }

    fn add_status(&mut self, status: &str) {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let second = |name| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
        let size = |name| field(name)?.split_ascii_whitespace().next()?.parse().ok();
        self.uid = second("Uid").unwrap_or(0);
        self.gid = second("Gid").unwrap_or(0);
        self.resident = size("VmRSS").unwrap_or(0);
        self.locked = size("VmLck").unwrap_or(0);
    }
}

fn words(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    String::from_utf8_lossy(line).replace('\0', " ").trim_end().to_owned()
}

/// What the times of processes are measured by.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Ticks in a second.
    pub hertz: u64,
    /// When this host was booted.
    pub booted: SystemTime,
    /// Now.
    pub now: SystemTime,
    /// Memory in kibibytes.
    pub memory: u64,
}

impl Clock {
    /// Reads it.
    pub fn read() -> io::Result<Self> {
        let number = |path: &str, key: &str| -> io::Result<u64> {
            let text = fs::read_to_string(path)?;
            let found = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok());
            found.ok_or_else(|| io::Error::other(format!("{path} has no {key}")))
        };
        Ok(Self {
            hertz: rustix::param::clock_ticks_per_second().max(1),
            booted: UNIX_EPOCH + Duration::from_secs(number("/proc/stat", "btime ")?),
            now: SystemTime::now(),
            memory: number("/proc/meminfo", "MemTotal:")?.max(1),
        })
    }

    /// A number of ticks as a length of time.
    pub fn length(&self, ticks: u64) -> Duration {
        let part = (ticks % self.hertz) * 1_000_000_000 / self.hertz;
        Duration::new(ticks / self.hertz, u32::try_from(part).unwrap_or(0))
    }

    /// When a process began.
    pub fn began(&self, process: &Process) -> SystemTime {
        self.booted + self.length(process.began)
    }

    /// How long it has lived.
    pub fn lived(&self, process: &Process) -> Duration {
        self.now.duration_since(self.began(process)).unwrap_or_default()
    }
}

/// Names of this host's users and groups, by number. A host that tells none has numbers only.
#[derive(Debug, Default)]
pub struct Names {
    /// Users.
    pub users: HashMap<u32, String>,
    /// Groups.
    pub groups: HashMap<u32, String>,
}

/// Reads the names.
pub fn users() -> Names {
    let read = |path: &str| numbered(&fs::read_to_string(path).unwrap_or_default());
    Names { users: read("/etc/passwd"), groups: read("/etc/group") }
}

fn numbered(text: &str) -> HashMap<u32, String> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_it_likes() {
        let stat = "42 (a) b (c) S 1 42 7 34816 42 0 0 0 0 0 150 50 0 0 20 -5 3 0 9000 8192 5 0";
        let process = Process::of_stat(stat).unwrap();
        assert_eq!((process.pid, process.comm.as_str(), process.state), (42, "a) b (c", 'S'));
        assert_eq!((process.ppid, process.session, process.tty), (1, 7, 34816));
        assert_eq!((process.ticks, process.nice, process.threads, process.began), (200, -5, 3, 9000));
        assert!(Process::of_stat("42 (a) S 1").is_none() && Process::of_stat("").is_none());
    }

    #[test]
    fn arguments_become_one_line() {
        assert_eq!(words(b"sleep\x0060\0"), "sleep 60");
        assert_eq!(words(b""), "");
        assert_eq!(words(b"\xff\x1b[2J\0"), "\u{fffd}\u{1b}[2J");
    }

    #[test]
    fn accounts_are_read_by_number() {
        let names = numbered("root:x:0:0::/root:/bin/sh\nbad\n:x:5:\nwww:x:33:33\n");
        assert_eq!((names.len(), names[&0].as_str(), names[&33].as_str()), (2, "root", "www"));
    }
}
