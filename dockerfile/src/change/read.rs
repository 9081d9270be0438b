//! From a statement to a change.

use super::{Command, Healthcheck, Kind, NAMES, Pair};
use crate::error::{Error, Problem};
use crate::flag::Flags;
use crate::instruction::Instruction;
use crate::json;
use crate::lexer::Statement;
use crate::word::Word;

/// Reads the instruction `name`, in capitals; none when it is no change.
pub(super) fn kind(name: &str, statement: &Statement) -> Result<Option<Kind>, Error> {
    let Some(name) = NAMES.into_iter().find(|known| *known == name) else { return Ok(None) };
    let (flags, rest) = Flags::read(name, &statement.rest)?;
    if name == "HEALTHCHECK" {
        return Healthcheck::read(flags, &rest, statement).map(|health| Some(Kind::Healthcheck(health)));
    }
    flags.finish(&[])?;
    let needs = |what| Problem::Missing { instruction: name, what };
    let missing = |what| Error::new(statement.name.at(), needs(what));
    if rest.text().is_empty() {
        return Err(missing(lacking(name)));
    }
    Ok(Some(match name {
        "CMD" => Kind::Cmd(command(&rest)?),
        "ENTRYPOINT" => Kind::Entrypoint(command(&rest)?),
        "ENV" => Kind::Env(pairs(name, &rest)?),
        "LABEL" => Kind::Label(pairs(name, &rest)?),
        "EXPOSE" => Kind::Expose(rest.fields()),
        "ONBUILD" => Kind::OnBuild(trigger(statement, &rest)?),
        "SHELL" => Kind::Shell(match json::list(&rest)? {
            Some(words) if !words.is_empty() => words,
            _ => return Err(missing("a JSON list, as [\"/bin/sh\", \"-c\"]")),
        }),
        "STOPSIGNAL" => Kind::StopSignal(rest),
        "USER" => Kind::User(rest),
        "VOLUME" => Kind::Volume(list(&rest)?),
        _ => Kind::Workdir(rest),
    }))
}

/// What is missing when nothing is there.
fn lacking(name: &str) -> &'static str {
    match name {
        "CMD" | "ENTRYPOINT" => "a command, or [] for none",
        "ENV" | "LABEL" => "name=value",
        "EXPOSE" => "a port",
        "ONBUILD" => "an instruction",
        "SHELL" => "a JSON list, as [\"/bin/sh\", \"-c\"]",
        "STOPSIGNAL" => "a signal",
        "USER" => "a user",
        _ => "a path",
    }
}

/// The JSON form, or a line for the shell.
pub(super) fn command(rest: &Word) -> Result<Command, Error> {
    Ok(match json::list(rest)? {
        Some(words) => Command::Exec(words),
        None => Command::Shell(rest.text().to_owned()),
    })
}

/// The JSON form, or words parted by white space. Items of JSON know where the list begins.
pub(crate) fn list(rest: &Word) -> Result<Vec<Word>, Error> {
    Ok(match json::list(rest)? {
        Some(items) => items.iter().map(|item| Word::made(item, rest.at(), rest.escape())).collect(),
        None => rest.fields(),
    })
}

/// `name=value …`, or `name value` of old, where the value is the rest of the line.
pub(crate) fn pairs(instruction: &'static str, rest: &Word) -> Result<Vec<Pair>, Error> {
    let words = rest.words();
    let old = words.first().is_some_and(|word| !word.text().contains('='));
    let pairs: Vec<Pair> = if old {
        let name = rest.fields().into_iter().next().unwrap_or_else(|| rest.clone());
        let value = rest.part(name.text().len(), rest.text().len()).trim();
        if value.text().is_empty() {
            let problem = Problem::Missing { instruction, what: "name=value: this name has no value" };
            return Err(Error::new(name.at(), problem));
        }
        vec![(name, value)]
    } else {
        words
            .iter()
            .map(|word| word.split_once('=').ok_or_else(|| not_a_pair(word)))
            .collect::<Result<_, _>>()?
    };
    if let Some((name, value)) = pairs.iter().find(|(name, _)| name.text().is_empty()) {
        let word = format!("={}", value.text());
        let problem = Problem::Word { what: "name", word, reason: "nothing stands before the =" };
        return Err(Error::new(name.at(), problem));
    }
    Ok(pairs)
}

fn not_a_pair(word: &Word) -> Error {
    let reason = "it must be name=value: a value with white space stands in quotes";
    Error::new(word.at(), Problem::Word { what: "word", word: word.text().to_owned(), reason })
}

/// The instruction behind ONBUILD, judged as far as it can be without what it will be built from.
fn trigger(statement: &Statement, rest: &Word) -> Result<Word, Error> {
    let (name, after) = rest.first().unwrap_or_else(|| (rest.clone(), rest.clone()));
    let reason = match name.text().to_ascii_uppercase().as_str() {
        "ONBUILD" => Some("it does not nest in ONBUILD"),
        "FROM" | "MAINTAINER" => Some("it cannot wait in ONBUILD"),
        _ => None,
    };
    if let Some(reason) = reason {
        let word = name.text().to_owned();
        return Err(Error::new(name.at(), Problem::Word { what: "instruction", word, reason }));
    }
    Instruction::read(&Statement {
        name,
        rest: after,
        heredocs: statement.heredocs.clone(),
        last_line: statement.last_line,
        gap: None,
    })?;
    let mut text = rest.text().to_owned();
    for document in &statement.heredocs {
        text.push('\n');
        text.push_str(document.body.text());
        text.push_str(&document.name);
    }
    Ok(Word::made(&text, rest.at(), rest.escape()))
}
