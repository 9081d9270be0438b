//! The client against Debian's `docker-registry`, with an image that `skopeo` pushed.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Whether the programs are here; says which is not.
pub(crate) fn can_run(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing =
        programs.iter().find(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).exists()));
    if let Some(missing) = missing {
        println!("skipped: {missing} is not installed");
    }
    missing.is_none()
}

/// A registry in a temporary folder on a free port.
pub(crate) struct Registry {
    pub(crate) port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Registry {
    /// Starts it with these lines added to the `http:` part of its settings and these below `auth:`.
    pub(crate) fn start(http: &str, auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = folder.path().join("data").display().to_string();
        let auth = if auth.is_empty() { String::new() } else { format!("auth:\n{auth}") };
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n{http}{auth}"
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, settings).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { port, child, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    /// Pushes a small image; gives back its layer.
    pub(crate) fn push(&self, name: &str, extra: &[&str]) -> Vec<u8> {
        let (layout, layer) = layout(self.folder.path());
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"])
            .args(extra)
            .arg(format!("oci:{}:latest", layout.display()))
            .arg(format!("docker://{}", self.reference(name)))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        layer
    }
}

/// Writes an OCI layout with one image of one layer of a few hundred KiB.
fn layout(folder: &Path) -> (PathBuf, Vec<u8>) {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = digest(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let mut tar = tar::Builder::new(Vec::new());
    let content: Vec<u8> =
        (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content.as_slice()).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let layer = gzip.finish().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&tar)
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE_TYPE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",{}}}]}}"#,
        put(config.as_bytes()),
        put(&layer)
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE_TYPE}",{},"annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#,
        put(manifest.as_bytes())
    );
    std::fs::write(layout.join("index.json"), index).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    (layout, layer)
}

async fn pull(repository: &Repository, layer: &[u8]) {
    let manifest = repository.manifest().await.unwrap();
    assert_eq!((manifest.kind, manifest.media_type.as_str()), (ManifestKind::Image, IMAGE_TYPE));
    let by_digest = repository.manifest_by_digest(&manifest.digest).await.unwrap();
    assert_eq!(by_digest, manifest);
    let size = layer.len() as u64;
    assert_eq!(collect(repository.blob(&digest(layer), size, 0)).await.unwrap(), layer);
    assert_eq!(collect(repository.blob(&digest(layer), size, 1000)).await.unwrap(), &layer[1000..]);
    let head = repository.head().await.unwrap();
    assert_eq!(head.digest, Some(manifest.digest));
    assert_eq!(head.size, Some(manifest.bytes.len() as u64));
}

#[tokio::test]
async fn pulls_from_a_real_registry() {
    if !can_run(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Registry::start("", "");
    let layer = registry.push("some/image:1", &[]);
    let reference = registry.reference("some/image:1");
    pull(&repository(config(), &reference), &layer).await;

    let missing = registry.reference("some/image:2");
    let error = repository(config(), &missing).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::NotFound(_)), "{error}");
    let absent = digest(b"absent");
    let error = collect(repository(config(), &reference).blob(&absent, 5, 0)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::NotFound(_)), "{error}");
    let error = collect(repository(config(), &reference).blob(&digest(&layer), 5, 0)).await.unwrap_err();
    assert!(matches!(error.failure, Failure::WrongSize { .. }), "{error}");
}

#[tokio::test]
async fn pulls_with_a_password() {
    if !can_run(&["docker-registry", "skopeo"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    // `me` with the password `hunter2`.
    std::fs::write(&users, "me:$2y$04$kazAqlen6/6xNpRuYTAU3ucODohlVY7YCD6c/2H5oVXGJ5qkqMlmC\n").unwrap();
    let registry = Registry::start("", &format!("  htpasswd: {{realm: here, path: {}}}\n", users.display()));
    let layer = registry.push("private:1", &["--dest-creds", "me:hunter2"]);
    let reference = ImageRef::parse(&registry.reference("private:1")).unwrap();
    let client = Client::new(config()).unwrap();
    let me = Credential::Password { username: "me".into(), password: Secret::new("hunter2") };
    pull(&client.repository(&reference, Some(me)), &layer).await;
    let error = client.repository(&reference, None).manifest().await.unwrap_err();
    assert!(matches!(error.failure, Failure::Unauthorized(_)), "{error}");
}
