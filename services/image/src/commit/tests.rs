//! What a commit makes of a base, changes and a layer, and what it leaves when it is cut off.

use std::io::Read;

use davit_archive::fixture::Archive;
use davit_proto::id::{ContainerId, Digest};
use serde_json::{Value, json};

use super::{CommitError, Committed, Request, Words, commit};
use crate::digest::digest;
use crate::document::{Descriptor, OCI_MANIFEST};
use crate::fixture::{Made, Says};
use crate::store::{Store, StoreError};

struct Scene {
    dir: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store }
    }

    fn base(&self) -> Made {
        let history = r#"[{"created":"2020-01-01T00:00:00Z","created_by":"ADD"},{"empty_layer":true}]"#;
        let says = Says { created: "2020-01-01T00:00:00Z", history, ..Says::default() };
        let made = Made::saying([Archive::default().dir("d", 0o755).file("d/base", b"base")], &says);
        made.put(&self.store, &["base:1"]);
        made
    }

    fn config(&self, id: &Digest) -> Value {
        serde_json::from_slice(&self.store.content().read(id, 1 << 20).unwrap()).unwrap()
    }

    fn manifest(&self, made: &Committed) -> Value {
        serde_json::from_slice(&self.store.content().read(&made.digest, 1 << 20).unwrap()).unwrap()
    }

    /// Everything in the content store, the layers, and what is on its way.
    fn all(&self) -> (Vec<Digest>, Vec<Digest>, usize) {
        let mut blobs: Vec<_> = self.store.content().list().unwrap().into_iter().map(|(d, _)| d).collect();
        let mut layers: Vec<_> = self.store.snapshots().list().unwrap().into_iter().map(|(d, _)| d).collect();
        blobs.sort();
        layers.sort();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let left = std::fs::read_dir(self.dir.path().join("image/ingest")).unwrap().count();
            if left == 0 || std::time::Instant::now() > deadline {
                return (blobs, layers, left);
            }
            std::thread::yield_now();
        }
    }
}

fn layer() -> Vec<u8> {
    Archive::default().dir("d", 0o700).file("d/new", b"more").file("d/.wh.base", b"").end()
}

fn request(base: &str) -> Request {
    let words = Words {
        author: "a".to_owned(),
        comment: "c".to_owned(),
        created_by: "sh -c true".to_owned(),
        earlier: Vec::new(),
        created: "2024-02-03T04:05:06.000000007Z".to_owned(),
    };
    Request { base: base.to_owned(), words, ..Request::default() }
}

#[test]
fn a_base_and_a_layer_are_an_image() {
    let scene = Scene::new();
    let base = scene.base();
    let reference = "new:2".parse().unwrap();
    let wanted = Request { reference: Some(reference), ..request("base:1") };
    let made = commit(&scene.store, &wanted, &layer()[..]).unwrap();
    let tar = layer();
    assert_eq!(made.diff_id, Some(digest(&tar)));
    let found = scene.store.find("new:2").unwrap().image;
    assert_eq!((found.id(), &found.descriptor.digest), (&made.image_id, &made.digest));
    assert_eq!(found.diff_ids(), [base.diff_ids[0].clone(), digest(&tar)]);
    let config = scene.config(&made.image_id);
    assert_eq!(config["author"], "a");
    assert_eq!(config["created"], "2024-02-03T04:05:06.000000007Z");
    assert_eq!(config["config"]["Cmd"], json!(["/bin/true"]));
    assert_eq!(config["history"].as_array().unwrap().len(), 3);
    let step = json!({ "created": "2024-02-03T04:05:06.000000007Z", "author": "a",
        "created_by": "sh -c true", "comment": "c" });
    assert_eq!(config["history"][2], step);
    let steps = scene.store.history("new:2").unwrap();
    assert_eq!((steps[0].size, steps[0].comment.as_str(), steps[1].size, steps[2].size), (4, "c", 0, 4));
    // The blob is the layer, compressed.
    let blob = &found.manifest.layers[1];
    let mut inflated = Vec::new();
    let file = scene.store.content().open_blob(&blob.digest).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut inflated).unwrap();
    assert!(inflated == tar);
    let files = scene.store.snapshots().paths(found.diff_ids());
    assert_eq!(std::fs::read(files[1].join("d/new")).unwrap(), b"more");

    // Once more it is the same, and takes no more room.
    let before = scene.all();
    assert_eq!(commit(&scene.store, &wanted, &layer()[..]).unwrap(), made);
    assert_eq!(scene.all(), before);
    assert_eq!(before.2, 0);
}

