//! Tests of the pump with real pipes and a real log.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::*;
use crate::stdio::log;
use crate::stdio::source::pipes;

struct Container {
    stdin: File,
    stdout: File,
    stderr: File,
    handle: Handle,
    task: JoinHandle<()>,
    folder: tempfile::TempDir,
}

fn container(open_stdin: bool) -> Container {
    let folder = tempfile::tempdir().unwrap();
    let ([stdin, stdout, stderr], ends) = pipes(open_stdin).unwrap();
    let log = Some((folder.path().to_owned(), Limits::default()));
    let (handle, task) = start(Setup { ends, stdin_once: false, log, audience: Audience::Any });
    Container { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), handle, task, folder }
}

fn everything(from: Option<[u64; 2]>) -> Attach {
    Attach { session: Some(String::new()), wants: [true, true], from, says_seen: None }
}

fn log_text(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join(log::FILE)).unwrap();
    text.lines().map(|line| line.get(31..).unwrap().to_owned() + "\n").collect()
}

fn output(stream: Stream, offset: u64, data: &'static str) -> Frame {
    Frame::Output { stream, offset, data: Bytes::from(data) }
}

#[tokio::test]
async fn a_client_gets_both_streams_and_the_exit_last() {
    let mut c = container(false);
    let mut client = c.handle.attach(everything(None)).await.unwrap();
    assert!(client.typist.is_none());
    c.stdout.write_all(b"out\n").unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 0, "out\n")));
    assert_eq!(log_text(c.folder.path()), "stdout F out\n", "the log comes first");
    c.stderr.write_all(b"err\n").unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stderr, 0, "err\n")));
    c.stdout.write_all(b"last").unwrap();
    drop((c.stdout, c.stderr));
    c.handle.drain().await.unwrap();
    assert_eq!(c.handle.offset(Stream::Stdout), 8);
    assert_eq!(log_text(c.folder.path()), "stdout F out\nstderr F err\nstdout P last\n");
    let exit = Exit { life: 1, exit_code: 3, ..Exit::default() };
    c.handle.finish(exit.clone()).await.unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 4, "last")));
    assert_eq!(client.frames.recv().await, Some(Frame::Exit(exit)));
    c.task.await.unwrap();
    drop(client.alive);
    assert_eq!(client.frames.recv().await, None);
    assert!(matches!(c.handle.attach(everything(None)).await, Err(StdioError::Closed)));
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing() {
    let mut c = container(false);
    let mut first = c.handle.attach(everything(None)).await.unwrap();
    c.stdout.write_all(b"seen ").unwrap();
    assert_eq!(first.frames.recv().await, Some(output(Stream::Stdout, 0, "seen ")));
    drop(first);
    c.stdout.write_all(b"missed").unwrap();
    c.handle.drain().await.unwrap();
    let mut second = c.handle.attach(everything(Some([5, 0]))).await.unwrap();
    assert_eq!(second.starts, [5, 0]);
    assert_eq!(second.replay, [output(Stream::Stdout, 5, "missed")]);
    c.stdout.write_all(b"!").unwrap();
    assert_eq!(second.frames.recv().await, Some(output(Stream::Stdout, 11, "!")));
    let third = c.handle.attach(everything(None)).await.unwrap();
    assert_eq!((third.starts, third.replay), ([12, 0], vec![]));
}

