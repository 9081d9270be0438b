//! Servers that hang, lie, break off and run on: each ends in the right bytes or in one clear error, in bounded time.

use std::time::{Duration, Instant};

use super::server::{Seen, Server, Step, answer, head, partial};
use super::*;

fn blob_bytes() -> Vec<u8> {
    (0..20_000_u32).map(|number| (number % 251) as u8).collect()
}

fn manifest_ok() -> Vec<Step> {
    answer(200, &[("Content-Type", IMAGE_TYPE)], MANIFEST.as_bytes())
}

async fn manifest(server: &Server) -> Result<Manifest, RegistryError> {
    repository(config(), &server.reference()).manifest().await
}

async fn blob(server: &Server, offset: u64) -> Result<Vec<u8>, RegistryError> {
    let bytes = blob_bytes();
    let repository = repository(config(), &server.reference());
    collect(repository.blob(&digest(&bytes), bytes.len() as u64, offset)).await
}

/// Serves what a well-behaved registry would from the byte asked for, but only `limit` bytes of it.
fn ranged(request: &Seen, limit: usize) -> Vec<Step> {
    let bytes = blob_bytes();
    let offset = request.offset().unwrap_or(0);
    let rest = &bytes[offset..];
    let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
    let (status, headers) =
        if offset > 0 { (206, vec![("Content-Range", range.as_str())]) } else { (200, vec![]) };
    partial(status, &headers, rest.len(), &rest[..limit.min(rest.len())])
}

#[tokio::test]
async fn a_good_manifest_comes_with_its_digest() {
    let server = Server::start(|_, _| manifest_ok()).await;
    let manifest = manifest(&server).await.unwrap();
    assert_eq!(manifest.digest, digest(MANIFEST.as_bytes()));
    assert_eq!((manifest.kind, manifest.media_type.as_str()), (ManifestKind::Image, IMAGE_TYPE));
    let seen = server.seen();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/v2/repo/manifests/tag"));
    assert!(seen[0].header("accept").unwrap().contains("image.index.v1+json"));
    assert_eq!(seen[0].header("authorization"), None);
}

