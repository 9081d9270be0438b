//! Pulls from registries that behave, break off, and lie.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::digest::digest;
use crate::fixture::gzip;
use crate::fixture::{Made, Registry, Says, broken};
use crate::registry::tests::config;
use crate::registry::tests::server::answer;
use davit_archive::fixture::Archive;

struct Host {
    dir: tempfile::TempDir,
    store: Store,
    client: registry::Client,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store, client: registry::Client::new(config()).unwrap() }
    }

    async fn pull(&self, reference: &ImageRef) -> Result<Pulled, PullError> {
        self.pull_for(reference, None).await
    }

    async fn pull_for(&self, reference: &ImageRef, platform: Option<Platform>) -> Result<Pulled, PullError> {
        let request = Request { reference: reference.clone(), platform, credential: None, step: None };
        pull(&self.store, &self.client, request, Arc::default()).await
    }

    fn ingest(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("image/ingest")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        // The sweeper takes these away when it comes to them.
        names.retain(|name| !name.starts_with("unpack-") && !name.starts_with("trash-"));
        names
    }
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn two_layers() -> Made {
    Made::of([
        Archive::default().dir("etc", 0o755).file("etc/name", b"below").file("big", &noise(1, 400_000)),
        Archive::default().file("etc/name", b"above").file("bigger", &noise(2, 600_000)),
    ])
}

#[tokio::test]
async fn an_index_leads_to_an_unpacked_image() {
    let (host, registry, made) = (Host::new(), Registry::start().await, two_layers());
    let other =
        Made::saying([Archive::default().file("x", b"")], &Says { architecture: "s390x", ..Says::default() });
    let here = Platform::host().architecture;
    let index = registry.add_index("1", &[(&other, "s390x"), (&made, &here)]);
    let reference = registry.reference("1");
    let board = Arc::new(Board::default());
    let request = Request { reference: reference.clone(), platform: None, credential: None, step: None };
    let pulled = pull(&host.store, &host.client, request, Arc::clone(&board)).await.unwrap();
    assert_eq!((&pulled.digest, &pulled.image_id, pulled.up_to_date), (&index, &made.id, false));
    let told = board.take();
    assert!(matches!(&told[0], Progress::Resolved { layers, .. } if layers.len() == 2));
    let complete = |p: &&Progress| matches!(p, Progress::Layer(l) if l.state == LayerState::Complete && l.current == l.total);
    assert_eq!(told.iter().filter(complete).count(), 2);

    for name in
        [reference.to_string(), reference.with_digest(index).to_string(), made.id.hex()[..9].to_owned()]
    {
        assert_eq!(host.store.find(&name).unwrap().image.id(), &made.id, "{name}");
    }
    let paths = host.store.snapshots().paths(&made.diff_ids);
    assert_eq!(std::fs::read(paths[1].join("etc/name")).unwrap(), b"above");
    assert_eq!(std::fs::read(paths[0].join("big")).unwrap(), noise(1, 400_000));
    assert!(host.ingest().is_empty());

    let again = host.pull(&reference).await.unwrap();
    assert!(again.up_to_date);
    assert_eq!(registry.asked(&made.layers[0].digest).len(), 1);
    let wanted = Platform { os: "linux".into(), architecture: "riscv64".into(), variant: String::new() };
    let error = host.pull_for(&reference, Some(wanted)).await.unwrap_err();
    assert!(matches!(error, PullError::Store(StoreError::Image(ImageError::Platform { .. }))), "{error}");
    let s390x = Platform { os: "linux".into(), architecture: "s390x".into(), variant: String::new() };
    assert_eq!(host.pull_for(&reference, Some(s390x)).await.unwrap().image_id, other.id);
    assert_eq!(host.store.list().unwrap().len(), 2, "what had the name stays as an image without one");
}