#[tokio::test]
async fn what_was_said_before_the_first_client_is_in_the_log_only() {
    let mut c = container(false);
    c.stdout.write_all(b"early").unwrap();
    c.handle.drain().await.unwrap();
    let client = c.handle.attach(everything(Some([0, 0]))).await.unwrap();
    assert_eq!((client.starts, client.replay), ([5, 0], vec![]));
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody() {
    const MIB: usize = 1 << 20;
    let c = container(false);
    let mut stuck = c.handle.attach(everything(None)).await.unwrap();
    let mut reader = c.handle.attach(everything(None)).await.unwrap();
    let mut stdout = c.stdout;
    let writer = std::thread::spawn(move || {
        for _ in 0..8 * MIB / 64 {
            stdout.write_all(&[b"x".repeat(63), b"\n".to_vec()].concat()).unwrap();
        }
    });
    let mut got = 0;
    while got < 8 * MIB {
        match reader.frames.recv().await.unwrap() {
            Frame::Output { offset, data, .. } => {
                assert_eq!(offset, got as u64);
                got += data.len();
            }
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    drop(c.stderr);
    c.handle.drain().await.unwrap();
    c.handle.finish(Exit::default()).await.unwrap();
    let lines = (0..3).map(|n| match n {
        0 => c.folder.path().join(log::FILE),
        n => c.folder.path().join(format!("{}.{n}", log::FILE)),
    });
    let lines: usize = lines.filter_map(|p| std::fs::read_to_string(p).ok()).map(|t| t.lines().count()).sum();
    assert_eq!(lines, 8 * MIB / 64, "every line is in the log");

    let (mut seen, mut dropped, mut over) = (0, 0, false);
    while let Some(frame) = stuck.frames.recv().await {
        match frame {
            Frame::Output { data, .. } => seen += data.len(),
            Frame::Dropped { bytes, .. } => dropped += bytes as usize,
            Frame::Exit(_) => {
                over = true;
                break;
            }
        }
    }
    assert!(over && dropped > 0);
    assert_eq!(seen + dropped, 8 * MIB, "every byte is sent or told of");
}

#[tokio::test]
async fn what_is_typed_arrives() {
    let mut c = container(true);
    let mut client = c.handle.attach(everything(None)).await.unwrap();
    let typist = client.typist.as_mut().unwrap();
    typist.put(0, Bytes::from("typed"), true).await.unwrap();
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        c.stdin.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(text.await.unwrap(), "typed");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_holds_the_pipe_cannot_hold_up_the_end() {
    let mut c = container(false);
    let mut client = c.handle.attach(everything(None)).await.unwrap();
    c.stdout.write_all(b"x").unwrap();
    c.handle.drain().await.unwrap();
    c.handle.finish(Exit::default()).await.unwrap();
    c.task.await.unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 0, "x")));
    assert_eq!(client.frames.recv().await, Some(Frame::Exit(Exit::default())));
}

#[tokio::test]
async fn only_a_terminal_has_a_size() {
    let c = container(false);
    let size = WindowSize { rows: 1, columns: 2 };
    assert!(matches!(c.handle.resize(size).await, Err(StdioError::NoTerminal)));
}

#[tokio::test]
async fn clients_are_bounded_and_places_come_free() {
    let c = container(false);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(c.handle.attach(everything(None)).await.unwrap());
    }
    assert!(matches!(c.handle.attach(everything(None)).await, Err(StdioError::TooMany)));
    clients.pop();
    c.handle.attach(everything(None)).await.unwrap();
}

#[tokio::test]
async fn the_next_life_goes_on_with_log_offsets_and_clients() {
    let mut c = container(false);
    let mut client = c.handle.attach(everything(None)).await.unwrap();
    c.stdout.write_all(b"one\n").unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 0, "one\n")));
    // The last words of the life before, and one that has not noticed its end.
    c.stdout.write_all(b"last\n").unwrap();
    let ([_stdin, stdout, stderr], ends) = pipes(false).unwrap();
    c.handle.renew(ends).await.unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 4, "last\n")));
    assert!(c.stdout.write_all(b"ghost\n").is_err(), "nobody listens to it any more");
    File::from(stdout).write_all(b"two\n").unwrap();
    assert_eq!(client.frames.recv().await, Some(output(Stream::Stdout, 9, "two\n")));
    drop(stderr);
    let exit = Exit { life: 2, ..Exit::default() };
    c.handle.drain().await.unwrap();
    c.handle.finish(exit.clone()).await.unwrap();
    assert_eq!(client.frames.recv().await, Some(Frame::Exit(exit)));
    assert_eq!(log_text(c.folder.path()), "stdout F one\nstdout F last\nstdout F two\n");
}

/// An exec's pump: without a log, for clients that are awaited.
fn awaited() -> (File, File, Handle, watch::Receiver<bool>, JoinHandle<()>) {
    let ([_stdin, stdout, stderr], ends) = pipes(false).unwrap();
    let (told, lonely) = watch::channel(false);
    let (handle, task) =
        start(Setup { ends, stdin_once: true, log: None, audience: Audience::Awaited(told) });
    (stdout.into(), stderr.into(), handle, lonely, task)
}

