//! References, holders and removal on a store in a temporary folder.

use davit_proto::id::ContainerId;

use super::*;
use crate::fixture::{Made, Says};
use crate::remove::{How, Removed, Scope};
use davit_archive::fixture::Archive;

struct Host {
    dir: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store }
    }

    fn blobs(&self) -> usize {
        self.store.content().list().unwrap().len()
    }

    fn layers(&self) -> usize {
        self.store.snapshots().list().unwrap().len()
    }
}

fn forced() -> How {
    How { force: true, ..How::default() }
}

fn container(n: u8) -> ContainerId {
    format!("{n:02x}").repeat(32).parse().unwrap()
}

/// Two images that share their lowest layer.
fn pair() -> (Made, Made) {
    let base = || Archive::default().dir("etc", 0o755).file("etc/base", b"base");
    (
        Made::of([base(), Archive::default().file("a", b"a")]),
        Made::of([base(), Archive::default().file("b", b"bb")]),
    )
}

fn deleted(removed: &[Removed]) -> usize {
    removed.iter().filter(|removed| matches!(removed, Removed::Deleted(_))).count()
}

#[test]
fn one_process_at_a_time() {
    let host = Host::new();
    assert!(matches!(Store::open(host.dir.path()), Err(StoreError::Locked(_))));
    drop(host.store);
    Store::open(host.dir.path()).unwrap();
}

#[test]
fn images_are_found_by_all_their_names() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["busybox:1", "localhost:5000/x/y:2"]);
    b.put(&host.store, &["alpine"]);
    let id = |text: &str| host.store.find(text).map(|found| found.image.id().clone());
    for name in ["busybox:1", "docker.io/library/busybox:1", "localhost:5000/x/y:2"] {
        assert_eq!(id(name).unwrap(), a.id, "{name}");
    }
    let digest = &a.manifest.digest;
    assert_eq!(id(&format!("busybox@{digest}")).unwrap(), a.id);
    assert_eq!(id(&format!("busybox:other@{digest}")).unwrap(), a.id);
    assert_eq!(id("alpine").unwrap(), b.id);
    for name in [
        a.id.to_string(),
        a.id.hex().to_owned(),
        a.id.hex()[..12].to_owned(),
        format!("sha256:{}", &a.id.hex()[..12]),
    ] {
        assert_eq!(id(&name).unwrap(), a.id, "{name}");
    }
    for name in ["busybox", "nothing:1", &format!("alpine@{digest}"), "0000000000000000"] {
        assert!(matches!(id(name), Err(StoreError::NotFound(_))), "{name}");
    }
    assert!(matches!(id("Not A Reference"), Err(StoreError::Reference(_))));
    assert!(matches!(id(""), Err(StoreError::Reference(_))));
    let shared = a.id.hex().bytes().zip(b.id.hex().bytes()).take_while(|(x, y)| x == y).count();
    if shared > 0 {
        assert!(matches!(id(&a.id.hex()[..shared]), Err(StoreError::Ambiguous(_))));
    }
}

#[test]
fn a_name_that_moves_leaves_its_image_without_one() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["app:1"]);
    b.put(&host.store, &["app:1"]);
    let list = host.store.list().unwrap();
    assert_eq!(list.len(), 2);
    let old = list.iter().find(|summary| summary.image.id() == &a.id).unwrap();
    assert!(old.references.is_empty() && !old.digests.is_empty());
    host.store.tag(a.id.hex(), "app:old").unwrap();
    let again = host.store.inspect("app:old").unwrap();
    assert_eq!(again.references, ["docker.io/library/app:old"]);
    assert_eq!(again.digests, old.digests, "where it came from is not forgotten");
    assert_eq!(host.store.references().entries().unwrap().len(), 2);
    assert!(matches!(
        host.store.tag("app:1", &format!("x@{}", a.manifest.digest)),
        Err(StoreError::TagDigest(_))
    ));
    assert!(matches!(host.store.tag("none", "x:1"), Err(StoreError::NotFound(_))));
    let step = format!("{}:1", davit_proto::step::REPOSITORY);
    assert!(matches!(host.store.tag("app:1", &step), Err(StoreError::Reserved(_))), "only builds name these");
}

