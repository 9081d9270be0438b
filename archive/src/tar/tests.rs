//! Archives as others write them, and archives that nobody should.

use super::*;
use crate::fixture::{Archive, Header, seal};

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Problem> {
    let mut reader = Reader::new(bytes, 1 << 20);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        loop {
            let part = reader.data()?.to_vec();
            if part.is_empty() {
                break;
            }
            data.extend_from_slice(&part);
            reader.consume(part.len());
        }
        entries.push((entry, data));
    }
    Ok(entries)
}

fn names(bytes: &[u8]) -> Result<Vec<String>, Problem> {
    Ok(read(bytes)?.into_iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect())
}

#[test]
fn reads_what_another_writer_writes() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/file", "directory".repeat(20));
    for (name, data) in [("a", &b"hello"[..]), (&long, &[7; 1000])] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(3_000_000);
        header.set_mtime(12);
        builder.append_data(&mut header, name, data).unwrap();
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "s", "../anywhere").unwrap();
    let entries = read(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(entries[0].1, b"hello");
    assert_eq!((entries[0].0.mode, entries[0].0.uid, entries[0].0.modified), (0o4755, 3_000_000, (12, 0)));
    assert_eq!(entries[1].0.path, long.as_bytes());
    assert_eq!(entries[1].1.len(), 1000);
    assert_eq!((entries[2].0.kind, &entries[2].0.link[..]), (Kind::Symlink, &b"../anywhere"[..]));
}

#[test]
fn extended_headers_override() {
    let records: [(&str, &[u8]); 4] =
        [("path", b"x/y"), ("uid", b"70000"), ("mtime", b"1.5"), ("SCHILY.xattr.user.k", b"v\0w")];
    let bytes = Archive::default().pax(&records).file("short", b"1").file("next", b"").end();
    let entries = read(&bytes).unwrap();
    let first = &entries[0].0;
    assert_eq!((&first.path[..], first.uid, first.modified), (&b"x/y"[..], 70_000, (1, 500_000_000)));
    assert_eq!(first.xattrs, vec![(b"user.k".to_vec(), b"v\0w".to_vec())]);
    assert_eq!(
        (&entries[1].0.path[..], entries[1].0.uid),
        (&b"next"[..], 0),
        "headers are for one entry only"
    );
}

#[test]
fn the_end_may_be_missing_but_nothing_may_follow_it() {
    let one = Archive::default().file("a", b"1");
    assert_eq!(names(&one.clone().cut()).unwrap(), ["a"]);
    assert_eq!(names(&one.clone().raw(&[0; 512]).cut()).unwrap(), ["a"]);
    assert_eq!(names(&one.clone().raw(&[0; 10240]).cut()).unwrap(), ["a"]);
    assert_eq!(names(&[]).unwrap(), Vec::<String>::new());
    let hidden = one.clone().raw(&[0; 512]).file("b", b"2").end();
    assert!(matches!(names(&hidden), Err(Problem::Trailing)));
    assert!(matches!(names(&one.raw(&[0; 1024]).raw(b"x").cut()), Err(Problem::Trailing)));
}

#[test]
fn a_cut_stream_is_no_archive() {
    let whole = Archive::default().pax(&[("path", b"x")]).file("a", &[1; 700]).cut();
    for cut in 1..whole.len() {
        assert!(matches!(names(&whole[..cut]), Err(Problem::Truncated)), "cut at {cut} was accepted");
    }
}

#[test]
fn two_names_for_one_entry_are_refused() {
    let gnu = |flag| Header { name: "././@LongLink", flag, ..Header::default() };
    let both =
        Archive::default().entry(&gnu(b'L'), b"one\0").pax(&[("path", b"two")]).file("three", b"").end();
    assert!(matches!(names(&both), Err(Problem::TwoHeaders("name"))));
    let twice =
        Archive::default().entry(&gnu(b'L'), b"one\0").entry(&gnu(b'L'), b"two\0").file("f", b"").end();
    assert!(matches!(names(&twice), Err(Problem::TwoHeaders("name"))));
    let paxes = Archive::default().pax(&[("uid", b"1")]).pax(&[("gid", b"1")]).file("f", b"").end();
    assert!(matches!(names(&paxes), Err(Problem::TwoHeaders("attributes"))));
    let inner = Archive::default().entry(&gnu(b'K'), b"a\0b\0").file("f", b"").end();
    assert!(names(&inner).is_err());
    let global = Header { name: "g", flag: b'g', ..Header::default() };
    assert!(names(&Archive::default().entry(&global, b"15 path=global\n").file("f", b"").end()).is_err());
    assert!(names(&Archive::default().entry(&global, b"13 comment=a\n").file("f", b"").end()).is_ok());
}

