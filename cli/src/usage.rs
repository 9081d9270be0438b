//! What to say when somebody typed it wrong: one sentence, and the word that was perhaps meant.

mod nearest;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::Error;
use crate::{exit, output};

/// Dashes that editors and chats make of two hyphens.
const DASHES: [char; 4] = ['—', '–', '―', '−'];

/// Docker's commands that are not here, so that nobody looks for a slip of the finger.
const ABSENT: [&str; 11] = [
    "checkpoint",
    "compose",
    "config",
    "context",
    "node",
    "plugin",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

/// Tells of a wrong command line, or shows the help that was asked for. Answers with the exit code.
pub fn explain(error: &clap::Error, typed: &[String]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return shown(output::print(&tidy(&error.render().to_string())));
        }
        ErrorKind::DisplayVersion => {
            return shown(output::print(&format!("davit version {}\n", crate::system::version::VERSION)));
        }
        _ => {}
    }
    let verb = verb(typed);
    let (sentence, code) = sentence(error, &verb, typed);
    output::error(&sentence);
    output::complain(&format!("Run '{verb} --help' for more."));
    code
}

fn shown(printed: Result<(), Error>) -> u8 {
    printed.map_or_else(|error| exit::of(&error, exit::Place::Ordinary), |()| exit::SUCCESS)
}

/// Switches take a value only to be like docker's; their help need not say so each time.
fn tidy(help: &str) -> String {
    help.replace("[=<BOOL>]", "         ").lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The verb as it was typed: `davit`, `davit rm`, `davit container rm`.
fn verb(typed: &[String]) -> String {
    let mut verb = String::from("davit");
    let mut command = crate::verb::command();
    let mut words = typed.iter().skip(1);
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "-H" | "--host") {
            words.next();
            continue;
        }
        if word.starts_with('-') || word == "help" {
            continue;
        }
        command.build();
        let Some(next) = command.find_subcommand(word).cloned() else { break };
        verb.push(' ');
        verb.push_str(word);
        if !next.has_subcommands() {
            break;
        }
        command = next;
    }
    verb
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        ContextValue::StyledStr(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The word that was perhaps meant: the nearest comes last.
fn suggestion(error: &clap::Error, kind: ContextKind) -> String {
    let meant = match error.get(kind) {
        Some(ContextValue::String(meant)) => Some(meant),
        Some(ContextValue::Strings(meant)) => meant.last(),
        _ => None,
    };
    meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
}

fn sentence(error: &clap::Error, verb: &str, typed: &[String]) -> (String, u8) {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            if verb == "davit" && ABSENT.contains(&word.as_str()) {
                return (format!("'{word}' is a command of docker that davit does not have"), exit::FAILURE);
            }
            let mut meant = suggestion(error, ContextKind::SuggestedSubcommand);
            if meant.is_empty() {
                meant = slip(&word, verb).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            }
            (format!("'{word}' is not a command of '{verb}'{meant}"), exit::FAILURE)
        }
        ErrorKind::MissingSubcommand => (format!("'{verb}' wants a command"), exit::FAILURE),
        ErrorKind::UnknownArgument => unknown(error, &argument, verb),
        ErrorKind::MissingRequiredArgument => (missing(error, verb), exit::FAILURE),
        ErrorKind::TooFewValues if !argument.starts_with('-') => (missing(error, verb), exit::FAILURE),
        ErrorKind::InvalidValue | ErrorKind::NoEquals | ErrorKind::TooFewValues
            if text(error, ContextKind::InvalidValue).unwrap_or_default().is_empty() =>
        {
            (format!("flag {} needs a value", flag(&argument)), exit::ENGINE)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
            let choices = text(error, ContextKind::ValidValue).map(|all| format!(": one of {all} is wanted"));
            let why = std::error::Error::source(error).map(|why| format!(": {why}"));
            let rule = choices.or(why).unwrap_or_default();
            (format!("invalid value {value:?} for {}{rule}", flag(&argument)), exit::ENGINE)
        }
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_default();
            (format!("{} and {} exclude each other", flag(&argument), flag(&other)), exit::ENGINE)
        }
        _ => {
            let whole = error.render().to_string();
            let first = whole.lines().next().unwrap_or_default();
            let long = typed.iter().find_map(|word| dash(word));
            (format!("{}{}", first.trim_start_matches("error: "), long.unwrap_or_default()), exit::ENGINE)
        }
    }
}

/// The command of this verb that is one slip away from a word.
fn slip(word: &str, verb: &str) -> Option<String> {
    let mut command = crate::verb::command();
    for name in verb.split(' ').skip(1) {
        command = command.find_subcommand(name)?.clone();
    }
    nearest::nearest(word, command.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
}

/// `--name <NAME>` without its value.
fn flag(argument: &str) -> &str {
    argument.split(['=', ' ', '[']).next().unwrap_or(argument)
}

fn unknown(error: &clap::Error, argument: &str, verb: &str) -> (String, u8) {
    if let Some(hint) = dash(argument) {
        return (hint, exit::ENGINE);
    }
    if !argument.starts_with('-') {
        return (format!("'{verb}' takes no further argument {argument:?}"), exit::FAILURE);
    }
    let meant = suggestion(error, ContextKind::SuggestedArg);
    (format!("unknown flag {argument} of '{verb}'{meant}"), exit::ENGINE)
}

fn missing(error: &clap::Error, verb: &str) -> String {
    let what = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let count = what.split(", ").count();
    if verb.ends_with(" exec") {
        return format!("'{verb}' requires at least 2 arguments: a container and a command");
    }
    let plural = if count == 1 { "" } else { "s" };
    let names: String = what.replace(['<', '>'], "").replace("...", "");
    format!("'{verb}' requires at least {count} argument{plural}: {names}")
}

/// What to say of a word that begins with a long dash.
fn dash(word: &str) -> Option<String> {
    let rest = word.strip_prefix(DASHES)?;
    rest.starts_with(|c: char| c.is_ascii_alphabetic())
        .then(|| format!("{word:?} begins with a long dash; did you mean two hyphens, --{rest}?"))
}

/// Refuses a name that is a flag mistyped with a long dash: no object is called like that.
pub fn check_target(name: &str) -> Result<(), Error> {
    dash(name).map_or(Ok(()), |hint| Err(Error::Usage(hint)))
}

#[cfg(test)]
mod tests;
