//! `--init`: a pid 1 that forwards signals to the command and reaps everything, with as little as can be.

use std::io;

use davit_sys::privilege::{self, Capabilities};
use davit_sys::process::{self, Exit, SignalWait};

use super::error::{Failure, Step};

/// Which side of the fork one is on.
#[derive(Debug)]
pub enum Side {
    /// Goes on to be the command.
    Command,
    /// Was the reaper, and the command has ended.
    Reaper(Exit),
}

/// Forks the command off and looks after it until it ends. `let_go` closes what only the command needs: the shim's
/// socket, so that the command's `execve` closes it for good, and the streams.
pub fn fork(capabilities: Capabilities, let_go: impl FnOnce()) -> Result<Side, Failure> {
    // Blocked before the fork: a signal that comes meanwhile waits.
    let signals = SignalWait::block_all().step("block signals")?;
    match process::fork().step("fork the command")? {
        process::Fork::Child => {
            // A session of its own: it may take the terminal, and the reaper is out of its signals' way.
            process::set_session().step("lead a session")?;
            Ok(Side::Command)
        }
        process::Fork::Parent(command) => {
            let_go();
            privilege::limit_bounding(capabilities).step("limit the reaper")?;
            privilege::set_capabilities(capabilities, capabilities, Capabilities::default())
                .step("limit the reaper")?;
            look_after(command, &signals).step("look after the command").map(Side::Reaper)
        }
    }
}

fn look_after(command: i32, signals: &SignalWait) -> io::Result<Exit> {
    loop {
        let signal = signals.next()?;
        if signal != process::SIGCHLD {
            // One that has just ended gets nothing, and its SIGCHLD is on the way.
            process::signal_pid(command, signal)?;
            continue;
        }
        while let Some((pid, exit)) = process::try_wait_any()? {
            if pid == command {
                return Ok(exit);
            }
        }
    }
}
