//! Texts and their statements.

use super::*;

fn statements(text: &str) -> Vec<(String, String)> {
    let lexed = lex(text).unwrap();
    lexed.statements.iter().map(|s| (s.name.text().to_owned(), s.rest.text().to_owned())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn lines_go_on_and_comments_do_not() {
    let text = "# a comment\n\n  FROM x  \nRUN a \\\n  # within\n\n   b\\\nc \\  \nd\n#end\nCMD\n";
    assert_eq!(statements(text), pairs(&[("FROM", "x"), ("RUN", "a    bc d"), ("CMD", "")]));
    let lexed = lex(text).unwrap();
    assert_eq!(lexed.statements[1].gap, Some(Position { line: 6, column: 1 }));
    assert_eq!(lexed.statements[1].last_line, 9);
    assert_eq!(lexed.statements[0].name.at(), Position { line: 3, column: 3 });
    let rest = &lexed.statements[1].rest;
    let at = rest.text().find('d').unwrap();
    assert_eq!(rest.position(at), Position { line: 9, column: 1 });
    assert_eq!(statements("RUN a\\\\\nCMD b"), pairs(&[("RUN", "a\\\\"), ("CMD", "b")]));
    assert_eq!(statements("RUN a \\"), pairs(&[("RUN", "a")]));
    assert_eq!(statements("\\\n\\\nRUN a"), pairs(&[("RUN", "a")]));
    assert_eq!(statements("\u{FEFF}FROM a\r\nRUN b \\\r\n c\r\n"), pairs(&[("FROM", "a"), ("RUN", "b  c")]));
    assert_eq!(statements("\n # x\n"), pairs(&[]));
}

#[test]
fn directives_are_followed_at_the_top_only() {
    let lexed = lex("# syntax = docker/dockerfile:1\n#escape=`\n# check=skip=all\nRUN a `\n b\\\n").unwrap();
    assert_eq!(lexed.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(lexed.directives.check.as_deref(), Some("skip=all"));
    assert_eq!(lexed.statements[0].rest.text(), "a  b\\");
    for text in ["# a comment\n# escape=`\nRUN a", "\n# escape=`\nRUN a", "# other=1\n# escape=`\nRUN a"] {
        assert_eq!(lex(text).unwrap().directives.escape, '\\', "{text}");
    }
    let refused = |text: &str| lex(text).unwrap_err().to_string();
    assert_eq!(refused("# escape=`\n# Escape=\\\n"), "line 2, column 1: flag escape is given twice");
    assert_eq!(
        refused("# escape=x\n"),
        "line 1, column 1: escape character \"x\": it can be a backslash or a backtick"
    );
}

#[test]
fn documents_follow_their_line() {
    let text =
        "COPY <<EOF <<-\"E N\" /x\n$a\n# no comment\nEOF\n\t\tb\n\tE N\nRUN <<EOF\nc\\\nEOF\nEOF2\nEOF\n";
    let lexed = lex(text);
    // The second document's line continues nothing: its end is a line of its own.
    let lexed = lexed.unwrap();
    let copy = &lexed.statements[0];
    assert_eq!(copy.heredocs.len(), 2);
    assert_eq!(copy.heredocs[0].body.text(), "$a\n# no comment\n");
    assert!(copy.heredocs[0].expand && !copy.heredocs[0].chomp);
    assert_eq!(copy.heredocs[1].name, "E N");
    assert_eq!(copy.heredocs[1].content().text(), "b\n");
    assert_eq!(copy.heredocs[1].content().at(), Position { line: 5, column: 3 });
    assert!(!copy.heredocs[1].expand);
    assert_eq!(lexed.statements[1].heredocs[0].body.text(), "c\\\n");
    assert_eq!(lexed.statements[2].name.text(), "EOF2");
    let error = lex("FROM x\nRUN cat <<EOF > /y\nEOF \n").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 9: here-document \"EOF\" has no end");
}

#[test]
fn what_only_looks_like_a_document_is_none() {
    for text in [
        "RUN [\"cat\", \"<<EOF\"]",
        "RUN cat <<<EOF",
        "RUN echo $((1<<2))",
        "RUN echo << x",
        "RUN echo \"<<EOF\"",
        "CMD cat <<EOF",
        "RUN --mount=source=<<EOF true",
    ] {
        assert!(lex(text).unwrap().statements[0].heredocs.is_empty(), "{text}");
    }
    for text in [
        "RUN cat <<EOF>/x\na\nEOF",
        "RUN 3<<EOF cat\na\nEOF",
        "ONBUILD RUN <<EOF\na\nEOF",
        "RUN --network=none <<EOF\na\nEOF",
    ] {
        assert_eq!(lex(text).unwrap().statements[0].heredocs[0].body.text(), "a\n", "{text}");
    }
}

#[test]
fn texts_are_bounded() {
    assert!(matches!(lex(&"x".repeat(limit::TEXT + 1)).unwrap_err().problem, Problem::Limit { .. }));
    assert!(matches!(lex(&"CMD a\n".repeat(10_001)).unwrap_err().problem, Problem::Limit { .. }));
    assert_eq!(lex("FROM a\nRUN \0").unwrap_err().at, Position { line: 2, column: 5 });
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([A-Z]{0,8}|[ \\t\\r\\n\\\\`#=<\"'-]{0,6}|EOF|\\PC{0,6}|ONBUILD |RUN |COPY ){0,20}") {
        if let Ok(lexed) = lex(&text) {
            for statement in lexed.statements {
                proptest::prop_assert!(!statement.name.text().is_empty());
                proptest::prop_assert!(statement.rest.at().line <= statement.last_line);
                for document in &statement.heredocs {
                    let _ = document.content();
                }
            }
        }
    }
}