#[test]
fn removal_keeps_what_others_share() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["a:1", "a:2"]);
    b.put(&host.store, &["b:1"]);
    assert_eq!((host.blobs(), host.layers()), (7, 3));
    let removed = host.store.remove("a:1", &How::default()).unwrap();
    assert_eq!(removed, [Removed::Untagged("docker.io/library/a:1".to_owned())]);
    assert_eq!((host.blobs(), host.layers()), (7, 3));
    let removed = host.store.remove("a:2", &How::default()).unwrap();
    assert_eq!(deleted(&removed), 2, "the image and the layer that only it had: {removed:?}");
    assert!(removed.contains(&Removed::Deleted(a.id.clone())));
    assert_eq!((host.blobs(), host.layers()), (4, 2));
    assert!(host.store.prepare(&container(1), "b:1").is_ok());
    assert!(matches!(host.store.remove("a:2", &How::default()), Err(StoreError::NotFound(_))));
    host.store.release(&container(1)).unwrap();
    host.store.remove(b.id.hex(), &How::default()).unwrap();
    assert_eq!((host.blobs(), host.layers()), (0, 0));
}

#[test]
fn a_name_takes_along_what_it_moved_away_from_within_one_image() {
    let host = Host::new();
    let (a, _) = pair();
    a.put(&host.store, &["a:1"]);
    // The same image in another manifest, as a registry that compresses anew would serve it.
    let text = String::from_utf8(a.blobs[&a.manifest.digest].clone()).unwrap();
    let other = format!("{text} ").into_bytes();
    let digest = host.store.content().write(&other).unwrap();
    let manifest = Descriptor::new(&a.manifest.media_type, digest, other.len() as u64);
    let reference: ImageRef = "a:1".parse().unwrap();
    host.store.name(&manifest, Some(reference), None).unwrap();
    assert_eq!(host.store.references().entries().unwrap().len(), 2);
    assert_eq!(host.store.list().unwrap().len(), 1);
    assert_eq!(deleted(&host.store.remove("a:1", &How::default()).unwrap()), 3);
    assert_eq!((host.blobs(), host.layers(), host.store.list().unwrap().len()), (0, 0, 0));
}

#[test]
fn every_image_of_an_index_from_another_tool_stays() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &[]);
    b.put(&host.store, &["b:1"]);
    let absent = crate::digest::digest(b"another platform");
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": a.manifest.media_type, "digest": a.manifest.digest, "size": a.manifest.size,
          "platform": { "os": "linux", "architecture": "s390x" } },
        { "mediaType": a.manifest.media_type, "digest": absent, "size": 7 },
    ]});
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = host.store.content().write(&bytes).unwrap();
    let index = Descriptor::new(crate::document::OCI_INDEX, digest, bytes.len() as u64);
    host.store.references().change(|entries| entries.push(Entry::new(&index, None, None))).unwrap();
    let all: Vec<Digest> = a.blobs.keys().chain(&a.diff_ids).chain([&index.digest]).cloned().collect();
    host.store.abandon(&all).unwrap();
    host.store.remove("b:1", &How::default()).unwrap();
    assert_eq!((host.blobs(), host.layers()), (5, 2), "the index, its image and that image's layers");
}

#[test]
fn an_id_with_several_names_needs_force() {
    let host = Host::new();
    let (a, _) = pair();
    a.put(&host.store, &["a:1", "other/a:2"]);
    let error = host.store.remove(a.id.hex(), &How::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::SeveralReferences { references, .. } if references.len() == 2),
        "{error}"
    );
    let removed = host.store.remove(a.id.hex(), &forced()).unwrap();
    assert!(removed.contains(&Removed::Untagged("docker.io/other/a:2".to_owned())));
    assert_eq!((host.blobs(), host.layers(), host.store.list().unwrap().len()), (0, 0, 0));
}

