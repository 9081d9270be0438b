//! Pushes to a registry that is watched, breaks off, forgets and refuses.

mod registry;

use std::time::Duration;

use davit_archive::fixture::Archive;
use tempfile::TempDir;

use self::registry::{Fault, Fixture};
use super::*;
use crate::fixture::Made;
use crate::registry::tests::config;
use crate::registry::{Client, Config, Patience};

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

/// An image with one small layer and one of several MiB that no compression makes small.
fn image() -> Made {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(6 << 20)
    .collect();
    Made::of([Archive::default().file("a", b"small"), Archive::default().file("b", &noise)])
}

async fn put(made: &Made, store: &Store, names: &[&str]) {
    let (made, store) = (made.clone(), store.clone());
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let put = move || made.put(&store, &names.iter().map(String::as_str).collect::<Vec<_>>());
    spawn_blocking(put).await.unwrap();
}

async fn try_push(store: &Store, config: Config, name: &str) -> (Result<(), PushError>, Vec<Progress>) {
    let board = Arc::new(Board::default());
    let request = Request {
        reference: ImageRef::parse_bare(name).unwrap(),
        all_tags: false,
        credential: None,
        steps: Vec::new(),
    };
    let pushed = push(store, &Client::new(config).unwrap(), request, Arc::clone(&board)).await;
    (pushed, board.take())
}

fn states(progress: &[Progress]) -> Vec<LayerState> {
    let state = |progress: &Progress| match progress {
        Progress::Layer(layer) => Some(layer.state),
        _ => None,
    };
    let mut states: Vec<LayerState> = progress.iter().filter_map(state).collect();
    states.sort_by_key(|state| *state as u8);
    states
}

/// Chunks of a blob go on, so a slow machine needs patience.
fn patient() -> Config {
    let patience = Patience { idle: Duration::from_secs(20), ..config().patience };
    Config {
        patience: Patience { progress: Duration::from_secs(30), answer: Duration::from_secs(20), ..patience },
        ..config()
    }
}

