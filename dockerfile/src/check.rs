//! Checks: what is allowed and probably not meant. Each has the name by which `# check=skip=…` leaves it out, which
//! is the name that it has elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use crate::change;
use crate::error::{Error, Problem};
use crate::file::{Dockerfile, Stage};
use crate::instruction::{Instruction, Kind};
use crate::lexer::Statement;
use crate::position::Position;

/// The checks by name.
const NAMES: [&str; 13] = [
    "ConsistentInstructionCasing",
    "DuplicateStageName",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "WorkdirRelativePath",
];

/// Something that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub at: Position,
    /// The check's name.
    pub check: &'static str,
    /// What is wrong, as a sentence without its end.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.at, self.check, self.text)
    }
}

/// What `# check=` says.
#[derive(Debug, Default)]
struct Wanted {
    skip_all: bool,
    skip: Vec<String>,
    error: bool,
}

impl Wanted {
    fn read(directive: Option<&str>) -> Self {
        let mut wanted = Self::default();
        for option in directive.unwrap_or_default().split(';') {
            match option.trim().split_once('=') {
                Some(("skip", "all")) => wanted.skip_all = true,
                Some(("skip", names)) => {
                    wanted.skip.extend(names.split(',').map(|name| name.trim().to_owned()));
                }
                Some(("error", value)) => wanted.error = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        wanted
    }

    fn skips(&self, check: &str) -> bool {
        self.skip_all || self.skip.iter().any(|name| name.eq_ignore_ascii_case(check))
    }
}

/// Looks for what is probably not meant.
///
/// # Errors
/// There is something, and the text says `# check=error=true`.
pub(crate) fn check(file: &Dockerfile, statements: &[Statement]) -> Result<Vec<Warning>, Error> {
    let wanted = Wanted::read(file.directives.check.as_deref());
    let mut found = Found(Vec::new());
    found.statements(statements);
    found.names(file);
    for stage in &file.stages {
        found.stage(stage);
    }
    let mut warnings = found.0;
    warnings.retain(|warning| !wanted.skips(warning.check));
    warnings.sort_by_key(|warning| warning.at);
    debug_assert!(warnings.iter().all(|warning| NAMES.contains(&warning.check)));
    match warnings.first() {
        Some(first) if wanted.error => {
            let problem = Problem::Check { check: first.check, text: first.text.clone() };
            Err(Error::new(first.at, problem))
        }
        _ => Ok(warnings),
    }
}

struct Found(Vec<Warning>);

impl Found {
    fn add(&mut self, at: Position, check: &'static str, text: impl Into<String>) {
        self.0.push(Warning { at, check, text: text.into() });
    }

    /// What can be seen without understanding.
    fn statements(&mut self, statements: &[Statement]) {
        let upper = |statement: &&Statement| statement.name.text().chars().all(|c| c.is_ascii_uppercase());
        let capitals = statements.iter().filter(upper).count();
        let mostly = capitals * 2 >= statements.len();
        for statement in statements {
            let name = statement.name.text();
            let odd = if mostly { !upper(&statement) } else { name.chars().any(|c| c.is_ascii_uppercase()) };
            if odd {
                let case = if mostly { "upper" } else { "lower" };
                let text = format!("{name} is not in {case} case as most instructions are");
                self.add(statement.name.at(), "ConsistentInstructionCasing", text);
            }
            if let Some(at) = statement.gap {
                self.add(at, "NoEmptyContinuation", "an empty line among those that continue an instruction");
            }
            let pairs = ["ENV", "LABEL"].iter().any(|known| name.eq_ignore_ascii_case(known));
            let first = statement.rest.first();
            if pairs && first.is_some_and(|(first, _)| !first.text().contains('=')) {
                let text = "name value is an old form, name=value says the same";
                self.add(statement.rest.at(), "LegacyKeyValueFormat", text);
            }
        }
    }

    fn names(&mut self, file: &Dockerfile) {
        let mut seen = BTreeMap::new();
        for stage in &file.stages {
            if let Some(keyword) = &stage.from.keyword {
                let of_from = stage.text.starts_with("FROM") == (keyword.text() == "AS");
                if !of_from {
                    self.add(keyword.at(), "FromAsCasing", "FROM and AS are not in the same case");
                }
            }
            if let Some(platform) = stage.from.platform.as_ref().filter(|p| !p.text().contains('$')) {
                let text = "a constant platform: the image is wrong on every other one";
                self.add(platform.at(), "FromPlatformFlagConstDisallowed", text);
            }
            let Some(word) = &stage.from.name else { continue };
            let name = word.text().to_ascii_lowercase();
            if name != word.text() {
                self.add(word.at(), "StageNameCasing", "names of stages are in lower case");
            }
            if matches!(name.as_str(), "scratch" | "context") {
                let text = format!("{name} means something else and cannot be reached as a stage");
                self.add(word.at(), "ReservedStageName", text);
            }
            if let Some(before) = seen.insert(name, stage.at.line) {
                let text = format!("a stage on line {before} has the same name");
                self.add(word.at(), "DuplicateStageName", text);
            }
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let mut last: BTreeMap<&str, Position> = BTreeMap::new();
        let mut absolute = false;
        let shell = stage.instructions.iter().any(|instruction| instruction.name() == "SHELL");
        for instruction in &stage.instructions {
            let name = instruction.name();
            let single = matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK");
            if let Some(at) = single.then(|| last.insert(name, instruction.at)).flatten() {
                let text = format!("another {name} on line {} ends this one", instruction.at.line);
                self.add(at, "MultipleInstructionsDisallowed", text);
            }
            self.instruction(instruction, shell, &mut absolute);
        }
    }

    fn instruction(&mut self, instruction: &Instruction, shell: bool, absolute: &mut bool) {
        let at = instruction.at;
        match &instruction.kind {
            Kind::Maintainer(_) => {
                let text = "LABEL org.opencontainers.image.authors says the same";
                self.add(at, "MaintainerDeprecated", text);
            }
            Kind::Arg(args) => {
                let secrets = args.iter().filter(|arg| is_secret(arg.name.text()));
                secrets.for_each(|arg| self.secret(arg.name.at(), arg.name.text()));
            }
            Kind::Change(change) => match &change.kind {
                change::Kind::Env(pairs) => {
                    let secrets = pairs.iter().filter(|(name, _)| is_secret(name.text()));
                    secrets.for_each(|(name, _)| self.secret(name.at(), name.text()));
                }
                change::Kind::Cmd(change::Command::Shell(_))
                | change::Kind::Entrypoint(change::Command::Shell(_))
                    if !shell =>
                {
                    let name = instruction.name();
                    let text = format!(
                        "a shell stands between the engine's signals and this {name}: use a JSON list"
                    );
                    self.add(at, "JSONArgsRecommended", text);
                }
                change::Kind::Workdir(path) => {
                    let text = path.text();
                    let fixed =
                        text.starts_with('/') || text.starts_with('$') || text.starts_with(['"', '\'']);
                    if !fixed && !*absolute {
                        let text = "relative to a folder that the base image may change";
                        self.add(path.at(), "WorkdirRelativePath", text);
                    }
                    *absolute = true;
                }
                _ => {}
            },
            Kind::Run(_) | Kind::From(_) | Kind::Transfer(_) => {}
        }
    }

    fn secret(&mut self, at: Position, name: &str) {
        let text =
            format!("{} stays readable in the image: use RUN --mount=type=secret", name.escape_debug());
        self.add(at, "SecretsUsedInArgOrEnv", text);
    }
}

/// Whether a name sounds like a secret's.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let public = name.split(['_', '-']).any(|part| part == "public");
    let words = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    !public && name.split(['_', '-']).any(|part| words.contains(&part))
}
