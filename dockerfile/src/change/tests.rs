//! Changes and what they do to a config.

use serde_json::json;

use super::*;

/// The config that a text makes of another.
fn changed(config: Value, text: &str) -> Value {
    let Value::Object(mut map) = config else { panic!("a config is an object") };
    apply(&parse(text).unwrap_or_else(|e| panic!("{text}: {e}")), &mut map)
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    Value::Object(map)
}

#[test]
fn commands_have_two_forms_and_an_entry_point_ends_what_was_inherited() {
    let none = || json!({});
    assert_eq!(changed(none(), "CMD echo $x  y"), json!({"Cmd": ["/bin/sh", "-c", "echo $x  y"]}));
    assert_eq!(changed(none(), "cmd [\"a\", \"$x\"]"), json!({"Cmd": ["a", "$x"]}));
    assert_eq!(changed(none(), "CMD []"), json!({"Cmd": []}));
    assert_eq!(changed(none(), "CMD ['a']"), json!({"Cmd": ["/bin/sh", "-c", "['a']"]}));
    let shell = "SHELL [\"/bin/bash\", \"-ec\"]\nENTRYPOINT a b";
    let wanted = json!({"Shell": ["/bin/bash", "-ec"], "Entrypoint": ["/bin/bash", "-ec", "a b"]});
    assert_eq!(changed(none(), shell), wanted);
    let inherited = || json!({"Cmd": ["old"], "Entrypoint": ["e"]});
    assert_eq!(changed(inherited(), "ENTRYPOINT [\"f\"]"), json!({"Entrypoint": ["f"]}));
    assert_eq!(changed(inherited(), "ENTRYPOINT []"), json!({}));
    let own = "CMD [\"new\"]\nENTRYPOINT [\"f\"]";
    assert_eq!(changed(inherited(), own), json!({"Cmd": ["new"], "Entrypoint": ["f"]}));
}

#[test]
fn variables_are_those_from_before_the_instruction() {
    let config = json!({"Env": ["PATH=/bin", "A=1"]});
    let text = "ENV A=2 B=$A PATH=$PATH:/x\nENV B=\"$A $B\" C='$A' D=a\\ b\nENV OLD form  \"of $C\" \\$A";
    let wanted = json!({"Env": ["PATH=/bin:/x", "A=2", "B=2 1", "C=$A", "D=a b", "OLD=form  of $A $A"]});
    assert_eq!(changed(config, text), wanted);
    assert_eq!(changed(json!({"Env": null}), "ENV A="), json!({"Env": ["A="]}));
    assert_eq!(changed(json!({"Env": ["A=1", "B", "A=2"]}), "ENV A=3 B=4"), json!({"Env": ["A=3", "B=4"]}));
    let labels = "LABEL a.b=\"c d\" \"e f\"=g\nLABEL h i j";
    assert_eq!(changed(json!({}), labels), json!({"Labels": {"a.b": "c d", "e f": "g", "h": "i j"}}));
}

#[test]
fn the_other_fields_are_set_as_everywhere() {
    let config = json!({"Env": ["PORTS=80 90/udp", "DIR=/srv"], "ExposedPorts": {"22/tcp": {}}});
    let text = "EXPOSE $PORTS 100-101\nVOLUME [\"/a b\", \"$DIR\"]\nVOLUME /c /d\nUSER ${DIR#/}:1\n\
        WORKDIR $DIR\nWORKDIR a/./b\nWORKDIR ../c\nSTOPSIGNAL sigquit\nONBUILD run  echo $x\nONBUILD COPY a b";
    let wanted = json!({
        "Env": ["PORTS=80 90/udp", "DIR=/srv"],
        "ExposedPorts": {"22/tcp": {}, "80/tcp": {}, "90/udp": {}, "100/tcp": {}, "101/tcp": {}},
        "Volumes": {"/a b": {}, "/srv": {}, "/c": {}, "/d": {}},
        "User": "srv:1",
        "WorkingDir": "/srv/a/c",
        "StopSignal": "sigquit",
        "OnBuild": ["run  echo $x", "COPY a b"],
    });
    assert_eq!(changed(config, text), wanted);
}

#[test]
fn health_checks_are_written_as_configs_have_them() {
    let health = |text: &str| changed(json!({}), text)["Healthcheck"].clone();
    assert_eq!(health("HEALTHCHECK NONE"), json!({"Test": ["NONE"]}));
    assert_eq!(health("HEALTHCHECK cmd a $b"), json!({"Test": ["CMD-SHELL", "a $b"]}));
    let wanted = json!({
        "Test": ["CMD", "a"], "Interval": 1_500_000_000_i64, "Timeout": 60_000_000_000_i64,
        "StartPeriod": 2_000_000, "StartInterval": 1_000_000, "Retries": 7,
    });
    let text = "HEALTHCHECK --interval=1.5s --timeout=1m --start-period=2ms --start-interval=1ms --retries=7 \\\n \
        CMD [\"a\"]";
    assert_eq!(health(text), wanted);
}

