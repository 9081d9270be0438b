//! Arguments and who has them.

use super::*;
use crate::file::Dockerfile;
use crate::instruction::Kind;

fn given(args: &[(&str, &str)]) -> Given {
    let platform = |variant: &str| Platform {
        os: "linux".into(),
        architecture: "arm".into(),
        variant: variant.to_owned(),
    };
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Given { args, build: platform(""), target: platform("v7"), stage: String::new() }
}

/// The arguments of the first stage of a file, and the global ones.
fn follow(text: &str, given: &Given) -> (Global, Args) {
    let file = Dockerfile::parse(text).unwrap();
    let global = Global::new(&file.args, given).unwrap();
    let mut args = Args::default();
    for instruction in &file.stages[0].instructions {
        let Kind::Arg(declared) = &instruction.kind else { panic!("{}", instruction.text) };
        for arg in declared {
            let before = args.clone();
            args.declare(arg, &global, &|name| before.variable(name)).unwrap();
        }
    }
    (global, args)
}

#[test]
fn a_stage_has_what_it_declares() {
    let text = "ARG A=1\nARG B=${A}2 C\nFROM x\nARG A\nARG D=${A}d E F=f\nARG B=own\nARG F\n";
    let (global, args) = follow(text, &given(&[]));
    assert_eq!(global.variable("B").as_deref(), Some("12"));
    assert_eq!(global.variable("C"), None);
    let values = ["A", "B", "C", "D", "E", "F"].map(|name| args.variable(name));
    let wanted = [Some("1"), Some("own"), None, Some("1d"), None, Some("f")];
    assert_eq!(values.each_ref().map(Option::as_deref), wanted);
    let (global, args) = follow(text, &given(&[("B", "given"), ("E", "e"), ("G", "g")]));
    assert_eq!(global.variable("B").as_deref(), Some("given"));
    assert_eq!(args.variable("B").as_deref(), Some("given"));
    assert_eq!(args.variable("E").as_deref(), Some("e"));
    assert_eq!(args.variable("G"), None);
}

#[test]
fn platforms_and_proxies_are_known_to_all() {
    let given = given(&[("HTTP_PROXY", "http://p"), ("X", "1")]);
    let (global, args) = follow("FROM --platform=$TARGETPLATFORM x\nARG TARGETARCH TARGETVARIANT\n", &given);
    assert_eq!(global.variable("TARGETPLATFORM").as_deref(), Some("linux/arm/v7"));
    assert_eq!(global.variable("BUILDPLATFORM").as_deref(), Some("linux/arm"));
    assert_eq!(args.variable("TARGETVARIANT").as_deref(), Some("v7"));
    assert_eq!(args.variable("TARGETOS"), None);
    assert_eq!(Args::proxies(&global), [("HTTP_PROXY".to_owned(), "http://p".to_owned())]);
    let image = |name: &str| (name == "TARGETARCH").then(|| "image's".to_owned());
    assert_eq!(args.environment(&image), [("TARGETVARIANT".to_owned(), "v7".to_owned())]);
}