#[test]
fn what_a_container_uses_stays() {
    let host = Host::new();
    let (a, _) = pair();
    a.put(&host.store, &["a:1"]);
    let prepared = host.store.prepare(&container(1), "a:1").unwrap();
    assert_eq!(prepared.reference, "docker.io/library/a:1");
    assert_eq!(prepared.rootfs.options.len(), 2);
    let error = host.store.remove("a:1", &How::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::InUse { container_ids, .. } if *container_ids == [container(1).to_string()])
    );
    host.store.tag("a:1", "a:2").unwrap();
    host.store.remove("a:1", &How::default()).unwrap();
    let removed = host.store.remove("a:2", &forced()).unwrap();
    assert!(removed.contains(&Removed::Deleted(a.id.clone())));
    assert!(host.store.list().unwrap().is_empty());
    let again = host.store.prepare(&container(1), "whatever it is called now").unwrap();
    assert_eq!(again.rootfs, prepared.rootfs, "and its container can be started again");
    assert_eq!(host.layers(), 2);
    host.store.release(&container(1)).unwrap();
    assert_eq!((host.blobs(), host.layers()), (0, 0), "the last user takes it along");
    host.store.release(&container(1)).unwrap();
    assert!(matches!(host.store.prepare(&container(1), "a:1"), Err(StoreError::NotFound(_))));
}

#[test]
fn a_layer_that_was_deleted_is_unpacked_again() {
    let host = Host::new();
    let (a, _) = pair();
    a.put(&host.store, &["a:1"]);
    let before = host.store.prepare(&container(1), "a:1").unwrap().rootfs;
    host.store.snapshots().remove(&a.diff_ids[0]).unwrap();
    assert_eq!(host.store.prepare(&container(2), "a:1").unwrap().rootfs, before);
    let lowest = &host.store.snapshots().paths(&a.diff_ids)[0];
    assert_eq!(std::fs::read(lowest.join("etc/base")).unwrap(), b"base");
}

#[test]
fn leases_and_young_content_are_left_alone() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["a:1"]);
    b.put(&host.store, &[]);
    let mut lease = host.store.lease();
    lease.add(&a.layers[1].digest);
    lease.add(&a.diff_ids[1]);
    host.store.remove("a:1", &How::default()).unwrap();
    assert!(host.store.content().size(&a.layers[1].digest).unwrap().is_some());
    assert!(host.store.snapshots().layer(&a.diff_ids[1]).unwrap().is_some());
    assert!(
        host.store.content().size(&b.manifest.digest).unwrap().is_some(),
        "a pull may have fetched it just now"
    );
    drop(lease);
    let all: Vec<Digest> =
        a.blobs.keys().chain(b.blobs.keys()).chain(&a.diff_ids).chain(&b.diff_ids).cloned().collect();
    host.store.abandon(&all).unwrap();
    assert_eq!((host.blobs(), host.layers()), (0, 0));
}

#[test]
fn an_image_that_cannot_be_read_stops_collection_and_not_lists() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["a:1"]);
    b.put(&host.store, &["b:1"]);
    drop(host.store);
    let store = Store::open(host.dir.path()).unwrap();
    std::fs::write(store.content().path(&b.id), "{}").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    assert!(matches!(store.find("b:1"), Err(StoreError::Image(_))));
    store.remove("a:1", &How::default()).unwrap();
    assert_eq!(store.snapshots().list().unwrap().len(), 3, "nobody knows what b:1 needs");
}

