//! The API as others see it: a client that knows nothing but reflection.

use std::path::Path;
use std::process::Command;

use davit_tests::engine::Engine;

/// Python with grpcio in a folder of its own, made once and kept in the target folder.
fn python() -> std::path::PathBuf {
    let folder = davit_tests::engine::binaries().join("../python-grpc");
    let python = folder.join("bin/python3");
    if !folder.join("made").exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
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
