//! What is allowed in a Dockerfile and probably not meant, as the client is told of it.

use davit_dockerfile::Dockerfile;
use davit_dockerfile::instruction::Kind;
use davit_dockerfile::scope::PROXIES;
use davit_proto::build::{BuildOpen, Finding};

use crate::epoch;

/// What the checks of the file found, and arguments that nothing asks for.
pub fn findings(file: &Dockerfile, options: &BuildOpen) -> Vec<Finding> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut findings: Vec<Finding> = file
        .warnings
        .iter()
        .map(|warning| Finding {
            check: warning.check.to_owned(),
            text: warning.text.clone(),
            line: number(warning.at.line),
            column: number(warning.at.column),
        })
        .collect();
    let declared = file.stages.iter().flat_map(|stage| &stage.instructions);
    let declared = declared.filter_map(|instruction| match &instruction.kind {
        Kind::Arg(args) => Some(args),
        _ => None,
    });
    let known: Vec<&str> = declared
        .flatten()
        .chain(&file.args)
        .map(|arg| arg.name.text())
        .chain(PROXIES)
        .chain([epoch::ARGUMENT])
        .collect();
    let mut unused: Vec<&String> =
        options.build_args.keys().filter(|arg| !known.contains(&arg.as_str())).collect();
    unused.sort();
    findings.extend(unused.into_iter().map(|arg| Finding {
        check: "UnusedBuildArg".to_owned(),
        text: format!("build argument {arg:?} is not used by any ARG"),
        line: 0,
        column: 0,
    }));
    findings
}
