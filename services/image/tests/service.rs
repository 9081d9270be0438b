//! The whole service over its API, in a folder of its own.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

use std::io::Write as _;
use std::path::Path;

use davit_image::digest::digest;
use davit_image::{Config, routes};
use davit_proto::image::images_client::ImagesClient;
use davit_proto::image::{
    ArchiveFormat, CommitEnd, CommitOpen, CommitRequest, HistoryRequest, InspectRequest, ListHoldersRequest,
    ListRequest, LoadOpen, LoadRequest, PrepareRequest, PruneRequest, PullRequest, PushRequest,
    ReleaseRequest, RemoveRequest, SaveRequest, TagRequest, commit_request, load_request, load_response,
    removed,
};
use davit_proto::reason::{IMAGE_IN_USE, IMAGE_NOT_FOUND};
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::types::Filter;
use tonic::transport::Channel;

type Client = ImagesClient<Channel>;

async fn serve(root: &Path) -> Client {
    let routes = routes(Config { root: root.to_owned(), ..Config::default() }).await.unwrap();
    ImagesClient::new(transport::dial(&Address::Here(InProcess::serve(routes))).await.unwrap())
}

/// A docker archive with one image of one layer under these names.
fn archive(file: &str, names: &[&str]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, file, b"content");
    let layer = layer.into_inner().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09Z","config":{{"Labels":{{"a":"b"}}}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created_by":"ADD {file}"}}]}}"#,
        digest(&layer)
    );
    let config_name = format!("{}.json", digest(config.as_bytes()).hex());
    let manifest = serde_json::json!([{ "Config": config_name, "RepoTags": names, "Layers": ["layer.tar"] }]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, &config_name, config.as_bytes());
    append(&mut archive, "layer.tar", &layer);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes).unwrap();
}

async fn load(client: &mut Client, archive: Vec<u8>) -> Result<Vec<String>, RemoteError> {
    let frame = |frame| LoadRequest { frame: Some(frame) };
    let mut frames = vec![frame(load_request::Frame::Open(LoadOpen::default()))];
    frames.extend(archive.chunks(30_000).map(|c| frame(load_request::Frame::Chunk(c.to_vec().into()))));
    let mut answers = client.load(tokio_stream::iter(frames)).await?.into_inner();
    let mut loaded = Vec::new();
    while let Some(answer) = answers.message().await? {
        if let Some(load_response::Event::Loaded(name)) = answer.event {
            loaded.push(name);
        }
    }
    Ok(loaded)
}

async fn save(client: &mut Client, images: &[&str], format: ArchiveFormat) -> Result<Vec<u8>, RemoteError> {
    let images = images.iter().map(ToString::to_string).collect();
    let mut pieces = client.save(SaveRequest { images, format: format.into() }).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        assert!(piece.chunk.len() <= 64 << 10);
        bytes.write_all(&piece.chunk).unwrap();
    }
    Ok(bytes)
}

async fn names(client: &mut Client, filters: &[(&str, &str)]) -> Result<Vec<String>, RemoteError> {
    let filters = filters.iter().map(|(k, v)| Filter { key: (*k).into(), value: (*v).into() }).collect();
    let mut pages = client.list(ListRequest { filters, all: false }).await?.into_inner();
    let mut names = Vec::new();
    while let Some(page) = pages.message().await? {
        names.extend(page.images.into_iter().flat_map(|image| image.references));
    }
    names.sort();
    Ok(names)
}