#[tokio::test]
async fn racing_pulls_fetch_each_layer_once() {
    let (host, registry, made) = (Host::new(), Registry::start().await, two_layers());
    registry.add("a", &made);
    registry.add("b", &made);
    let (a, b) = (registry.reference("a"), registry.reference("b"));
    let (one, two, three) = tokio::join!(host.pull(&a), host.pull(&b), host.pull(&a));
    assert_eq!(one.unwrap().image_id, made.id);
    assert_eq!(two.unwrap().image_id, made.id);
    assert_eq!(three.unwrap().image_id, made.id);
    for layer in &made.layers {
        assert_eq!(registry.asked(&layer.digest).len(), 1);
    }
    assert_eq!(host.store.snapshots().list().unwrap().len(), 2);
}

#[tokio::test]
async fn a_pull_goes_on_at_the_byte_that_the_last_one_reached() {
    let made = two_layers();
    let victim = made.layers[1].digest.clone();
    let working = Arc::new(AtomicBool::new(false));
    let (path, works) = (victim.to_string(), Arc::clone(&working));
    let registry = Registry::with(move |seen, bytes| {
        let fails = seen.path.ends_with(&path) && !works.load(Ordering::Relaxed);
        fails.then(|| match seen.offset() {
            None => broken(bytes, 300_000),
            Some(_) => answer(503, &[], b""),
        })
    })
    .await;
    registry.add("1", &made);
    let (host, reference) = (Host::new(), registry.reference("1"));
    assert!(matches!(host.pull(&reference).await, Err(PullError::Registry(_))));
    assert!(matches!(host.store.find(&reference.to_string()), Err(StoreError::NotFound(_))));
    // The task that wrote it may be a moment behind the error.
    let part = host.dir.path().join(format!("image/ingest/{}.part", victim.hex()));
    wait_for(|| part.metadata().is_ok_and(|meta| meta.len() == 300_000)).await;
    assert_eq!(host.store.content().size(&victim).unwrap(), None);

    working.store(true, Ordering::Relaxed);
    let before = registry.asked(&victim).len();
    host.pull(&reference).await.unwrap();
    let asked = registry.asked(&victim);
    assert_eq!((asked.len(), asked[before].offset()), (before + 1, Some(300_000)));
    assert_eq!(registry.asked(&made.layers[0].digest).len(), 1, "what was whole is not fetched again");
    let path = &host.store.snapshots().paths(&made.diff_ids)[1];
    assert_eq!(std::fs::read(path.join("bigger")).unwrap(), noise(2, 600_000));
}

/// Polls a condition that another task is about to make true.
async fn wait_for(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "the condition never came true");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_partial_blob_that_was_damaged_is_fetched_anew() {
    let (host, registry, made) = (Host::new(), Registry::start().await, two_layers());
    registry.add("1", &made);
    let part = host.dir.path().join(format!("image/ingest/{}.part", made.layers[0].digest.hex()));
    std::fs::write(part, vec![7; 100_000]).unwrap();
    host.pull(&registry.reference("1")).await.unwrap();
    let offsets: Vec<_> = registry.asked(&made.layers[0].digest).iter().map(|seen| seen.offset()).collect();
    assert_eq!(offsets.last(), Some(&None));
    assert!(host.ingest().is_empty());
}

#[tokio::test]
async fn a_blob_that_was_damaged_is_fetched_anew_when_its_layer_is_gone() {
    let (host, registry, made) = (Host::new(), Registry::start().await, two_layers());
    registry.add("1", &made);
    let reference = registry.reference("1");
    host.pull(&reference).await.unwrap();
    let blob = &made.layers[0].digest;
    let mut bytes = made.blobs[blob].clone();
    bytes[200_000] ^= 1;
    std::fs::write(host.store.content().path(blob), bytes).unwrap();
    host.store.snapshots().remove(&made.diff_ids[0]).unwrap();
    host.pull(&reference).await.unwrap();
    assert_eq!(registry.asked(blob).len(), 2);
    assert_eq!(host.store.content().read(blob, 1 << 20).unwrap(), made.blobs[blob]);
    assert!(host.store.snapshots().layer(&made.diff_ids[0]).unwrap().is_some());
}

