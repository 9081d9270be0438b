//! Files and their graphs.

use std::collections::BTreeMap;

use super::*;
use crate::scope::{Given, Platform};

fn graph(text: &str, target: Option<&str>) -> Result<Graph, String> {
    let file = Dockerfile::parse(text).map_err(|error| error.to_string())?;
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
    let stage = target.unwrap_or_default().to_owned();
    let given = Given { args: BTreeMap::new(), build: platform.clone(), target: platform, stage };
    let global = Global::new(&file.args, &given).map_err(|error| error.to_string())?;
    Graph::new(&file, &global, target).map_err(|error| error.to_string())
}

const FILE: &str = "ARG V=1\nFROM base:$V AS Deps\nRUN a\nFROM deps AS build\nRUN b\nFROM scratch AS extra\nCOPY a b\n\
    FROM --platform=$BUILDPLATFORM other AS tools\nFROM alpine\nCOPY --from=build a b\nRUN --mount=from=3,target=/t c\n\
    COPY --from=nginx:1 x y\n";

#[test]
fn only_what_is_needed_is_in_the_order() {
    let graph_ = graph(FILE, None).unwrap();
    assert_eq!(graph_.target, 4);
    assert_eq!(graph_.nodes[0].base, Origin::Image("base:1".into()));
    assert_eq!(graph_.nodes[1].base, Origin::Stage(0));
    assert_eq!(graph_.nodes[2].base, Origin::Scratch);
    assert_eq!(graph_.nodes[3].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(graph_.nodes[4].needs, [1, 3]);
    assert_eq!(graph_.order, [0, 1, 3, 4]);
    assert_eq!(graph(FILE, Some("DEPS")).unwrap().order, [0]);
    assert_eq!(graph(FILE, Some("2")).unwrap().order, [2]);
}

#[test]
fn a_later_stage_may_be_copied_from_and_not_begun_with() {
    let text = "FROM x AS a\nCOPY --from=b p q\nFROM b AS c\nFROM y AS b\nFROM a\n";
    let graph = graph(text, None).unwrap();
    assert_eq!(graph.nodes[0].needs, [2]);
    assert_eq!(graph.nodes[1].base, Origin::Image("b".into()));
    assert_eq!(graph.order, [2, 0, 3]);
}

#[test]
fn what_cannot_be_a_graph_is_refused() {
    for (text, target, wanted) in [
        (FILE, Some("buidl"), "line 1, column 1: there is no stage \"buidl\": did you mean build?"),
        (FILE, Some("5"), "line 1, column 1: there is no stage \"5\""),
        (
            "FROM $x\n",
            None,
            "line 1, column 6: image \"$x\": it is empty: does an ARG before the first FROM give it a value?",
        ),
        (
            "FROM a\nCOPY --from=0 a b",
            None,
            "line 2, column 13: stage \"0\": a stage cannot take anything from itself",
        ),
        ("FROM a\nCOPY --from=7 a b", None, "line 2, column 13: stage \"7\": no stage has this number"),
        (
            "FROM x AS a\nCOPY --from=b p q\nFROM a AS b\n",
            None,
            "line 3, column 1: stages need each other: b -> a -> b",
        ),
        (
            "FROM x AS a\nCOPY --from=b p q\nFROM y AS b\nCOPY --from=c p q\nFROM z AS c\nCOPY --from=a p q\n",
            None,
            "line 5, column 1: stages need each other: c -> a -> b -> c",
        ),
    ] {
        assert_eq!(graph(text, target), Err(wanted.to_owned()), "{text}");
    }
}

#[test]
fn a_long_chain_is_followed() {
    let mut text = "FROM x AS s0\n".to_owned();
    for stage in 1..5_000 {
        text.push_str(&format!("FROM s{} AS s{stage}\n", stage - 1));
    }
    assert_eq!(graph(&text, None).unwrap().order.len(), 5_000);
}