#[test]
fn a_document_of_a_trigger_goes_with_it() {
    let wanted = json!({"OnBuild": ["RUN <<EOF\necho a\nEOF"]});
    assert_eq!(changed(json!({}), "ONBUILD RUN <<EOF\necho a\nEOF\n"), wanted);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, wanted) in [
        ("RNU a", "line 1, column 1: unknown instruction \"RNU\""),
        ("ENV a=1\n  EXPSOE 1", "line 2, column 3: unknown instruction \"EXPSOE\": did you mean EXPOSE?"),
        ("RUN a", "line 1, column 1: RUN is no change of a config and has no place here"),
        ("CMD", "line 1, column 1: CMD needs a command, or [] for none"),
        ("CMD [1]", "line 1, column 5: list \"1\": a JSON list may only have strings"),
        ("CMD --x a", "line 1, column 5: CMD has no flag \"--x\""),
        ("ENV a", "line 1, column 5: ENV needs name=value: this name has no value"),
        (
            "ENV a=1 b",
            "line 1, column 9: word \"b\": it must be name=value: a value with white space stands in quotes",
        ),
        ("LABEL =b", "line 1, column 7: name \"=b\": nothing stands before the ="),
        ("EXPOSE 80 x", "line 1, column 11: port \"x\": a port is a number from 1 to 65535"),
        ("VOLUME [\"\"]", "line 1, column 8: path of a volume \"\": it is empty"),
        ("WORKDIR $X", "line 1, column 9: path \"$X\": it is empty"),
        ("STOPSIGNAL SIGFOO", "line 1, column 12: signal \"SIGFOO\": there is no such signal"),
        ("SHELL /bin/sh", "line 1, column 1: SHELL needs a JSON list, as [\"/bin/sh\", \"-c\"]"),
        ("HEALTHCHECK", "line 1, column 1: HEALTHCHECK needs CMD and a command, or NONE"),
        ("HEALTHCHECK CMD", "line 1, column 1: HEALTHCHECK needs a command after CMD"),
        ("HEALTHCHECK CMD []", "line 1, column 1: HEALTHCHECK needs a command after CMD"),
        ("HEALTHCHECK curl", "line 1, column 13: health check \"curl\": it begins with CMD or is NONE"),
        ("HEALTHCHECK NONE a", "line 1, column 18: HEALTHCHECK NONE takes nothing, and here is \"a\" more"),
        (
            "HEALTHCHECK --intervall=1s CMD a",
            "line 1, column 13: HEALTHCHECK has no flag \"--intervall\": did you mean interval?",
        ),
        (
            "HEALTHCHECK --interval=5 CMD a",
            "line 1, column 24: time \"5\": it must be a time with its unit, as 30s, 1m30s or 500ms",
        ),
        ("HEALTHCHECK --interval=1us CMD a", "line 1, column 24: time \"1us\": it cannot be less than 1ms"),
        (
            "HEALTHCHECK --retries=-1 CMD a",
            "line 1, column 23: number of retries \"-1\": it must be a whole number from 0",
        ),
        ("ONBUILD ONBUILD CMD a", "line 1, column 9: instruction \"ONBUILD\": it does not nest in ONBUILD"),
        ("ONBUILD FROM a", "line 1, column 9: instruction \"FROM\": it cannot wait in ONBUILD"),
        ("ONBUILD CPY a b", "line 1, column 9: unknown instruction \"CPY\": did you mean COPY?"),
        ("ONBUILD STOPSIGNAL", "line 1, column 9: STOPSIGNAL needs a signal"),
        ("ENV a=1 \\\n  b=${c", "line 2, column 5: variable \"${c\": the substitution has no } after it"),
        ("USER ${x:?say who}", "line 1, column 6: variable \"x\": say who"),
    ] {
        let result = parse(text).and_then(|changes| apply(&changes, &mut Map::new()));
        assert_eq!(result.map_err(|error| error.to_string()), Err(wanted.to_owned()), "{text}");
    }
    let Value::Object(mut config) = json!({"Env": "A=1"}) else { panic!() };
    let error = apply(&parse("\nENV B=2").unwrap(), &mut config).unwrap_err().to_string();
    assert_eq!(error, "line 2, column 1: Env of the image's config is not a list");
    assert_eq!(config["Env"], "A=1");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(name in proptest::sample::select(&NAMES[..]), rest in "[\\[\\]\"',$a1{}:=#/%\\\\ -]{0,40}|\\PC{0,40}") {
        if let Ok(changes) = parse(&format!("{name} {rest}")) {
            let _ = apply(&changes, &mut Map::new());
        }
    }
}
