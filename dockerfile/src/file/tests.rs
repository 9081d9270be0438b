//! Whole files: what they say, and a hundred ways to say nothing.

use super::malformed::MALFORMED;
use super::*;

#[test]
fn stages_hold_what_follows_their_from() {
    let text = "# syntax=docker/dockerfile:1\nARG A=1\nfrom x as Build\nrun a\n\nFROM y\nCOPY --from=build a b\nCMD [\"c\"]\n";
    let file = Dockerfile::parse(text).unwrap();
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.args.len(), 1);
    assert_eq!(file.stages.len(), 2);
    assert_eq!(file.stages[0].name().as_deref(), Some("build"));
    let names: Vec<_> = file.stages[1].instructions.iter().map(Instruction::name).collect();
    assert_eq!(names, ["COPY", "CMD"]);
    assert_eq!(file.stages[1].instructions[0].text, "COPY --from=build a b");
    assert_eq!(Dockerfile::parse_bytes(text.as_bytes()).unwrap(), file);
    let error = Dockerfile::parse_bytes(b"FROM x\nRUN \xff").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 5: these bytes are no UTF-8 text");
}

#[test]
fn what_is_probably_not_meant_is_told() {
    let text = "FROM x as Build\nenv KEY 1\nCMD a\nCMD [\"b\"]\nWORKDIR app\nMAINTAINER me\nRUN a \\\n\n b\n\
        ARG API_TOKEN PUBLIC_KEY\nFROM --platform=linux/arm64 y AS build\nFROM z AS scratch\n";
    let checks = |text: &str| -> Vec<(usize, &str)> {
        let file = Dockerfile::parse(text).unwrap();
        file.warnings.iter().map(|warning| (warning.at.line, warning.check)).collect()
    };
    let wanted = [
        (1, "FromAsCasing"),
        (1, "StageNameCasing"),
        (2, "ConsistentInstructionCasing"),
        (2, "LegacyKeyValueFormat"),
        (2, "SecretsUsedInArgOrEnv"),
        (3, "JSONArgsRecommended"),
        (3, "MultipleInstructionsDisallowed"),
        (5, "WorkdirRelativePath"),
        (6, "MaintainerDeprecated"),
        (8, "NoEmptyContinuation"),
        (10, "SecretsUsedInArgOrEnv"),
        (11, "FromPlatformFlagConstDisallowed"),
        (11, "DuplicateStageName"),
        (12, "ReservedStageName"),
    ];
    assert_eq!(checks(text), wanted);
    assert_eq!(checks(&format!("# check=skip=all\n{text}")), []);
    assert_eq!(checks("# check=skip=JSONArgsRecommended,stagenamecasing\nFROM x AS B\nCMD a\n"), []);
    let error = Dockerfile::parse("# check=error=true\nFROM x\nWORKDIR app\n").unwrap_err().to_string();
    let wanted = "line 3, column 9: WorkdirRelativePath: relative to a folder that the base image may change";
    assert_eq!(error, wanted);
}

#[test]
fn each_malformed_file_is_told_with_line_and_column() {
    const { assert!(MALFORMED.len() >= 100) };
    let mut wrong = Vec::new();
    for (text, wanted) in MALFORMED {
        let said = match Dockerfile::parse(text) {
            Err(error) => error.to_string(),
            Ok(_) => "it is accepted".to_owned(),
        };
        if !said.starts_with(wanted) || wanted.len() < 18 {
            wrong.push(format!("{text:?}\n  said   {said}\n  wanted {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that are odd and yet what people write.
#[test]
fn odd_files_are_accepted() {
    for text in [
        "\u{FEFF}FROM x",
        "FROM x\r\nRUN a\r\n",
        "FROM\tx",
        "FROM x\nRUN \\\n# a comment\n  a\n",
        "FROM x\nRUN a \\\n",
        "FROM x\nCMD [ \"a\" , \"b\" ]",
        "FROM x\nRUN [ -f /a ] && b",
        "FROM x\nENV a=b\\\n c=d",
        "FROM x\nENV a b c",
        "FROM x\nLABEL \"a b\"=\"c\" d='e'",
        "FROM x\nCOPY [\"a b\", \"c d\"]",
        "FROM x\nADD https://e.org/a.git#v1:dir /a",
        "FROM x\nADD --checksum=sha256:00 --unpack=false http://e.org/a /a",
        "FROM x\nCOPY --link --parents --exclude=*.md --exclude=b --chown=1:2 --chmod=u+x a b /c/",
        "FROM x\nRUN --mount=type=cache,target=/a,id=$B,sharing=locked,mode=0700,uid=1,gid=2 a",
        "FROM x\nRUN --mount=type=secret,id=a,env=B,required a",
        "FROM x\nRUN --mount=type=ssh --mount=type=tmpfs,target=/t,size=64m --mount=target=/c,rw a",
        "FROM x\nRUN --network=none --security=insecure a",
        "FROM x\nCOPY <<A <<B /d/\na\nA\nb\nB\n",
        "FROM x\nRUN <<A cat && cat <<B\na\nA\nb\nB\n",
        "FROM x\nONBUILD RUN --mount=type=cache,target=/a b",
        "FROM x\nSTOPSIGNAL $S",
        "FROM x\nEXPOSE ${P:-80}/tcp",
        "FROM x\nHEALTHCHECK --interval=30s CMD a || exit 1",
        "FROM x\nARG a b=c \"d=e f\"",
        "FROM x\nVOLUME /a /b",
        "FROM x\nCMD []",
        "FROM ${a:-x}:${b}@${c} as d",
    ] {
        if let Err(error) = Dockerfile::parse(text) {
            panic!("{text:?}: {error}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    #[test]
    fn no_file_panics(lines in proptest::collection::vec(line(), 0..12)) {
        let _ = Dockerfile::parse(&lines.join("\n"));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Dockerfile::parse_bytes(&bytes);
    }
}

/// Lines that are nearly what they should be.
fn line() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let names = crate::change::NAMES.into_iter().chain([
        "ADD",
        "ARG",
        "COPY",
        "FROM",
        "RUN",
        "ONBUILD RUN",
        "#",
        "EOF",
    ]);
    let names: Vec<&str> = names.collect();
    let pieces = prop::sample::select(vec![
        "a",
        "b=c",
        "[\"a\"]",
        "--from=0",
        "--mount=type=cache,target=/a",
        "<<EOF",
        "\"",
        "'",
        "\\",
        "$a",
        "${a:-b}",
        "AS",
        "80/tcp",
        "NONE",
        "CMD",
        "--interval=1s",
        "=",
        "[",
        "--",
        "https://a/b.git",
        "scratch",
    ]);
    (prop::sample::select(names), prop::collection::vec(pieces, 0..6))
        .prop_map(|(name, pieces)| format!("{name} {}", pieces.join(" ")))
}
