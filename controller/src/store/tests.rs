//! What the store keeps over deaths, damage and other versions, and what it tells watchers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec, ContainerStatus, Phase};
use davit_proto::id::ContainerId;
use prost::Message as _;

use super::*;

fn id(n: u8) -> ContainerId {
    format!("{n:02x}").repeat(32).parse().unwrap()
}

fn record(n: u8, name: &str) -> ContainerRecord {
    let status = ContainerStatus { phase: Phase::Created.into(), ..ContainerStatus::default() };
    let spec = ContainerSpec { image: "alpine".into(), ..ContainerSpec::default() };
    ContainerRecord {
        version: VERSION,
        container: Some(Container {
            id: id(n).to_string(),
            name: name.into(),
            spec: Some(spec),
            status: Some(status),
            ..Container::default()
        }),
        ..ContainerRecord::default()
    }
}

fn draft(action: &str, n: u8) -> Option<Change> {
    let (action, id) = (action.to_owned(), id(n).to_string());
    Change::told(Draft { kind: "container", action, id, attributes: HashMap::new() })
}

fn open(root: &Path) -> Store {
    Store::open(root).unwrap().store
}

fn run(store: &Store, n: u8) {
    let updated = store.update(&id(n), |record| {
        let status = record.container.as_mut()?.status.as_mut()?;
        status.set_phase(Phase::Running);
        draft("start", n)
    });
    assert_eq!(phase(&updated.unwrap()), Phase::Running);
}

#[tokio::test]
async fn what_was_synced_is_there_again() {
    let root = tempfile::tempdir().unwrap();
    let opened = Store::open(root.path()).unwrap();
    assert!(opened.rebuilt.is_some(), "a new store says so");
    let store = opened.store;
    let Inserted::New(first) = store.insert(record(1, "web")).unwrap() else { panic!("not new") };
    run(&store, 1);
    store.insert(record(2, "db")).unwrap();
    store.remove(&id(2), draft("destroy", 2)).unwrap();
    store.sync().await.unwrap();
    let last = store.revision();
    assert!(last > first);
    drop(store);

    let opened = Store::open(root.path()).unwrap();
    assert_eq!(opened.rebuilt, None);
    let store = opened.store;
    assert!(store.revision() > last, "revisions only grow");
    let records = store.all().records;
    assert_eq!(records.len(), 1);
    assert_eq!(phase(&records[0]), Phase::Running);
    assert_eq!(store.resolve("web").unwrap(), id(1));
    assert!(!store.has_name("db"));
    let (events, _) = store.events(first).unwrap();
    assert_eq!(events.iter().map(|e| e.action.as_str()).collect::<Vec<_>>(), ["start", "destroy"]);
}

#[tokio::test]
async fn a_damaged_store_is_set_aside() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    for n in 0..50 {
        store.insert(record(n, &format!("c{n}"))).unwrap();
    }
    store.sync().await.unwrap();
    let last = store.revision();
    drop(store);
    let path = root.path().join("store/db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in bytes.iter_mut().step_by(7) {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();

    let opened = Store::open(root.path()).unwrap();
    let told = opened.rebuilt.unwrap();
    assert!(opened.store.all().records.is_empty());
    assert!(opened.store.revision() > last, "revisions grow over the loss too");
    let aside = std::fs::read_dir(root.path()).unwrap().filter_map(Result::ok);
    let aside: Vec<_> = aside.filter(|e| e.file_name().to_string_lossy().starts_with("store.bad-")).collect();
    assert_eq!(aside.len(), 1, "{told}");
    opened.store.insert(record(1, "web")).unwrap();
}

#[test]
fn an_unreadable_record_sets_the_store_aside() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()));
    {
        let (disk, _, _) = disk::open(root.path()).unwrap();
        disk.insert_raw(id(1).as_str(), b"\xff\xff\xff");
    }
    assert!(Store::open(root.path()).unwrap().rebuilt.is_some_and(|told| told.contains("set aside")));
}