#[test]
fn sizes_that_readers_would_disagree_about_are_refused() {
    let hidden = Archive::default().file("inner", b"").cut();
    let size = hidden.len().to_string();
    let smuggled = Archive::default()
        .pax(&[("size", size.as_bytes())])
        .raw(&Header::default().block())
        .raw(&hidden)
        .end();
    assert!(matches!(names(&smuggled), Err(Problem::SizeConflict { .. })));
    for flag in *b"123456" {
        let header = Header { flag, link: "x", ..Header::default() };
        let bytes = Archive::default().entry(&header, b"data").end();
        assert!(
            matches!(names(&bytes), Err(Problem::Data(4))),
            "data of type {} was accepted",
            char::from(flag)
        );
    }
}

#[test]
fn sparse_unknown_and_damaged_entries_are_refused() {
    let with = |flag| Archive::default().entry(&Header { flag, ..Header::default() }, b"").end();
    assert!(matches!(names(&with(b'S')), Err(Problem::Sparse)));
    for flag in *b"VMNDXA\xff" {
        assert!(matches!(names(&with(flag)), Err(Problem::Type(f)) if f == flag));
    }
    let sparse = Archive::default().pax(&[("GNU.sparse.realsize", b"9")]).file("f", b"").end();
    assert!(matches!(names(&sparse), Err(Problem::Sparse)));
    let slash = Archive::default().file("looks-like-a-dir/", b"").end();
    assert!(matches!(names(&slash), Err(Problem::Type(b'0'))));

    let mut block = Header::default().block();
    block[0] ^= 1;
    assert!(matches!(names(&Archive::default().raw(&block).end()), Err(Problem::Checksum)));
    let mut block = Header::default().block();
    block[257..263].copy_from_slice(b"usturr");
    seal(&mut block);
    assert!(matches!(names(&Archive::default().raw(&block).end()), Err(Problem::Format)));
}

#[test]
fn numbers_are_octal_or_base_256_and_nothing_else() {
    assert_eq!(signed(b"0000644\0"), Some(0o644));
    assert_eq!(signed(b"   644 \0"), Some(0o644));
    assert_eq!(signed(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(signed(b"        "), Some(0));
    assert_eq!(signed(b"\x80\0\0\0\x80\0\0\x01"), Some(0x8000_0001));
    assert_eq!(signed(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), None);
    assert_eq!(signed(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "does not fit");
    for bad in [&b"0000648\0"[..], b"12\x001234\0", b"\x00123", b"-1", b"0x12"] {
        assert_eq!(signed(bad), None, "{bad:?} was accepted");
    }
    let nobody = Archive::default().entry(&Header { owner: (0, 0), ..Header::default() }, b"");
    assert!(names(&nobody.end()).is_ok());
    let minus_one = Archive::default().pax(&[("uid", b"4294967295")]).file("f", b"").end();
    assert!(matches!(names(&minus_one), Err(Problem::Number("uid"))));
}

#[test]
fn extended_headers_are_bounded() {
    let bytes = Archive::default().pax(&[("comment", &[b'x'; 2 << 20])]).file("f", b"").end();
    assert!(matches!(names(&bytes), Err(Problem::HeaderLimit(_))));
    let lying = Header { flag: b'x', size: 0o77_777_777_777, ..Header::default() };
    assert!(matches!(names(&Archive::default().raw(&lying.block()).end()), Err(Problem::HeaderLimit(_))));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8.., 0..2048)) {
        let _ = names(&bytes);
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in 0usize..4096, to in 0u8..) {
        let mut bytes = Archive::default().pax(&[("path", b"x"), ("size", b"3")]).file("a", b"abc").dir("d/", 0o755).end();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = names(&bytes);
    }
}