#[tokio::test]
async fn a_registry_that_hangs_is_one_error_in_time() {
    for server in [
        Server::start(|_, _| vec![Step::Hang]).await,
        Server::start(|_, _| vec![Step::Send(head(200, &[], Some(100))), Step::Hang]).await,
        Server::start(|_, _| vec![Step::Send(head(200, &[], Some(10_000))), Step::Drip(b' ')]).await,
    ] {
        let started = Instant::now();
        let error = manifest(&server).await.unwrap_err();
        assert!(matches!(error.failure, Failure::TimedOut(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert!(
            error.to_string().contains(&format!("registry {}: manifest tag of repo", server.address)),
            "{error}"
        );
        let error = blob(&server, 0).await.unwrap_err();
        assert!(matches!(error.failure, Failure::TimedOut(_) | Failure::WrongSize { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(16), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_no_progress() {
    let server = Server::start(|_, _| vec![Step::Send(head(200, &[], Some(20_000))), Step::Drip(b'x')]).await;
    let started = Instant::now();
    let error = blob(&server, 0).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TimedOut(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn errors_of_the_server_pass_or_are_told() {
    let server = Server::start(|_, n| if n < 3 { answer(500, &[], b"") } else { manifest_ok() }).await;
    assert!(manifest(&server).await.is_ok());
    assert_eq!(server.seen().len(), 4);

    let server = Server::start(|_, _| answer(503, &[], b"<html>down</html>")).await;
    let error = manifest(&server).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Server { status: 503, .. }), "{error}");
    assert_eq!(server.seen().len(), 4, "attempts are bounded");

    let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = Server::start(|_, _| answer(404, &[], body)).await;
    let error = manifest(&server).await.unwrap_err();
    assert!(error.to_string().ends_with("manifest tag of repo: not found: manifest unknown"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn too_many_requests_waits_as_told() {
    let limited = |after: &'static str| {
        Server::start(
            move |_, n| if n == 0 { answer(429, &[("Retry-After", after)], b"") } else { manifest_ok() },
        )
    };
    let server = limited("1").await;
    let started = Instant::now();
    assert!(manifest(&server).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1));

    let server = limited("3600").await;
    let error = manifest(&server).await.unwrap_err();
    assert!(matches!(error.failure, Failure::RateLimited { retry_after: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn lying_manifests_are_refused() {
    let other = digest(b"other").to_string();
    let server =
        Server::start(move |_, _| answer(200, &[("Docker-Content-Digest", &other)], MANIFEST.as_bytes()))
            .await;
    let error = manifest(&server).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Corrupt { .. }), "{error}");
    let wanted = repository(config(), &server.reference());
    let error = wanted.manifest_by_digest(&digest(b"wanted")).await.unwrap_err();
    assert!(
        matches!(&error.failure, Failure::Corrupt { expected, .. } if *expected == digest(b"wanted").to_string())
    );

    let both = br#"{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}"#;
    let server = Server::start(|_, _| answer(200, &[], both)).await;
    assert!(manifest(&server).await.unwrap_err().to_string().contains("both an index and an image"));

    let server =
        Server::start(|_, _| vec![Step::Send(head(200, &[], None)), Step::Endless(vec![b' '; 65536])]).await;
    let error = manifest(&server).await.unwrap_err();
    assert!(matches!(error.failure, Failure::TooLarge { .. }), "{error}");
    let server = Server::start(|_, _| partial(200, &[], 5 << 30, b"")).await;
    assert!(matches!(manifest(&server).await.unwrap_err().failure, Failure::TooLarge { .. }));
    let server = Server::start(|_, _| partial(200, &[], 100, b"{}")).await;
    assert!(matches!(manifest(&server).await.unwrap_err().failure, Failure::Truncated { .. }));
}

#[tokio::test]
async fn garbage_and_closed_connections_are_told() {
    let server = Server::start(|_, _| vec![Step::Send(b"SSH-2.0-OpenSSH\r\n".to_vec())]).await;
    assert!(matches!(manifest(&server).await.unwrap_err().failure, Failure::Unreachable(_)));
    let server = Server::start(|_, _| vec![]).await;
    assert!(matches!(manifest(&server).await.unwrap_err().failure, Failure::Unreachable(_)));
    let address = server.address;
    drop(server);
    let error = repository(config(), &format!("{address}/repo")).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_blob_goes_on_at_the_byte_reached() {
    let server = Server::start(|request, _| ranged(request, 7_000)).await;
    assert_eq!(blob(&server, 0).await.unwrap(), blob_bytes());
    let offsets: Vec<_> = server.seen().iter().map(Seen::offset).collect();
    assert_eq!(offsets, [None, Some(7_000), Some(14_000)]);
    assert_eq!(blob(&server, 12_345).await.unwrap(), &blob_bytes()[12_345..]);
    assert_eq!(blob(&server, 20_000).await.unwrap(), b"");
}

#[tokio::test]
async fn a_server_that_hangs_midway_is_left_and_resumed() {
    let server = Server::start(|request, n| {
        let mut steps = ranged(request, if n == 0 { 5_000 } else { 20_000 });
        if n == 0 {
            steps.push(Step::Hang);
        }
        steps
    })
    .await;
    assert_eq!(blob(&server, 0).await.unwrap(), blob_bytes());
    assert_eq!(server.seen()[1].offset(), Some(5_000));
}

#[tokio::test]
async fn a_server_that_cannot_resume_is_read_again() {
    let whole = |limit: usize| partial(200, &[], 20_000, &blob_bytes()[..limit]);
    let server = Server::start(move |_, n| whole(if n == 0 { 8_000 } else { 20_000 })).await;
    assert_eq!(blob(&server, 0).await.unwrap(), blob_bytes());
    assert_eq!(blob(&server, 19_999).await.unwrap(), &blob_bytes()[19_999..]);

    let wrong_range = |request: &Seen, _| match request.offset() {
        Some(_) => answer(206, &[("Content-Range", "bytes 3-19999/20000")], &blob_bytes()[3..]),
        None => answer(200, &[], &blob_bytes()),
    };
    let server = Server::start(wrong_range).await;
    assert_eq!(blob(&server, 100).await.unwrap(), &blob_bytes()[100..]);
    let no_range = |request: &Seen, _| match request.offset() {
        Some(_) => answer(416, &[], b""),
        None => answer(200, &[], &blob_bytes()),
    };
    let server = Server::start(no_range).await;
    assert_eq!(blob(&server, 100).await.unwrap(), &blob_bytes()[100..]);

    let server = Server::start(move |_, _| whole(5_000)).await;
    let error = blob(&server, 0).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Truncated { .. } | Failure::Protocol(_)), "{error}");
    assert!(server.seen().len() < 12, "{}", server.seen().len());
}

#[tokio::test]
async fn blobs_of_another_size_are_refused() {
    let server = Server::start(|_, _| answer(200, &[], b"short")).await;
    let error = blob(&server, 0).await.unwrap_err();
    assert_eq!(error.failure, Failure::WrongSize { expected: 20_000, found: 5 });

    // Without an announced length the body ends with the connection.
    let chopped = |request: &Seen, _: usize| match request.offset() {
        Some(20_000..) => answer(416, &[], b""),
        Some(_) => answer(416, &[], b""),
        None => vec![Step::Send([head(200, &[], None), blob_bytes()[..5_000].to_vec()].concat())],
    };
    let server = Server::start(chopped).await;
    let error = blob(&server, 0).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Truncated { .. } | Failure::Protocol(_)), "{error}");

    let server =
        Server::start(|_, _| vec![Step::Send(head(200, &[], None)), Step::Endless(vec![0; 4096])]).await;
    let error = blob(&server, 0).await.unwrap_err();
    assert!(matches!(error.failure, Failure::WrongSize { expected: 20_000, .. }), "{error}");

    let one_more = || [head(200, &[], None), blob_bytes(), b"!".to_vec()].concat();
    let server = Server::start(move |_, _| vec![Step::Send(one_more())]).await;
    let error = blob(&server, 0).await.unwrap_err();
    assert!(matches!(error.failure, Failure::WrongSize { .. }), "{error}");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_left_when_they_fail() {
    let own =
        Server::start(
            |request, _| {
                if request.path.contains("blobs") { ranged(request, 20_000) } else { manifest_ok() }
            },
        )
        .await;
    let missing = Server::start(|_, _| answer(404, &[], b"")).await;
    let breaking = Server::start(|request, n| match (request.path.contains("blobs"), n) {
        (false, _) => manifest_ok(),
        (true, 1) => ranged(request, 6_000),
        (true, _) => answer(500, &[], b""),
    })
    .await;
    let with_mirror = |mirror: &Server| {
        let urls = vec![format!("http://{}/", mirror.address)];
        Config { mirrors: BTreeMap::from([(own.address.to_string(), urls)]), ..config() }
    };

    let repo = repository(with_mirror(&missing), &own.reference());
    assert!(repo.manifest().await.is_ok());
    assert_eq!(repo.host(), own.address.to_string());
    assert_eq!(missing.seen().len(), 1);

    let repo = repository(with_mirror(&breaking), &own.reference());
    assert!(repo.manifest().await.is_ok());
    assert_eq!(repo.host(), breaking.address.to_string());
    let bytes = blob_bytes();
    assert_eq!(collect(repo.blob(&digest(&bytes), 20_000, 0)).await.unwrap(), bytes);
    assert_eq!(
        own.seen().last().unwrap().offset(),
        Some(6_000),
        "the registry went on where the mirror broke off"
    );
}

#[tokio::test]
async fn a_head_tells_without_sending() {
    let server = Server::start(|_, _| {
        let digest = digest(MANIFEST.as_bytes()).to_string();
        let headers = [("Content-Type", IMAGE_TYPE), ("Docker-Content-Digest", digest.as_str())];
        vec![Step::Send(head(200, &headers, Some(MANIFEST.len())))]
    })
    .await;
    let head = repository(config(), &server.reference()).head().await.unwrap();
    assert_eq!(head.digest, Some(digest(MANIFEST.as_bytes())));
    assert_eq!((head.size, head.media_type.as_deref()), (Some(MANIFEST.len() as u64), Some(IMAGE_TYPE)));
    assert_eq!(server.seen()[0].method, "HEAD");
}