#[test]
fn what_is_not_known_of_the_base_stays_and_docker_words_become_oci_ones() {
    let scene = Scene::new();
    let base = scene.base();
    let mut config = scene.config(&base.id);
    config["os.features"] = json!(["x"]);
    config["config"]["ArgsEscaped"] = json!(true);
    config["container_config"] = json!({ "Hostname": "h" });
    config["author"] = json!("somebody else");
    config["history"] = Value::Null;
    let mut manifest: Value = serde_json::from_slice(&base.blobs[&base.manifest.digest]).unwrap();
    let config = serde_json::to_vec(&config).unwrap();
    let id = scene.store.content().write(&config).unwrap();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    manifest["mediaType"] = json!(docker);
    manifest["config"] = json!({ "mediaType": "application/vnd.docker.container.image.v1+json",
        "digest": id, "size": config.len() });
    manifest["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = scene.store.content().write(&manifest).unwrap();
    let descriptor = Descriptor::new(docker, digest, manifest.len() as u64);
    scene.store.name(&descriptor, Some("docker:1".parse().unwrap()), None).unwrap();

    let mut wanted = request("docker:1");
    wanted.words.author.clear();
    wanted.config = br#"{"Cmd":["b"],"Unheard":{"of":1}}"#.to_vec();
    let made = commit(&scene.store, &wanted, &layer()[..]).unwrap();
    let config = scene.config(&made.image_id);
    assert_eq!(config["os.features"], json!(["x"]));
    assert_eq!(config["config"], json!({ "Cmd": ["b"], "Unheard": { "of": 1 } }));
    assert_eq!((config.get("container_config"), config.get("author")), (None, None));
    // The base's layer has a step of its own now, or the new one would be taken for it.
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
    let manifest = scene.manifest(&made);
    assert_eq!(manifest["mediaType"], OCI_MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    }
}

#[test]
fn images_come_from_nothing_and_without_layers() {
    let scene = Scene::new();
    let made = commit(&scene.store, &request(""), &layer()[..]).unwrap();
    assert_eq!(made.reference, None);
    let config = scene.config(&made.image_id);
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&layer())]));
    assert_eq!((&config["os"], &config["config"]), (&json!("linux"), &json!({})));
    // An archive without entries is no layer.
    let empty = commit(&scene.store, &request(made.image_id.as_str()), &[0; 1024][..]).unwrap();
    assert_eq!(empty.diff_id, None);
    let config = scene.config(&empty.image_id);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_eq!(config["history"][1]["empty_layer"], json!(true));
    let told = Request { empty_layer: true, ..request(made.image_id.as_str()) };
    assert_eq!(commit(&scene.store, &told, std::io::empty()).unwrap(), empty);
    assert_eq!(scene.all().2, 0);
}

