//! Files of volumes as archives, in and out, and from one volume to another.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use davit_proto::id::ContainerId;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::volume::import_request::Message;
use davit_proto::volume::volumes_client::VolumesClient;
use davit_proto::volume::{
    CloneVolumeRequest, CreateRequest, ExportRequest, ImportEnd, ImportOpen, ImportRequest, ImportResponse,
    InspectRequest, PrepareRequest, RemoveRequest, Use, Volume,
};
use davit_sys::mount::{self, Attributes, Propagation, TreeDepth};
use davit_sys::namespace::{self, Kind};
use davit_volume::{Config, routes};
use tonic::transport::Channel;

type Client = VolumesClient<Channel>;

/// A folder in a mount namespace of this thread and those that it starts.
fn own_mounts() -> tempfile::TempDir {
    namespace::leave(Kind::Mount).unwrap();
    let root = davit_sys::file::open_dir(Path::new("/")).unwrap();
    let private = Some(Propagation::Private);
    mount::set_attributes(root, TreeDepth::Recursive, Attributes::NONE, private).unwrap();
    tempfile::tempdir().unwrap()
}

async fn serve(root: &Path) -> Client {
    let routes = routes(Config { root: root.to_owned(), drivers: Vec::new() }).await.unwrap();
    VolumesClient::new(transport::dial(&Address::Here(InProcess::serve(routes))).await.unwrap())
}

fn made(name: &str, options: &[(&str, &str)]) -> CreateRequest {
    let options: HashMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    CreateRequest { name: name.into(), options, ..CreateRequest::default() }
}

async fn create(client: &mut Client, name: &str, options: &[(&str, &str)]) -> PathBuf {
    let answer = client.create(made(name, options)).await.unwrap().into_inner();
    answer.volume.unwrap().mountpoint.into()
}

async fn is_there(client: &mut Client, name: &str) -> bool {
    client.inspect(InspectRequest { name: name.into() }).await.is_ok()
}

async fn hold(client: &mut Client, name: &str) {
    let uses = vec![Use { name: name.into(), target: "/data".into(), ..Use::default() }];
    let container_id = ContainerId::generate().unwrap().to_string();
    client.prepare(PrepareRequest { container_id, uses, again: false }).await.unwrap();
}

async fn export(client: &mut Client, name: &str) -> Vec<u8> {
    let mut frames = client.export(ExportRequest { name: name.into() }).await.unwrap().into_inner();
    let mut archive = Vec::new();
    while let Some(frame) = frames.message().await.unwrap() {
        archive.extend_from_slice(&frame.chunk);
    }
    archive
}

/// Sends an archive in pieces, and that it has ended, or not.
async fn import(
    client: &mut Client,
    create: CreateRequest,
    archive: &[u8],
    whole: bool,
) -> Result<ImportResponse, RemoteError> {
    let mut messages = vec![Message::Open(ImportOpen { create: Some(create) })];
    messages.extend(archive.chunks(10_000).map(|piece| Message::Chunk(piece.to_vec().into())));
    if whole {
        messages.push(Message::End(ImportEnd {}));
    }
    let frames = messages.into_iter().map(|message| ImportRequest { message: Some(message) });
    let frames = tokio_stream::iter(frames.collect::<Vec<_>>());
    Ok(client.import(frames).await?.into_inner())
}

