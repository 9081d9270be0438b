//! A sweep: an operation is done again and again, and each time another one of the system calls that it makes fails, or
//! is the last of its process. `strace` does it, from outside of the engine's namespaces.
//!
//! ```text
//! count   the operation with strace beside it: which calls, how many in the busiest thread
//! plan    each fault × each kind of call × each n
//! trial   ready ─ strace comes ─ the operation ─ strace goes ─ judge ─ restart ─ judge ─ again ─ undo ─ nothing is left
//! ```
//!
//! What is judged: an answer came in time; a success is true, also after a restart; a failure is one sentence and has left
//! nothing; a kill is one or the other. The canary lives on and ends with its code and all of its log, images are whole,
//! everybody tells the same of the network, and the same operation succeeds when nothing fails.
//!
//! What is swept: calls that make, write, move, remove, read and list files, that mount, make namespaces and processes, and
//! those of sockets ([`fault`]). Two targets: the engine, with all its services and threads, and for containers the shim
//! with its init. What is not: calls of memory and of waiting, the launch of a shim until it listens, and what the engine does
//! beside an operation when `strace` is not there. `when` counts in each thread ([`tracer`]), so a call that comes n-th in
//! its thread is hit at n, whichever thread that is; at one n several threads may be hit, one after the other.

mod canary;
pub mod fault;
pub mod operation;
mod stage;
pub mod tracer;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::engine::Answer;
use crate::wait::until_true;
use fault::Fault;
use operation::{Operation, Target};
use stage::Stage;
use tracer::{Call, Injection, Tracer};

/// How much of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is swept.
    pub operations: Vec<Operation>,
    /// Whose calls.
    pub targets: Vec<Target>,
    /// What happens to them.
    pub faults: Vec<Fault>,
    /// One trial of so many is made, the first of them by the seed.
    pub every: usize,
    /// And no more than so many of an operation and target.
    pub most: usize,
    /// What is chosen follows from it.
    pub seed: u64,
    /// This call alone, and this one of them, instead of all that are counted.
    pub only: Option<(String, Option<usize>)>,
}

/// What came of one operation, target and fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Trials.
    pub trials: usize,
    /// Those in which the call was made.
    pub reached: usize,
    /// Calls that were made to fail.
    pub hits: usize,
    /// Trials whose operation succeeded.
    pub granted: usize,
    /// And failed with a sentence.
    pub refused: usize,
    /// And were cut off.
    pub cut: usize,
}

/// What came of all.
#[derive(Debug, Default)]
pub struct Report {
    /// By operation, target and fault.
    pub counts: BTreeMap<(Operation, Target, Fault), Counts>,
    /// Calls that were hit, by what they were about.
    pub places: BTreeSet<String>,
    /// What was said, how often, and at which call first.
    pub sentences: BTreeMap<String, (usize, String)>,
    /// What was not as it must be.
    pub findings: Vec<String>,
}

/// Sweeps, and goes on after whatever it finds.
///
/// # Errors
/// When a stage cannot be set.
pub fn run(settings: &Settings) -> Result<Report> {
    let mut report = Report::default();
    let mut stage = None;
    for &operation in &settings.operations {
        for &target in operation.targets().iter().filter(|target| settings.targets.contains(target)) {
            sweep(settings, operation, target, &mut stage, &mut report)?;
        }
    }
    if let Some(stage) = stage
        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| stage.end()))
    {
        report.findings.push(format!("the canary: {}", why(&*panic)));
    }
    Ok(report)
}

/// What a panic said.
fn why(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned())).unwrap_or_default()
}

/// A stage on which something was found is not used again.
fn sweep(
    settings: &Settings,
    operation: Operation,
    target: Target,
    stage: &mut Option<Stage>,
    report: &mut Report,
) -> Result<()> {
    let take = |stage: &mut Option<Stage>| stage.take().map_or_else(Stage::set, Ok);
    let mut at = take(stage)?;
    let counted = counted(&mut at, operation, target)?;
    *stage = Some(at);
    let plan = plan(settings, &counted);
    eprintln!("{} of the {}: {} trials; {counted:?}", operation.name(), target.name(), plan.len());
    for injection in plan {
        let mut at = take(stage)?;
        let mut trial = Trial { operation, target, injection, calls: Vec::new(), answer: None };
        let outcome = catch_unwind(AssertUnwindSafe(|| trial.run(&mut at)));
        report.take(&trial, outcome.as_ref().err().map(|panic| why(&**panic)));
        if outcome.is_ok() {
            *stage = Some(at);
        }
    }
    Ok(())
}