#[test]
fn changes_are_applied_to_the_defaults() {
    let scene = Scene::new();
    scene.base();
    let wanted = Request { changes: "ENV A=1 B=2\nCMD [\"x\"]\nEXPOSE 80".to_owned(), ..request("base:1") };
    let config = scene.config(&commit(&scene.store, &wanted, &layer()[..]).unwrap().image_id);
    assert_eq!(config["config"]["Env"], json!(["A=1", "B=2"]));
    assert_eq!(config["config"]["Cmd"], json!(["x"]));
    assert_eq!(config["config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    let before = scene.all();
    for wrong in ["RUN x", "ENV", "FROM scratch", "CMD [\"a\"]\nNOPE"] {
        let wanted = Request { changes: wrong.to_owned(), ..request("base:1") };
        let error = commit(&scene.store, &wanted, &layer()[..]).unwrap_err();
        assert!(matches!(error, CommitError::Change(_)), "{wrong}: {error:?}");
    }
    assert_eq!(scene.all(), before);
}

#[test]
fn a_layer_that_looks_compressed_is_taken_as_it_is() {
    let scene = Scene::new();
    let mut tar = Archive::default().file("name", b"x").end();
    // A name may begin with what marks gzip.
    let header: &mut [u8; 512] = (&mut tar[..512]).try_into().unwrap();
    header[..2].copy_from_slice(&[0x1f, 0x8b]);
    davit_archive::fixture::seal(header);
    let made = commit(&scene.store, &request(""), &tar[..]).unwrap();
    assert_eq!(made.diff_id, Some(digest(&tar)));
}

#[test]
fn what_is_handed_in_may_be_compressed() {
    let scene = Scene::new();
    let import = || Request { compressed: true, ..request("") };
    let plain = commit(&scene.store, &import(), &layer()[..]).unwrap();
    let zstd = zstd::encode_all(&layer()[..], 1).unwrap();
    for packed in [crate::fixture::gzip(&layer()), zstd.clone()] {
        assert_eq!(commit(&scene.store, &import(), &packed[..]).unwrap(), plain);
    }
    let before = scene.all();
    // The ratio of zeros is beyond any archive's.
    let bomb = zstd::encode_all(std::io::repeat(0).take(300 << 20), 1).unwrap();
    let cut = &zstd[..zstd.len() - 5];
    for wrong in [&bomb[..], cut, b"\xfd7zXZ\0", b"BZh9", b"\x1f\x8b"] {
        assert!(commit(&scene.store, &import(), wrong).is_err());
        assert_eq!(scene.all(), before);
    }
    // A layer that is told to be none may look as it likes.
    assert!(commit(&scene.store, &request(""), &zstd[..]).is_err());
}

#[test]
fn what_breaks_off_or_is_no_layer_leaves_nothing() {
    struct Broken(usize, Vec<u8>);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == self.1.len() {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            into[0] = self.1[self.0];
            self.0 += 1;
            Ok(1)
        }
    }
    let scene = Scene::new();
    scene.base();
    let before = scene.all();
    let tar = layer();
    for length in [0, 1, 511, 512, 600, 1024, 1536, 2047, tar.len()] {
        let source = Broken(0, tar[..length].to_vec());
        let error = commit(&scene.store, &request("base:1"), source).unwrap_err();
        assert!(matches!(error, CommitError::Store(StoreError::Snapshot(_))), "{length}: {error:?}");
        assert_eq!(scene.all(), before, "{length}");
    }
    let up = Archive::default().file("../up", b"x").end();
    for source in [&b"no archive at all"[..], &tar[..700], &up] {
        assert!(commit(&scene.store, &request("base:1"), source).is_err());
        assert_eq!(scene.all(), before);
    }
    let missing = commit(&scene.store, &request("none:1"), &tar[..]).unwrap_err();
    assert!(matches!(missing, CommitError::Store(StoreError::NotFound(_))), "{missing:?}");
    let config = Request { config: b"[1]".to_vec(), ..request("base:1") };
    assert!(matches!(commit(&scene.store, &config, &tar[..]), Err(CommitError::Config(_))));
    let mut large = request("base:1");
    large.words.comment = "c".repeat(3 << 20);
    assert!(matches!(commit(&scene.store, &large, &tar[..]), Err(CommitError::Large(_))));
    assert_eq!(scene.all(), before);
}

#[test]
fn a_base_that_only_a_container_holds_is_found_by_its_id() {
    let scene = Scene::new();
    let base = scene.base();
    let id: ContainerId = "ab".repeat(32).parse().unwrap();
    scene.store.prepare(&id, "base:1").unwrap();
    scene.store.remove("base:1", &crate::remove::How { force: true, ..Default::default() }).unwrap();
    assert!(commit(&scene.store, &request("base:1"), &layer()[..]).is_err());
    let made = commit(&scene.store, &request(base.id.as_str()), &layer()[..]).unwrap();
    scene.store.release(&id).unwrap();
    // Its layer stays for the image that was made of it.
    let image = scene.store.find(made.image_id.as_str()).unwrap().image;
    assert_eq!(image.diff_ids().len(), 2);
    scene.store.snapshots().mount(image.diff_ids()).unwrap();
}

#[test]
fn what_a_killed_process_left_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let left = dir.path().join("image/ingest/new-0.blob");
    std::fs::write(&left, "half").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(!left.exists());
    assert!(commit(&store, &request(""), &layer()[..]).is_ok());
}

#[test]
fn a_history_that_is_given_is_the_whole_of_it() {
    let scene = Scene::new();
    scene.base();
    let given = json!([{ "created_by": "one" }, { "created_by": "two", "empty_layer": true }, { "comment": "three" }]);
    let with = |history: &Value| Request { history: history.to_string().into_bytes(), ..request("base:1") };
    let made = commit(&scene.store, &with(&given), &layer()[..]).unwrap();
    assert_eq!(scene.config(&made.image_id)["history"], given);
    let before = scene.all();
    // One that tells of other layers would have each taken for another's.
    let short = json!([{ "created_by": "one" }]);
    let refused = commit(&scene.store, &with(&short), &layer()[..]);
    assert!(matches!(refused, Err(CommitError::Told { told: 1, there: 2 })), "{refused:?}");
    for none in [json!({}), json!(["text"])] {
        let refused = commit(&scene.store, &with(&none), &layer()[..]);
        assert!(matches!(refused, Err(CommitError::History(_))), "{refused:?}");
    }
    assert_eq!(scene.all(), before, "what was refused has left nothing");
}
