//! Messages, good and bad.

use super::*;
use proptest::prelude::*;

/// A question as a client sends it.
fn question(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    put(&mut bytes, 0, id.to_be_bytes());
    bytes[2] = RECURSION_DESIRED;
    bytes[5] = 1;
    bytes.extend(if name.is_empty() { vec![0] } else { encode_name(name).unwrap() });
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    if let Some(payload) = edns {
        bytes[11] = 1;
        let mut opt = OPT;
        opt[3..5].copy_from_slice(&payload.to_be_bytes());
        bytes.extend(opt);
    }
    bytes
}

fn address(n: u8) -> Record {
    Record::Address([10, 0, 0, n].into())
}

#[test]
fn questions_are_read() {
    let bytes = question(0xbeef, "Web.Example", 1, None);
    let query = Query::read(&bytes).unwrap();
    assert_eq!(
        (query.id(), query.name(), query.kind(), query.payload),
        (0xbeef, Some("web.example"), Kind::A, None)
    );
    for (kind, read) in [(28, Kind::Aaaa), (12, Kind::Ptr), (255, Kind::Other), (15, Kind::Other)] {
        assert_eq!(Query::read(&question(1, "a", kind, Some(1232))).unwrap().kind(), read);
    }
    assert_eq!(Query::read(&question(1, "", 2, None)).unwrap().name(), Some(""));
    let mut odd = question(1, "abc", 1, None);
    odd[14] = 0;
    assert_eq!(Query::read(&odd).unwrap().name(), None, "no text, and still a question");
}

#[test]
fn what_is_no_question_is_refused_or_passed_over() {
    let good = question(7, "web", 1, Some(4096));
    assert!(Query::read(&good).is_ok());
    for length in 0..HEADER {
        assert_eq!(Query::read(&good[..length]), Err(Unread::Silence));
    }
    for length in HEADER..good.len() {
        let Err(Unread::Answer(answer)) = Query::read(&good[..length]) else { panic!("{length}") };
        assert_eq!((id_of(&answer), code_of(&answer), answer.len()), (7, 1, HEADER));
    }
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert_eq!(Query::read(&with(2, RESPONSE)), Err(Unread::Silence), "an answer");
    let code = |bytes: &[u8]| match Query::read(bytes) {
        Err(Unread::Answer(answer)) => code_of(&answer),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(&with(2, 0x28)), 4, "an update");
    for (at, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 0), (11, 2), (11, 9), (12, 0xc0), (12, 64)] {
        assert_eq!(code(&with(at, value)), 1, "{at} {value}");
    }
    let long = [good.as_slice(), &[0; MAX_QUERY]].concat();
    assert_eq!(code(&long), 1);
    let deep = question(1, &["a"; 127].join("."), 1, None);
    assert!(Query::read(&deep).is_ok());
    let mut deeper = vec![0; HEADER];
    deeper[5] = 1;
    deeper.extend([1, b'a'].repeat(128));
    deeper.extend([0, 0, 1, 0, 1]);
    assert_eq!(code(&deeper), 1, "256 bytes");
}

