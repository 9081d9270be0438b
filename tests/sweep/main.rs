//! `davit-sweep`: lets system calls fail, one after the other, by hand.
//!
//! ```text
//! davit-sweep [--operation NAME] [--target engine|shim] [--fault ENOSPC|EIO|SIGKILL] [--every N] [--most N]
//!             [--seed N] [--call NAME[:N]]
//! ```
//!
//! Operations: create, start, rm, pull, commit, build. Without flags everything is swept, which takes hours; `--every 10`
//! makes each tenth trial, `--most 50` no more than fifty of an operation and target. Needs root, `strace`, the release binaries (`deploy/build`, or `DAVIT_BIN_DIR`),
//! `docker-registry` and `skopeo`. Prints the seed first, then what was counted, every sentence that was said, and what
//! was found. Ends with an error when that is anything.

use anyhow::{Context as _, Result, bail};
use davit_tests::chance;
use davit_tests::sweep::fault::Fault;
use davit_tests::sweep::operation::{Operation, Target};
use davit_tests::sweep::{Settings, run};

fn main() -> Result<()> {
    let mut settings = Settings {
        operations: Operation::ALL.to_vec(),
        targets: vec![Target::Engine, Target::Shim],
        faults: Fault::ALL.to_vec(),
        every: 1,
        most: usize::MAX,
        seed: chance::seed(),
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} wants a value"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{flag} {value}: not a number"));
        match flag.as_str() {
            "--operation" => settings.operations = named(&Operation::ALL, Operation::name, &value)?,
            "--target" => settings.targets = named(&[Target::Engine, Target::Shim], Target::name, &value)?,
            "--fault" => settings.faults = named(&Fault::ALL, Fault::name, &value)?,
            "--most" => settings.most = usize::try_from(number()?)?,
            "--every" => settings.every = usize::try_from(number()?)?,
            "--seed" => settings.seed = number()?,
            "--call" => {
                let (call, when) =
                    value.split_once(':').map_or((value.as_str(), None), |(c, n)| (c, Some(n)));
                settings.only = Some((call.to_owned(), when.map(str::parse).transpose()?));
            }
            _ => bail!("{flag}: there is --operation, --target, --fault, --every, --most, --seed and --call"),
        }
    }
    println!("--seed {} --every {}", settings.seed, settings.every);
    let report = run(&settings)?;
    println!("{report}");
    anyhow::ensure!(report.findings.is_empty(), "{} findings", report.findings.len());
    Ok(())
}

fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, wanted: &str) -> Result<Vec<T>> {
    let found: Vec<T> = all.iter().copied().filter(|&one| name(one) == wanted).collect();
    anyhow::ensure!(
        !found.is_empty(),
        "{wanted}: there is {}",
        all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", ")
    );
    Ok(found)
}
