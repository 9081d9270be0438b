//! From the words that were typed to the number that the shell sees.

use crate::error::Error;
use crate::{exit, output, usage, verb};

/// Does what the words say. Answers with the number for the shell.
pub fn run(typed: &[String]) -> u8 {
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
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::io("start the runtime", error), verb.place),
    };
    let code = runtime.block_on(answer).unwrap_or_else(|error| fail(&error, verb.place));
    // A thread that still reads an archive may never come back.
    runtime.shutdown_background();
    code
}

/// Tells of a failure, once.
fn fail(error: &Error, place: exit::Place) -> u8 {
    if !matches!(error, Error::Pipe | Error::Reported) {
        output::error(error);
    }
    exit::of(error, place)
}
