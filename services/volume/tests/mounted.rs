//! Volumes that are mounted while somebody uses them, over the service's socket, each test in a mount namespace of its
//! own.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use davit_proto::id::ContainerId;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::volume::volumes_client::VolumesClient;
use davit_proto::volume::{
    CreateRequest, DiskUsageRequest, PrepareRequest, PrepareResponse, ReleaseRequest, RemoveRequest, Use,
    Volume,
};
use davit_sys::mount::{self, Attributes, Propagation, TreeDepth};
use davit_sys::namespace::{self, Kind};
use davit_volume::{Config, routes};
use tonic::transport::Channel;

type Client = VolumesClient<Channel>;

/// What this thread and those that it starts mount is gone with them.
fn own_mounts() -> tempfile::TempDir {
    namespace::leave(Kind::Mount).unwrap();
    let root = davit_sys::file::open_dir(Path::new("/")).unwrap();
    let private = Some(Propagation::Private);
    mount::set_attributes(root, TreeDepth::Recursive, Attributes::NONE, private).unwrap();
    tempfile::tempdir().unwrap()
}

async fn serve(root: &Path) -> Client {
    for _ in 0..1000 {
        if let Ok(routes) = routes(Config { root: root.to_owned(), drivers: Vec::new() }).await {
            let address = Address::Here(InProcess::serve(routes));
            return VolumesClient::new(transport::dial(&address).await.unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the service does not open its folder");
}

async fn create(client: &mut Client, name: &str, options: &[(&str, &str)]) -> Result<Volume, RemoteError> {
    let options: HashMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = CreateRequest { name: name.into(), options, ..CreateRequest::default() };
    Ok(client.create(request).await?.into_inner().volume.unwrap())
}

async fn hold(client: &mut Client, holder: &str, name: &str) -> Result<PrepareResponse, RemoteError> {
    let uses = vec![Use { name: name.into(), target: "/data".into(), ..Use::default() }];
    Ok(client.prepare(PrepareRequest { container_id: holder.into(), uses, again: false }).await?.into_inner())
}

async fn release(client: &mut Client, holder: &str) {
    let request = ReleaseRequest { container_id: holder.into(), remove_anonymous: true, targets: Vec::new() };
    client.release(request).await.unwrap();
}

async fn remove(client: &mut Client, name: &str) -> Result<(), RemoteError> {
    client.remove(RemoveRequest { name: name.into(), force: false }).await?;
    Ok(())
}

fn holder() -> String {
    ContainerId::generate().unwrap().to_string()
}

/// How often something is mounted at a path.
fn mounted(path: &str) -> usize {
    let real = fs::canonicalize(path).unwrap();
    mount::mount_table().unwrap().iter().filter(|entry| entry.target == real).count()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An image with a file system, as a block device until this is dropped.
struct Disk(String);

impl Disk {
    fn new(folder: &Path, mkfs: &[&str]) -> Self {
        let image = folder.join("disk.img");
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let path = image.to_str().unwrap();
        run(mkfs[0], &[&mkfs[1..], &[path]].concat());
        Self(run("losetup", &["--find", "--show", path]))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // In use, the kernel takes it apart with its last user.
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[tokio::test]
async fn memory_is_shared_by_all_users_and_gone_after_the_last() {
    let folder = own_mounts();
    let mut client = serve(folder.path()).await;
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=750,uid=7")];
    let made = create(&mut client, "mem", &options).await.unwrap();
    assert_eq!(made.options["o"], "size=1m,mode=750,uid=7");
    assert_eq!(mounted(&made.mountpoint), 0, "nobody uses it yet");
    assert_eq!(create(&mut client, "mem", &options).await.unwrap(), made, "the same one");
    assert_eq!(create(&mut client, "mem", &[]).await.unwrap(), made, "nothing else is asked for");
    let other = create(&mut client, "mem", &[("type", "tmpfs"), ("o", "size=2m")]).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::AlreadyExists);
    assert!(other.message.contains("size=1m"), "{other}");

    let (one, two) = (holder(), holder());
    let first = hold(&mut client, &one, "mem").await.unwrap();
    assert_eq!(first.mounts[0].source, made.mountpoint);
    assert_eq!(hold(&mut client, &one, "mem").await.unwrap(), first, "asked again, the same");
    let data = Path::new(&made.mountpoint);
    fs::write(data.join("file"), "shared").unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(data).unwrap()), 7);
    assert!(fs::write(data.join("large"), vec![1; 2 << 20]).is_err(), "it is as large as it was to be");
    let _ = fs::remove_file(data.join("large"));

    drop(client);
    let mut client = serve(folder.path()).await;
    hold(&mut client, &two, "mem").await.unwrap();
    assert_eq!(mounted(&made.mountpoint), 1, "found again by the mount table");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "shared");
    let mut pages = client.disk_usage(DiskUsageRequest::default()).await.unwrap().into_inner();
    let usage = pages.message().await.unwrap().unwrap().usages.remove(0);
    assert_eq!((usage.size_bytes, usage.volume.unwrap().container_ids.len()), (Some(4096), 2));

    let copy = mount::open_tree(davit_sys::file::open_dir(data).unwrap(), Path::new(""), TreeDepth::Single);
    release(&mut client, &one).await;
    assert_eq!(mounted(&made.mountpoint), 1, "one still has it");
    release(&mut client, &two).await;
    assert_eq!(mounted(&made.mountpoint), 0);
    assert!(!data.join("file").exists());
    let copy = davit_sys::file::Root::from_fd(copy.unwrap());
    assert_eq!(copy.read(Path::new("file"), 100).unwrap(), b"shared", "who has a copy keeps it");
    remove(&mut client, "mem").await.unwrap();
}

#[tokio::test]
async fn what_is_left_mounted_by_a_crash_comes_off_and_what_it_shows_stays() {
    let folder = own_mounts();
    let precious = folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut client = serve(&root).await;
    let device = precious.to_str().unwrap();
    let options = [("type", "none"), ("o", "bind,ro"), ("device", device)];
    let data = PathBuf::from(create(&mut client, "b", &options).await.unwrap().mountpoint);
    let one = holder();
    hold(&mut client, &one, "b").await.unwrap();
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
    assert!(fs::write(data.join("other"), "").is_err(), "read-only, as o= says");

    // Killed after the use was forgotten: the next start takes the mount off.
    drop(client);
    let uses = root.join("volume/.use");
    until_free(&root).await;
    fs::remove_file(uses.join(format!("{one}.json"))).unwrap();
    let mut client = serve(&root).await;
    assert_eq!(mounted(data.to_str().unwrap()), 0);

    // Killed after it went out of sight: what is mounted there is not deleted with it.
    hold(&mut client, &one, "b").await.unwrap();
    drop(client);
    until_free(&root).await;
    fs::remove_file(uses.join(format!("{one}.json"))).unwrap();
    fs::rename(root.join("volume/b"), root.join("volume/.trash-1")).unwrap();
    let mut client = serve(&root).await;
    for _ in 0..1000 {
        if !root.join("volume/.trash-1").exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!root.join("volume/.trash-1").exists());
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");

    // A folder that is not there is said when it is to be mounted, and it may come later.
    let gone = folder.path().join("later");
    let device = gone.to_str().unwrap();
    create(&mut client, "later", &[("o", "bind"), ("device", device)]).await.unwrap();
    let error = hold(&mut client, &one, "later").await.unwrap_err();
    assert!(error.message.contains("later") && error.message.contains("No such file"), "{error}");
    fs::create_dir(&gone).unwrap();
    hold(&mut client, &one, "later").await.unwrap();
    let error = remove(&mut client, "later").await.unwrap_err();
    assert!(error.message.contains(&one), "{error}");
    release(&mut client, &one).await;
    remove(&mut client, "later").await.unwrap();
    assert!(gone.is_dir());
}

/// Until the process that served a folder has let go of it.
async fn until_free(root: &Path) {
    for _ in 0..1000 {
        if routes(Config { root: root.to_owned(), drivers: Vec::new() }).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_block_device_is_a_volume() {
    let folder = own_mounts();
    let disk = Disk::new(folder.path(), &["mkfs.ext4", "-q", "-F"]);
    let mut client = serve(folder.path()).await;
    let options = [("type", "ext4"), ("device", disk.0.as_str()), ("o", "noatime,data=ordered")];
    create(&mut client, "disk", &options).await.unwrap();
    let one = holder();
    let held = hold(&mut client, &one, "disk").await.unwrap();
    let data = Path::new(&held.mounts[0].source);
    fs::write(data.join("file"), "on a disk").unwrap();
    assert!(data.join("lost+found").exists());
    release(&mut client, &one).await;
    assert!(!data.join("file").exists());
    hold(&mut client, &one, "disk").await.unwrap();
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "on a disk");
    release(&mut client, &one).await;
    remove(&mut client, "disk").await.unwrap();
    let wrong = [("type", "ext4"), ("device", disk.0.as_str()), ("o", "no-such-option")];
    let error = create(&mut client, "wrong", &wrong).await.unwrap_err();
    assert!(error.message.contains("no-such-option"), "{error}");
    let unknown = create(&mut client, "wrong", &[("type", "nofs"), ("device", "x")]).await.unwrap_err();
    assert!(unknown.message.contains("type=nofs") && unknown.message.contains("kernel"), "{unknown}");
}

#[tokio::test]
async fn a_size_is_a_limit_where_the_file_system_has_projects() {
    let folder = own_mounts();
    let disk = Disk::new(
        folder.path(),
        &["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"],
    );
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let mounted = Command::new("mount").args(["-o", "prjquota", &disk.0]).arg(&root).output().unwrap();
    if !mounted.status.success() {
        return eprintln!("skipped: this kernel has no quotas of projects on ext4");
    }
    let mut client = serve(&root).await;
    let made = create(&mut client, "small", &[("size", "1m")]).await.unwrap();
    let data = PathBuf::from(&made.mountpoint);
    fs::write(data.join("fits"), vec![1; 512 << 10]).unwrap();
    fs::create_dir(data.join("below")).unwrap();
    // Root without CAP_SYS_RESOURCE is held to it, as a container is.
    let script = format!("exec dd if=/dev/zero of={}/below/more bs=64k count=32", data.display());
    let written = Command::new("setpriv")
        .args(["--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "sh", "-c", &script])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&written.stderr);
    assert!(!written.status.success() && told.contains("quota"), "{told}");
    assert!(fs::metadata(data.join("below/more")).unwrap().len() <= 512 << 10);

    let project = davit_sys::quota::project(davit_sys::file::open_dir(&data).unwrap()).unwrap();
    let limit = |root: &Path| {
        davit_sys::quota::usage(davit_sys::file::open_dir(root).unwrap(), project).unwrap().limit
    };
    assert_eq!(limit(&root), 1 << 20);
    remove(&mut client, "small").await.unwrap();
    for _ in 0..1000 {
        if limit(&root) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(limit(&root), 0, "the limit goes with the volume");
}

#[tokio::test]
async fn a_size_elsewhere_is_refused_in_words() {
    let folder = own_mounts();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    run("mount", &["-t", "tmpfs", "tmpfs", elsewhere.to_str().unwrap()]);
    let mut client = serve(&elsewhere).await;
    let error = create(&mut client, "small", &[("size", "1m")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("prjquota"), "{error}");
    assert!(!elsewhere.join("volume/small").exists());
}
