//! Certificates: who is believed, and that nobody falls back to plain HTTP when they are not.

use std::path::Path;
use std::process::Command;

use super::real::{Registry, can_run};
use super::server::answer;
use super::*;

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority, a certificate of its, and an expired one.
fn certificates(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -days 30"));
    openssl(folder, &format!("req {key} -keyout server.key -out server.csr -subj /CN=registry"));
    let sign = "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names";
    openssl(folder, &format!("{sign} -out server.crt -days 30"));
    openssl(folder, &format!("{sign} -out expired.crt -days -1"));
}

fn start(folder: &Path, certificate: &str) -> Registry {
    let (certificate, key) = (folder.join(certificate), folder.join("server.key"));
    let tls = format!("  tls: {{certificate: {}, key: {}}}\n", certificate.display(), key.display());
    Registry::start(&tls, "")
}

fn with_authority(folder: &Path, registry: &Registry) -> Config {
    let authorities = folder.join("authorities");
    let own = authorities.join(format!("127.0.0.1:{}", registry.port));
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(folder.join("ca.crt"), own.join("ca.crt")).unwrap();
    Config { certificates: vec![authorities], ..config() }
}

#[tokio::test]
async fn certificates_decide() {
    if !can_run(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let registry = start(folder.path(), "server.crt");
    registry.push("image:1", &[]);
    let reference = registry.reference("image:1");

    let error = repository(config(), &reference).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Tls(_)), "{error}");
    assert!(repository(with_authority(folder.path(), &registry), &reference).manifest().await.is_ok());
    let insecure = Config { insecure: vec![format!("127.0.0.1:{}", registry.port)], ..config() };
    assert!(repository(insecure, &reference).manifest().await.is_ok());

    let expired = start(folder.path(), "expired.crt");
    let error = repository(with_authority(folder.path(), &expired), &expired.reference("image:1"));
    let error = error.manifest().await.unwrap_err();
    assert!(matches!(&error.failure, Failure::Tls(reason) if reason.contains("xpired")), "{error}");
}

#[tokio::test]
async fn a_certificate_signed_with_its_own_key_is_believed_from_its_folder() {
    if !can_run(&["docker-registry", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // As the registry's own handbook makes them, and one for another name.
    let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -days 30";
    for (name, file) in [("IP:127.0.0.1", "ca.crt"), ("DNS:other.example", "other.crt")] {
        openssl(
            folder.path(),
            &format!("{key} -subj /CN=registry -addext subjectAltName={name} -out {file}"),
        );
        let registry = start(folder.path(), file);
        let reference = registry.reference("image:1");
        let error = repository(config(), &reference).manifest().await.unwrap_err();
        assert!(matches!(error.failure, Failure::Tls(_)), "{error}");
        if file != "ca.crt" {
            std::fs::copy(folder.path().join(file), folder.path().join("ca.crt")).unwrap();
        }
        let error =
            repository(with_authority(folder.path(), &registry), &reference).manifest().await.unwrap_err();
        match name {
            "IP:127.0.0.1" => assert!(matches!(error.failure, Failure::NotFound(_)), "{error}"),
            _ => assert!(matches!(error.failure, Failure::Tls(_)), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_bad_certificate_is_final_although_plain_http_answers() {
    if !can_run(&["docker-registry", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let registry = start(folder.path(), "server.crt");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (port, count) = (registry.port, Arc::clone(&plain));
    let both = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut first = [0];
                if stream.peek(&mut first).await.is_ok() && first == [0x16] {
                    let mut registry = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::io::copy_bidirectional(&mut stream, &mut registry).await.ok();
                    return;
                }
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                for step in answer(200, &[("Content-Type", IMAGE_TYPE)], MANIFEST.as_bytes()) {
                    if let server::Step::Send(bytes) = step {
                        tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.ok();
                    }
                }
            });
        }
    });
    let error = repository(config(), &format!("{address}/repo:tag")).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Tls(_)), "{error}");
    assert_eq!(plain.load(std::sync::atomic::Ordering::SeqCst), 0);
    both.abort();
}