impl Report {
    /// What came of a trial, and why it is a finding.
    fn take(&mut self, trial: &Trial, why: Option<String>) {
        let Trial { operation, target, injection, answer, .. } = trial;
        let name = format!("{} of the {}: {injection}", operation.name(), target.name());
        trial.count(self.counts.entry((*operation, *target, injection.fault)).or_default());
        let hits = trial.places();
        eprintln!("{name}: {:?} {hits:?}", answer.as_ref().map(|answer| answer.code));
        self.places.extend(hits);
        if let Some(answer) = answer.as_ref().filter(|answer| answer.code != 0) {
            let said = format!("{} {}: {}", operation.name(), answer.code, plain(&answer.stderr));
            self.sentences.entry(said).or_insert_with(|| (0, name.clone())).0 += 1;
        }
        if let Some(why) = why {
            eprintln!("FOUND {name}: {answer:?}\n{why}");
            let begin: String = why.chars().take(600).collect();
            self.findings.push(format!("{name}: {:?} {answer:?}: {begin}", trial.places()));
        }
    }
}

/// What the operation does when nothing fails.
fn counted(stage: &mut Stage, operation: Operation, target: Target) -> Result<BTreeMap<&'static str, usize>> {
    stage.prepare(operation, target)?;
    let (answer, calls) = traced(stage, operation, target, None)?;
    assert_eq!(answer.code, 0, "{}: {answer:?}", operation.name());
    stage.restart()?;
    operation.undo(&stage.engine);
    stage.nothing_is_left();
    Ok(tracer::counts(&calls))
}

fn plan(settings: &Settings, counted: &BTreeMap<&'static str, usize>) -> Vec<Injection> {
    let mut plan = Vec::new();
    for &fault in &settings.faults {
        for (&call, &most) in counted.iter().filter(|(call, _)| fault.calls().contains(call)) {
            plan.extend((1..=most).map(|when| Injection { fault, call, when }));
        }
    }
    if let Some((call, when)) = &settings.only {
        plan.retain(|injection| injection.call == call && when.is_none_or(|when| when == injection.when));
    }
    let every = settings.every.max(plan.len().div_ceil(settings.most.max(1))).max(1);
    let first = usize::try_from(settings.seed % every as u64).unwrap_or_default();
    plan.into_iter().skip(first).step_by(every).collect()
}

/// Asks for the operation with `strace` beside those whose calls are meant.
fn traced(
    stage: &Stage,
    operation: Operation,
    target: Target,
    injection: Option<Injection>,
) -> Result<(Answer, Vec<Call>)> {
    let folder = stage.engine.host().folder();
    let into = operation.has_helpers() && target == Target::Engine;
    let come = |to: &[u32]| Tracer::come(folder, to, injection, into);
    if target == Target::Engine {
        let engine = stage.engine.controller_pid()?;
        let tracer = come(&[engine])?;
        let answer = unless_numbed(stage, operation, &tracer, engine);
        return Ok((answer, tracer.leave()?));
    }
    let there = stage.shims();
    if !there.is_empty() {
        let tracer = come(&there)?;
        let answer = operation.ask(&stage.engine);
        return Ok((answer, tracer.leave()?));
    }
    let canary = stage.engine.field("canary", "{{.Id}}");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| operation.ask(&stage.engine));
        let mut tracer = None;
        while !asked.is_finished() && tracer.is_none() {
            let shims = stage.shims_but(&canary);
            tracer = if shims.is_empty() { None } else { Some(come(&shims)?) };
            std::thread::sleep(Duration::from_millis(2));
        }
        let answer = asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((answer, tracer.map_or(Ok(Vec::new()), Tracer::leave)?))
    })
}

/// Asks for the operation. An engine whose threads do not wake each other up any more is killed: no disk does that.
fn unless_numbed(stage: &Stage, operation: Operation, tracer: &Tracer, engine: u32) -> Answer {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| operation.ask(&stage.engine));
        let begun = Instant::now();
        let mut killed = false;
        while !asked.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
            if !killed && begun.elapsed() > Duration::from_secs(1) && tracer.has_numbed() {
                let ended = Command::new("kill").args(["-9", &engine.to_string()]).status();
                killed = ended.is_ok_and(|status| status.success());
            }
        }
        asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One operation with one fault.
#[derive(Debug)]
struct Trial {
    operation: Operation,
    target: Target,
    injection: Injection,
    calls: Vec<Call>,
    answer: Option<Answer>,
}

impl Trial {
    fn run(&mut self, stage: &mut Stage) {
        let operation = self.operation;
        stage.prepare(operation, self.target).expect("make the stage ready");
        let (answer, calls) =
            traced(stage, operation, self.target, Some(self.injection)).expect("have strace beside it");
        self.calls = calls;
        self.answer = Some(answer);
        let killed = self.target == Target::Engine
            && (self.injection.fault == Fault::Kill && self.is_reached() || self.is_numbed());
        if killed {
            stage.restart().expect("start the engine that was killed");
        } else {
            self.lives(stage);
        }
        self.judge(stage, killed);
        stage.agrees();
        let was_so = operation.is_so(&stage.engine);
        stage.restart().expect("start the engine again");
        stage.is_whole(operation);
        let is_so = operation.is_so(&stage.engine);
        let over = operation.may_be_over(self.target, self.injection.fault);
        assert!(was_so == is_so || over, "it was {was_so} and is {is_so} after a restart of the engine");
        if !is_so {
            let again = operation.ask(&stage.engine);
            assert_eq!(again.code, 0, "again: {again:?}\n{}", stage.engine.end_of_log());
        }
        operation.try_out(&stage.engine);
        operation.undo(&stage.engine);
        stage.nothing_is_left();
    }

