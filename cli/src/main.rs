//! `davit`: the command line. Reads what was typed, asks the engine, prints what it answers. Holds no state
//! and makes no decision that the engine could make.

#![forbid(unsafe_code)]

mod args;
mod build;
mod client;
mod confirm;
mod container;
mod credential;
mod detach;
mod document;
mod error;
mod exit;
mod filter;
mod format;
mod human;
mod image;
mod invocation;
mod manifest;
mod many;
mod network;
mod output;
mod patience;
mod prune;
mod reference;
mod spec;
mod stream;
mod system;
mod terminal;
mod time;
mod usage;
mod verb;
mod volume;

/// That of musl maps and unmaps memory anew for each buffer of a stream, which is most of what `logs`, `cp` and `load` would
/// take; glibc's is not there in a static binary of musl.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let typed: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    std::process::exit(invocation::run(&typed).into());
}