#[test]
fn answers_say_what_was_asked_and_found() {
    let bytes = question(7, "Web", 1, None);
    let query = Query::read(&bytes).unwrap();
    let answer = query.answer(Code::Good, &[address(2), Record::Address("::1".parse().unwrap())], false);
    assert_eq!(&answer[..12], [0, 7, 0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
    assert_eq!(answer[12..21], bytes[12..21], "as it was written");
    assert_eq!(answer[21..37], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 2]);
    assert!(query.is_answered_by(&answer, 7) && !query.is_answered_by(&answer, 8));
    let absent = query.answer(Code::Absent, &[], false);
    assert_eq!((code_of(&absent), absent.len()), (3, 21));
    let bytes = question(7, "2.0.0.10.in-addr.arpa", 12, Some(1232));
    let answer = Query::read(&bytes).unwrap().answer(Code::Good, &[Record::Called("web.lan".into())], false);
    assert!(answer.windows(9).any(|part| part == b"\x03web\x03lan\0") && answer.ends_with(&OPT));
    assert_eq!(answer[11], 1);
    let unsayable = Record::Called("x".repeat(64));
    assert_eq!(Query::read(&bytes).unwrap().answer(Code::Good, &[unsayable], false)[7], 0);
}

#[test]
fn what_does_not_fit_is_left_out_and_said_so() {
    let records: Vec<_> = (0..250).map(address).collect();
    let sizes = |edns, by_tcp| {
        let bytes = question(7, "all", 1, edns);
        let answer = Query::read(&bytes).unwrap().answer(Code::Good, &records, by_tcp);
        (answer.len(), u16::from_be_bytes([answer[6], answer[7]]), answer[2] & TRUNCATED != 0)
    };
    assert_eq!(sizes(None, false), (501, 30, true));
    assert_eq!(sizes(Some(100), false), (512, 30, true), "nobody takes less than 512");
    assert_eq!(sizes(Some(65535), false), (4032, 250, false));
    assert_eq!(sizes(None, true), (4021, 250, false));
    let bytes = question(7, "all", 1, None);
    let advice = Query::read(&bytes).unwrap().too_long();
    assert!(advice[2] & TRUNCATED != 0 && advice.len() == bytes.len());
}

#[test]
fn an_answer_must_belong_to_its_question() {
    let bytes = question(7, "web.example", 1, None);
    let query = Query::read(&bytes).unwrap();
    let good = query.answer(Code::Good, &[address(1)], false);
    assert!(query.is_answered_by(&good, 7));
    let mut shouted = good.clone();
    shouted[12..].make_ascii_uppercase();
    assert!(query.is_answered_by(&shouted, 7), "letters may change their size");
    for (at, value) in [(0, 1), (2, 0), (2, 0xa8), (5, 0), (13, b'x'), (26, 28)] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(!query.is_answered_by(&bad, 7), "{at}");
    }
    assert!(!query.is_answered_by(&good[..20], 7) && !query.is_answered_by(&[], 7));
    assert_eq!(id_of(&query.numbered(99)), 99);
}

#[test]
fn the_reverse_tree_is_climbed() {
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert_eq!(reverse("2.0.18.172.in-addr.arpa"), ip("172.18.0.2"));
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(reverse(six), ip("fd00::1"));
    for none in [
        "in-addr.arpa",
        "0.18.172.in-addr.arpa",
        "1.2.0.18.172.in-addr.arpa",
        "02.0.18.172.in-addr.arpa",
        "256.0.18.172.in-addr.arpa",
        "+2.0.18.172.in-addr.arpa",
        "x.d.f.ip6.arpa",
        "web",
        "",
    ] {
        assert_eq!(reverse(none), None, "{none}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(query) = Query::read(&bytes) {
            let answer = query.answer(Code::Good, &[address(1)], false);
            prop_assert!(query.is_answered_by(&answer, query.id()));
        }
    }

    #[test]
    fn what_is_asked_is_read(name in "[a-zA-Z0-9_-]{1,63}(\\.[a-z0-9]{1,20}){0,5}", id: u16, kind in 1..300_u16,
                             edns in prop::option::of(any::<u16>()), cut in 0..400_usize, byte: u8) {
        let mut bytes = question(id, &name, kind, edns);
        let query = Query::read(&bytes).unwrap();
        let small = name.to_ascii_lowercase();
        prop_assert_eq!((query.id(), query.name()), (id, Some(small.as_str())));
        for count in [0, 1, 40, 4000] {
            let records = vec![address(3); count];
            let answer = query.answer(Code::Good, &records, false);
            prop_assert!(query.is_answered_by(&answer, id));
            prop_assert!(answer.len() <= edns.map_or(PLAIN, usize::from).clamp(PLAIN, MAX_UDP));
        }
        // One wrong byte anywhere is a refusal or another question, and no panic.
        let at = cut % bytes.len();
        bytes[at] = byte;
        let _ = Query::read(&bytes);
    }

    #[test]
    fn no_name_makes_the_climber_panic(name in "([0-9a-f]{0,3}\\.){0,40}(in-addr|ip6).arpa") {
        let _ = reverse(&name);
    }
}
