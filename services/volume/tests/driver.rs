//! Foreign drivers: the one that is shipped, as a process that is killed at will, and one that lies.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use davit_proto::id::ContainerId;
use davit_proto::reason::VOLUME_DRIVER_AWAY;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::volume::volumes_client::VolumesClient;
use davit_proto::volume::{
    CreateRequest, DiskUsageRequest, InspectRequest, ListDriversRequest, PrepareRequest, ReleaseRequest,
    RemoveRequest, Use, Volume,
};
use davit_proto::volume_driver as driver;
use davit_proto::volume_driver::driver_server::{Driver, DriverServer};
use davit_sys::mount::{self, Attributes, Propagation, TreeDepth};
use davit_sys::namespace::{self, Kind};
use davit_volume::{Config, routes};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

type Client = VolumesClient<Channel>;

/// A folder in a mount namespace of this thread and those that it starts.
fn own_mounts() -> tempfile::TempDir {
    namespace::leave(Kind::Mount).unwrap();
    let root = davit_sys::file::open_dir(Path::new("/")).unwrap();
    let private = Some(Propagation::Private);
    mount::set_attributes(root, TreeDepth::Recursive, Attributes::NONE, private).unwrap();
    tempfile::tempdir().unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve(root: &Path, socket: &Path) -> Client {
    let address = format!("foreign=unix://{}", socket.display());
    let config = Config { root: root.to_owned(), drivers: vec![address.parse().unwrap()] };
    let mut served = None;
    until("the service opens its folder", async || {
        served = routes(config.clone()).await.ok();
        served.is_some()
    })
    .await;
    let address = Address::Here(InProcess::serve(served.unwrap()));
    VolumesClient::new(transport::dial(&address).await.unwrap())
}

/// The driver that is shipped, killed when this is dropped.
struct Shipped(Child);

impl Shipped {
    async fn start(folder: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_davit-volume-loop"))
            .arg("--root")
            .arg(folder.join("images"))
            .arg(format!("--listen=unix://{}", socket(folder).display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let driver = Self(child);
        until("the driver listens", async || std::os::unix::net::UnixStream::connect(socket(folder)).is_ok())
            .await;
        driver
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Shipped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("driver.sock")
}

async fn create(client: &mut Client, name: &str, options: &[(&str, &str)]) -> Result<Volume, RemoteError> {
    let options: HashMap<String, String> =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request =
        CreateRequest { name: name.into(), driver: "foreign".into(), options, ..CreateRequest::default() };
    Ok(client.create(request).await?.into_inner().volume.unwrap())
}

/// Answers with where the volume is.
async fn hold(client: &mut Client, holder: &str, name: &str) -> Result<PathBuf, RemoteError> {
    let uses = vec![Use { name: name.into(), target: "/data".into(), ..Use::default() }];
    let answer = client
        .prepare(PrepareRequest { container_id: holder.into(), uses, again: false })
        .await?
        .into_inner();
    Ok(PathBuf::from(&answer.mounts[0].source))
}

async fn release(client: &mut Client, holder: &str) {
    let request = ReleaseRequest { container_id: holder.into(), remove_anonymous: true, targets: Vec::new() };
    client.release(request).await.unwrap();
}

async fn remove(client: &mut Client, name: &str, force: bool) -> Result<(), RemoteError> {
    client.remove(RemoveRequest { name: name.into(), force }).await?;
    Ok(())
}

async fn inspect(client: &mut Client, name: &str) -> Volume {
    client.inspect(InspectRequest { name: name.into() }).await.unwrap().into_inner().volume.unwrap()
}

fn holder() -> String {
    ContainerId::generate().unwrap().to_string()
}

fn is_mounted(path: &Path) -> bool {
    let path = fs::canonicalize(path).unwrap();
    mount::mount_table().unwrap().iter().any(|entry| entry.target == path)
}

fn devices(folder: &Path, name: &str) -> String {
    let image = folder.join("images").join(name).join("image");
    let output = Command::new("losetup").arg("--associated").arg(image).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn an_image_file_is_a_volume_of_its_size() {
    let folder = own_mounts();
    let folder = folder.path();
    let _driver = Shipped::start(folder).await;
    let mut client = serve(folder, &socket(folder)).await;
    let drivers = client.list_drivers(ListDriversRequest {}).await.unwrap().into_inner().drivers;
    assert_eq!(drivers.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["local", "foreign"]);

    for (options, word) in [
        (&[][..], "size"),
        (&[("size", "many")], "many"),
        (&[("size", "8m"), ("fs", "fat")], "fat"),
        (&[("size", "8m"), ("colour", "red")], "colour"),
    ] {
        let error = create(&mut client, "v", options).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
        assert!(error.message.contains("foreign") && error.message.contains(word), "{error}");
    }
    let made = create(&mut client, "v", &[("size", "8m")]).await.unwrap();
    assert_eq!((made.driver.as_str(), made.mountpoint.as_str()), ("foreign", ""));
    assert_eq!(create(&mut client, "v", &[("size", "8m")]).await.unwrap().name, "v");
    let other = create(&mut client, "v", &[("size", "9m")]).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::AlreadyExists);

    let (one, two) = (holder(), holder());
    let data = hold(&mut client, &one, "v").await.unwrap();
    assert!(data.starts_with(folder.join("images")) && is_mounted(&data));
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "it is empty, as a new volume is");
    fs::write(data.join("fits"), vec![1; 1 << 20]).unwrap();
    let full = fs::write(data.join("large"), vec![1; 16 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(data.join("large")).unwrap();
    assert_eq!(hold(&mut client, &two, "v").await.unwrap(), data);
    let seen = inspect(&mut client, "v").await;
    assert_eq!((seen.status["FileSystem"].as_str(), seen.container_ids.len()), ("ext4", 2));
    let mut pages = client.disk_usage(DiskUsageRequest::default()).await.unwrap().into_inner();
    assert!(pages.message().await.unwrap().unwrap().usages[0].size_bytes.unwrap() > 1 << 20);
    assert!(remove(&mut client, "v", true).await.unwrap_err().message.contains(&one));

    // A copy of the mount lives on; who comes next has the same file system and not a second one over the same file.
    let copy = davit_sys::file::open_dir(&data).unwrap();
    let copy = mount::open_tree(copy, Path::new(""), TreeDepth::Single).unwrap();
    release(&mut client, &one).await;
    release(&mut client, &two).await;
    assert!(!is_mounted(&data));
    hold(&mut client, &one, "v").await.unwrap();
    let copy = davit_sys::file::Root::from_fd(copy);
    copy.make_file(Path::new("there"), 0o600).unwrap();
    assert!(data.join("there").exists() && data.join("fits").exists());
    assert_eq!(devices(folder, "v").lines().count(), 1);
    release(&mut client, &one).await;
    drop(copy);
    until("the loop device goes", async || devices(folder, "v").is_empty()).await;
    remove(&mut client, "v", false).await.unwrap();
    assert!(!folder.join("images/v").exists());
}

#[tokio::test]
async fn a_driver_that_is_killed_costs_nothing_but_waiting() {
    let folder = own_mounts();
    let folder = folder.path();
    let driver = Shipped::start(folder).await;
    let mut client = serve(folder, &socket(folder)).await;
    create(&mut client, "v", &[("size", "8m")]).await.unwrap();
    let (one, two) = (holder(), holder());
    let data = hold(&mut client, &one, "v").await.unwrap();
    fs::write(data.join("file"), "kept").unwrap();
    driver.kill();
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept", "a container goes on");

    let away = hold(&mut client, &two, "v").await.unwrap_err();
    assert!(away.is(VOLUME_DRIVER_AWAY), "{away:?}");
    assert!(away.message.contains("\"foreign\" does not answer"), "{away}");
    let seen = inspect(&mut client, "v").await;
    assert!(seen.status["Error"].contains("does not answer"), "{seen:?}");
    release(&mut client, &two).await;
    release(&mut client, &one).await;
    assert!(remove(&mut client, "v", false).await.unwrap_err().is(VOLUME_DRIVER_AWAY));
    assert!(is_mounted(&data), "nobody was there to unmount it");

    // It comes back with what it held for the container that is gone, and is told.
    let driver = Shipped::start(folder).await;
    until("what was held for nobody is let go", async || !is_mounted(&data)).await;
    until("the loop device goes", async || devices(folder, "v").is_empty()).await;
    assert_eq!(hold(&mut client, &one, "v").await.unwrap(), data);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");

    // The service is killed after it forgot the use: it asks at its next start.
    drop(client);
    let uses = folder.join("volume/.use").join(format!("{one}.json"));
    fs::remove_file(uses).unwrap();
    let mut client = serve(folder, &socket(folder)).await;
    until("what was held is let go", async || !is_mounted(&data)).await;

    // Killed while it makes and mounts, each time a little later: who asks again has it whole.
    let mut driver = driver;
    for n in 0..6_u32 {
        let name = format!("n{n}");
        let (mut asking, asked, holder) = (client.clone(), name.clone(), holder());
        let held = holder.clone();
        let making = tokio::spawn(async move {
            create(&mut asking, &asked, &[("size", "4m")]).await?;
            hold(&mut asking, &held, &asked).await
        });
        let begun = Instant::now();
        until("it is in the midst", async || begun.elapsed() > Duration::from_millis(4) * n * n).await;
        driver.kill();
        // Whatever came of it.
        let _ = making.await.unwrap();
        driver = Shipped::start(folder).await;
        create(&mut client, &name, &[("size", "4m")]).await.unwrap();
        let data = hold(&mut client, &holder, &name).await.unwrap();
        fs::write(data.join("file"), "whole").unwrap();
        assert_eq!(devices(folder, &name).lines().count(), 1);
        release(&mut client, &holder).await;
        until("the loop device goes", async || devices(folder, &name).is_empty()).await;
        remove(&mut client, &name, false).await.unwrap();
    }
    let last = holder();
    create(&mut client, "again", &[("size", "4m")]).await.unwrap();
    let data = hold(&mut client, &last, "again").await.unwrap();
    assert!(is_mounted(&data));
    release(&mut client, &last).await;
    remove(&mut client, "again", false).await.unwrap();
    remove(&mut client, "v", false).await.unwrap();
}

/// Says whatever it was told to say.
#[derive(Debug, Clone, Default)]
struct Liar {
    mountpoint: Arc<Mutex<String>>,
    hangs: Arc<Mutex<bool>>,
}

impl Liar {
    fn says(&self, mountpoint: &str) {
        mountpoint.clone_into(&mut self.mountpoint.lock().unwrap());
    }
}

#[tonic::async_trait]
impl Driver for Liar {
    async fn get_info(
        &self,
        _: Request<driver::GetInfoRequest>,
    ) -> Result<Response<driver::GetInfoResponse>, Status> {
        Ok(Response::new(driver::GetInfoResponse { version: "liar".into(), global: true }))
    }
    async fn create(
        &self,
        request: Request<driver::CreateRequest>,
    ) -> Result<Response<driver::CreateResponse>, Status> {
        if request.into_inner().name == "refused" {
            return Err(Status::resource_exhausted("no room on the shelf"));
        }
        Ok(Response::new(driver::CreateResponse {}))
    }
    async fn remove(
        &self,
        _: Request<driver::RemoveRequest>,
    ) -> Result<Response<driver::RemoveResponse>, Status> {
        Err(Status::not_found("never heard of it"))
    }
    async fn mount(
        &self,
        _: Request<driver::MountRequest>,
    ) -> Result<Response<driver::MountResponse>, Status> {
        Ok(Response::new(driver::MountResponse { mountpoint: self.mountpoint.lock().unwrap().clone() }))
    }
    async fn unmount(
        &self,
        _: Request<driver::UnmountRequest>,
    ) -> Result<Response<driver::UnmountResponse>, Status> {
        if *self.hangs.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        Err(Status::not_found("never heard of it"))
    }
    async fn inspect(
        &self,
        _: Request<driver::InspectRequest>,
    ) -> Result<Response<driver::InspectResponse>, Status> {
        let status = (0..1000).map(|n| (format!("key{n}"), "x".repeat(500))).collect();
        let volume = driver::Volume { status, ..driver::Volume::default() };
        Ok(Response::new(driver::InspectResponse { volume: Some(volume) }))
    }
    async fn list(&self, _: Request<driver::ListRequest>) -> Result<Response<driver::ListResponse>, Status> {
        let volume = driver::Volume { name: "../x".into(), ..driver::Volume::default() };
        Ok(Response::new(driver::ListResponse { volumes: vec![volume], more: true }))
    }
}

#[tokio::test]
async fn what_a_driver_says_is_checked() {
    let folder = own_mounts();
    let folder = folder.path();
    let liar = Liar::default();
    let listener = transport::bind_unix(&socket(folder)).unwrap();
    let served = Routes::new(DriverServer::new(liar.clone()));
    let serving = tokio::spawn(transport::serve_unix(listener, served, std::future::pending()));
    let mut client = serve(folder, &socket(folder)).await;
    let refused = create(&mut client, "refused", &[]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::ResourceExhausted);
    assert!(refused.message.contains("no room on the shelf"), "{refused}");
    assert!(!folder.join("volume/refused").exists(), "it never was");
    assert_eq!(create(&mut client, "v", &[]).await.unwrap().scope, "global");

    let one = holder();
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let long = format!("/{}", "x/".repeat(4000));
    let huge = "x".repeat(3 << 20);
    for (says, told) in [
        ("", "absolute"),
        ("relative/path", "absolute"),
        ("/", "root of this host"),
        ("//./", "root of this host"),
        ("/tmp/../etc", "'..'"),
        (long.as_str(), "too long"),
        ("/does/not/exist", "does not exist"),
        (file, "no directory"),
        (huge.as_str(), "foreign"),
    ] {
        liar.says(says);
        let error = hold(&mut client, &one, "v").await.unwrap_err();
        assert!(error.message.contains(told) && error.message.contains("foreign"), "{error}");
    }
    let seen = inspect(&mut client, "v").await;
    assert!(seen.status.len() <= 64, "not more than anybody wants to read");
    liar.says(folder.to_str().unwrap());
    assert_eq!(hold(&mut client, &one, "v").await.unwrap(), folder);

    // One that hangs keeps no container from being removed.
    *liar.hangs.lock().unwrap() = true;
    release(&mut client, &one).await;
    remove(&mut client, "v", false).await.unwrap();
    serving.abort();
}
