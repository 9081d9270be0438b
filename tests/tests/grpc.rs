//! The API as others see it: a client that knows nothing but reflection.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use davit_tests::engine::Engine;

/// Python with grpcio in a folder of its own, made once and kept in the target folder.
///
/// One test at a time: two at once would make the same files.
fn python() -> std::path::PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock();
    let folder = davit_tests::engine::binaries().join("../python-grpc");
    let python = folder.join("bin/python3");
    if !folder.join("made").exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "grpcio", "grpcio-reflection"]));
        std::fs::write(folder.join("made"), "").unwrap();
    }
    python
}

#[test]
fn a_python_client_by_reflection_alone_runs_a_container() {
    let engine = Engine::start().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/reflection.py");
    let output = Command::new(python()).arg(script).arg(engine.socket()).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}\n{}", engine.end_of_log());
    for line in
        ["listed 0", "created", "attached: hello from reflection", "exit code 5", "removed", "listed 0"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn every_line_of_the_guide_is_answered() {
    let engine = Engine::start().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(folder.join("../docs/api.md")).unwrap();
    let blocks = guide.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines: Vec<&str> = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("# ")).collect();
    assert!(lines.len() > 25 && lines.iter().all(|line| line.starts_with("grpcurl ")), "{lines:?}");

    let mut client = Command::new(python())
        .arg(folder.join("clients/call.py"))
        .arg("--lines")
        .arg(engine.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}\n{}", engine.end_of_log());
    // One of each noun, so that an empty answer is seen.
    for word in [
        "davit.build.v1.Builds",
        "aGkK",
        "\"nap\"",
        "sha256:",
        "\"data\"",
        "10.50.0.0/24",
        "\"start\"",
        "RUN echo made",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(engine.ok(["run", "--rm", "made:1", "cat", "/made"]).stdout, "made\n");
}
