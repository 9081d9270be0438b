//! The pump's rules, without a terminal.

use davit_proto::container::{RunRequest, run_request};
use davit_proto::types::{Stdio, TerminalSize};

use super::*;

fn seat(sig_proxy: Option<bool>) -> Seat {
    let manner = Manner { stdin: false, terminal: true, detach: DetachKeys::parse(None).unwrap(), sig_proxy };
    Seat::take(manner).unwrap()
}

fn open() -> RunRequest {
    RunRequest { frame: Some(run_request::Frame::Open(Default::default())) }
}

fn down(frames: Vec<Result<Down, RemoteError>>) -> Downlink {
    Box::pin(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn the_first_frame_is_always_the_open() {
    let (up, frames) = uplink(open());
    up.resize(TerminalSize { rows: 1, columns: 2 });
    up.input.as_ref().unwrap().try_send(Up::Input(Input::default())).unwrap();
    drop(up);
    let frames: Vec<_> = frames.map(|request| request.frame.unwrap()).collect().await;
    assert!(matches!(frames[0], run_request::Frame::Open(_)));
    assert_eq!(frames.len(), 3);
}

#[tokio::test]
async fn signals_and_sizes_pass_waiting_input() {
    let (up, frames) = uplink(open());
    for _ in 0..WAITING {
        up.input.as_ref().unwrap().try_send(Up::Input(Input::default())).unwrap();
    }
    assert!(up.input.as_ref().unwrap().try_send(Up::Input(Input::default())).is_err(), "input waits");
    let mut seat = seat(Some(true));
    assert!(seat.caught(Caught::Signal(15), &up).is_none());
    let mut frames = std::pin::pin!(frames);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(frames.next().await.unwrap().frame.unwrap());
    }
    assert!(
        seen.iter().any(|frame| matches!(frame, run_request::Frame::Signal(signal) if signal.number == 15))
    );
}

#[tokio::test]
async fn an_exit_ends_it_and_a_broken_stream_says_so() {
    let exit = Exit { exit_code: 3, ..Exit::default() };
    let (up, _frames) = uplink(open());
    let ended = seat(None).pump(up, down(vec![Ok(Down::Started), Ok(Down::Exit(exit))])).await.unwrap();
    assert!(matches!(ended, Ended::Exit(exit) if exit.exit_code == 3));
    let (up, _frames) = uplink(open());
    let ended = seat(None).pump(up, down(vec![Ok(Down::Started)])).await.unwrap();
    assert!(matches!(ended, Ended::Broken(error) if frame::is_connection(&error)));
}

#[tokio::test]
async fn an_answer_of_the_engine_is_no_broken_connection() {
    let mut error = frame::cut_off();
    assert!(frame::is_connection(&error));
    error.reason = davit_proto::reason::COMMAND_NOT_FOUND.into();
    assert!(!frame::is_connection(&error));
}

#[tokio::test]
async fn input_ends_once() {
    let (mut up, frames) = uplink(open());
    let mut seat = seat(None);
    let Next::Send(frame) = seat.typed(Read::Bytes("abc".into())) else { panic!("bytes are sent") };
    let mut pending = Some(frame);
    assert!(send(&mut up, &mut pending).await && pending.is_none());
    let Next::Send(frame) = seat.typed(Read::End) else { panic!("the end is sent") };
    assert!(matches!(&frame, Up::Input(input) if input.eof && input.offset == 3));
    pending = Some(frame);
    assert!(send(&mut up, &mut pending).await);
    assert!(up.input.is_none(), "nothing follows the end");
    drop(up);
    assert_eq!(frames.count().await, 3);
}

#[tokio::test]
async fn an_engine_that_takes_no_input_is_not_waited_for() {
    let (mut up, frames) = uplink(open());
    drop(frames);
    let mut pending = Some(Up::Input(Input::default()));
    assert!(!send(&mut up, &mut pending).await);
    assert!(pending.is_none() && up.input.is_none());
}

#[tokio::test]
async fn signals_do_what_the_table_says() {
    let (up, _frames) = uplink(open());
    let mut proxy = seat(None);
    assert!(proxy.caught(Caught::Signal(15), &up).is_none());
    assert!(proxy.caught(Caught::Signal(signal::INTERRUPT), &up).is_none());
    assert!(proxy.caught(Caught::Signal(signal::INTERRUPT), &up).is_none());
    assert!(matches!(proxy.caught(Caught::Signal(signal::INTERRUPT), &up), Some(Ended::Signal(2))));
    assert!(matches!(proxy.caught(Caught::HangUp, &up), Some(Ended::HungUp)));
    assert!(proxy.caught(Caught::Resize, &up).is_none());
    let mut silent = seat(Some(false));
    assert!(matches!(silent.caught(Caught::Signal(15), &up), Some(Ended::Signal(15))));
}

#[tokio::test]
async fn what_is_replayed_is_not_written_twice() {
    let mut seat = seat(None);
    seat.begin(5, 0);
    let output = Output { stream: Stdio::Stdout.into(), offset: 0, data: "12345".into() };
    seat.write(output).await.unwrap();
    assert_eq!(seat.offsets().stdout, 5);
}
