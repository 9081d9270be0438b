//! Tests of the input: nothing is lost or doubled, and it closes when it shall.

use std::io::Read as _;
use std::os::fd::AsFd as _;

use super::*;

const ONCE: Rules = Rules { once: true, terminal: false };
const KEEP: Rules = Rules { once: false, terminal: false };

fn input(rules: Rules) -> (AsyncFd<File>, Input) {
    let (reader, writer) = davit_sys::fd::pipe(4096).unwrap();
    davit_sys::fd::set_nonblocking(writer.as_fd(), true).unwrap();
    davit_sys::fd::set_nonblocking(reader.as_fd(), true).unwrap();
    (watch(File::from(reader), Interest::READABLE).unwrap(), Input::new(writer, rules))
}

/// What the container reads next; empty at the end of its input.
async fn read(reader: &AsyncFd<File>) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let read = reader.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await.unwrap();
    buffer[..read].to_vec()
}

async fn read_exactly(reader: &AsyncFd<File>, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let part = read(reader).await;
        assert!(!part.is_empty(), "input ended early");
        all.extend(part);
    }
    all
}

#[tokio::test]
async fn a_session_goes_on_where_it_was() {
    let (reader, mut input) = input(KEEP);
    let mut typist = input.attach("me").unwrap();
    typist.put(0, Bytes::from("hello "), false).await.unwrap();
    typist.leave(false).await;
    let mut typist = input.attach("me").unwrap();
    assert_eq!(typist.taken(), 6);
    typist.put(3, Bytes::from("lo world"), false).await.unwrap();
    typist.put(0, Bytes::from("hello world"), false).await.unwrap();
    assert_eq!(read_exactly(&reader, 11).await, b"hello world");
    let gap = typist.put(20, Bytes::from("x"), false).await.unwrap_err();
    assert_eq!(gap, Gap { offset: 20, next: 11 });
}

#[tokio::test]
async fn sessions_do_not_know_each_other() {
    let (reader, mut input) = input(KEEP);
    let (mut a, mut b) = (input.attach("a").unwrap(), input.attach("").unwrap());
    a.put(0, Bytes::from("aa"), false).await.unwrap();
    b.put(0, Bytes::from("bb"), false).await.unwrap();
    assert_eq!(read_exactly(&reader, 4).await, b"aabb");
    assert_eq!(input.attach("").unwrap().taken(), 0);
    assert_eq!(input.attach("a").unwrap().taken(), 2);
}

#[tokio::test]
async fn only_the_youngest_attachment_of_a_session_types() {
    let (reader, mut input) = input(KEEP);
    let mut old = input.attach("s").unwrap();
    let mut young = input.attach("s").unwrap();
    old.put(0, Bytes::from("old"), false).await.unwrap();
    young.put(0, Bytes::from("young"), false).await.unwrap();
    assert_eq!(read_exactly(&reader, 5).await, b"young");
}

#[tokio::test]
async fn a_container_that_does_not_read_stops_the_typist_and_loses_nothing() {
    let (reader, mut input) = input(KEEP);
    let mut typist = input.attach("s").unwrap();
    let data: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = Bytes::from(data.clone());
    let typing = tokio::spawn(async move {
        for (n, piece) in (0_u64..).zip(sent.chunks(32 << 10)) {
            typist.put(n * (32 << 10), Bytes::copy_from_slice(piece), false).await.unwrap();
        }
        typist.put(300_000, Bytes::new(), true).await.unwrap();
    });
    // Somebody else attaches while the first one is stuck.
    tokio::task::yield_now().await;
    assert_eq!(input.attach("other").unwrap().taken(), 0);
    assert!(!typing.is_finished());
    assert_eq!(read_exactly(&reader, 300_000).await, data);
    assert_eq!(read(&reader).await, b"", "closed by the end that was typed");
    typing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stdin_once_ends_with_its_first_client() {
    let (reader, mut input) = input(ONCE);
    let mut typist = input.attach("s").unwrap();
    typist.put(0, Bytes::from("all"), false).await.unwrap();
    typist.leave(true).await;
    assert_eq!(read_exactly(&reader, 3).await, b"all");
    assert_eq!(read(&reader).await, b"");
}

#[tokio::test(start_paused = true)]
async fn stdin_once_waits_a_while_for_a_client_that_was_cut_off() {
    let (reader, mut input) = input(ONCE);
    let mut typist = input.attach("s").unwrap();
    typist.put(0, Bytes::from("one"), false).await.unwrap();
    typist.leave(false).await;
    assert_eq!(read_exactly(&reader, 3).await, b"one");
    let mut typist = input.attach("s").unwrap();
    tokio::time::sleep(GRACE * 2).await;
    typist.put(3, Bytes::from("two"), false).await.unwrap();
    assert_eq!(read_exactly(&reader, 3).await, b"two");
    typist.leave(false).await;
    let left = Instant::now();
    assert_eq!(read(&reader).await, b"");
    assert!(left.elapsed() >= GRACE);
}

#[tokio::test]
async fn a_container_that_closed_its_input_hurts_nobody() {
    let (reader, mut input) = input(KEEP);
    drop(reader);
    let mut typist = input.attach("s").unwrap();
    for n in 0..100 {
        typist.put(n, Bytes::from("x"), false).await.unwrap();
    }
    assert_eq!(typist.taken(), 100);
    typist.leave(true).await;
}

fn another() -> (AsyncFd<File>, OwnedFd) {
    let (reader, writer) = davit_sys::fd::pipe(4096).unwrap();
    davit_sys::fd::set_nonblocking(writer.as_fd(), true).unwrap();
    davit_sys::fd::set_nonblocking(reader.as_fd(), true).unwrap();
    (watch(File::from(reader), Interest::READABLE).unwrap(), writer)
}

#[tokio::test]
async fn the_next_life_reads_what_is_typed_from_now_on() {
    // Before anybody has typed.
    let (first, mut input) = input(KEEP);
    let (second, writer) = another();
    input.renew(writer).unwrap();
    assert!(read(&first).await.is_empty(), "nobody can write to it any more");
    let mut typist = input.attach("me").unwrap();
    typist.put(0, Bytes::from("one"), false).await.unwrap();
    assert_eq!(read_exactly(&second, 3).await, b"one");
    // While the task is stuck with what the life before did not read.
    typist.put(3, Bytes::from(vec![b'x'; 20_000]), false).await.unwrap();
    assert!(read(&second).await.starts_with(b"x"));
    let (third, writer) = another();
    input.renew(writer).unwrap();
    while !read(&second).await.is_empty() {}
    typist.put(20_003, Bytes::from("three"), true).await.unwrap();
    assert_eq!(read_exactly(&third, 5).await, b"three");
    assert!(read(&third).await.is_empty());
    // One who had ended the input of a life may type to the next one, unless it is for one client only.
    let (fourth, writer) = another();
    input.renew(writer).unwrap();
    typist.put(20_008, Bytes::from("four"), false).await.unwrap();
    assert_eq!(read_exactly(&fourth, 4).await, b"four");
}

#[tokio::test]
async fn input_for_one_client_ends_with_it_for_every_life() {
    let (first, mut input) = input(ONCE);
    let mut typist = input.attach("me").unwrap();
    typist.put(0, Bytes::from("all"), true).await.unwrap();
    assert_eq!(read_exactly(&first, 3).await, b"all");
    assert!(read(&first).await.is_empty());
    let (second, writer) = another();
    input.renew(writer).unwrap();
    assert!(read(&second).await.is_empty(), "nobody will type to it");
}
