//! Tokens, passwords and redirects: who is shown what.

use super::server::{Seen, Server, Step, answer};
use super::*;

fn manifest_ok() -> Vec<Step> {
    answer(200, &[("Content-Type", IMAGE_TYPE)], MANIFEST.as_bytes())
}

fn me() -> Option<Credential> {
    Some(Credential::Password { username: "me".into(), password: Secret::new("hunter2") })
}

/// `Basic` of `me:hunter2`.
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

fn with_credential(server: &Server, credential: Option<Credential>) -> Repository {
    let reference = ImageRef::parse(&server.reference()).unwrap();
    Client::new(config()).unwrap().repository(&reference, credential)
}

/// A registry whose own `/token` gives out `t1`, `t2`, … and which takes the newest only.
async fn token_registry(takes_basic: bool) -> Server {
    let given = std::sync::atomic::AtomicUsize::new(0);
    Server::start(move |request, _| {
        let count = || given.load(std::sync::atomic::Ordering::SeqCst);
        if request.path.starts_with("/token") {
            if takes_basic && request.header("authorization") != Some(BASIC) {
                return answer(401, &[], b"");
            }
            given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return answer(200, &[], format!(r#"{{"token":"t{}","expires_in":300}}"#, count()).as_bytes());
        }
        let host = request.header("host").unwrap();
        if request.header("authorization") == Some(&format!("Bearer t{}", count())) {
            if request.path.ends_with("/revoke") {
                given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            return manifest_ok();
        }
        let challenge =
            format!(r#"Bearer realm="http://{host}/token",service="registry",scope="repository:repo:pull""#);
        answer(401, &[("WWW-Authenticate", &challenge)], b"{}")
    })
    .await
}

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_when_refused() {
    let server = token_registry(false).await;
    let client = Client::new(config()).unwrap();
    let repository = |tag: &str| {
        client.repository(&ImageRef::parse(&format!("{}/repo:{tag}", server.address)).unwrap(), None)
    };
    repository("a").manifest().await.unwrap();
    repository("b").manifest().await.unwrap();
    let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
    let token = "/token?service=registry&scope=repository%3Arepo%3Apull";
    assert_eq!(paths, ["/v2/repo/manifests/a", token, "/v2/repo/manifests/a", "/v2/repo/manifests/b"]);

    repository("revoke").manifest().await.unwrap();
    repository("c").manifest().await.unwrap();
    assert_eq!(server.seen().iter().filter(|seen| seen.path.starts_with("/token")).count(), 2);
}

#[tokio::test]
async fn a_password_goes_to_the_token_service_only() {
    let server = token_registry(true).await;
    with_credential(&server, me()).manifest().await.unwrap();
    for seen in server.seen() {
        let expected = seen.path.starts_with("/token");
        assert_eq!(seen.header("authorization") == Some(BASIC), expected, "{}", seen.path);
    }
    let error = with_credential(&server, None).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unauthorized(_)), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = Server::start(|request, _| {
        let host = request.header("host").unwrap();
        match (request.path.as_str(), request.header("authorization")) {
            ("/token", _) => answer(200, &[], br#"{"access_token":"exchanged"}"#),
            (_, Some("Bearer exchanged")) => manifest_ok(),
            _ => {
                let challenge = format!(r#"Bearer realm="http://{host}/token",service="s""#);
                answer(401, &[("WWW-Authenticate", &challenge)], b"")
            }
        }
    })
    .await;
    with_credential(&server, Some(Credential::IdentityToken(Secret::new("refresh"))))
        .manifest()
        .await
        .unwrap();
    let exchange = server.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
    assert_eq!(exchange.method, "POST");
    assert!(
        exchange.body.contains("grant_type=refresh_token") && exchange.body.contains("refresh_token=refresh")
    );
    assert!(exchange.body.contains("scope=repository%3Arepo%3Apull"), "{}", exchange.body);
}

#[tokio::test]
async fn basic_registries_get_the_password_after_they_asked() {
    let server = Server::start(|request, _| match request.header("authorization") {
        Some(BASIC) => manifest_ok(),
        _ => answer(401, &[("WWW-Authenticate", r#"Basic realm="here""#)], b""),
    })
    .await;
    with_credential(&server, me()).manifest().await.unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
    let wrong = Credential::Password { username: "me".into(), password: Secret::new("wrong") };
    let error = with_credential(&server, Some(wrong)).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unauthorized(_)), "{error}");
    let error = with_credential(&server, None).manifest().await.unwrap_err();
    assert!(error.to_string().contains("wants a name and a password"), "{error}");
}

#[tokio::test]
async fn credentials_of_docker_login_are_used_for_their_host() {
    let server = Server::start(|request, _| match request.header("authorization") {
        Some(BASIC) => manifest_ok(),
        _ => answer(401, &[("WWW-Authenticate", "Basic")], b""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let login = |host: &str| {
        let json = format!(r#"{{"auths":{{"{host}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#);
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        Config { docker_config: Some(folder.path().to_owned()), ..config() }
    };
    assert!(repository(login(&server.address.to_string()), &server.reference()).manifest().await.is_ok());
    assert!(repository(login("other.example"), &server.reference()).manifest().await.is_err());
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    let broken = Config { docker_config: Some(folder.path().to_owned()), ..config() };
    let error = repository(broken, &server.reference()).manifest().await.unwrap_err();
    assert!(error.to_string().contains("stored credentials cannot be read"), "{error}");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let elsewhere = Server::start(|_, _| answer(200, &[], b"blob bytes")).await;
    let target = format!("http://{}/signed?x=y", elsewhere.address);
    let server =
        Server::start(move |request, _| match (request.header("authorization"), request.path.as_str()) {
            (None, _) => answer(401, &[("WWW-Authenticate", "Basic")], b""),
            (Some(_), "/v2/repo/here") => answer(307, &[("Location", &target)], b""),
            (Some(_), _) => answer(302, &[("Location", "/v2/repo/here")], b""),
        })
        .await;
    let blob = with_credential(&server, me()).blob(&digest(b"blob bytes"), 10, 0);
    assert_eq!(collect(blob).await.unwrap(), b"blob bytes");
    let last = server.seen().pop().unwrap();
    assert_eq!((last.path.as_str(), last.header("authorization")), ("/v2/repo/here", Some(BASIC)));
    let seen = elsewhere.seen();
    assert_eq!(
        (seen.len(), seen[0].path.as_str(), seen[0].header("authorization")),
        (1, "/signed?x=y", None)
    );
    assert!(seen[0].header("referer").is_none() && seen[0].header("cookie").is_none());
}

#[tokio::test]
async fn a_challenge_behind_a_redirect_is_not_answered() {
    let elsewhere = Server::start(|_, _| answer(401, &[("WWW-Authenticate", "Basic")], b"")).await;
    let target = format!("http://{}/", elsewhere.address);
    let server = Server::start(move |_, _| answer(307, &[("Location", &target)], b"")).await;
    let error = with_credential(&server, me()).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unauthorized(_)), "{error}");
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_token_service_of_another_site_is_shown_no_credentials() {
    let token_service = Server::start(|_: &Seen, _| answer(200, &[], br#"{"token":"public"}"#)).await;
    // The same machine under another name is another site.
    let realm = format!("http://localhost:{}/token", token_service.address.port());
    let server = Server::start(move |request, _| match request.header("authorization") {
        Some("Bearer public") => manifest_ok(),
        _ => answer(401, &[("WWW-Authenticate", &format!(r#"Bearer realm="{realm}""#))], b""),
    })
    .await;
    with_credential(&server, me()).manifest().await.unwrap();
    let asked = token_service.seen();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].header("authorization").is_none() && !asked[0].path.contains("account"));
}

#[tokio::test]
async fn redirects_that_lead_nowhere_good_are_refused() {
    let to = |location: &'static str| Server::start(move |_, _| answer(302, &[("Location", location)], b""));
    for (location, complaint) in [
        ("/again", "redirected more than"),
        ("ftp://127.0.0.1/x", "redirected to a ftp address"),
        ("http://user:pw@127.0.0.1/", "credentials in it"),
        ("http://registry.example/x", "by plain HTTP"),
        ("http://", "without a valid address"),
    ] {
        let server = to(location).await;
        let error = with_credential(&server, None).manifest().await.unwrap_err();
        assert!(error.to_string().contains(complaint), "{location}: {error}");
        assert!(server.seen().len() <= 9, "{location}");
    }
    let server = Server::start(|_, _| answer(302, &[], b"")).await;
    assert!(with_credential(&server, None).manifest().await.is_err());
}

/// A registry with a token service that gives out what is asked for, and revokes each token after one write.
async fn writable(lasting: bool) -> Server {
    let given = std::sync::atomic::AtomicUsize::new(0);
    Server::start(move |request, _| {
        let count = || given.load(std::sync::atomic::Ordering::SeqCst);
        let next = || given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if request.path.starts_with("/token") {
            if request.header("authorization") != Some(BASIC)
                && !request.body.contains("refresh_token=lasting")
            {
                return answer(401, &[], b"");
            }
            next();
            let refresh = if lasting { r#","refresh_token":"lasting""# } else { "" };
            return answer(200, &[], format!(r#"{{"token":"t{}"{refresh}}}"#, count()).as_bytes());
        }
        let host = request.header("host").unwrap();
        if request.header("authorization") != Some(&format!("Bearer t{}", count())) {
            // The scope of a read: who writes must know better.
            let challenge = format!(
                r#"Bearer realm="http://{host}/token",service="registry",scope="repository:repo:pull""#
            );
            return answer(401, &[("WWW-Authenticate", &challenge)], b"{}");
        }
        match request.method.as_str() {
            "HEAD" => answer(404, &[], b""),
            "POST" => answer(202, &[("Location", "/v2/repo/blobs/uploads/1?state=a")], b""),
            "PATCH" => {
                // Revoked midway.
                next();
                answer(202, &[("Location", "/v2/repo/blobs/uploads/1?state=b"), ("Range", "0-4")], b"")
            }
            "PUT" => answer(201, &[], b""),
            _ => answer(200, &[], b"{}"),
        }
    })
    .await
}

fn outbound(bytes: &[u8]) -> Outbound {
    use std::io::Write as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Outbound {
        digest: digest(bytes),
        size: bytes.len() as u64,
        file: Arc::new(file),
        meter: Arc::new(|_| {}),
    }
}

#[tokio::test]
async fn a_token_to_write_is_asked_for_and_renewed_midway() {
    let server = writable(false).await;
    let reference = ImageRef::parse(&server.reference()).unwrap();
    let client = Client::new(config()).unwrap();
    let repository = client.repository_to_push(&reference, me());
    assert!(!repository.has_blob(&digest(b"bytes"), 5).await.unwrap());
    repository.send_blob(&outbound(b"bytes")).await.unwrap();
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 2, "once, and once when it was revoked");
    for token in asked {
        assert!(token.path.contains("scope=repository%3Arepo%3Apull%2Cpush"), "{}", token.path);
    }
    let put = seen.iter().rfind(|seen| seen.method == "PUT").unwrap();
    assert!(put.path.starts_with("/v2/repo/blobs/uploads/1?state=b&digest=sha256"), "{}", put.path);
}

#[tokio::test]
async fn an_upload_elsewhere_takes_no_credentials_along() {
    let elsewhere = Server::start(|request, _| match request.method.as_str() {
        "PATCH" => answer(202, &[("Range", "0-4")], b""),
        _ => answer(201, &[], b""),
    })
    .await;
    let there = format!("http://{}/store/1", elsewhere.address);
    let server = Server::start(move |request, _| {
        if request.header("authorization") != Some(BASIC) {
            return answer(401, &[("WWW-Authenticate", "Basic realm=\"here\"")], b"");
        }
        answer(202, &[("Location", &there)], b"")
    })
    .await;
    let reference = ImageRef::parse(&server.reference()).unwrap();
    let repository = Client::new(config()).unwrap().repository_to_push(&reference, me());
    repository.send_blob(&outbound(b"bytes")).await.unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(), ["PATCH", "PUT"]);
    assert_eq!(seen[0].body, "bytes");
    for request in seen {
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test]
async fn a_login_is_what_the_registry_says_of_it() {
    let server = writable(true).await;
    let registry = ImageRef::of_registry(&server.address.to_string()).unwrap();
    let client = Client::new(config()).unwrap();
    let token = client.login(&registry, me().unwrap()).await.unwrap();
    assert_eq!(token, Some(Secret::new("lasting")));
    let asked = server.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert!(asked.path.contains("offline_token=true") && asked.path.contains("account=me"), "{}", asked.path);
    let again = client.login(&registry, Credential::IdentityToken(Secret::new("lasting"))).await;
    assert!(again.is_ok(), "{again:?}");
    let wrong = Credential::Password { username: "me".into(), password: Secret::new("s3cret") };
    let error = client.login(&registry, wrong).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Credentials(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert!(error.to_string().starts_with(&format!("registry {}: login: ", server.address)), "{error}");

    let open = Server::start(|_, _| answer(200, &[], b"{}")).await;
    let registry = ImageRef::of_registry(&open.address.to_string()).unwrap();
    assert_eq!(client.login(&registry, me().unwrap()).await, Ok(None));
    assert!(open.seen().iter().all(|seen| seen.header("authorization").is_none()), "nobody asked");
    let none = Server::start(|_, _| answer(404, &[], b"\x1b]0;x\x07")).await;
    let registry = ImageRef::of_registry(&none.address.to_string()).unwrap();
    assert!(client.login(&registry, me().unwrap()).await.is_err());
}
