//! Instructions and what they say.

use super::*;
use crate::lexer;

fn read(text: &str) -> Kind {
    let lexed = lexer::lex(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Instruction::read(&lexed.statements[0]).unwrap_or_else(|error| panic!("{text}: {error}")).kind
}

fn run(text: &str) -> Run {
    let Kind::Run(run) = read(text) else { panic!("{text} is no RUN") };
    run
}

fn step(text: &str) -> TransferStep {
    let Kind::Transfer(transfer) = read(text) else { panic!("{text} moves nothing") };
    transfer.expand(&lookup).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn lookup(name: &str) -> Option<String> {
    match name {
        "who" => Some("bin:sys".to_owned()),
        "dir" => Some("/srv".to_owned()),
        _ => None,
    }
}

#[test]
fn commands_are_programs_lines_or_scripts() {
    assert_eq!(run("RUN [\"a\", \"$b\"]").program, Program::Exec(vec!["a".into(), "$b".into()]));
    assert_eq!(run("RUN a $b \\\n && c").program, Program::Shell("a $b  && c".into()));
    assert_eq!(run("RUN <<-EOF\n\ta $b\n\tEOF\n").program, Program::Shell("a $b\n".into()));
    let script = Program::Script { name: "EOF".into(), text: "#!/bin/python\nx\n".into() };
    assert_eq!(run("RUN <<EOF\n#!/bin/python\nx\nEOF\n").program, script);
    let line = "cat <<EOF > /x\n\t$a\nEOF";
    assert_eq!(run("RUN cat <<EOF > /x\n\t$a\nEOF\n").program, Program::Shell(line.into()));
    let run = run("RUN --network=host --security=insecure a");
    assert_eq!((run.network, run.security), (Network::Host, Security::Insecure));
}

#[test]
fn mounts_have_their_keys() {
    let mounts = |text: &str| run(text).mounts(&lookup).unwrap();
    let owner = Owner { mode: 0o755, uid: 0, gid: 0 };
    let of = |kind, target: &str, readonly| Mount { kind, target: target.to_owned(), readonly };
    let bind = MountKind::Bind { from: Some("a".into()), source: "/s".into() };
    assert_eq!(mounts("RUN --mount=from=a,src=/s,dst=$dir/x y"), [of(bind, "/srv/x", true)]);
    let cache = MountKind::Cache {
        id: "/c".into(),
        from: None,
        source: String::new(),
        sharing: Sharing::Locked,
        owner,
    };
    assert_eq!(mounts("RUN --mount=type=cache,target=/c,sharing=locked y"), [of(cache, "/c", false)]);
    let tmpfs = MountKind::Tmpfs { size: Some(2 << 20) };
    assert_eq!(mounts("RUN --mount=type=tmpfs,size=2m,target=t y"), [of(tmpfs, "t", false)]);
    let owner = Owner { mode: 0o440, uid: 7, gid: 0 };
    let secret = MountKind::Secret { id: "k".into(), required: true, variable: None, owner };
    let text = "RUN --mount=required,type=secret,id=k,mode=0440,uid=7 y";
    assert_eq!(mounts(text), [of(secret, "/run/secrets/k", true)]);
    let two = mounts("RUN --mount=type=ssh --mount=type=secret,env=V,id=k y");
    assert!(matches!(&two[0].kind, MountKind::Ssh { id, .. } if id == "default"));
    assert!(matches!(&two[1].kind, MountKind::Secret { variable: Some(name), .. } if name == "V"));
    assert_eq!(two[1].target, "");
    let sources: Vec<_> =
        run("RUN --mount=from=a,target=/x --mount=type=cache,from=b,target=/y z").sources().collect();
    assert_eq!(sources.iter().map(Word::text).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn transfers_know_what_goes_where() {
    let plain = step("COPY --chown=$who --chmod=0644 --exclude=*.md a b* $dir/");
    assert_eq!(plain.sources, [Source::Path("a".into()), Source::Path("b*".into())]);
    assert_eq!(plain.destination, "/srv/");
    assert_eq!((plain.chown.as_deref(), plain.chmod.as_deref()), (Some("bin:sys"), Some("0644")));
    assert_eq!(plain.exclude, ["*.md"]);
    assert_eq!(step("COPY [\"a b\", \"c\"]").sources, [Source::Path("a b".into())]);
    let text = "COPY <<A <<\"B\" c /d/\n$dir \\$x 'q'\nA\n$dir\nB\n";
    let document = |name: &str, text: &str| Source::Document { name: name.into(), text: text.into() };
    let wanted = [document("A", "/srv $x 'q'\n"), document("B", "$dir\n"), Source::Path("c".into())];
    assert_eq!(step(text).sources, wanted);
    for (text, wanted) in [
        ("https://e.org/a.tar", Source::Url("https://e.org/a.tar".into())),
        ("https://e.org/a.git#v1:d", Source::Git("https://e.org/a.git#v1:d".into())),
        ("git@e.org:a/b.git", Source::Git("git@e.org:a/b.git".into())),
        ("git://e.org/a", Source::Git("git://e.org/a".into())),
        ("a.git", Source::Path("a.git".into())),
    ] {
        assert_eq!(step(&format!("ADD --checksum=sha256:0 {text} /x")).sources, [wanted]);
    }
    assert_eq!(step("COPY https://e.org/a /x").sources, [Source::Path("https://e.org/a".into())]);
}

#[test]
fn values_may_make_a_transfer_wrong() {
    for (text, wanted) in [
        ("COPY a $none", "line 1, column 8: path \"$none\": it is empty"),
        (
            "COPY a b c",
            "line 1, column 10: destination \"c\": several sources go into a folder, whose name ends with a slash",
        ),
        ("COPY ${a b", "line 1, column 6: variable \"${a\": the substitution has no } after it"),
    ] {
        let Kind::Transfer(transfer) = read(text) else { panic!("{text}") };
        assert_eq!(transfer.expand(&lookup).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn triggers_are_read_again() {
    let texts = ["RUN a".to_owned(), "COPY --from=b c <<EOF /d/\ne\nEOF".to_owned()];
    let names: Vec<_> = triggers(&texts).unwrap().iter().map(Instruction::name).collect();
    assert_eq!(names, ["RUN", "COPY"]);
    for text in ["FROM a", "ONBUILD RUN a", "MAINTAINER a", "RNU a"] {
        assert!(triggers(&[text.to_owned()]).is_err(), "{text}");
    }
}
