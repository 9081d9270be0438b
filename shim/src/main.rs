//! One process a container. Sync until here: picks what to be before any thread exists.

mod api;
mod bundle;
mod cgroup;
mod copy;
mod failpoint;
mod grpc;
#[expect(dead_code, reason = "restart builds on what is not called yet")]
mod init;
mod launch;
mod names;
mod options;
mod relay;
mod serve;
mod stdio;
mod task;
mod trace;
mod watched;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use davit_proto::status::chain;
use options::Options;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let command = words.next().unwrap_or_default();
    // It was executed by the number of a descriptor, which is what lists would show; a name is not worth failing for.
    let _ = davit_sys::process::set_name(c"davit-shim");
    match command.to_str() {
        Some("init") => init::child::run(),
        Some("enter") => init::enter::run(),
        Some("exec") => init::exec_child::run(),
        Some("guard") => init::guard::run(),
        Some("copy") => copy::run(),
        Some("launch") => told(launch(words)),
        Some("serve") => told(serve(words)),
        Some("--list-failpoints") => told(list_failpoints()),
        _ => {
            eprintln!("davit-shim: unknown command {command:?}: it is run by davitd");
            ExitCode::from(2)
        }
    }
}

fn launch(words: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn Error>> {
    Ok(launch::run(&Options::parse(words)?)?)
}

fn serve(words: impl IntoIterator<Item = OsString>) -> Result<(), Box<dyn Error>> {
    Ok(serve::run(Options::parse(words)?)?)
}

fn list_failpoints() -> Result<(), Box<dyn Error>> {
    use std::io::Write as _;
    failpoint::ALL.iter().try_for_each(|name| Ok(writeln!(std::io::stdout(), "{name}")?))
}

/// Tells on standard error what went wrong.
fn told(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("davit-shim: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
