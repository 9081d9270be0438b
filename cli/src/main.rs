//! `davit`: the command line. Reads what was typed, asks the engine, prints what it answers. Holds no state
//! and makes no decision that the engine could make.

#![forbid(unsafe_code)]

mod args;
mod client;
mod confirm;
mod container;
mod detach;
mod document;
mod error;
mod exit;
mod filter;
mod format;
mod human;
mod image;
mod many;
mod network;
mod output;
mod reference;
mod spec;
mod stream;
mod system;
mod terminal;
mod time;
mod usage;
mod verb;
mod volume;

fn main() {
    let typed: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let code = run(&typed);
    // Not by returning: a thread that still reads standard input would be waited for.
    std::process::exit(code.into());
}

fn run(typed: &[String]) -> u8 {
    let matches = match verb::command().try_get_matches_from(typed) {
        Ok(matches) => matches,
        Err(error) => return usage::explain(&error, typed),
    };
    let Some((verb, inner)) = verb::find(&matches) else {
        return exit::FAILURE;
    };
    let answer = match verb::engine(&matches).map(|engine| verb.begin(engine, inner)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return usage::explain(&error, typed),
        Err(error) => return fail(&error, verb.place),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(answer)) {
        Ok(answer) => answer.unwrap_or_else(|error| fail(&error, verb.place)),
        Err(error) => fail(&error::Error::io("start the runtime", error), verb.place),
    }
}

fn fail(error: &error::Error, place: exit::Place) -> u8 {
    if !matches!(error, error::Error::Pipe | error::Error::Reported) {
        output::error(error);
    }
    exit::of(error, place)
}
