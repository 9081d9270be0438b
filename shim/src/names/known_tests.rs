//! What one container sees of two networks.

use super::*;
use davit_proto::names::{Entry, Header, Link, render};
use std::collections::BTreeSet;
use std::path::PathBuf;

const SHOP: &str = "5";
const STORE: &str = "6";

fn id(digit: &str) -> String {
    digit.repeat(64)
}

fn entry(digit: &str, addresses: &[&str], names: &[&str]) -> Entry {
    Entry {
        container: id(digit).parse().unwrap(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

/// A container on two networks, one with a shop and a mail server, the other with a store and two of a kind.
fn files(forward: bool) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let zone = |digit: &str, network: &str, subnet: &str, entries: &[Entry]| {
        let header = Header { network: network.parse().unwrap(), subnets: vec![subnet.parse().unwrap()] };
        let lines: BTreeSet<String> = entries.iter().flat_map(Entry::lines).collect();
        let text = render(&header, lines.iter().map(String::as_str));
        std::fs::write(dir.path().join(format!("{}.zone", id(digit))), text).unwrap();
    };
    let shop = entry(SHOP, &["172.18.0.2"], &["Shop", "my.shop"]);
    zone("a", "Front", "172.18.0.0/16", &[shop, entry("7", &["172.18.0.9"], &["mail"])]);
    let store = entry(STORE, &["172.19.0.2", "fd00::2"], &["store", "all"]);
    zone("b", "back", "172.19.0.0/16", &[store, entry("8", &["172.19.0.3"], &["mail", "all"])]);
    let view = View {
        forward,
        zones: ["a", "b", "c"].map(|zone| id(zone).parse().unwrap()).into(),
        links: vec![
            Link { name: "db".parse().unwrap(), container: id(STORE).parse().unwrap() },
            Link { name: "gone".parse().unwrap(), container: id("9").parse().unwrap() },
        ],
    };
    let path = dir.path().join("x.view");
    std::fs::write(&path, view.render()).unwrap();
    (dir, path)
}

fn ask(view: &Path, name: &str, kind: u8) -> Known {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    look_up(view, &Query::read(&bytes).unwrap()).unwrap()
}

fn here(addresses: &[&str]) -> Known {
    Known::Here(addresses.iter().map(|ip| Record::Address(ip.parse().unwrap())).collect())
}

fn called(name: &str) -> Known {
    Known::Here(vec![Record::Called(name.to_owned())])
}

const A: u8 = 1;
const PTR: u8 = 12;
const AAAA: u8 = 28;
const ANY: u8 = 255;

#[test]
fn containers_are_found_by_all_their_names() {
    let (_dir, view) = files(true);
    let short = SHOP.repeat(12);
    for name in ["shop", "SHOP", "my.shop", "shop.front", "my.shop.FRONT", &short, &format!("{short}.front")]
    {
        assert_eq!(ask(&view, name, A), here(&["172.18.0.2"]), "{name}");
    }
    assert_eq!(ask(&view, "store", A), here(&["172.19.0.2"]));
    assert_eq!(ask(&view, "store", AAAA), here(&["fd00::2"]));
    assert_eq!(ask(&view, "shop", AAAA), here(&[]), "there, and without such an address");
    assert_eq!((ask(&view, "shop", ANY), ask(&view, "shop", 16)), (here(&[]), here(&[])));
    assert_eq!(ask(&view, "mail", A), here(&["172.18.0.9"]), "the first network wins");
    assert_eq!(ask(&view, "mail.back", A), here(&["172.19.0.3"]));
}

#[test]
fn several_of_one_name_take_turns() {
    let (_dir, view) = files(true);
    let mut orders = BTreeSet::new();
    for _ in 0..200 {
        let Known::Here(records) = ask(&view, "all", A) else { panic!("it is here") };
        assert_eq!(records.len(), 2);
        orders.insert(format!("{records:?}"));
    }
    assert_eq!(orders.len(), 2);
}

#[test]
fn addresses_have_names_and_stay_here() {
    let (_dir, view) = files(true);
    assert_eq!(ask(&view, "2.0.18.172.in-addr.arpa", PTR), called("shop.Front"));
    assert_eq!(ask(&view, "2.0.18.172.in-addr.arpa", A), here(&[]));
    assert_eq!(ask(&view, "2.0.19.172.in-addr.arpa", PTR), called("store.back"));
    assert_eq!(ask(&view, "77.0.19.172.in-addr.arpa", PTR), Known::Absent, "nobody outside is asked of it");
    assert_eq!(ask(&view, "1.1.1.1.in-addr.arpa", PTR), Known::Elsewhere);
    assert_eq!(ask(&view, "1.0.0.127.in-addr.arpa", PTR), called("localhost"));
    assert_eq!(ask(&view, "11.0.0.127.in-addr.arpa", PTR), Known::Absent);
}

#[test]
fn links_are_names_of_this_container_alone() {
    let (_dir, view) = files(true);
    assert_eq!(ask(&view, "DB", A), here(&["172.19.0.2"]));
    assert_eq!(ask(&view, "db", AAAA), here(&["fd00::2"]));
    assert_eq!(ask(&view, "gone", A), Known::Absent);
}

#[test]
fn the_rest_is_elsewhere_or_nowhere() {
    let (_dir, view) = files(true);
    for name in ["example.org", "nas", "shop.example", "front", "shop.back", "xfront", "2.in-addr.arpa"] {
        assert_eq!(ask(&view, name, A), Known::Elsewhere, "{name}");
    }
    assert_eq!(ask(&view, "localhost", A), here(&["127.0.0.1"]));
    assert_eq!(ask(&view, "a.localhost", AAAA), here(&["::1"]));
    let (_dir, view) = files(false);
    assert_eq!(ask(&view, "example.org", A), Known::Absent);
    assert_eq!(ask(&view, "1.1.1.1.in-addr.arpa", PTR), Known::Absent);
    assert_eq!(ask(&view, "shop", A), here(&["172.18.0.2"]));
}

#[test]
fn without_files_nothing_is_said() {
    let (dir, view) = files(true);
    let bytes = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1];
    let query = Query::read(&bytes).unwrap();
    std::fs::write(dir.path().join(format!("{}.zone", id("a"))), "torn").unwrap();
    assert!(look_up(&view, &query).is_err());
    std::fs::remove_file(&view).unwrap();
    assert!(look_up(&view, &query).is_err());
}