#[test]
fn names_are_taken_once_and_come_free() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.insert(record(1, "web")).unwrap();
    let taken = Conflict::NameTaken { name: "web".into(), holder: id(1) };
    assert_eq!(store.insert(record(2, "web")).unwrap_err(), taken);
    store.insert(record(2, "db")).unwrap();
    assert_eq!(store.rename(&id(2), "web", "").unwrap_err(), taken);
    store.rename(&id(1), "www", "").unwrap();
    store.rename(&id(2), "web", "").unwrap();
    assert_eq!(store.resolve("web").unwrap(), id(2));
    assert_eq!(store.resolve("www").unwrap(), id(1));
    let revision = store.revision();
    store.rename(&id(2), "web", "").unwrap();
    assert_eq!(store.revision(), revision, "asked twice it is renamed once");
    assert!(store.resolve("db").is_err());
    store.remove(&id(2), None).unwrap();
    store.insert(record(3, "web")).unwrap();
    assert_eq!(store.rename(&id(2), "x", "").unwrap_err(), Conflict::Gone { container: id(2) });
}

#[test]
fn a_request_key_repeats_its_first_answer() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let keyed = |n, name: &str, hash: &[u8]| ContainerRecord {
        request_key: "key".into(),
        request_hash: hash.to_vec(),
        ..record(n, name)
    };
    assert!(matches!(store.insert(keyed(1, "a", b"h")).unwrap(), Inserted::New(_)));
    assert_eq!(store.insert(keyed(2, "b", b"h")).unwrap(), Inserted::Repeated(id(1)));
    assert!(matches!(store.insert(keyed(2, "b", b"other")), Err(Conflict::KeyReused { .. })));
    store.remove(&id(1), draft("destroy", 1));
    assert_eq!(store.insert(keyed(3, "a", b"h")).unwrap(), Inserted::Repeated(id(1)), "also after its end");
    drop(store);

    let store = open(root.path());
    assert_eq!(store.request("key").unwrap().container_id, id(1).to_string());

    let other = ContainerRecord { request_key: "two".into(), ..record(4, "d") };
    store.insert(other.clone()).unwrap();
    store.remove(&id(4), None);
    assert!(
        matches!(store.insert(other).unwrap(), Inserted::New(_)),
        "what was never made may be tried again"
    );
}

#[test]
fn prefixes_resolve_when_they_are_unique() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.insert(record(0x1a, "a")).unwrap();
    store.insert(record(0x1b, "b")).unwrap();
    store.insert(record(0x2c, "1b")).unwrap();
    assert_eq!(store.resolve("1a").unwrap(), id(0x1a));
    assert_eq!(store.resolve("1b").unwrap(), id(0x2c), "a name wins over a prefix");
    assert_eq!(store.resolve("1").unwrap_err(), Unresolved::Ambiguous("1".into()));
    for missing in ["", "3", "zz", "1A", &"1a".repeat(33)] {
        assert_eq!(store.resolve(missing).unwrap_err(), Unresolved::NotFound(missing.into()), "{missing}");
    }
    assert_eq!(store.resolve(&"1a".repeat(32)).unwrap(), id(0x1a));
}

#[test]
fn bundles_fill_a_store_and_the_newer_keeps_a_doubled_name() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let kept = |n, name: &str, revision| {
        let mut record = record(n, name);
        record.container.as_mut().unwrap().revision = revision;
        record
    };
    assert_eq!(store.adopt(kept(1, "web", 5), Change::default()), Some(Adopted::Entered));
    assert_eq!(store.adopt(kept(1, "web", 5), Change::default()), None, "it is known already");
    let lost = |loser: u8| Some(Adopted::NameLost { name: "web".into(), loser: id(loser) });
    assert_eq!(
        store.adopt(kept(2, "web", 3), Change::default()),
        lost(2),
        "everything in the store is newer than a bundle"
    );
    assert_eq!(store.resolve("web").unwrap(), id(1));
    assert_eq!(store.resolve(id(2).short()).unwrap(), id(2));
    assert_eq!(store.adopt(kept(3, "web", u64::MAX - 1), Change::default()), lost(1));
    assert_eq!(store.resolve("web").unwrap(), id(3));
    drop(store);
    let store = open(root.path());
    assert_eq!(store.all().records.len(), 3);
    assert_eq!(store.resolve("web").unwrap(), id(3));
    assert_eq!(store.resolve(id(1).short()).unwrap(), id(1));
}

