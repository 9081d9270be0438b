//! `run -it` in a real terminal.

use davit_tests::engine::Engine;
use davit_tests::terminal::Terminal;
use davit_tests::wait::until_true;

#[test]
fn a_shell_with_job_control_resizing_and_detach() {
    let engine = Engine::start().unwrap();
    let program = engine.command(["run", "-it", "--name", "sh", "busybox", "sh"]);
    let terminal = Terminal::run(&engine.host().name(), &program).unwrap();
    terminal.rests("/ #");

    terminal.line("tty; stty size").unwrap();
    terminal.shows("/dev/pts/0");
    terminal.shows("24 80");
    terminal.line("sleep 1000 & jobs").unwrap();
    terminal.shows("Running");
    terminal.line("sleep 2000").unwrap();
    // Before that the key would be the shell's, which begins the program all the same.
    until_true("the program has the terminal", || engine.ok(["top", "sh"]).stdout.contains("sleep 2000"));
    terminal.key("C-c").unwrap();
    terminal.rests("/ #");
    terminal.line("echo interrupted=$?").unwrap();
    terminal.shows("interrupted=130");

    terminal.resize(100, 30).unwrap();
    until_true("the new size is seen inside", || {
        terminal.line("clear; stty size").unwrap();
        terminal.screen().contains("30 100")
    });

    terminal.keys(&["C-p", "C-q"]).unwrap();
    terminal.shows("ended with 0");
    assert_eq!(engine.field("sh", "{{.State.Running}}"), "true", "detaching does not stop it");
}

#[test]
fn two_terminals_mirror_each_other_and_exit_ends_both() {
    let engine = Engine::start().unwrap();
    // No shell that edits lines: it asks each terminal where its cursor is, and busybox forgets what was typed right
    // behind the second one's answer.
    let script = "while printf 'say: '; read -r line; do eval \"$line\"; done";
    engine.ok(["run", "-dit", "--name", "sh", "busybox", "sh", "-c", script]);
    let first =
        Terminal::run(&format!("{}-1", engine.host().name()), &engine.command(["attach", "sh"])).unwrap();
    let second =
        Terminal::run(&format!("{}-2", engine.host().name()), &engine.command(["attach", "sh"])).unwrap();
    until_true("the first is attached", || {
        first.key("Enter").unwrap();
        first.screen().contains("say:")
    });
    until_true("the second is attached", || {
        second.key("Enter").unwrap();
        second.screen().contains("say:")
    });
    first.line("echo mirror-$((40+2))").unwrap();
    first.shows("mirror-42");
    second.shows("mirror-42");
    second.line("exit 5").unwrap();
    first.shows("ended with 5");
    second.shows("ended with 5");
    assert_eq!(engine.field("sh", "{{.State.Status}}"), "exited");
}