#[test]
fn history_pairs_steps_with_layers() {
    let host = Host::new();
    let history = r#"[
        {"created":"2024-01-01T00:00:00Z","created_by":"ADD rootfs"},
        {"created":"2024-01-02T00:00:00Z","created_by":"ENV a=b","empty_layer":true},
        {"created":"2024-01-03T00:00:00Z","created_by":"COPY file","comment":"buildkit"}
    ]"#;
    let says = Says { created: "2024-01-03T00:00:00Z", history, ..Says::default() };
    let layers = || [Archive::default().file("a", b"12345"), Archive::default().file("b", b"123")];
    let made = Made::saying(layers(), &says);
    made.put(&host.store, &["h:1"]);
    let steps = host.store.history("h:1").unwrap();
    let told: Vec<(&str, u64)> = steps.iter().map(|step| (step.created_by.as_str(), step.size)).collect();
    assert_eq!(told, [("COPY file", 3), ("ENV a=b", 0), ("ADD rootfs", 5)]);
    assert_eq!((steps[0].image_id.as_ref(), &steps[1].image_id), (Some(&made.id), &None));
    assert_eq!(steps[0].references, ["docker.io/library/h:1"]);
    let bare = Made::of(layers());
    bare.put(&host.store, &["bare:1"]);
    let sizes: Vec<u64> = host.store.history("bare:1").unwrap().iter().map(|step| step.size).collect();
    assert_eq!(sizes, [3, 5], "layers that no step tells of still count");
}

#[test]
fn pruning_and_disk_usage_agree() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &["a:1"]);
    b.put(&host.store, &["a:1"]);
    let usage = || host.store.disk_usage().unwrap();
    let before = usage();
    assert_eq!((before.images.len(), before.active), (2, 0));
    assert_eq!(before.reclaimable_bytes, before.layer_bytes + before.blob_bytes);
    host.store.prepare(&container(1), "a:1").unwrap();
    let reclaimable = usage().reclaimable_bytes;
    let (removed, bytes) = host.store.prune(Scope::Dangling, |_| true).unwrap();
    assert_eq!((deleted(&removed), bytes), (2, reclaimable));
    assert_eq!(usage().reclaimable_bytes, 0);
    assert_eq!(host.store.prune(Scope::Unused, |_| true).unwrap(), (Vec::new(), 0), "a container uses it");
    host.store.release(&container(1)).unwrap();
    assert_eq!(host.store.prune(Scope::Unused, |_| false).unwrap(), (Vec::new(), 0), "a condition keeps it");
    let rest = usage().reclaimable_bytes;
    assert_eq!(host.store.prune(Scope::Unused, |_| true).unwrap().1, rest);
    assert_eq!((host.blobs(), host.layers()), (0, 0));
    assert_eq!(reclaimable + rest, before.reclaimable_bytes);
}

#[test]
fn pruning_all_takes_what_was_begun_and_nobody_goes_on_with() {
    let host = Host::new();
    let (a, b) = pair();
    a.put(&host.store, &[]);
    let partial = host.store.content().ingest_path().join(format!("{}.part", b.id.hex()));
    std::fs::write(&partial, vec![1; 10_000]).unwrap();
    let turned = host.store.content().ingest_blocking(&b.id, 20_000).unwrap();
    let mut lease = host.store.lease();
    lease.add(&a.id);
    assert_eq!(host.store.prune(Scope::Dangling, |_| true).unwrap().1, 0);
    assert_eq!((host.blobs(), host.layers()), (4, 2), "a killed pull may go on with them");
    assert!(host.store.prune(Scope::Unused, |_| true).unwrap().1 > 0);
    assert_eq!((host.blobs(), host.layers()), (1, 0), "only what somebody is about to use");
    assert!(partial.exists(), "somebody writes it");
    drop((turned, lease));
    host.store.prune(Scope::Unused, |_| true).unwrap();
    assert_eq!(host.blobs(), 0);
    assert!(!partial.exists());
}

