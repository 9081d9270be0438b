//! Servers that answer, fail, lie and say nothing.

use super::*;
use crate::names::message::{Code, Record};
use std::future::Future;

fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// A server that answers each question with what `reply` makes of it, if anything.
async fn server(reply: impl Fn(&Query<'_>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = [0; 2048];
        loop {
            let (length, asker) = socket.recv_from(&mut room).await.unwrap();
            let query = Query::read(&room[..length]).unwrap();
            for answer in reply(&query) {
                socket.send_to(&answer, asker).await.unwrap();
            }
        }
    });
    address
}

fn good(query: &Query<'_>) -> Vec<u8> {
    query.answer(Code::Good, &[Record::Address([10, 0, 0, 1].into())], false)
}

fn failed(query: &Query<'_>) -> Vec<u8> {
    query.answer(Code::Failed, &[], false)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn an_answer_comes_back_under_the_askers_number() {
    run(async {
        let upstream = Upstream::new(vec![server(|query| vec![good(query)]).await]);
        let bytes = question("example.org");
        let query = Query::read(&bytes).unwrap();
        let answer = upstream.ask(&query, Way::Udp).await.unwrap();
        assert!(query.is_answered_by(&answer, 7) && answer.ends_with(&[10, 0, 0, 1]));
    });
}

#[test]
fn what_was_not_asked_for_is_no_answer() {
    run(async {
        let liar = server(|query| {
            let other = question("example.com");
            let other = Query::read(&other).unwrap();
            let foreign = renumbered(&good(&other), query.id());
            vec![renumbered(&good(query), query.id() ^ 1), foreign, vec![0; 3], failed(query), good(query)]
        });
        let upstream = Upstream::new(vec![liar.await, server(|query| vec![good(query)]).await]);
        let bytes = question("example.org");
        let query = Query::read(&bytes).unwrap();
        let answer = upstream.ask(&query, Way::Udp).await.unwrap();
        assert_eq!(code_of(&answer), 0, "the first that belongs is a complaint, so the next server is asked");
        assert!(query.is_answered_by(&answer, 7));
    });
}

#[test]
fn a_dead_server_costs_its_patience_once() {
    run(async {
        let silent = server(|_| Vec::new()).await;
        let upstream = Upstream::new(vec![silent, server(|query| vec![good(query)]).await]);
        let bytes = question("example.org");
        let query = Query::read(&bytes).unwrap();
        let begun = Instant::now();
        assert!(upstream.ask(&query, Way::Udp).await.is_some());
        let first = begun.elapsed();
        assert!(first >= PATIENCE[0] && first < PATIENCE[0] * 3, "{first:?}");
        let begun = Instant::now();
        assert!(upstream.ask(&query, Way::Udp).await.is_some());
        assert!(begun.elapsed() < PATIENCE[0], "{:?}", begun.elapsed());
    });
}

#[test]
fn a_refused_port_costs_nothing_and_a_complaint_is_better_than_silence() {
    run(async {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let upstream = Upstream::new(vec![closed, server(|query| vec![failed(query)]).await]);
        let bytes = question("example.org");
        let query = Query::read(&bytes).unwrap();
        let begun = Instant::now();
        let answer = upstream.ask(&query, Way::Udp).await.unwrap();
        assert_eq!(code_of(&answer), 2);
        assert!(query.is_answered_by(&answer, 7) && begun.elapsed() < PATIENCE[0]);
        assert_eq!(Upstream::new(vec![closed]).ask(&query, Way::Udp).await, None);
    });
}

#[test]
fn long_answers_come_by_tcp() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; length.into()];
            stream.read_exact(&mut message).await.unwrap();
            let query = Query::read(&message).unwrap();
            let records = vec![Record::Address([10, 0, 0, 1].into()); 2000];
            stream.write_all(&framed(&query.answer(Code::Good, &records, true))).await.unwrap();
        });
        let bytes = question("example.org");
        let query = Query::read(&bytes).unwrap();
        let answer = Upstream::new(vec![address]).ask(&query, Way::Tcp).await.unwrap();
        assert!(query.is_answered_by(&answer, 7) && answer.len() > 32_000);
    });
}
