//! Conformance: what Go's templates and docker's functions answer, written down.

use super::*;
use crate::document::list;

fn row() -> Document {
    map([
        ("ID", "9e05a1d2c183".into()),
        ("Names", "web".into()),
        ("Labels", "a=1,tier=front".into()),
        ("Ports", Document::from("")),
        ("Size", 5_u64.into()),
        ("Tags", list(["x:1", "y:2"])),
        ("State", map([("Running", true.into()), ("Pid", 77_u32.into()), ("Error", "".into())])),
        ("Nothing", Document::Null),
        ("Networks", map([("bridge", map([("IPAddress", "172.17.0.2".into())]))])),
    ])
}

#[test]
fn templates_answer_as_go_does() {
    for (template, wanted) in [
        ("{{.ID}}", "9e05a1d2c183"),
        ("{{ .ID }}: {{.Names}}", "9e05a1d2c183: web"),
        ("{{.ID}}\\t{{.Names}}", "9e05a1d2c183\tweb"),
        ("{{json .Names}}", "\"web\""),
        ("{{json .State}}", r#"{"Error":"","Pid":77,"Running":true}"#),
        ("{{json .Nothing}}", "null"),
        ("{{.State.Running}}", "true"),
        ("{{.State.Pid}}", "77"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Ports}}p{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{.}};{{end}}", "x:1;y:2;"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}", "0=x:1 1=y:2 "),
        ("{{range $k, $v := .Networks}}{{$k}} {{$v.IPAddress}}{{end}}", "bridge 172.17.0.2"),
        ("{{range .Networks}}{{.IPAddress}}{{end}}", "172.17.0.2"),
        ("{{index .Tags 1}}", "y:2"),
        ("{{index .Networks \"bridge\" | json}}", r#"{"IPAddress":"172.17.0.2"}"#),
        ("{{(index .Networks \"bridge\").IPAddress}}", "172.17.0.2"),
        ("{{.Networks.bridge.IPAddress}}", "172.17.0.2"),
        ("{{with .Names}}[{{.}}]{{end}}", "[web]"),
        ("{{len .Tags}}", "2"),
        ("{{.Tags}}", "[x:1 y:2]"),
        ("{{printf \"%-6s|%03d\" .Names .Size}}", "web   |005"),
        ("{{.Names | upper}}", "WEB"),
        ("{{upper .Names}}-{{lower \"ABC\"}}", "WEB-abc"),
        ("{{title \"hello world\"}}", "Hello World"),
        ("{{join .Tags \", \"}}", "x:1, y:2"),
        ("{{range split .Labels \",\"}}<{{.}}>{{end}}", "<a=1><tier=front>"),
        ("{{truncate .ID 4}}", "9e05"),
        ("{{pad .Names 1 2}}|", " web  |"),
        ("{{.Label \"tier\"}}", "front"),
        ("{{.Label \"absent\"}}", ""),
        ("{{eq .Names \"web\"}}", "true"),
        ("{{and .State.Running (gt .Size 3)}}", "true"),
        ("{{not .State.Running}}", "false"),
        ("{{- .Names -}} ", "web"),
        ("{{/* a comment */}}x", "x"),
        ("{{$n := .Names}}{{$n}}{{$n}}", "webweb"),
        ("{{println .Names}}", "web\n"),
        ("{{\"literal\"}}", "literal"),
        ("{{slice .ID 0 3}}", "9e0"),
        ("{{html \"<a>\"}}", "&lt;a&gt;"),
        ("plain", "plain"),
    ] {
        let Format::Template(template) = Format::of(Some(template)) else {
            panic!("{template} is a template");
        };
        assert_eq!(Prepared::parse(&template).unwrap().apply(&row()).unwrap(), wanted, "{template}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    for template in
        ["{{.Nope}}", "{{", "{{.ID", "{{nofunction .ID}}", "{{join .ID 1}}", "{{truncate .ID -1}}"]
    {
        let answer = Prepared::parse(template).and_then(|prepared| prepared.apply(&row()));
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("template"), "{template}: {error}");
    }
}

const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "CONTAINER ID" },
    Column { field: "Names", head: "NAMES" },
    Column { field: "Labels", head: "LABELS" },
];

fn listing() -> Listing {
    Listing { columns: COLUMNS, shown: vec!["ID", "Names"], rows: vec![row()] }
}

#[test]
fn tables() {
    assert_eq!(listing().render(&Format::of(None)).unwrap(), "CONTAINER ID   NAMES\n9e05a1d2c183   web\n");
    for (format, wanted) in [
        ("table {{.Names}}\\t{{.ID}}", "NAMES     CONTAINER ID\nweb       9e05a1d2c183\n"),
        ("table {{.Names | upper}}\t{{.Label \"tier\"}}", "NAMES     tier\nWEB       front\n"),
        ("table {{truncate .ID 3}}", "CONTAINER ID\n9e0\n"),
        ("{{.Names}}", "web\n"),
    ] {
        assert_eq!(listing().render(&Format::of(Some(format))).unwrap(), wanted, "{format}");
    }
}

#[test]
fn json_is_a_line_a_row() {
    let text = listing().render(&Format::of(Some("json"))).unwrap();
    assert_eq!(text.lines().count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["Names"], "web");
}
