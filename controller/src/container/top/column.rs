//! The columns of `top`, by the names and options of ps(1).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use super::process::{Clock, Names, Process};
use crate::error::Error;

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Uid,
    Group,
    Gid,
    Pid,
    Ppid,
    Pgid,
    Session,
    Usage,
    CpuPercent,
    MemoryPercent,
    VirtualSize,
    ResidentSize,
    Tty,
    State,
    StateLetter,
    Start,
    Time,
    Lived,
    LivedSeconds,
    Name,
    Command,
    Threads,
    Nice,
    Priority,
}

/// Names that ps(1) knows, what they show, and their heads.
const KNOWN: [(&[&str], Kind, &str); 25] = [
    (&["user", "euser"], Kind::User, "USER"),
    (&["uid", "euid"], Kind::Uid, "UID"),
    (&["group", "egroup"], Kind::Group, "GROUP"),
    (&["gid", "egid"], Kind::Gid, "GID"),
    (&["pid", "tgid"], Kind::Pid, "PID"),
    (&["ppid"], Kind::Ppid, "PPID"),
    (&["pgid", "pgrp"], Kind::Pgid, "PGID"),
    (&["sid", "sess", "session"], Kind::Session, "SID"),
    (&["c"], Kind::Usage, "C"),
    (&["%cpu", "pcpu"], Kind::CpuPercent, "%CPU"),
    (&["%mem", "pmem"], Kind::MemoryPercent, "%MEM"),
    (&["vsz", "vsize"], Kind::VirtualSize, "VSZ"),
    (&["rss", "rssize", "rsz"], Kind::ResidentSize, "RSS"),
    (&["tty", "tt", "tname"], Kind::Tty, "TTY"),
    (&["stat"], Kind::State, "STAT"),
    (&["s", "state"], Kind::StateLetter, "S"),
    (&["stime", "start", "start_time", "bsdstart"], Kind::Start, "START"),
    (&["time", "cputime", "bsdtime"], Kind::Time, "TIME"),
    (&["etime"], Kind::Lived, "ELAPSED"),
    (&["etimes"], Kind::LivedSeconds, "ELAPSED"),
    (&["comm", "ucmd", "ucomm"], Kind::Name, "COMMAND"),
    (&["args", "cmd", "command"], Kind::Command, "COMMAND"),
    (&["nlwp", "thcount"], Kind::Threads, "NLWP"),
    (&["ni", "nice"], Kind::Nice, "NI"),
    (&["pri", "priority"], Kind::Priority, "PRI"),
];

/// docker's columns, which are those of `ps -ef`.
const FULL: [(Kind, &str); 8] = [
    (Kind::User, "UID"),
    (Kind::Pid, "PID"),
    (Kind::Ppid, "PPID"),
    (Kind::Usage, "C"),
    (Kind::Start, "STIME"),
    (Kind::Tty, "TTY"),
    (Kind::Time, "TIME"),
    (Kind::Command, "CMD"),
];
/// Those of `ps u`.
const USER: [(Kind, &str); 11] = [
    (Kind::User, "USER"),
    (Kind::Pid, "PID"),
    (Kind::CpuPercent, "%CPU"),
    (Kind::MemoryPercent, "%MEM"),
    (Kind::VirtualSize, "VSZ"),
    (Kind::ResidentSize, "RSS"),
    (Kind::Tty, "TTY"),
    (Kind::State, "STAT"),
    (Kind::Start, "START"),
    (Kind::Time, "TIME"),
    (Kind::Command, "COMMAND"),
];
/// Those of `ps` alone.
const BRIEF: [(Kind, &str); 4] =
    [(Kind::Pid, "PID"), (Kind::Tty, "TTY"), (Kind::Time, "TIME"), (Kind::Command, "CMD")];

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    kind: Kind,
    title: String,
}

/// The columns that options of ps(1) choose. Which processes are listed is not theirs to choose: options that only do
/// that are passed over.
///
/// # Errors
/// When an option is not one of those that choose columns or processes.
pub fn chosen(options: &[String]) -> Result<Vec<Column>, Error> {
    let set = |columns: &[(Kind, &str)]| -> Vec<Column> {
        columns.iter().map(|(kind, title)| Column { kind: *kind, title: (*title).to_owned() }).collect()
    };
    let mut named: Vec<Column> = Vec::new();
    let mut format = set(if options.is_empty() { &FULL } else { &BRIEF });
    let mut words = options.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let letters = word.strip_prefix('-').unwrap_or(word);
        if letters.starts_with('-') || letters.is_empty() {
            return Err(unknown(word));
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'e' | 'A' | 'a' | 'x' | 'w' | 'd' => {}
                'f' => format = set(&FULL),
                'u' => format = set(&USER),
                'o' => {
                    let rest = letters.get(at + 1..).unwrap_or_default();
                    let list = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
                    named.extend(list_of(list)?);
                    break;
                }
                _ => return Err(unknown(word)),
            }
        }
    }
    Ok(if named.is_empty() { format } else { named })
}

fn unknown(word: &str) -> Error {
    Error::Invalid {
        what: "ps option",
        value: word.chars().take(100).collect(),
        rule: "only -e, -f, a, u, x, w and -o with columns are served".to_owned(),
    }
}