#[tokio::test]
async fn a_large_record_is_kept_in_parts() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let mut large = record(1, "large");
    large.container.as_mut().unwrap().env = vec!["x".repeat(1000); 400];
    store.insert(large.clone()).unwrap();
    run(&store, 1);
    store.update(&id(1), |record| {
        record.container.as_mut()?.env.truncate(100);
        Change::silent()
    });
    store.insert(record(2, "small")).unwrap();
    store.sync().await.unwrap();
    drop(store);
    let store = open(root.path());
    assert_eq!(store.get(&id(1)).unwrap().container.as_ref().unwrap().env.len(), 100);
    assert_eq!(store.all().records.len(), 2);

    large.container.as_mut().unwrap().env = vec!["x".repeat(1000); 2000];
    assert!(matches!(store.insert(large), Err(Conflict::TooLarge { .. })));
}

#[tokio::test]
async fn watchers_see_changes_and_the_end() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.insert(record(1, "a")).unwrap();
    let mut watched = store.watch(&id(1)).unwrap();
    let before = store.revision();
    let (_, mut feed) = store.events(before).unwrap();
    run(&store, 1);
    watched.changed().await.unwrap();
    assert_eq!(phase(&watched.borrow().record), Phase::Running);
    assert_eq!(feed.recv().await.unwrap().action, "start");
    store.remove(&id(1), draft("destroy", 1));
    watched.changed().await.unwrap();
    assert!(watched.borrow().removed);
    assert_eq!(phase(&watched.borrow().record), Phase::Running, "the last record stays to be seen");
    assert!(store.events(store.revision() + 1).is_err());
    assert!(store.events(1).is_err(), "older than the store");
    assert_eq!(store.events(before).unwrap().0.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_share_syncs_and_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(open(root.path()));
    let mut tasks = Vec::new();
    for n in 0..32_u8 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            store.insert(record(n, &format!("c{n}"))).unwrap();
            store.sync().await.unwrap();
            for _ in 0..10 {
                run(&store, n);
                store.sync().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (count, revision) = (store.all().records.len(), store.revision() & ((1 << 40) - 1));
    assert_eq!((count, revision), (32, 32 * 11));
    drop(store);
    let store = open(root.path());
    assert_eq!(store.all().records.len(), 32);
    assert!(store.all().records.iter().all(|record| phase(record) == Phase::Running));
}

#[tokio::test]
async fn a_database_that_is_mostly_waste_is_written_anew() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store.insert(ContainerRecord { request_key: "k".into(), ..record(1, "web") }).unwrap();
    run(&store, 1);
    store.sync().await.unwrap();
    let (last, events) = (store.revision(), store.events(store.revision() - 1).unwrap().0);
    drop(store);
    let path = root.path().join("store/db");
    let before = std::fs::metadata(&path).unwrap().len();
    let (large, content, _) = disk::open(root.path()).unwrap();
    let small = disk::shrink(large, &content).unwrap();
    drop(small);
    assert!(std::fs::metadata(&path).unwrap().len() <= before);
    assert!(!root.path().join("store.old").exists());

    let opened = Store::open(root.path()).unwrap();
    assert_eq!(opened.rebuilt, None);
    assert_eq!(opened.store.resolve("web").unwrap(), id(1));
    assert_eq!(opened.store.events(last - 1).unwrap().0, events);
    assert_eq!(opened.store.request("k").unwrap().container_id, id(1).to_string());
}

#[test]
fn version_one_reads_as_it_was_written() {
    let mut golden = record(0xab, "web");
    golden.request_key = "k".into();
    golden.request_hash = vec![1, 2, 3];
    golden.shape = vec![8, 1];
    let container = golden.container.as_mut().unwrap();
    container.args = vec!["sh".into()];
    container.revision = 7;
    let bytes = include_bytes!("golden/record-1.bin");
    assert_eq!(record::decode(bytes).unwrap(), golden);
    assert_eq!(golden.encode_to_vec(), bytes, "a new layout needs a new version, and its own golden file");
}

#[test]
fn a_newer_version_is_read_and_none_is_not() {
    let newer = ContainerRecord { version: VERSION + 1, ..record(1, "a") };
    assert!(record::decode(&newer.encode_to_vec()).is_ok());
    assert!(record::decode(&ContainerRecord { version: 0, ..record(1, "a") }.encode_to_vec()).is_err());
    assert!(record::decode(&ContainerRecord { container: None, ..newer }.encode_to_vec()).is_err());
}