#[tokio::test]
async fn bytes_of_another_digest_are_refused() {
    let made = two_layers();
    for lie in [0usize, 1] {
        let (victim, wrong) = (made.layers[1].digest.to_string(), made.blobs[&made.layers[1].digest].clone());
        let registry = Registry::with(move |seen, _| {
            let mut wrong = wrong.clone();
            match lie {
                // As many bytes, one of them another.
                0 => wrong[100] ^= 1,
                // Another layer that would unpack.
                _ => wrong = gzip(&Archive::default().file("evil", &noise(9, 600_000)).end()),
            }
            seen.path.ends_with(&victim).then(|| answer(200, &[], &wrong))
        })
        .await;
        registry.add("1", &made);
        let host = Host::new();
        let error = host.pull(&registry.reference("1")).await.unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(host.store.list().unwrap().is_empty());
        assert_eq!(host.store.content().size(&made.layers[1].digest).unwrap(), None);
        assert_eq!(host.store.snapshots().layer(&made.diff_ids[1]).unwrap(), None);
        let part = format!("{}.part", made.layers[1].digest.hex());
        assert!(!host.ingest().contains(&part), "nothing to go on with");
    }
}

#[tokio::test]
async fn a_layer_that_tries_to_get_out_is_named_and_leaves_nothing() {
    let (host, registry) = (Host::new(), Registry::start().await);
    let hostile = Made::of([Archive::default().dir("ok", 0o755).file("../../escape", b"x")]);
    registry.add("1", &hostile);
    let error = host.pull(&registry.reference("1")).await.unwrap_err();
    let sentence = davit_proto::status::chain(&error);
    assert!(sentence.contains("../../escape") && sentence.contains(".."), "{sentence}");
    assert!(host.ingest().is_empty());
    assert!(host.store.snapshots().list().unwrap().is_empty());
    assert!(!host.dir.path().join("escape").exists() && !host.dir.path().join("image/escape").exists());
}

#[tokio::test]
async fn a_layer_of_another_diff_id_is_refused() {
    let (host, registry) = (Host::new(), Registry::start().await);
    let tar = Archive::default().file("a", b"1").end();
    let lying = Made::from_layers(vec![(gzip(&tar), digest(b"something else"))], &Says::default());
    registry.add("1", &lying);
    let error = host.pull(&registry.reference("1")).await.unwrap_err();
    assert!(davit_proto::status::chain(&error).contains("diff id"), "{error}");
    assert!(host.ingest().is_empty());
    assert!(host.store.snapshots().list().unwrap().is_empty());
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_the_next_one_its_turn() {
    use crate::registry::tests::server::Step;
    let made = two_layers();
    let working = Arc::new(AtomicBool::new(false));
    let (path, works) = (made.layers[1].digest.to_string(), Arc::clone(&working));
    let registry = Registry::with(move |seen, bytes| {
        (seen.path.ends_with(&path) && !works.load(Ordering::Relaxed)).then(|| {
            let mut steps = broken(bytes, 200_000);
            steps.push(Step::Hang);
            steps
        })
    })
    .await;
    registry.add("1", &made);
    let (host, reference) = (Host::new(), registry.reference("1"));
    let first = tokio::time::timeout(std::time::Duration::from_millis(300), host.pull(&reference)).await;
    assert!(first.is_err(), "it hangs");
    working.store(true, Ordering::Relaxed);
    host.pull(&reference).await.unwrap();
    assert!(host.ingest().is_empty());
}

#[tokio::test]
async fn what_is_no_image_is_told() {
    let (host, registry) = (Host::new(), Registry::start().await);
    let mut made = two_layers();
    let bytes = String::from_utf8(made.blobs[&made.manifest.digest].clone()).unwrap();
    let chart = bytes.replace(OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json").into_bytes();
    made.manifest.digest = digest(&chart);
    made.blobs.insert(digest(&chart), chart);
    registry.add("chart", &made);
    let error = host.pull(&registry.reference("chart")).await.unwrap_err();
    assert!(matches!(error, PullError::NotAnImage { .. }), "{error}");
    assert!(matches!(host.pull(&registry.reference("none")).await, Err(PullError::Registry(_))));
    assert!(Path::new(&host.store.content().ingest_path()).exists());
}
