//! A few of the system calls that a shim or an engine makes fail, or are its last; `davit-sweep` has all of them.

use davit_tests::sweep::fault::Fault;
use davit_tests::sweep::operation::{Operation, Target};
use davit_tests::sweep::{Settings, run, tracer};

/// Trials of an operation and target: each fault has one of them.
const FEW: usize = 3;

fn sweep(operations: &[Operation], target: Target, only: Option<(&str, usize)>) {
    if !tracer::is_allowed() {
        eprintln!("skipped: strace may not come to other processes here");
        return;
    }
    let settings = Settings {
        operations: operations.to_vec(),
        targets: vec![target],
        faults: Fault::ALL.to_vec(),
        every: 1,
        most: FEW,
        seed: 5,
        only: only.map(|(call, when)| (call.to_owned(), Some(when))),
    };
    let report = run(&settings).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let hits: usize = report.counts.values().map(|counts| counts.hits).sum();
    assert!(hits > 0, "strace hit little: {report}");
}

#[test]
fn a_shim_whose_calls_fail_leaves_nothing() {
    sweep(&[Operation::Create, Operation::Remove], Target::Shim, None);
}

#[test]
fn an_engine_whose_calls_fail_leaves_nothing() {
    sweep(&[Operation::Create, Operation::Start, Operation::Remove], Target::Engine, None);
}

#[test]
fn what_an_engine_cannot_open_is_not_passed_over() {
    sweep(&[Operation::Start, Operation::Remove], Target::Engine, Some(("open", 1)));
    // The folders of a layer, which get their times at the end.
    sweep(&[Operation::Pull], Target::Engine, Some(("openat2", 5)));
}
