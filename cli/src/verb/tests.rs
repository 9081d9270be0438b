//! The whole tree is sound, and each verb reads what docker's takes.

use super::*;
use crate::args::run::{PullPolicy, RunArgs};

fn parse<A: Args>(words: &str) -> A {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let matches = command().try_get_matches_from(words).unwrap();
    let (_, inner) = find(&matches).unwrap();
    A::from_arg_matches(inner).unwrap()
}

#[test]
fn the_tree_is_sound() {
    command().debug_assert();
    let mut tree = command();
    tree.build();
    for group in GROUPS {
        assert!(tree.find_subcommand(group.name).unwrap().has_subcommands(), "{}", group.name);
        for verb in (group.verbs)() {
            assert!(pick((group.verbs)(), verb.name).is_some());
        }
    }
}

const LINES: &str = "
    davit ps
    davit container ls
    davit container ps
    davit container list
    davit images
    davit image ls
    davit rm x
    davit container rm x
    davit container remove x
    davit rmi x
    davit image rm x
    davit pull x
    davit image pull x
    davit inspect x
    davit container inspect x
    davit image inspect x
    davit volume create
    davit volume ls
    davit volume inspect x
    davit volume rm x
    davit volume prune
    davit network ls
    davit network create x
    davit network rm x
    davit network inspect x
    davit info
    davit system info
    davit version
    davit events
    davit container prune
    davit image prune -a
    davit rename a b
    davit port x 80/tcp
    davit logs -f -n 5 x
    davit start -ai x
    davit attach x
    davit stop -t 3 x y
    davit stop --time=3 x
    davit kill -s HUP x
    davit restart x
    davit wait x y
    davit exec -it x sh -c ls
    davit top x -o pid
    davit stats --no-stream
    davit update -m 1g x
    davit tag a b
    davit history -q --no-trunc x
    davit load -i f
    davit save -o f a b
    davit diff x
    davit why x
    davit pause x
    davit unpause x
    davit completion bash
    davit -H unix:///x ps -aq
";

#[test]
fn each_verb_is_found_by_each_of_its_names() {
    for words in LINES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let typed: Vec<&str> = words.split(' ').collect();
        let matches =
            command().try_get_matches_from(&typed).unwrap_or_else(|error| panic!("{words}: {error}"));
        let (verb, inner) = find(&matches).unwrap_or_else(|| panic!("{words}"));
        let engine = Engine::at(DEFAULT_HOST).unwrap();
        assert!(verb.begin(engine, inner).is_ok(), "{words}");
    }
}

#[test]
fn what_follows_the_image_is_the_containers() {
    let args: RunArgs = parse("davit run -it --rm -e A=1 -p 80:80 -v /a:/b alpine -l --rm -- sh -c x");
    assert_eq!(args.container.image_and_command, ["alpine", "-l", "--rm", "--", "sh", "-c", "x"]);
    assert!(args.container.interactive && args.container.tty && args.container.rm);
    assert_eq!(
        (args.container.env.as_slice(), args.container.pull),
        (["A=1".to_owned()].as_slice(), PullPolicy::Missing)
    );
    let args: RunArgs = parse("davit run -- alpine --help");
    assert_eq!(args.container.image_and_command, ["alpine", "--help"]);
}

#[test]
fn switches_take_values_as_dockers_do() {
    let args: RunArgs = parse("davit run --rm=false --init=true -dit --sig-proxy=false x");
    assert!(!args.container.rm && args.container.init && args.detach && args.container.tty);
    assert_eq!(args.sig_proxy, Some(false));
    let args: RunArgs = parse("davit run --sig-proxy x y");
    assert_eq!((args.sig_proxy, args.container.image_and_command.len()), (Some(true), 2));
    assert!(command().try_get_matches_from(["davit", "run", "--rm=perhaps", "x"]).is_err());
    let args: args::image::HistoryArgs = parse("davit history --human=false x");
    assert!(!args.human);
}

#[test]
fn short_flags_with_their_value_attached() {
    let args: RunArgs = parse("davit run -p8080:80 -eA=B -v=/a:/b -hname -uroot -w/x -m64m x");
    let container = args.container;
    assert_eq!(container.network.publish, ["8080:80"]);
    assert_eq!((container.env[0].as_str(), container.storage.volume[0].as_str()), ("A=B", "/a:/b"));
    assert_eq!(container.network.hostname.as_deref(), Some("name"));
    assert_eq!(container.limit.resources.memory.as_deref(), Some("64m"));
}

#[test]
fn groups_and_short_forms_are_the_same_verbs() {
    let typed = ["davit", "container", "run", "--name", "x", "img"];
    let matches = command().try_get_matches_from(typed).unwrap();
    let (verb, _) = find(&matches).unwrap();
    assert_eq!((verb.name, verb.place), ("run", Place::Run));
    assert!(command().try_get_matches_from(["davit", "ls"]).is_err());
    assert!(command().try_get_matches_from(["davit", "prune"]).is_err());
}

#[test]
fn the_engine_is_named_by_flag() {
    for (words, ok) in [
        (vec!["davit", "--host", "unix:///tmp/x.sock", "ps"], true),
        (vec!["davit", "-H", "tcp://h:1", "ps"], false),
        (vec!["davit", "--tlsverify", "ps"], false),
    ] {
        let matches = command().try_get_matches_from(words.clone()).unwrap();
        assert_eq!(engine(&matches).is_ok(), ok, "{words:?}");
    }
}
