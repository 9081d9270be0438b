//! A resolver's input: what a container sends it, what a server answers, and the files that it looks names up in. No
//! bytes make a reader panic or hang, what is accepted as a question can be answered, and what is written is read.
#![no_main]

#[path = "../../../shim/src/names/message.rs"]
#[expect(dead_code, reason = "the resolver uses more of it")]
mod message;

use davit_proto::names::{Reader, View, parse};
use libfuzzer_sys::fuzz_target;
use message::{Code, Query, Record, Unread, reverse};

fuzz_target!(|input: (&[u8], &[u8], &str)| {
    let (asked, answered, text) = input;
    match Query::read(asked) {
        Ok(query) => question(&query, answered),
        Err(Unread::Answer(answer)) => assert_eq!(answer.len(), 12),
        Err(Unread::Silence) => {}
    }
    if let Ok(view) = View::parse(text) {
        assert_eq!(View::parse(&view.render()).ok().as_ref(), Some(&view));
    }
    let name = text.split(' ').next().unwrap_or_default();
    let _ = (parse(text), reverse(name));
    for zone in [answered, text.as_bytes()] {
        let Ok(reader) = Reader::open(zone) else { continue };
        let _ = (reader.name(name), reader.called([172, 17, 0, 2].into()));
    }
});

fn question(query: &Query<'_>, answered: &[u8]) {
    let records = vec![Record::Address([10, 0, 0, 1].into()), Record::Called("web.lan".to_owned())];
    for by_tcp in [false, true] {
        let answer = query.answer(Code::Good, &records, by_tcp);
        assert!(query.is_answered_by(&answer, query.id()), "our own answer belongs to its question");
    }
    assert!(query.is_answered_by(&query.too_long(), query.id()));
    if query.is_answered_by(answered, 7) {
        assert_eq!(message::renumbered(answered, query.id()).len(), answered.len());
    }
}
