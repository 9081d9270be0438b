//! The pump's rules, without a terminal.

use davit_proto::container::{RunRequest, run_request};
use davit_proto::types::{Input, Stdio, TerminalSize};

use super::*;

fn seat(sig_proxy: Option<bool>) -> (Seat, Orders) {
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
    up.input.as_ref().unwrap().try_send(Up(Input::default())).unwrap();
    drop(up);
    let frames: Vec<_> = frames.map(|request| request.frame.unwrap()).collect().await;
    assert!(matches!(frames[0], run_request::Frame::Open(_)));
    assert_eq!(frames.len(), 2);
}

#[tokio::test]
async fn signals_and_sizes_do_not_wait_for_input() {
    let (up, _frames) = uplink(open());
    for _ in 0..WAITING {
        up.input.as_ref().unwrap().try_send(Up(Input::default())).unwrap();
    }
    assert!(up.input.as_ref().unwrap().try_send(Up(Input::default())).is_err(), "input waits");
    let (mut seat, mut orders) = seat(Some(true));
    assert!(seat.caught(Caught::Signal(15)).is_none());
    let size = TerminalSize { rows: 1, columns: 2 };
    seat.resize(size);
    assert_eq!(orders.recv().await, Some(Order::Signal(15)));
    assert_eq!(orders.recv().await, Some(Order::Resize(size)));
}

#[tokio::test]
async fn a_new_connection_is_sent_what_the_container_did_not_take() {
    let exit = Exit { exit_code: 3, ..Exit::default() };
    let (mut seat, _orders) = seat(None);
    seat.manner.stdin = true;
    seat.typed.push("abc".into());
    seat.typed.push("def".into());
    seat.typed.finish();
    let (up, mut frames) = uplink(open());
    let (heard, all) = tokio::sync::oneshot::channel::<()>();
    // The process ends when it has heard the end of its input.
    let process = futures_util::stream::once(async move {
        all.await.unwrap();
        Ok(Down::Exit(exit))
    });
    let listen = async {
        let (mut inputs, mut heard) = (Vec::new(), Some(heard));
        while let Some(request) = frames.next().await {
            let Some(run_request::Frame::Input(input)) = request.frame else { continue };
            inputs.push((input.offset, input.data.len(), input.eof));
            if input.eof {
                heard.take().unwrap().send(()).unwrap();
            }
        }
        inputs
    };
    let (ended, inputs) = tokio::join!(seat.pump(up, Box::pin(process), 3), listen);
    assert!(matches!(ended.unwrap(), Ended::Exit(exit) if exit.exit_code == 3));
    assert_eq!(inputs, [(3, 3, false), (6, 0, true)]);
    let (up, _frames) = uplink(open());
    assert!(seat.pump(up, down(vec![]), 3).await.is_ok());
}

#[tokio::test]
async fn an_exit_ends_it_and_a_broken_stream_says_so() {
    let exit = Exit { exit_code: 3, ..Exit::default() };
    let (up, _frames) = uplink(open());
    let ended =
        seat(None).0.pump(up, down(vec![Ok(Down::Started(7)), Ok(Down::Exit(exit))]), 0).await.unwrap();
    assert!(matches!(ended, Ended::Exit(exit) if exit.exit_code == 3));
    let (up, _frames) = uplink(open());
    let ended = seat(None).0.pump(up, down(vec![Ok(Down::Started(7))]), 0).await.unwrap();
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
    let (mut seat, _orders) = seat(None);
    let Next::Send(frame) = seat.typed(Read::Bytes("abc".into())) else { panic!("bytes are sent") };
    let mut pending = VecDeque::from([frame]);
    assert!(send(&mut up, &mut pending).await && pending.is_empty());
    let Next::Send(frame) = seat.typed(Read::End) else { panic!("the end is sent") };
    assert!(frame.0.eof && frame.0.offset == 3);
    pending.push_back(frame);
    assert!(send(&mut up, &mut pending).await);
    assert!(up.input.is_none(), "nothing follows the end");
    drop(up);
    assert_eq!(frames.count().await, 3);
}

#[tokio::test]
async fn an_engine_that_takes_no_input_is_not_waited_for() {
    let (mut up, frames) = uplink(open());
    drop(frames);
    let mut pending = VecDeque::from([Up(Input::default())]);
    assert!(!send(&mut up, &mut pending).await);
    assert!(pending.is_empty() && up.input.is_none());
}

#[tokio::test]
async fn signals_do_what_the_table_says() {
    let (mut proxy, _orders) = seat(None);
    assert!(proxy.caught(Caught::Signal(15)).is_none());
    assert!(proxy.caught(Caught::Signal(signal::INTERRUPT)).is_none());
    assert!(proxy.caught(Caught::Signal(signal::INTERRUPT)).is_none());
    assert!(matches!(proxy.caught(Caught::Signal(signal::INTERRUPT)), Some(Ended::Signal(2))));
    assert!(matches!(proxy.caught(Caught::HangUp), Some(Ended::HungUp)));
    assert!(proxy.caught(Caught::Resize).is_none());
    let (mut silent, _orders) = seat(Some(false));
    assert!(matches!(silent.caught(Caught::Signal(15)), Some(Ended::Signal(15))));
}

#[tokio::test]
async fn what_is_replayed_is_not_written_twice() {
    let (mut seat, _orders) = seat(None);
    seat.begin(5, 0);
    let output = Output { stream: Stdio::Stdout.into(), offset: 0, data: "12345".into() };
    seat.write(output).await.unwrap();
    assert_eq!(seat.offsets().stdout, 5);
}
