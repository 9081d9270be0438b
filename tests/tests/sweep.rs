//! A few of the system calls that a shim makes for a container fail, or are its last; `davit-sweep` has all of them, and
//! those of the engine.

use davit_tests::sweep::fault::Fault;
use davit_tests::sweep::operation::{Operation, Target};
use davit_tests::sweep::{Settings, run, tracer};

/// Trials of an operation and target: each fault has one of them.
const FEW: usize = 3;

fn sweep(operations: &[Operation], targets: &[Target]) {
    if !tracer::is_allowed() {
        eprintln!("skipped: strace may not come to other processes here");
        return;
    }
    let settings = Settings {
        operations: operations.to_vec(),
        targets: targets.to_vec(),
        faults: Fault::ALL.to_vec(),
        every: 1,
        most: FEW,
        seed: 5,
        only: None,
    };
    let report = run(&settings).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let hits: usize = report.counts.values().map(|counts| counts.hits).sum();
    assert!(hits > 0, "strace hit little: {report}");
}

#[test]
fn a_shim_whose_calls_fail_leaves_nothing() {
    sweep(&[Operation::Create, Operation::Remove], &[Target::Shim]);
}