/// Files of all sorts.
fn fill(data: &Path) {
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/b/file"), vec![7; 300_000]).unwrap();
    fs::hard_link(data.join("a/b/file"), data.join("again")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    fs::File::create(data.join("hole")).unwrap().set_len(20 << 20).unwrap();
    fs::set_permissions(data.join("a/b/file"), fs::Permissions::from_mode(0o4750)).unwrap();
    std::os::unix::fs::chown(data.join("a"), Some(1234), Some(56)).unwrap();
    fs::set_permissions(data, fs::Permissions::from_mode(0o1770)).unwrap();
}

fn check(data: &Path) {
    let of = |path: &str| fs::symlink_metadata(data.join(path)).unwrap();
    assert_eq!(fs::read(data.join("a/b/file")).unwrap(), vec![7; 300_000]);
    assert_eq!(of("a/b/file").ino(), of("again").ino());
    assert_eq!(of("a/b/file").mode() & 0o7777, 0o4750);
    assert_eq!((of("a").uid(), of("a").gid()), (1234, 56));
    assert_eq!(of("hole").len(), 20 << 20);
    assert!(of("hole").blocks() * 512 < 1 << 20, "holes stay holes");
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
}

/// Whose the volume itself is, and who may enter it.
fn top(data: &Path) -> u32 {
    fs::metadata(data).unwrap().mode() & 0o7777
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, bytes).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn a_volume_goes_out_and_comes_in_the_same() {
    let folder = own_mounts();
    let mut client = serve(folder.path()).await;
    fill(&create(&mut client, "from", &[]).await);
    let archive = export(&mut client, "from").await;
    assert_eq!(export(&mut client, "from").await, archive, "the same again");
    let zstd = zstd::encode_all(&archive[..], 1).unwrap();
    for (name, packed) in [("plain", &archive), ("gzip", &gzip(&archive)), ("zstd", &zstd)] {
        let answer = import(&mut client, made(name, &[]), packed, true).await.unwrap();
        let Volume { mountpoint, .. } = answer.volume.unwrap();
        check(Path::new(&mountpoint));
        assert_eq!((top(Path::new(&mountpoint)), answer.entries), (0o1770, 7));
    }
    // Into one that is there: beside what it has.
    let there = create(&mut client, "there", &[]).await;
    fs::write(there.join("mine"), "kept").unwrap();
    import(&mut client, made("there", &[]), &archive, true).await.unwrap();
    check(&there);
    assert_eq!(top(&there), 0o755, "and it stays whose it is");
    assert_eq!(fs::read_to_string(there.join("mine")).unwrap(), "kept");
    // Into one that has to be mounted for it, and that nobody uses: gone with the call, as memory is.
    let options = [("type", "tmpfs"), ("o", "size=4m")];
    let memory = create(&mut client, "memory", &options).await;
    import(&mut client, made("memory", &[]), &archive, true).await.unwrap();
    assert!(!memory.join("a").exists());
    hold(&mut client, "memory").await;
    import(&mut client, made("memory", &[]), &archive, true).await.unwrap();
    check(&memory);
    assert_eq!(export(&mut client, "memory").await.len(), archive.len());
}

#[tokio::test]
async fn a_new_volume_is_whole_or_not_there() {
    let folder = own_mounts();
    let mut client = serve(folder.path()).await;
    fill(&create(&mut client, "from", &[]).await);
    let archive = export(&mut client, "from").await;
    let cut = import(&mut client, made("cut", &[]), &archive, false).await.unwrap_err();
    assert!(cut.message.contains("cut off"), "{cut}");
    let half = import(&mut client, made("cut", &[]), &archive[..archive.len() / 2], true).await.unwrap_err();
    assert_eq!(half.kind, ErrorKind::InvalidArgument, "{half}");
    let noise = import(&mut client, made("cut", &[]), &[0x55; 5000], true).await.unwrap_err();
    assert_eq!(noise.kind, ErrorKind::InvalidArgument, "{noise}");
    let full = made("cut", &[("type", "tmpfs"), ("o", "size=64k")]);
    let full = import(&mut client, full, &archive, true).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::ResourceExhausted, "{full}");

    // Out of the volume: not by a name, not by a link.
    let canary = folder.path().join("canary");
    fs::create_dir(&canary).unwrap();
    for hostile in [hostile_name(), hostile_link(&canary)] {
        import(&mut client, made("cut", &[]), &hostile, true).await.unwrap_err();
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    assert!(!folder.path().join("volume/escaped").exists());
    assert!(!is_there(&mut client, "cut").await);
    let left = fs::read_dir(folder.path().join("volume")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.starts_with(".new-")), "nothing half made is left");

    let missing = client.export(ExportRequest { name: "cut".into() }).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);
}

fn hostile_name() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..10].copy_from_slice(b"../escaped");
    header.set_size(1);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append(&header, &b"x"[..]).unwrap();
    archive.into_inner().unwrap()
}

fn hostile_link(to: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    archive.append_link(&mut header, "out", to).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    archive.append_data(&mut header, "out/escaped", &b"x"[..]).unwrap();
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn a_clone_has_the_same_files_and_lives_its_own_life() {
    let folder = own_mounts();
    let mut client = serve(folder.path()).await;
    let from = create(&mut client, "from", &[]).await;
    fill(&from);
    let request = CloneVolumeRequest { source: "from".into(), create: Some(made("to", &[])) };
    let answer = client.clone_volume(request.clone()).await.unwrap().into_inner();
    let to = PathBuf::from(answer.volume.unwrap().mountpoint);
    check(&to);
    assert_eq!(top(&to), 0o1770);
    assert_eq!((answer.entries, answer.bytes), (6, 300_000 + (20 << 20)));
    fs::write(to.join("again"), "changed").unwrap();
    check(&from);
    let taken = RemoteError::from(client.clone_volume(request).await.unwrap_err());
    assert_eq!(taken.kind, ErrorKind::AlreadyExists, "{taken}");
    // One in memory is cloned to the disk, unless memory is asked for.
    create(&mut client, "memory", &[("type", "tmpfs")]).await;
    hold(&mut client, "memory").await;
    let request = CloneVolumeRequest { source: "memory".into(), create: Some(made("disk", &[])) };
    let disk = client.clone_volume(request).await.unwrap().into_inner().volume.unwrap();
    assert!(disk.options.is_empty());
    for name in ["from", "to", "disk"] {
        client.remove(RemoveRequest { name: name.into(), force: false }).await.unwrap();
    }
}