fn says_seen(stdout: u64) -> Attach {
    let says_seen = Some("s".to_owned());
    Attach { session: None, wants: [true, true], from: Some([stdout, 0]), says_seen }
}

async fn output_of(client: &mut Attachment) -> (u64, Bytes) {
    match client.frames.recv().await.unwrap() {
        Frame::Output { offset, data, .. } => (offset, data),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_exec_waits_for_its_client_and_for_what_that_has_seen() {
    const SIZE: usize = 3 << 20;
    let (mut stdout, stderr, handle, mut lonely, _task) = awaited();
    let writer = std::thread::spawn(move || {
        for n in 0..SIZE / 1024 {
            stdout.write_all(&[u8::try_from(n % 251).unwrap(); 1024]).unwrap();
        }
    });
    lonely.wait_for(|alone| *alone).await.unwrap();
    assert_eq!(handle.offset(Stream::Stdout), 0, "nobody listens, so nothing is read");
    let mut got: u64 = 0;
    let mut client = handle.attach(says_seen(0)).await.unwrap();
    lonely.wait_for(|alone| !*alone).await.unwrap();
    while got < SIZE as u64 {
        // What the queue holds is taken, and it stops at the window although nothing else holds it up.
        while got < handle.offset(Stream::Stdout) {
            let (offset, data) = output_of(&mut client).await;
            assert_eq!(offset, got);
            assert!(
                data.iter()
                    .enumerate()
                    .all(|(n, b)| { usize::from(*b) == (usize::try_from(offset).unwrap() + n) / 1024 % 251 })
            );
            got += data.len() as u64;
        }
        assert!(handle.offset(Stream::Stdout) - got <= WINDOW + (2 * PIPE as u64));
        handle.seen("another".into(), [u64::MAX, 0]).await;
        handle.seen("s".into(), [got, 0]).await;
        tokio::task::yield_now().await;
    }
    drop(stderr);
    writer.join().unwrap();
}

#[tokio::test]
async fn what_was_not_seen_can_be_had_again_until_well_after_the_end() {
    let (mut stdout, stderr, handle, mut lonely, task) = awaited();
    let mut client = handle.attach(says_seen(0)).await.unwrap();
    stdout.write_all(b"first ").unwrap();
    assert_eq!(output_of(&mut client).await, (0, Bytes::from("first ")));
    drop(client);
    lonely.wait_for(|alone| *alone).await.unwrap();
    stdout.write_all(b"last").unwrap();
    drop((stdout, stderr));
    let exit = Exit { exit_code: 5, ..Exit::default() };
    handle.finish(exit.clone()).await.unwrap();
    for _ in 0..2 {
        let mut client = handle.attach(says_seen(2)).await.unwrap();
        let mut said = client.replay.iter().fold(Vec::new(), |mut said, frame| {
            if let Frame::Output { data, .. } = frame {
                said.extend_from_slice(data);
            }
            said
        });
        let last = loop {
            match client.frames.recv().await.unwrap() {
                Frame::Output { data, .. } => said.extend_from_slice(&data),
                Frame::Exit(exit) => break exit,
                other @ Frame::Dropped { .. } => panic!("{other:?}"),
            }
        };
        assert_eq!((said.as_slice(), &last), (&b"rst last"[..], &exit));
    }
    task.abort();
}

#[tokio::test]
async fn an_exec_that_is_released_writes_on_and_its_end_is_kept() {
    let (mut stdout, _stderr, handle, mut lonely, _task) = awaited();
    handle.release().await;
    assert!(lonely.changed().await.is_ok() || lonely.has_changed().is_err());
    let text = [b"x".repeat(200_000), b"end".to_vec()].concat();
    let writer = std::thread::spawn(move || stdout.write_all(&text).map(|()| stdout));
    let _stdout = tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap().unwrap();
    while handle.offset(Stream::Stdout) < 200_003 {
        tokio::task::yield_now().await;
    }
    let client = handle.attach(says_seen(200_000)).await.unwrap();
    assert_eq!(client.replay, [output(Stream::Stdout, 200_000, "end")]);
}
