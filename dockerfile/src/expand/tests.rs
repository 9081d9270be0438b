//! Words and what becomes of them.

use super::*;
use crate::position::Position;

fn of(text: &str, escape: char) -> Word {
    Word::made(text, Position::START, escape)
}

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "PWD" => "/home",
        "SHELL" => "bash",
        "EMPTY" => "",
        "TWO" => "a b",
        "FILE" => "/usr/lib/x.tar.gz",
        "KOREAN" => "한국어",
        "STARS" => "a*b*c",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expand(text: &str) -> Result<String, String> {
    word(&of(text, '\\'), &lookup).map_err(|error| error.to_string())
}

#[test]
fn quotes_escapes_and_variables_end() {
    for (text, wanted) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he\"ll\"o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"he\\llo", r"he\llo"),
        (r"hel\lo", "hello"),
        (r"hello\", "hello"),
        (r#""he\"llo""#, "he\"llo"),
        (r#""he\'llo""#, r"he\'llo"),
        (r#""a\$PWD""#, "a$PWD"),
        ("'$PWD'", "$PWD"),
        ("\"$PWD\"", "/home"),
        ("'\"'", "\""),
        ("\"'\"", "'"),
        (r"\$PWD", "$PWD"),
        ("$", "$"),
        ("$ a", "$ a"),
        ("he$", "he$"),
        ("$PWD/x", "/home/x"),
        ("$PWDx", ""),
        ("${PWD}x", "/homex"),
        ("$1x$10", "x"),
        ("$#$@$*$?$-$!$$", ""),
        ("$KOREAN.x", "한국어.x"),
        ("한$KOREAN", "한한국어"),
        ("안녕${X:-\"a}b\"}c", "안녕a}bc"),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(wanted), "{text}");
    }
    assert_eq!(word(&of("`$PWD \\x", '`'), &lookup).unwrap(), "$PWD \\x");
}

#[test]
fn modifiers_choose() {
    for (text, wanted) in [
        ("${X:-y}", "y"),
        ("${X-y}", "y"),
        ("${EMPTY:-y}", "y"),
        ("${EMPTY-y}", ""),
        ("${PWD:-y}", "/home"),
        ("${X:+y}", ""),
        ("${X+y}", ""),
        ("${EMPTY:+y}", ""),
        ("${EMPTY+y}", "y"),
        ("${PWD:+y$PWD}", "y/home"),
        ("${PWD:?no}", "/home"),
        ("${EMPTY?no}", ""),
        ("${X:-${Y:-${PWD}}}", "/home"),
        ("${X:-'${PWD}'}", "${PWD}"),
        ("\"${X:-a b}\"", "a b"),
        ("${X:-}", ""),
        (r"${X:-\}}", "}"),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn modifiers_cut_and_replace() {
    for (text, wanted) in [
        ("${FILE#*/}", "usr/lib/x.tar.gz"),
        ("${FILE##*/}", "x.tar.gz"),
        ("${FILE%.*}", "/usr/lib/x.tar"),
        ("${FILE%%.*}", "/usr/lib/x"),
        ("${FILE%/x*}", "/usr/lib"),
        ("${FILE#lib}", "/usr/lib/x.tar.gz"),
        ("${FILE##/?sr}", "/lib/x.tar.gz"),
        ("${STARS#a\\*}", "b*c"),
        ("${STARS%\\**}", "a*b"),
        ("${STARS%%\\**}", "a"),
        ("${FILE/\\//_}", "_usr/lib/x.tar.gz"),
        ("${FILE//\\//_}", "_usr_lib_x.tar.gz"),
        ("${FILE//./}", "/usr/lib/xtargz"),
        ("${FILE/x*/y}", "/usr/lib/y"),
        ("${KOREAN#?}", "국어"),
        ("${KOREAN%?}", "한국"),
        ("${KOREAN/국/x}", "한x어"),
        ("${X/a/b}", ""),
        ("${PWD#$PWD}", ""),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn what_has_no_end_or_no_sense_is_refused_with_its_place() {
    for (text, wanted) in [
        ("a'b", "line 1, column 2: variable \"'b\": the single quote has no end"),
        ("a\"b", "line 1, column 2: variable \"\"b\": the double quote has no end"),
        ("ab${X", "line 1, column 3: variable \"${X\": the substitution has no } after it"),
        ("${X:-a", "line 1, column 6: variable \"a\": the substitution has no } after it"),
        ("${}", "line 1, column 1: variable \"${}\": a name must follow ${"),
        ("${", "line 1, column 1: variable \"${\": a name must follow ${"),
        ("${:-x}", "line 1, column 1: variable \"${:-x}\": a name must follow ${"),
        ("${X!}", "line 1, column 1: variable \"${X!}\": no such modifier"),
        ("${X:#a}", "line 1, column 1: variable \"${X:#a}\": no such modifier"),
        ("${X:}", "line 1, column 1: variable \"${X:}\": no such modifier"),
        ("${X:?}", "line 1, column 1: variable \"X\": is not allowed to be empty"),
        ("${X?}", "line 1, column 1: variable \"X\": is not allowed to be unset"),
        ("${X:?say so}", "line 1, column 1: variable \"X\": say so"),
        ("${X/a}", "line 1, column 5: variable \"a}\": the pattern has no / after it"),
        (
            "${FILE#\\a}",
            "line 1, column 1: variable \"${FILE#\\a}\": a pattern can only escape * ? \\ / and }",
        ),
    ] {
        assert_eq!(expand(text), Err(wanted.to_owned()), "{text}");
    }
}

#[test]
fn words_part_at_white_space_of_values_and_not_at_that_in_quotes() {
    let parts = |text: &str| words(&of(text, '\\'), &lookup).unwrap();
    assert_eq!(parts("$TWO c"), ["a", "b", "c"]);
    assert_eq!(parts("\"$TWO\" c"), ["a b", "c"]);
    assert_eq!(parts("x$TWO"), ["xa", "b"]);
    assert_eq!(parts(r"a\ b"), ["a b"]);
    assert_eq!(parts("$EMPTY"), [""; 0]);
}

#[test]
fn documents_keep_their_quotes() {
    let document = |text: &str| document(&of(text, '\\'), &lookup).unwrap();
    assert_eq!(document("it's \"$PWD\"\n\\$PWD\n"), "it's \"/home\"\n$PWD\n");
}

#[test]
fn what_grows_without_end_is_stopped() {
    let long = "x".repeat(limit::WORD / 2);
    let lookup = |_: &str| Some(long.clone());
    assert!(word(&of("$a$a", '\\'), &lookup).is_ok());
    let error = word(&of("$a$a$a", '\\'), &lookup).unwrap_err();
    assert!(matches!(error.problem, Problem::Limit { .. }));
    let deep = format!("{}x{}", "${a:-".repeat(100), "}".repeat(100));
    assert!(matches!(word(&of(&deep, '\\'), &|_| None).unwrap_err().problem, Problem::Limit { .. }));
    // A pattern that would be compared for hours.
    let value = |_: &str| Some("a".repeat(200_000));
    let pattern = "${a//*a*a*a*a*b/x}";
    assert!(matches!(word(&of(pattern, '\\'), &value).unwrap_err().problem, Problem::Limit { .. }));
}

proptest::proptest! {
    #[test]
    fn no_word_panics(text in "\\PC{0,40}|[$a{}:#%/?*+'\"\\\\ -]{0,40}") {
        let _ = word(&of(&text, '\\'), &lookup);
        let _ = words(&of(&text, '`'), &lookup);
        let _ = document(&of(&text, '\\'), &lookup);
    }

    #[test]
    fn a_word_without_anything_special_stays(text in "[^$'\"\\\\]{0,40}") {
        proptest::prop_assert_eq!(word(&of(&text, '\\'), &lookup).unwrap(), text);
    }
}