#[test]
fn refusals_and_lines_are_dockers() {
    let host = Host::new();
    let (a, _) = pair();
    a.put(&host.store, &["localhost:5000/app:1", "localhost:5000/app:2"]);
    host.store.prepare(&container(1), "localhost:5000/app:1").unwrap();
    let remove = |name: &str, how: &How| host.store.remove(name, how);
    let by_digest = format!("localhost:5000/app@{}", a.manifest.digest);
    assert_eq!(
        remove("localhost:5000/app:1", &How::default()).unwrap(),
        [Removed::Untagged("localhost:5000/app:1".to_owned())],
        "the other name keeps the digest"
    );
    let (short, user) = (&a.id.hex()[..12], &container(1).to_string()[..12]);
    let told = |name: &str, how: &How| remove(name, how).unwrap_err().to_string();
    assert_eq!(
        told("localhost:5000/app:2", &How::default()),
        format!(
            "conflict: unable to remove repository reference \"localhost:5000/app:2\" (must force) - container \
             {user} is using its referenced image {short}"
        )
    );
    assert_eq!(
        told(a.id.hex(), &How::default()),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {user}"
        )
    );
    let running = How { force: true, running: [container(1)].into() };
    assert_eq!(
        told(a.id.hex(), &running),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {user}"
        )
    );
    let untagged = ["localhost:5000/app:2", &by_digest].map(|name| Removed::Untagged(name.to_owned()));
    assert_eq!(remove("localhost:5000/app:2", &running).unwrap(), untagged, "the name goes, the image stays");
    assert_eq!(host.layers(), 2);
    host.store.release(&container(1)).unwrap();
    assert_eq!((host.blobs(), host.layers()), (0, 0));

    a.put(&host.store, &["localhost:5000/app:1"]);
    let layers = a.diff_ids.iter().rev().chain([]).cloned().map(Removed::Deleted);
    let first = ["localhost:5000/app:1", &by_digest].map(|name| Removed::Untagged(name.to_owned()));
    let wanted: Vec<Removed> =
        first.into_iter().chain([Removed::Deleted(a.id.clone())]).chain(layers).collect();
    assert_eq!(remove("localhost:5000/app:1", &How::default()).unwrap(), wanted, "the topmost layer first");
}

#[test]
fn filters_choose_images() {
    use crate::filter::Filter;
    let host = Host::new();
    let at = |created, labels| Says { created, labels, ..Says::default() };
    let archive = |name: &str| [Archive::default().file(name, b"")];
    Made::saying(archive("a"), &at("2024-01-01T00:00:00Z", &[("tier", "web"), ("x", "1")]))
        .put(&host.store, &["web:1"]);
    Made::saying(archive("b"), &at("2024-02-01T00:00:00Z", &[("tier", "db")])).put(&host.store, &["my/db:1"]);
    Made::saying(archive("c"), &at("2024-03-01T00:00:00Z", &[])).put(&host.store, &["web:2", "gone:1"]);
    Made::saying(archive("d"), &at("2024-04-01T00:00:00Z", &[])).put(&host.store, &["gone:1", "web:2"]);
    let shown = |conditions: &[(&str, &str)]| {
        let conditions: Vec<_> = conditions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let filter = Filter::parse(&conditions, &host.store).unwrap();
        let mut names: Vec<String> = host
            .store
            .list()
            .unwrap()
            .iter()
            .filter(|summary| filter.shows(summary))
            .map(|summary| summary.references.first().cloned().unwrap_or_default())
            .map(|name| name.rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(shown(&[]), ["", "db:1", "gone:1", "web:1"]);
    assert_eq!(shown(&[("reference", "web")]), ["", "gone:1", "web:1"]);
    assert_eq!(shown(&[("reference", "web:1"), ("reference", "*/db")]), ["db:1", "web:1"]);
    assert_eq!(shown(&[("dangling", "true")]), [""]);
    assert_eq!(shown(&[("label", "tier")]), ["db:1", "web:1"]);
    assert_eq!(shown(&[("label", "tier=web"), ("label", "x")]), ["web:1"]);
    assert_eq!(shown(&[("since", "my/db:1")]), ["", "gone:1"]);
    assert_eq!(shown(&[("before", "my/db:1")]), ["web:1"]);
    assert_eq!(shown(&[("until", "2024-01-15T00:00:00Z")]), ["web:1"]);
    for (key, value) in [("color", "red"), ("dangling", "maybe"), ("until", "soon")] {
        let bad = [(key.to_owned(), value.to_owned())];
        assert!(matches!(Filter::parse(&bad, &host.store), Err(StoreError::Filter { .. })), "{key}={value}");
    }
}
