//! Wrong words get the nearest right one.

use super::*;

fn told(words: &[&str]) -> (String, u8) {
    let typed: Vec<String> = words.iter().map(ToString::to_string).collect();
    let error = crate::verb::command().try_get_matches_from(&typed).unwrap_err();
    sentence(&error, &verb(&typed), &typed)
}

#[test]
fn one_sentence_each() {
    for (words, wanted, code) in [
        (vec!["davit", "attch"], "'attch' is not a command of 'davit'; did you mean attach?", 1),
        (vec!["davit", "compose", "up"], "'compose' is a command of docker that davit does not have", 1),
        (vec!["davit", "rnu"], "'rnu' is not a command of 'davit'; did you mean run?", 1),
        (
            vec!["davit", "container", "strat"],
            "'strat' is not a command of 'davit container'; did you mean start?",
            1,
        ),
        (
            vec!["davit", "run", "--nmae", "x", "y"],
            "unknown flag --nmae of 'davit run'; did you mean --name?",
            125,
        ),
        (vec!["davit", "rmi", "-r", "x"], "unknown flag -r of 'davit rmi'", 125),
        (vec!["davit", "stop"], "'davit stop' requires at least 1 argument: CONTAINER", 1),
        (vec!["davit", "rename", "a"], "'davit rename' requires at least 1 argument: NEW_NAME", 1),
        (vec!["davit", "run"], "'davit run' requires at least 1 argument: IMAGE", 1),
        (vec!["davit", "exec", "x"], "'davit exec' requires at least 2 arguments", 1),
        (vec!["davit", "rename", "a", "b", "c"], "'davit rename' takes no further argument \"c\"", 1),
        (vec!["davit", "ps", "--last", "x"], "invalid value \"x\" for --last", 125),
        (
            vec!["davit", "run", "--pull", "maybe", "x"],
            "invalid value \"maybe\" for --pull: one of always, missing, never",
            125,
        ),
        (vec!["davit", "run", "--name"], "flag --name needs a value", 125),
        (
            vec!["davit", "run", "--rm=perhaps", "x"],
            "invalid value \"perhaps\" for --rm: true or false is wanted",
            125,
        ),
    ] {
        let (sentence, got) = told(&words);
        assert!(sentence.contains(wanted), "{words:?}: {sentence}");
        assert_eq!(got, code, "{words:?}: {sentence}");
    }
}

#[test]
fn long_dashes_are_seen() {
    assert!(check_target("—link").unwrap_err().to_string().contains("--link"));
    assert!(check_target("–name").is_err());
    assert!(check_target("—").is_ok());
    assert!(check_target("web").is_ok());
    let (sentence, _) = told(&["davit", "ps", "—all"]);
    assert!(sentence.contains("two hyphens, --all"), "{sentence}");
}

#[test]
fn the_verb_is_named_as_typed() {
    let name = |words: &[&str]| verb(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(name(&["davit", "-H", "unix:///x", "container", "rm", "x"]), "davit container rm");
    assert_eq!(name(&["davit", "nope"]), "davit");
}

proptest::proptest! {
    #[test]
    fn no_words_make_it_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..8)) {
        let typed: Vec<String> = std::iter::once("davit").chain(words).map(str::to_owned).collect();
        match crate::verb::command().try_get_matches_from(&typed) {
            Ok(matches) => {
                let (verb, inner) = crate::verb::find(&matches).expect("what parses is a verb");
                let engine = crate::client::Engine::at(crate::client::DEFAULT_HOST).unwrap();
                let _ = verb.begin(engine, inner);
            }
            Err(error) => {
                let (sentence, code) = sentence(&error, &verb(&typed), &typed);
                proptest::prop_assert!(!sentence.is_empty() && (code == 1 || code == 125 || code == 0));
            }
        }
    }
}

const WORDS: &[&str] = &[
    "run",
    "rm",
    "ps",
    "container",
    "image",
    "volume",
    "network",
    "system",
    "ls",
    "create",
    "exec",
    "logs",
    "stop",
    "help",
    "inspect",
    "x",
    "y",
    "-it",
    "-d",
    "-r",
    "-f",
    "--rm",
    "--rm=false",
    "--rm=no",
    "--name",
    "--name=z",
    "-e",
    "A=1",
    "--",
    "-",
    "--nope",
    "--pull",
    "never",
    "—name",
    "-n",
    "5",
    "-t",
    "--format",
    "json",
    "--filter",
    "a=b",
    "-p",
    "80:80",
    "",
    "--sig-proxy",
    "--help",
    "-h",
    "-v",
    "--host",
    "unix:///x",
    "--type",
    "image",
    "ü",
    "--=",
    "-=",
    "---",
];