fn id(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

#[tokio::test]
async fn an_image_lives_from_load_to_prune() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve(dir.path()).await;
    let loaded = load(&mut client, archive("hello", &["hello:1", "localhost:5000/x:2"])).await.unwrap();
    assert_eq!(loaded, ["docker.io/library/hello:1", "localhost:5000/x:2"]);
    assert_eq!(load(&mut client, archive("other", &[])).await.unwrap()[0].len(), 71, "an id");
    assert_eq!(names(&mut client, &[]).await.unwrap(), loaded);
    assert_eq!(names(&mut client, &[("label", "a=c")]).await.unwrap(), Vec::<String>::new());

    let whole = client.inspect(InspectRequest { image: "hello:1".into() }).await.unwrap().into_inner();
    let image = whole.image.unwrap();
    assert_eq!((image.references.len(), image.size, image.labels["a"].as_str()), (2, 7, "b"));
    assert_eq!(image.created_at.unwrap().seconds, 1_714_979_289);
    assert_eq!(image.id, digest(&whole.config).to_string());
    assert_eq!(std::fs::read(Path::new(&whole.layer_paths[0]).join("hello")).unwrap(), b"content");
    let history = client.history(HistoryRequest { image: image.id.clone() }).await.unwrap().into_inner();
    assert_eq!((history.steps[0].created_by.as_str(), history.steps[0].size), ("ADD hello", 7));

    let prepare = PrepareRequest { container_id: id(1), image: "hello:1".into(), mounted: Vec::new() };
    let prepared = client.prepare(prepare).await.unwrap().into_inner();
    let rootfs = prepared.rootfs.unwrap();
    assert_eq!(
        (rootfs.r#type.as_str(), rootfs.options),
        ("overlay", vec![format!("lowerdir={}", whole.layer_paths[0])])
    );
    assert_eq!((prepared.image_id, prepared.config), (image.id.clone(), whole.config));
    let holders = client.list_holders(ListHoldersRequest {}).await.unwrap().into_inner();
    assert_eq!(holders.container_ids, [id(1)]);

    let tag = TagRequest { source: "hello:1".into(), target: "third".into(), unnamed: false };
    client.tag(tag).await.unwrap();
    let remove = |image: &str| RemoveRequest { image: image.into(), ..RemoveRequest::default() };
    for name in ["hello:1", "third"] {
        client.remove(remove(name)).await.unwrap();
    }
    let error: RemoteError = client.remove(remove("localhost:5000/x:2")).await.unwrap_err().into();
    assert!(error.is(IMAGE_IN_USE) && error.kind == ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.values.contains(&("container".to_owned(), id(1))));
    client.release(ReleaseRequest { container_id: id(1) }).await.unwrap();
    let removed = client.remove(remove("localhost:5000/x:2")).await.unwrap().into_inner().removed;
    assert!(matches!(&removed[0].what, Some(removed::What::Untagged(name)) if name == "localhost:5000/x:2"));
    assert!(matches!(&removed[1].what, Some(removed::What::Deleted(digest)) if *digest == image.id));
    let pruned = client.prune(PruneRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.removed.len(), 2);
    assert!(pruned.reclaimed_bytes >= 7, "blocks of the disk: {}", pruned.reclaimed_bytes);
    assert_eq!(std::fs::read_dir(dir.path().join("image/blobs/sha256")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_saved_can_be_loaded_elsewhere() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut client = serve(here.path()).await;
    load(&mut client, archive("one", &["one:1"])).await.unwrap();
    load(&mut client, archive("two", &["two:1"])).await.unwrap();
    let mut other = serve(there.path()).await;
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let saved = save(&mut client, &["one:1", "two:1"], format).await.unwrap();
        let loaded = load(&mut other, saved).await.unwrap();
        assert_eq!(loaded, ["docker.io/library/one:1", "docker.io/library/two:1"]);
    }
    assert_eq!(names(&mut other, &[]).await.unwrap().len(), 2);
    assert!(save(&mut client, &["none:1"], ArchiveFormat::Oci).await.unwrap_err().is(IMAGE_NOT_FOUND));
    // A foreign archive is not taken for what a build did here.
    let step = format!("{}:1", davit_proto::step::REPOSITORY);
    let refused = load(&mut other, archive("three", &["three:1", &step])).await.unwrap_err();
    assert_eq!((refused.kind, refused.reason.as_str()), (ErrorKind::InvalidArgument, "INVALID_REFERENCE"));
    assert_eq!(names(&mut other, &[]).await.unwrap().len(), 2, "nothing of it came in");
    assert_eq!(
        save(&mut client, &[], ArchiveFormat::Oci).await.unwrap_err().kind,
        ErrorKind::InvalidArgument
    );
}

#[tokio::test]
async fn an_archive_that_is_refused_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve(dir.path()).await;
    let mut good = archive("hello", &["hello:1"]);
    good.truncate(good.len() - 2048);
    let at = good.windows(7).position(|window| window == b"content").unwrap();
    good[at] ^= 1;
    assert!(load(&mut client, good).await.is_err());
    assert!(load(&mut client, b"no archive".to_vec()).await.is_err());
    assert!(load(&mut client, Vec::new()).await.is_err());
    assert!(names(&mut client, &[]).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("image/blobs/sha256")).unwrap().count(), 0);
}

/// A client that breaks off ends its stream as one does that has sent everything.
#[tokio::test]
async fn a_layer_is_whole_only_when_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve(dir.path()).await;
    load(&mut client, archive("hello", &["hello:1"])).await.unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "more", b"more");
    let layer = layer.into_inner().unwrap();
    let frame = |frame| CommitRequest { frame: Some(frame) };
    let open = CommitOpen { base: "hello:1".into(), reference: "made:1".into(), ..CommitOpen::default() };
    let sent = [
        frame(commit_request::Frame::Open(open)),
        frame(commit_request::Frame::Chunk(layer.into())),
        frame(commit_request::Frame::End(CommitEnd {})),
    ];
    let cut = client.commit(tokio_stream::iter(sent[..2].to_vec())).await;
    assert!(cut.unwrap_err().message().contains("cut off"));
    assert_eq!(names(&mut client, &[]).await.unwrap(), ["docker.io/library/hello:1"]);
    client.commit(tokio_stream::iter(sent)).await.unwrap();
    assert_eq!(names(&mut client, &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = serve(dir.path()).await;
    let kind = |error: tonic::Status| RemoteError::from(error).kind;
    for image in ["", "UPPER", "a b", "../x", &"x".repeat(100_000), "nul\0"] {
        let error = client.inspect(InspectRequest { image: image.to_owned() }).await.unwrap_err();
        assert_eq!(kind(error), ErrorKind::InvalidArgument, "{image:?}");
        let pull = PullRequest { reference: image.to_owned(), ..PullRequest::default() };
        assert_eq!(kind(client.pull(pull).await.unwrap_err()), ErrorKind::InvalidArgument, "{image:?}");
    }
    for container_id in ["", "abc", "../../x", &"g".repeat(64)] {
        let prepare =
            PrepareRequest { container_id: container_id.to_owned(), image: "x".into(), mounted: Vec::new() };
        assert_eq!(kind(client.prepare(prepare).await.unwrap_err()), ErrorKind::InvalidArgument);
    }
    let prepare = PrepareRequest { container_id: id(1), image: "x".into(), mounted: Vec::new() };
    assert!(RemoteError::from(client.prepare(prepare).await.unwrap_err()).is(IMAGE_NOT_FOUND));
    assert!(client.list_holders(ListHoldersRequest {}).await.unwrap().into_inner().container_ids.is_empty());
    assert_eq!(names(&mut client, &[("x", "y")]).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    let chunk = LoadRequest { frame: Some(load_request::Frame::Chunk(vec![1].into())) };
    assert_eq!(kind(client.load(tokio_stream::iter([chunk])).await.unwrap_err()), ErrorKind::InvalidArgument);
    let error = RemoteError::from(client.push(PushRequest::default()).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}
