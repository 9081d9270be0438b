//! What containers say and hear, through a real shim.

use std::time::{Duration, Instant};

use crate::harness::{Shim, Spec, listening, possible, typing};
use davit_proto::task::attach_request::Frame as Send;
use davit_proto::task::attach_response::Frame as Got;
use davit_proto::task::{AttachOffsets, AttachOpen, ConfigureRequest, LogLimits, ResizeRequest};
use davit_proto::types::{Stdio, TerminalSize};
use tonic::Code;

fn open_stdin(stdin_once: bool) -> ConfigureRequest {
    ConfigureRequest { open_stdin: true, stdin_once, ..ConfigureRequest::default() }
}

#[tokio::test]
async fn what_is_typed_comes_back() {
    if !possible() {
        return;
    }
    let spec = Spec { args: vec!["/bin/cat".into()], ..Spec::default() };
    let mut shim = Shim::create(&spec, open_stdin(true)).await;
    let mut client = shim.attach(typing("s")).await;
    shim.start(1).await.unwrap();
    client.type_at(0, "hello\n", false).await;
    client.says("hello\n").await;
    client.type_at(6, "bye\n", true).await;
    let (said, _, exit) = client.rest().await;
    assert_eq!((said[0].as_slice(), exit.exit_code), (&b"bye\n"[..], 0));
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn input_ends_with_its_first_client_or_never() {
    if !possible() {
        return;
    }
    let spec = Spec { args: vec!["/bin/cat".into()], ..Spec::default() };
    let mut shim = Shim::create(&spec, open_stdin(true)).await;
    let mut client = shim.attach(typing("s")).await;
    shim.start(1).await.unwrap();
    client.type_at(0, "x", false).await;
    client.says("x").await;
    client.hang_up();
    let (_, _, exit) = client.rest().await;
    assert_eq!(exit.exit_code, 0);

    let mut shim = Shim::create(&spec, open_stdin(false)).await;
    let mut client = shim.attach(typing("s")).await;
    shim.start(1).await.unwrap();
    client.type_at(0, "x", false).await;
    client.says("x").await;
    drop(client);
    let mut client = shim.attach(typing("t")).await;
    client.type_at(0, "y", true).await;
    let (said, _, exit) = client.rest().await;
    assert_eq!((said[0].as_slice(), exit.exit_code), (&b"y"[..], 0));
}

#[tokio::test]
async fn a_client_that_reconnects_neither_loses_nor_doubles() {
    if !possible() {
        return;
    }
    let script = "while read line; do echo \"got $line\"; done; echo end >&2";
    let mut shim = Shim::create(&Spec::shell(script), open_stdin(true)).await;
    let mut client = shim.attach(typing("session")).await;
    assert_eq!(client.attached.stdin_offset, 0);
    shim.start(1).await.unwrap();
    client.type_at(0, "one\n", false).await;
    assert_eq!(client.says("one\n").await, "got one\n");
    client.type_at(4, "two\n", false).await;
    client.says("two\n").await;
    // Cut off, connection and all: the controller was killed.
    client.cut_off();
    shim.client = crate::harness::dial_shim(&shim.socket()).await;

    let from = Some(AttachOffsets { stdout: 8, stderr: 0 });
    let mut client = shim.attach(AttachOpen { from, ..typing("session") }).await;
    assert_eq!((client.attached.stdin_offset, client.attached.stdout_offset), (8, 8));
    assert_eq!(client.says("two\n").await, "got two\n", "what was said after the offset");
    client.type_at(4, "two\nthree\n", true).await;
    let (said, _, exit) = client.rest().await;
    assert_eq!((said[0].as_slice(), said[1].as_slice()), (&b"got three\n"[..], &b"end\n"[..]));
    assert_eq!(exit.exit_code, 0);
    assert_eq!(shim.log(), ["stdout got one", "stdout got two", "stdout got three", "stderr end"]);
}

#[tokio::test]
async fn nonsense_from_a_client_is_told_to_it_alone() {
    if !possible() {
        return;
    }
    let mut shim = Shim::create(&Spec::shell("cat"), open_stdin(false)).await;
    let mut good = shim.attach(typing("good")).await;
    shim.start(1).await.unwrap();
    let mut gap = shim.attach(typing("gap")).await;
    gap.type_at(5, "x", false).await;
    assert_eq!(gap.error().await.code(), Code::OutOfRange);
    let mut twice = shim.attach(typing("twice")).await;
    twice.send(Send::Open(listening())).await;
    assert_eq!(twice.error().await.code(), Code::InvalidArgument);
    let mut large = shim.attach(typing("large")).await;
    large.type_at(0, &"x".repeat(40_000), false).await;
    assert_eq!(large.error().await.code(), Code::InvalidArgument);
    good.type_at(0, "fine\n", true).await;
    assert_eq!(good.says("fine").await, "fine\n");
    assert_eq!(good.rest().await.2.exit_code, 0);
}

#[tokio::test]
async fn a_terminal_has_a_size_and_one_stream() {
    if !possible() {
        return;
    }
    let script =
        "stty size; echo err >&2; read line; stty size; test -t 0 && test -t 1 && test -t 2; exit $?";
    let spec = Spec { terminal: true, ..Spec::shell(script) };
    let size = |rows, columns| Some(TerminalSize { rows, columns });
    let configure = ConfigureRequest { size: size(33, 99), ..open_stdin(true) };
    let mut shim = Shim::create(&spec, configure).await;
    let mut client = shim.attach(typing("s")).await;
    shim.start(1).await.unwrap();
    assert_eq!(client.says("err\r\n").await, "33 99\r\nerr\r\n");
    shim.client.resize(ResizeRequest { size: size(44, 111), ..ResizeRequest::default() }).await.unwrap();
    client.send(Send::Resize(TerminalSize { rows: 45, columns: 112 })).await;
    client.type_at(0, "\n", false).await;
    client.says("45 112").await;
    let (_, _, exit) = client.rest().await;
    assert_eq!(exit.exit_code, 0);
    drop(client);
    shim.gone().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody() {
    if !possible() {
        return;
    }
    const LINES: usize = 200_000;
    let program = format!("BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%0100d\\n\", i }}");
    let script = format!("awk '{program}'; echo done >&2");
    let log = Some(LogLimits { max_size: 8 << 20, max_files: 5 });
    let mut shim = Shim::create(&Spec::shell(&script), ConfigureRequest { log, ..open_stdin(false) }).await;
    let mut stuck = shim.attach(listening()).await;
    let mut reader = shim.attach(listening()).await;
    let before = Instant::now();
    shim.start(1).await.unwrap();
    let (said, dropped, exit) = reader.rest().await;
    assert_eq!((exit.exit_code, dropped), (0, 0), "a reader that keeps up loses nothing");
    assert_eq!(said[0].len(), LINES * 101);
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
    let log = shim.log();
    assert_eq!(log.len(), LINES + 1);
    for (n, line) in log.iter().filter(|line| line.starts_with("stdout")).enumerate() {
        assert_eq!(*line, format!("stdout {:0100}", n + 1));
    }
    let (said, dropped, exit) = stuck.rest().await;
    assert!(dropped > 0);
    assert_eq!(said[0].len() + said[1].len() + dropped as usize, LINES * 101 + 5);
    assert_eq!(exit.exit_code, 0);
}

#[tokio::test]
async fn the_log_is_rotated_by_size_and_count() {
    if !possible() {
        return;
    }
    let log = Some(LogLimits { max_size: 10_000, max_files: 3 });
    let configure = ConfigureRequest { log, ..ConfigureRequest::default() };
    let script = "i=0; while [ $i -lt 1000 ]; do echo \"line $i\"; i=$((i+1)); done";
    let mut shim = Shim::create(&Spec::shell(script), configure).await;
    shim.start(1).await.unwrap();
    shim.gone().await;
    let lines = shim.log();
    assert!(lines.len() > 200 && lines.len() < 1000, "{}", lines.len());
    for (n, line) in (1000 - lines.len()..).zip(&lines) {
        assert_eq!(*line, format!("stdout line {n}"));
    }
    let sizes: Vec<u64> = std::fs::read_dir(shim.bundle().join("log"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|size| *size <= 10_000), "{sizes:?}");
}

#[tokio::test]
async fn a_slow_client_has_a_moment_for_the_end_but_the_container_is_free_at_once() {
    if !possible() {
        return;
    }
    // More than all queues hold.
    let mut shim = Shim::create(&Spec::shell("seq 1 400000"), ConfigureRequest::default()).await;
    let mut stuck = shim.attach(listening()).await;
    shim.start(1).await.unwrap();
    let mut next = {
        let mut wait = shim.client.clone();
        wait.wait(davit_proto::task::WaitRequest::default()).await.unwrap();
        let root = std::mem::replace(&mut shim.root, tempfile::tempdir().unwrap());
        let before = Instant::now();
        let mut next = Shim::launch_for(shim.id.clone(), root).await;
        next.make(&Spec::shell("exit 4"), ConfigureRequest::default()).await.unwrap();
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        next
    };
    let (said, dropped, exit) = stuck.rest().await;
    assert!(dropped > 0 && !said[0].is_empty());
    assert_eq!(exit.exit_code, 0);
    next.start(2).await.unwrap();
    next.gone().await;
    assert_eq!(next.exit_record().unwrap().exit_code, 4);
}

#[tokio::test]
async fn streams_can_be_chosen() {
    if !possible() {
        return;
    }
    let script = "echo out; echo err >&2";
    let mut shim = Shim::create(&Spec::shell(script), ConfigureRequest::default()).await;
    let mut errors = shim.attach(AttachOpen { stderr: true, ..AttachOpen::default() }).await;
    shim.start(1).await.unwrap();
    match errors.next().await.unwrap() {
        Got::Output(output) => assert_eq!((output.stream(), output.offset), (Stdio::Stderr, 0)),
        other => panic!("{other:?}"),
    }
    let (said, _, _) = errors.rest().await;
    assert!(said.iter().all(Vec::is_empty), "{said:?}");
}
