//! Where the files of builds come from: archives, web servers, standard input, contexts with names.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use davit_tests::context::Context;
use davit_tests::engine::{Answer, Engine};
use davit_tests::wait::until_true;

/// A web server for a folder, on a host's loopback.
struct Web(Child);

impl Web {
    fn start(engine: &Engine, folder: &Path) -> Self {
        let child = engine
            .host()
            .command("python3")
            .args(["-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        until_true("the web server answers", || {
            let asked = engine.host().command("curl").args(["-s", "http://127.0.0.1:8000/"]).output();
            asked.is_ok_and(|answer| answer.status.success())
        });
        Self(child)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // It ends with its host as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tar(folder: &Path, words: &[&str]) {
    let packed = Command::new("tar").current_dir(folder).args(words).output().unwrap();
    assert!(packed.status.success(), "{packed:?}");
}

/// `davit build -t NAME` of a folder; prints `what` by a shell in the image.
fn build(context: &Context<'_>, flags: &[&str]) -> Answer {
    context.build(&[&["-t", "made"], flags].concat())
}

fn shell(engine: &Engine, line: &str) -> String {
    engine.ok(["run", "--rm", "made", "sh", "-c", line]).stdout
}

#[test]
fn archives_are_unpacked_and_other_files_are_not() {
    let engine = Engine::start().unwrap();
    let context = Context::new(&engine, "context");
    let tree = Context::new(&engine, "tree");
    tree.write("d/file", "text\n");
    fs::hard_link(tree.path.join("d/file"), tree.path.join("d/again")).unwrap();
    std::os::unix::fs::symlink("file", tree.path.join("d/link")).unwrap();
    fs::set_permissions(tree.path.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
    let sparse = fs::File::create(tree.path.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    drop(sparse);
    let to = |name: &str| context.path.join(name).display().to_string();
    tar(&tree.path, &["-cf", &to("plain"), "--sparse", "--owner=7", "--group=8", "--mtime=@1000000000", "."]);
    tar(&tree.path, &["-czf", &to("a.tar.gz"), "--sparse", "--format=posix", "--owner=7", "--group=8", "."]);
    context.write("text.tar.gz", "no archive\n");
    context.write(
        "Dockerfile",
        "FROM busybox\nADD plain /plain\nADD a.tar.gz /gz/\nADD --chown=5:6 a.tar.gz /own/\n\
        ADD --unpack=false a.tar.gz /as/\nADD text.tar.gz /as/\nCOPY plain /as/plain\n",
    );
    let built = build(&context, &[]);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(
        shell(
            &engine,
            "cd /plain && stat -c '%a %u:%g %Y %h %s' d/file && stat -c %a d && readlink d/link && stat -c %s sparse"
        ),
        "644 7:8 1000000000 2 5\n711\nfile\n1048576\n"
    );
    assert_eq!(
        shell(&engine, "cd /gz && cat d/again && md5sum < sparse"),
        "text\nb6d81b360a5672d80c27430f39153e2c  -\n"
    );
    assert_eq!(
        shell(&engine, "stat -c %u:%g /own/d/file /own/d /own; ls /as"),
        "7:8\n7:8\n5:6\na.tar.gz\nplain\ntext.tar.gz\n"
    );
    let again = build(&context, &[]);
    assert_eq!(again.stderr.lines().filter(|line| line.ends_with(" CACHED")).count(), 7, "{again:?}");
    // What leads out is refused, with the name and the line.
    let hostile = "import tarfile,sys,io\nt=tarfile.open(sys.argv[1],'w')\n\
        i=tarfile.TarInfo('../../escaped'); i.size=1; t.addfile(i,io.BytesIO(b'x')); t.close()";
    assert!(Command::new("python3").args(["-c", hostile, &to("hostile")]).status().unwrap().success());
    context.write("Dockerfile", "FROM busybox\nADD hostile /x/\n");
    let refused = build(&context, &[]);
    assert!(refused.code != 0 && refused.stderr.contains("../../escaped"), "{refused:?}");
}

#[test]
fn files_come_from_web_servers() {
    let engine = Engine::start().unwrap();
    let (context, served) = (Context::new(&engine, "context"), Context::new(&engine, "served"));
    served.write("file.txt", "from afar\n");
    served.write("ctx/Dockerfile", "FROM busybox\nCOPY . /all/\n");
    served.write("ctx/kept", "kept\n");
    served.write("ctx/gone.log", "gone\n");
    served.write("ctx/.dockerignore", "*.log\n");
    tar(&served.path.join("ctx"), &["-czf", "../context.tar.gz", "."]);
    served.write("plain/Dockerfile", "FROM busybox\nRUN echo plain > /plain\n");
    let _web = Web::start(&engine, &served.path);
    let at = "http://127.0.0.1:8000";
    let sum = "sha256:3da1d8b3fdc2fc3b7a7d1de5e0fbd1ccd2d12dff3ccf71c8d9ec8e2b4d9a37b2";
    context.write("Dockerfile", format!(
            "FROM busybox\nADD {at}/file.txt /got/\nADD --chmod=644 {at}/file.txt /named\nADD --unpack=true {at}/context.tar.gz /u\n"
        ),
    );
    let built = build(&context, &[]);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(
        shell(&engine, "cat /got/file.txt && stat -c %a /got/file.txt /named && cat /u/kept"),
        "from afar\n600\n644\nkept\n"
    );
    context.write("Dockerfile", format!("FROM busybox\nADD --checksum={sum} {at}/file.txt /x\n"));
    let wrong = build(&context, &[]);
    assert!(
        wrong.code != 0 && wrong.stderr.contains(sum) && wrong.stderr.contains("found sha256:"),
        "{wrong:?}"
    );
    context.write("Dockerfile", format!("FROM busybox\nADD {at}/none /x\n"));
    let missing = build(&context, &[]);
    assert!(missing.code != 0 && missing.stderr.contains("404"), "{missing:?}");
    // Contexts from there.
    engine.ok(["build", "-t", "made", &format!("{at}/context.tar.gz")]);
    assert_eq!(shell(&engine, "ls /all"), "Dockerfile\nkept\n");
    engine.ok(["build", "-t", "made", &format!("{at}/plain/Dockerfile")]);
    assert_eq!(shell(&engine, "cat /plain"), "plain\n");
}

#[test]
fn repositories_are_read_at_a_commit() {
    let engine = Engine::start().unwrap();
    let (context, work) = (Context::new(&engine, "context"), Context::new(&engine, "git/app"));
    let git = |words: &[&str]| {
        let names = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
        let ran = Command::new("git").current_dir(&work.path).args(names).args(words).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    work.write("server/Dockerfile", "FROM busybox\nCOPY . /all/\n");
    work.write("server/file", "first\n");
    // What a repository says is run by nobody.
    work.write(".gitattributes", "* filter=evil\n");
    git(&["init", "-q", "."]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "-a", "-m", "one", "v1"]);
    let first = git(&["rev-parse", "HEAD"]);
    work.write("server/file", "second\n");
    git(&["commit", "-q", "-a", "-m", "two"]);
    let base = engine.host().folder().join("git").display().to_string();
    let daemon = ["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", "--port=9418"];
    let mut served = engine
        .host()
        .command("git")
        .args(daemon)
        .arg(format!("--base-path={base}"))
        .arg(&base)
        .spawn()
        .unwrap();
    let address = "git://127.0.0.1/app";
    until_true("the repository answers", || {
        let asked = engine.host().command("git").args(["ls-remote", address]).output();
        asked.is_ok_and(|answer| answer.status.success())
    });
    engine.ok(["build", "-t", "made", &format!("{address}#v1:server")]);
    assert_eq!(shell(&engine, "cat /all/file; ls -A /all"), "first\nDockerfile\nfile\n");
    engine.ok(["build", "-t", "made", &format!("{address}#:server")]);
    assert_eq!(shell(&engine, "cat /all/file"), "second\n");
    context.write("Dockerfile", format!(
            "FROM busybox\nADD --checksum={first} {address}#v1 /a\nADD --keep-git-dir=true {address}#{first} /b\n\
            ADD --chown=7:8 {address}#main:server /c\n"
        ),
    );
    let built = build(&context, &[]);
    assert_eq!(built.code, 0, "{built:?}");
    let seen = shell(
        &engine,
        "cat /a/server/file /b/server/file /c/file; ls -d /a/.git /b/.git; stat -c %u:%g /c/file",
    );
    assert_eq!(seen, "first\nfirst\nsecond\n/b/.git\n7:8\n");
    context.write("Dockerfile", format!("FROM busybox\nADD --checksum={first} {address}#main /a\n"));
    let wrong = build(&context, &[]);
    assert!(wrong.code != 0 && wrong.stderr.contains(&first), "{wrong:?}");
    context.write("Dockerfile", format!("FROM busybox\nADD {address}#none /a\n"));
    let missing = build(&context, &[]);
    assert!(missing.code != 0 && missing.stderr.contains("no branch or tag"), "{missing:?}");
    assert_eq!(fs::read_dir(engine.root().join("build/scratch")).unwrap().count(), 0, "nothing is left");
    served.kill().unwrap();
    served.wait().unwrap();
}

#[test]
fn contexts_have_names_and_come_from_standard_input() {
    let engine = Engine::start().unwrap();
    let (context, beside) = (Context::new(&engine, "context"), Context::new(&engine, "beside"));
    beside.write("deep/file", "beside\n");
    context.write("own", "own\n");
    context.write(
        "Dockerfile",
        "FROM busybox AS part\nRUN false\nFROM base\nCOPY own /own\nCOPY --from=part deep /deep\n",
    );
    let flag = format!("part={}", beside.path.display());
    let flags = ["--build-context", flag.as_str(), "--build-context", "base=docker-image://busybox"];
    let built = build(&context, &flags);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(shell(&engine, "cat /own /deep/file"), "own\nbeside\n");

    context.write("sub/File", "FROM busybox\nCOPY own /from-archive\n");
    tar(&context.path, &["-czf", "../context.tar.gz", "."]);
    let archive = fs::read(engine.host().folder().join("context.tar.gz")).unwrap();
    let built = engine.davit_with_input(["build", "-t", "made", "-f", "sub/File", "-"], &archive);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(shell(&engine, "cat /from-archive"), "own\n");

    let refused = build(
        &context,
        &["--platform", "linux/s390x", "-f", &context.path.join("sub/File").display().to_string()],
    );
    assert!(refused.code != 0 && refused.stderr.contains("cannot build for linux/s390x"), "{refused:?}");
}