/// `pid,args`, or `pid=HEAD`, whose head goes to the end.
fn list_of(list: &str) -> Result<Vec<Column>, Error> {
    let (list, head) = match list.split_once('=') {
        Some((list, head)) => (list, Some(head)),
        None => (list, None),
    };
    let mut columns = Vec::new();
    for name in list.split([',', ' ']) {
        let found = KNOWN.iter().find(|(names, ..)| names.contains(&name.to_ascii_lowercase().as_str()));
        let Some((_, kind, title)) = found else {
            return Err(Error::Invalid {
                what: "ps column",
                value: name.chars().take(100).collect(),
                rule: "no such column".to_owned(),
            });
        };
        columns.push(Column { kind: *kind, title: (*title).to_owned() });
    }
    if let (Some(head), Some(last)) = (head, columns.last_mut()) {
        head.clone_into(&mut last.title);
    }
    Ok(columns)
}

impl Column {
    /// Its head.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What it shows of a process.
    pub fn cell(&self, process: &Process, clock: &Clock, names: &Names) -> String {
        let named = |name: Option<&String>, number: u32| name.cloned().unwrap_or_else(|| number.to_string());
        match self.kind {
            Kind::User => named(names.users.get(&process.uid), process.uid),
            Kind::Uid => process.uid.to_string(),
            Kind::Group => named(names.groups.get(&process.gid), process.gid),
            Kind::Gid => process.gid.to_string(),
            Kind::Pid => process.pid.to_string(),
            Kind::Ppid => process.ppid.to_string(),
            Kind::Pgid => process.pgid.to_string(),
            Kind::Session => process.session.to_string(),
            Kind::Usage => (usage(process, clock) / 10).min(99).to_string(),
            Kind::CpuPercent => tenths(usage(process, clock)),
            Kind::MemoryPercent => tenths(process.resident.saturating_mul(1000) / clock.memory),
            Kind::VirtualSize => (process.virtual_bytes / 1024).to_string(),
            Kind::ResidentSize => process.resident.to_string(),
            Kind::Tty => tty(process.tty),
            Kind::State => state(process),
            Kind::StateLetter => process.state.to_string(),
            Kind::Start => start(clock.began(process), clock.now),
            Kind::Time => hours(clock.length(process.ticks)),
            Kind::Lived => lived(clock.lived(process)),
            Kind::LivedSeconds => clock.lived(process).as_secs().to_string(),
            Kind::Name => process.comm.clone(),
            Kind::Command => process.args.clone(),
            Kind::Threads => process.threads.to_string(),
            Kind::Nice => process.nice.to_string(),
            Kind::Priority => (39 - process.priority).to_string(),
        }
    }
}

/// Processor time in thousandths of the time lived.
fn usage(process: &Process, clock: &Clock) -> u64 {
    let (used, lived) = (clock.length(process.ticks).as_millis(), clock.lived(process).as_millis().max(1));
    u64::try_from(used.saturating_mul(1000) / lived).unwrap_or(u64::MAX)
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

/// The terminal by its number, as the kernel packs it.
fn tty(number: u32) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => format!("{major}:{minor}"),
    }
}

/// The letter, and what ps(1) adds to it.
fn state(process: &Process) -> String {
    let mut text = process.state.to_string();
    for (holds, letter) in [
        (process.nice < 0, '<'),
        (process.nice > 0, 'N'),
        (process.locked > 0, 'L'),
        (process.session == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.tty != 0 && process.tpgid == process.pgid, '+'),
    ] {
        if holds {
            text.push(letter);
        }
    }
    text
}

/// The hour of today, the day of this year, or the year.
fn start(began: SystemTime, now: SystemTime) -> String {
    let local = |at: SystemTime| {
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let at = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0));
        at.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_zoned(TimeZone::system())
    };
    let (began, now) = (local(began), local(now));
    let form = if began.date() == now.date() {
        "%H:%M"
    } else if began.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    began.strftime(form).to_string()
}

fn hours(length: Duration) -> String {
    let seconds = length.as_secs();
    let days = if seconds >= 86_400 { format!("{}-", seconds / 86_400) } else { String::new() };
    format!("{days}{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn lived(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds < 3600 { format!("{:02}:{:02}", seconds / 60, seconds % 60) } else { hours(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(options: &[&str]) -> Result<String, Error> {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        Ok(chosen(&options)?.iter().map(Column::title).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn options_choose_columns() {
        for (options, wanted) in [
            (&[][..], "UID PID PPID C STIME TTY TIME CMD"),
            (&["-ef"], "UID PID PPID C STIME TTY TIME CMD"),
            (&["aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["-aux"], "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            (&["-e"], "PID TTY TIME CMD"),
            (&["-o", "pid,args"], "PID COMMAND"),
            (&["-eo", "pid,args=WHAT"], "PID WHAT"),
            (&["axo", "pid", "-ocomm"], "PID COMMAND"),
        ] {
            assert_eq!(titles(options).unwrap(), wanted, "{options:?}");
        }
        for bad in [&["-o"][..], &["-o", "colour"], &["--forest"], &["-p", "1"], &["-"], &["e;reboot"]] {
            assert!(titles(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_ps_times() {
        assert_eq!(hours(Duration::from_secs(3_661)), "01:01:01");
        assert_eq!(hours(Duration::from_secs(90_061)), "1-01:01:01");
        assert_eq!(lived(Duration::from_secs(61)), "01:01");
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert_eq!(start(now, now).len(), 5);
        assert_eq!(start(UNIX_EPOCH + Duration::from_secs(86_400 * 400), now), "1971");
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!((tty(0).as_str(), tty(136 << 8 | 3).as_str()), ("?", "pts/3"));
        assert_eq!((tty(4 << 8 | 1).as_str(), tty(4 << 8 | 64).as_str()), ("tty1", "ttyS0"));
        assert_eq!(tty(5 << 8 | 1), "console");
    }
}
