//! The graph of stages: what each begins with, what it takes from others, and which are needed at all.

use crate::error::{Error, Problem};
use crate::expand;
use crate::file::{Dockerfile, Stage};
use crate::instruction::{Instruction, Kind};
use crate::nearest::nearest;
use crate::position::Position;
use crate::scope::Global;
use crate::word::Word;

/// What a name that stands for files means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing at all.
    Scratch,
    /// A stage, by its number from 0.
    Stage(usize),
    /// An image.
    Image(String),
}

/// A stage in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it begins with.
    pub base: Origin,
    /// The platform that is wanted of an image.
    pub platform: Option<String>,
    /// The stages that must be there before it: its base, and those that it copies or mounts from. Ascending.
    pub needs: Vec<usize>,
}

/// The stages and what they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// One for each stage of the file, in its order.
    pub nodes: Vec<Node>,
    /// The stage that is wanted.
    pub target: usize,
    /// The stages that it needs and itself, each after those that it needs.
    pub order: Vec<usize>,
}

impl Graph {
    /// Makes the graph for a target, by name or number; without one for the last stage.
    ///
    /// # Errors
    /// A base has no name once its variables were replaced, a stage is not there, or stages need each other.
    pub fn new(file: &Dockerfile, global: &Global, target: Option<&str>) -> Result<Self, Error> {
        let last = file.stages.len().saturating_sub(1);
        let target = match target.filter(|target| !target.is_empty()) {
            None => last,
            Some(word) => find(&file.stages, word).ok_or_else(|| {
                let names = file.stages.iter().filter_map(Stage::name).collect::<Vec<_>>();
                let nearest = nearest(word, names.iter().map(String::as_str)).map(str::to_owned);
                Error::new(Position::START, Problem::Stage { word: word.to_owned(), nearest })
            })?,
        };
        let nodes: Vec<Node> =
            (0..file.stages.len()).map(|at| node(file, at, global)).collect::<Result<_, _>>()?;
        let order = order(file, &nodes, target)?;
        Ok(Self { nodes, target, order })
    }
}

/// What `--from=word` means to the stage `at`, for an instruction that was not in the file when the graph was made.
///
/// # Errors
/// It is a number that no stage has, or the stage itself.
pub fn origin(file: &Dockerfile, word: &Word, at: usize) -> Result<Origin, Error> {
    let text = word.text();
    if text == "scratch" {
        return Ok(Origin::Scratch);
    }
    let wrong =
        |reason| Error::new(word.at(), Problem::Word { what: "stage", word: text.to_owned(), reason });
    match find(&file.stages, text) {
        Some(stage) if stage == at => Err(wrong("a stage cannot take anything from itself")),
        Some(stage) => Ok(Origin::Stage(stage)),
        None if text.is_empty() => Err(wrong("it is empty")),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(wrong("no stage has this number")),
        None => Ok(Origin::Image(text.to_owned())),
    }
}

/// A stage by name, of which the last holds, or by number.
fn find(stages: &[Stage], word: &str) -> Option<usize> {
    let lower = word.to_ascii_lowercase();
    let named = stages.iter().rposition(|stage| stage.name().as_deref() == Some(&lower));
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    named.or_else(|| word.parse().ok().filter(|number: &usize| digits && *number < stages.len()))
}

fn node(file: &Dockerfile, at: usize, global: &Global) -> Result<Node, Error> {
    let stage = &file.stages[at];
    let lookup = |name: &str| global.variable(name);
    let name = expand::word(&stage.from.base, &lookup)?;
    if name.trim().is_empty() {
        let word = stage.from.base.text().to_owned();
        let reason = "it is empty: does an ARG before the first FROM give it a value?";
        return Err(Error::new(stage.from.base.at(), Problem::Word { what: "image", word, reason }));
    }
    let lower = name.to_ascii_lowercase();
    // Only what comes before can be begun with: later names are images to it.
    let before = file.stages.get(..at).unwrap_or_default();
    let base = match before.iter().rposition(|stage| stage.name().as_deref() == Some(&lower)) {
        Some(stage) => Origin::Stage(stage),
        None if name == "scratch" => Origin::Scratch,
        None => Origin::Image(name),
    };
    let platform = stage.from.platform.as_ref().map(|word| expand::word(word, &lookup)).transpose()?;
    let mut needs = Vec::new();
    needs.extend(of(&base));
    for word in stage.instructions.iter().flat_map(sources) {
        needs.extend(of(&origin(file, &word, at)?));
    }
    needs.sort_unstable();
    needs.dedup();
    Ok(Node { base, platform: platform.filter(|platform| !platform.is_empty()), needs })
}

fn of(origin: &Origin) -> Option<usize> {
    match origin {
        Origin::Stage(stage) => Some(*stage),
        Origin::Scratch | Origin::Image(_) => None,
    }
}

/// The words of an instruction that name stages or images.
#[must_use]
pub fn sources(instruction: &Instruction) -> Vec<Word> {
    match &instruction.kind {
        Kind::Transfer(transfer) => transfer.from.iter().cloned().collect(),
        Kind::Run(run) => run.sources().collect(),
        Kind::From(_) | Kind::Arg(_) | Kind::Maintainer(_) | Kind::Change(_) => Vec::new(),
    }
}

/// What the target needs, each after what it needs itself. Depth first, with a stack of its own: files are long.
fn order(file: &Dockerfile, nodes: &[Node], target: usize) -> Result<Vec<usize>, Error> {
    let mut order = Vec::new();
    let mut done = vec![false; nodes.len()];
    let mut open = vec![false; nodes.len()];
    let mut stack = vec![(target, 0)];
    while let Some((stage, next)) = stack.pop() {
        open[stage] = true;
        let Some(need) = nodes[stage].needs.get(next) else {
            open[stage] = false;
            done[stage] = true;
            order.push(stage);
            continue;
        };
        stack.push((stage, next + 1));
        if open[*need] {
            let begin = stack.iter().position(|(stage, _)| stage == need).unwrap_or(0);
            let path = stack[begin..].iter().map(|(stage, _)| *stage).chain([*need]);
            let names: Vec<String> = path.map(|stage| title(file, stage)).collect();
            return Err(Error::new(file.stages[*need].at, Problem::Cycle { path: names.join(" -> ") }));
        }
        if !done[*need] {
            stack.push((*need, 0));
        }
    }
    Ok(order)
}

/// How a stage is called: by its name, or by its number.
#[must_use]
pub fn title(file: &Dockerfile, stage: usize) -> String {
    let name = file.stages.get(stage).and_then(Stage::name);
    name.unwrap_or_else(|| format!("stage-{stage}"))
}

#[cfg(test)]
mod tests;