    /// An engine that nobody killed is there.
    fn lives(&self, stage: &Stage) {
        let version = stage.engine.davit(["version"]);
        assert_eq!(version.code, 0, "the engine is gone: {version:?}\n{}", stage.engine.end_of_log());
    }

    fn judge(&self, stage: &Stage, killed: bool) {
        let operation = self.operation;
        let Some(answer) = &self.answer else { return };
        assert_ne!(answer.code, 124, "it hangs\n{}", stage.engine.end_of_log());
        // What an engine says whose threads do not wake each other up is no sentence of ours.
        if killed && (answer.code == 0 || answer.is_cut() || self.is_numbed()) {
            let lost = answer.code == 0 && !operation.is_so(&stage.engine);
            assert!(!lost, "it was answered and is lost: {answer:?}");
            return;
        }
        if answer.code == 0 {
            let over = operation.may_be_over(self.target, self.injection.fault);
            assert!(over || operation.is_so(&stage.engine), "it was answered and is not so: {answer:?}");
            return;
        }
        // A build shows the step before it says what is wrong with it.
        let said: Vec<&str> = answer.stderr.trim_end().lines().collect();
        let shown = if operation == Operation::Build { said.len() } else { 1 };
        let sentences = said.iter().filter(|line| line.starts_with("davit: ")).count();
        assert!(sentences == 1 && said.len() <= shown, "not one sentence: {answer:?}");
        assert!(!answer.stderr.contains("panic"), "no clear sentence: {answer:?}");
        // A removal that could not be finished is finished later, and so is the undoing of what failed.
        if operation != Operation::Remove {
            until_true(&format!("what was refused is not so: {answer:?}"), || {
                !operation.is_so(&stage.engine)
            });
        }
    }

    fn is_reached(&self) -> bool {
        self.calls.iter().any(|call| call.injected)
    }

    fn is_numbed(&self) -> bool {
        self.calls.iter().any(Call::is_wake_up)
    }

    fn places(&self) -> Vec<String> {
        let hit = self.calls.iter().filter(|call| call.injected);
        hit.map(|call| format!("{}({})", call.name, call.place)).collect()
    }

    fn count(&self, counts: &mut Counts) {
        counts.trials += 1;
        counts.reached += usize::from(self.is_reached());
        counts.hits += self.calls.iter().filter(|call| call.injected).count();
        let Some(answer) = &self.answer else { return };
        counts.granted += usize::from(answer.code == 0);
        counts.cut += usize::from(answer.is_cut());
        counts.refused += usize::from(answer.code != 0 && !answer.is_cut());
    }
}

/// A sentence without what is different each time.
fn plain(said: &str) -> String {
    let word = |word: &str| {
        let id = word.chars().filter(char::is_ascii_hexdigit).count() >= 12;
        if id { "*".to_owned() } else { word.to_owned() }
    };
    said.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:<8} {:<7} {:<8} {:>6} {:>7} {:>5} {:>7} {:>7} {:>5}",
            "what", "whose", "fault", "trials", "reached", "hits", "granted", "refused", "cut"
        )?;
        for ((operation, target, fault), counts) in &self.counts {
            let Counts { trials, reached, hits, granted, refused, cut } = counts;
            writeln!(
                f,
                "{:<8} {:<7} {:<8} {trials:>6} {reached:>7} {hits:>5} {granted:>7} {refused:>7} {cut:>5}",
                operation.name(),
                target.name(),
                fault.name()
            )?;
        }
        writeln!(f, "{} different calls were hit", self.places.len())?;
        for (sentence, (count, first)) in &self.sentences {
            writeln!(f, "{count:>4} × {sentence}   ({first})")?;
        }
        for finding in &self.findings {
            writeln!(f, "FOUND {finding}")?;
        }
        write!(f, "{} findings", self.findings.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_each_fault_at_each_call_that_can_have_it() {
        let settings = Settings {
            operations: Operation::ALL.to_vec(),
            targets: vec![Target::Engine],
            faults: Fault::ALL.to_vec(),
            every: 1,
            most: usize::MAX,
            seed: 0,
            only: None,
        };
        let counted = BTreeMap::from([("fsync", 2), ("unlink", 1)]);
        let whole = plan(&settings, &counted);
        assert_eq!(whole.len(), 2 + 3 + 3);
        let some = plan(&Settings { every: 3, seed: 4, ..settings.clone() }, &counted);
        assert_eq!(some, [whole[1], whole[4], whole[7]]);
        assert_eq!(plan(&Settings { most: 3, ..settings.clone() }, &counted), [whole[0], whole[3], whole[6]]);
        let one = plan(&Settings { only: Some(("fsync".into(), Some(2))), ..settings }, &counted);
        assert_eq!(one.len(), 3);
    }
}