#[tokio::test]
async fn an_image_arrives_whole_and_the_manifest_last() {
    let (_folder, store) = store();
    let made = image();
    let fixture = Fixture::start(&[]).await;
    let name = fixture.name("repo:tag");
    put(&made, &store, &[&name]).await;
    let (pushed, progress) = try_push(&store, patient(), &name).await;
    pushed.unwrap();
    assert_eq!(states(&progress), [LayerState::Pushed, LayerState::Pushed]);
    for (digest, bytes) in &made.blobs {
        assert_eq!(fixture.blob(digest).as_deref(), Some(bytes.as_slice()), "{digest}");
    }
    let requests = fixture.requests();
    assert_eq!(requests.last().unwrap(), "PUT /v2/repo/manifests/tag");
    let source = store.references().entries().unwrap()[0].source().cloned();
    let wanted: ImageRef = name.parse().unwrap();
    assert_eq!(source, Some(wanted.with_digest(made.manifest.digest.clone())));

    let (pushed, progress) = try_push(&store, patient(), &name).await;
    pushed.unwrap();
    assert_eq!(states(&progress), [LayerState::Exists, LayerState::Exists]);
    let again = fixture.requests().split_off(requests.len());
    assert!(again.iter().all(|request| request.starts_with("HEAD ")), "{again:?}");
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_stands() {
    let (_folder, store) = store();
    let made = image();
    let faults = [Fault::Cut(1 << 20), Fault::Cut(2 << 20), Fault::Status(503), Fault::Cut(0)];
    let fixture = Fixture::start(&faults).await;
    let name = fixture.name("repo:tag");
    put(&made, &store, &[&name]).await;
    try_push(&store, patient(), &name).await.0.unwrap();
    let big = &made.layers[1];
    assert_eq!(fixture.blob(&big.digest).as_deref(), made.blobs.get(&big.digest).map(Vec::as_slice));
    let begun = fixture.requests().iter().filter(|request| request.starts_with("POST ")).count();
    assert_eq!(begun, 3, "each blob is begun once: {:?}", fixture.requests());
    let all: u64 = made.layers.iter().map(|layer| layer.size).sum();
    // The chunk that was refused came whole.
    assert!(fixture.received() < all + (4 << 20), "what is there is not sent again");
}

#[tokio::test]
async fn a_session_that_is_forgotten_begins_anew() {
    let (_folder, store) = store();
    let made = image();
    let fixture = Fixture::start(&[Fault::CutAndForget(1 << 20)]).await;
    let name = fixture.name("repo:tag");
    put(&made, &store, &[&name]).await;
    try_push(&store, patient(), &name).await.0.unwrap();
    let big = &made.layers[1];
    assert_eq!(fixture.blob(&big.digest).as_deref(), made.blobs.get(&big.digest).map(Vec::as_slice));
}

#[tokio::test]
async fn a_registry_that_always_breaks_off_is_one_error() {
    let (_folder, store) = store();
    let made = image();
    for fault in [Fault::Cut(0), Fault::CutAndForget(10), Fault::Status(500), Fault::Status(403)] {
        let fixture = Fixture::start(&[fault; 400]).await;
        let name = fixture.name("repo:tag");
        put(&made, &store, &[&name]).await;
        let error = try_push(&store, patient(), &name).await.0.unwrap_err();
        assert!(matches!(error, PushError::Registry(_)), "{error}");
        assert!(fixture.requests().len() < 120, "{}", fixture.requests().len());
        assert!(!fixture.requests().iter().any(|request| request.contains("PUT /v2/repo/manifests")));
    }
}

#[tokio::test]
async fn a_neighbour_lends_its_layers() {
    let (_folder, store) = store();
    let made = image();
    let fixture = Fixture::start(&[]).await;
    let (first, second) = (fixture.name("first:1"), fixture.name("second/one:1"));
    put(&made, &store, &[&first, &second]).await;
    try_push(&store, patient(), &first).await.0.unwrap();
    let before = fixture.received();
    let (pushed, progress) = try_push(&store, patient(), &second).await;
    pushed.unwrap();
    assert_eq!(states(&progress), [LayerState::Mounted, LayerState::Mounted]);
    assert!(fixture.received() - before < 10_000, "only configuration and manifest");
}

#[tokio::test]
async fn what_is_gone_or_damaged_is_said_in_one_sentence() {
    let (_folder, store) = store();
    let made = image();
    let fixture = Fixture::start(&[]).await;
    let name = fixture.name("repo:tag");
    put(&made, &store, &[&name]).await;
    let path = store.content().path(&made.layers[1].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = try_push(&store, patient(), &name).await.0.unwrap_err();
    assert!(
        matches!(&error, PushError::Damaged { digest, .. } if *digest == made.layers[1].digest),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = try_push(&store, patient(), &name).await.0.unwrap_err();
    assert!(
        matches!(&error, PushError::Missing { digest, .. } if *digest == made.layers[1].digest),
        "{error}"
    );
    let error = try_push(&store, patient(), &fixture.name("repo:other")).await.0.unwrap_err();
    assert!(matches!(&error, PushError::NoSuchTag(_)), "{error}");
}

#[tokio::test]
async fn nobody_takes_away_what_is_being_pushed() {
    let (_folder, store) = store();
    let made = image();
    let fixture = Fixture::start(&[Fault::Hang]).await;
    let name = fixture.name("repo:tag");
    put(&made, &store, &[&name]).await;
    let (of, to) = (store.clone(), name.clone());
    let pushing = tokio::spawn(async move { try_push(&of, patient(), &to).await.0 });
    fixture.hung().await;
    let (of, named) = (store.clone(), name.clone());
    spawn_blocking(move || of.remove(&named, &crate::remove::How::default())).await.unwrap().unwrap();
    for layer in &made.layers {
        assert!(store.content().size(&layer.digest).unwrap().is_some(), "kept while it is pushed");
    }
    fixture.release();
    pushing.await.unwrap().unwrap();
    assert_eq!(fixture.requests().last().unwrap(), "PUT /v2/repo/manifests/tag");
}

/// A line to a registry that breaks once, after so many bytes of one connection.
async fn bad_line(port: u16, limit: u64) -> std::net::SocketAddr {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let broken = Arc::clone(&broken);
            tokio::spawn(async move {
                let mut registry = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let (from_client, mut to_client) = client.split();
                let (mut from_registry, mut to_registry) = registry.split();
                let (mut limited, once) = (from_client.take(limit), &broken);
                let up = async {
                    let sent = tokio::io::copy(&mut limited, &mut to_registry).await.unwrap_or(limit);
                    if sent == limit && once.swap(true, std::sync::atomic::Ordering::SeqCst) {
                        limited.set_limit(u64::MAX);
                        tokio::io::copy(&mut limited, &mut to_registry).await.ok();
                    }
                };
                tokio::select! {
                    () = up => {}
                    _ = tokio::io::copy(&mut from_registry, &mut to_client) => {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_real_registry_at_the_end_of_a_bad_line_gets_it_all() {
    use crate::registry::tests::real::{Registry, can_run};
    if !can_run(&["docker-registry"]) {
        return;
    }
    let (_folder, store) = store();
    let made = image();
    let registry = Registry::start("", "");
    let address = bad_line(registry.port, 3 << 20).await;
    let name = format!("{address}/some/image:1");
    put(&made, &store, &[&name]).await;
    let (pushed, progress) = try_push(&store, patient(), &name).await;
    pushed.unwrap();
    assert_eq!(states(&progress), [LayerState::Pushed, LayerState::Pushed]);
    let reference = registry.reference("some/image:1").parse().unwrap();
    let repository = Client::new(patient()).unwrap().repository(&reference, None);
    assert_eq!(repository.manifest().await.unwrap().digest, made.manifest.digest);
    let big = &made.layers[1];
    let mut blob = repository.blob(&big.digest, big.size, 0);
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(Some(&bytes), made.blobs.get(&big.digest));
}
