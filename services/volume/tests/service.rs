//! The whole service over its socket, in a folder of its own.

#![expect(clippy::unwrap_used, reason = "a failure of a helper fails its test")]

use std::collections::HashMap;
use std::path::Path;

use davit_proto::id::ContainerId;
use davit_proto::reason::{VOLUME_IN_USE, VOLUME_NOT_FOUND};
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::types::Filter;
use davit_proto::volume::volumes_client::VolumesClient;
use davit_proto::volume::{
    CreateRequest, InspectRequest, ListHoldersRequest, ListRequest, PrepareRequest, PruneRequest,
    ReleaseRequest, RemoveRequest, Use, Volume,
};
use davit_volume::{Config, routes};
use tonic::transport::Channel;

type Client = VolumesClient<Channel>;

/// Serves a root; the service ends with its last client, as a process would by a kill.
async fn serve(root: &Path) -> Client {
    let routes = routes(Config { root: root.to_owned(), drivers: Vec::new() }).await.unwrap();
    VolumesClient::new(transport::dial(&Address::Here(InProcess::serve(routes))).await.unwrap())
}

/// Ends a service and starts it again on the same folder, as soon as the lock is free.
async fn restart(client: Client, root: &Path) -> Client {
    drop(client);
    for _ in 0..500 {
        if let Ok(routes) = routes(Config { root: root.to_owned(), drivers: Vec::new() }).await {
            let address = Address::Here(InProcess::serve(routes));
            return VolumesClient::new(transport::dial(&address).await.unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the service did not let go of its folder");
}

async fn names(client: &mut Client, conditions: &[(&str, &str)]) -> Vec<String> {
    let filters = conditions.iter().map(|(key, value)| Filter { key: (*key).into(), value: (*value).into() });
    let mut pages = client.list(ListRequest { filters: filters.collect() }).await.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        assert!(page.volumes.len() <= 100);
        names.extend(page.volumes.into_iter().map(|volume| volume.name));
    }
    names
}

async fn create(client: &mut Client, name: &str) -> Result<Volume, RemoteError> {
    let request = CreateRequest {
        name: name.into(),
        labels: HashMap::from([("tier".into(), "db".into())]),
        ..CreateRequest::default()
    };
    Ok(client.create(request).await?.into_inner().volume.unwrap())
}

fn use_(name: &str, target: &str) -> Use {
    Use { name: name.into(), target: target.into(), ..Use::default() }
}

async fn remove(client: &mut Client, name: &str) -> Result<(), RemoteError> {
    client.remove(RemoveRequest { name: name.into(), force: false }).await?;
    Ok(())
}

#[tokio::test]
async fn a_volume_lives_from_create_to_remove() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(folder.path()).await;
    let made = create(&mut client, "db").await.unwrap();
    assert_eq!(made.driver, "local");
    assert_eq!(Path::new(&made.mountpoint), folder.path().join("volume/db/data"));
    assert!(Path::new(&made.mountpoint).is_dir());
    assert_eq!(create(&mut client, "db").await.unwrap(), made, "made once");

    let nameless = create(&mut client, "").await.unwrap();
    assert!(nameless.anonymous && nameless.name.len() == 64);
    assert_eq!(names(&mut client, &[("name", "d"), ("label", "tier=db")]).await.len(), 2);

    let mut client = restart(client, folder.path()).await;
    let asked = client.inspect(InspectRequest { name: "db".into() }).await.unwrap().into_inner();
    assert_eq!(asked.volume, Some(made));
    remove(&mut client, "db").await.unwrap();
    let error = remove(&mut client, "db").await.unwrap_err();
    assert!(error.is(VOLUME_NOT_FOUND), "{error}");
    client.remove(RemoveRequest { name: "db".into(), force: true }).await.unwrap();
    assert!(!folder.path().join("volume/db").exists());
}

#[tokio::test]
async fn a_use_is_recorded_and_keeps_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(folder.path()).await;
    let holder = ContainerId::generate().unwrap().to_string();
    let uses =
        vec![use_("db", "/data"), use_("", "/cache"), Use { read_only: true, ..use_("conf", "/etc/x") }];
    let request = PrepareRequest { container_id: holder.clone(), uses, again: false };
    let first = client.prepare(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.mounts[0].options, ["rbind", "rprivate", "nosuid", "nodev"]);
    assert_eq!(first.mounts[2].options.last().unwrap(), "ro");
    assert_eq!((&*first.mounts[1].r#type, &*first.mounts[1].target), ("bind", "/cache"));
    assert!(first.volumes[1].anonymous && !first.volumes[0].anonymous);
    assert_eq!(first.volumes[0].container_ids, [holder.as_str()]);
    assert!(first.mounts.iter().all(|mount| Path::new(&mount.source).is_dir()));

    let mut client = restart(client, folder.path()).await;
    assert_eq!(client.prepare(request).await.unwrap().into_inner(), first, "asked again, the same");
    let error = remove(&mut client, "db").await.unwrap_err();
    assert!(error.is(VOLUME_IN_USE) && error.message.contains(&holder), "{error}");
    assert!(names(&mut client, &[("dangling", "true")]).await.is_empty());
    let holders = client.list_holders(ListHoldersRequest {}).await.unwrap().into_inner().container_ids;
    assert_eq!(holders, [holder.as_str()]);

    for _ in 0..2 {
        let request =
            ReleaseRequest { container_id: holder.clone(), remove_anonymous: true, targets: Vec::new() };
        client.release(request).await.unwrap();
        assert_eq!(names(&mut client, &[("dangling", "true")]).await, ["conf", "db"]);
    }
    assert!(client.list_holders(ListHoldersRequest {}).await.unwrap().into_inner().container_ids.is_empty());
}

#[tokio::test]
async fn prune_takes_what_nobody_uses() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(folder.path()).await;
    let nameless = create(&mut client, "").await.unwrap();
    create(&mut client, "named").await.unwrap();
    let holder = ContainerId::generate().unwrap().to_string();
    let request =
        PrepareRequest { container_id: holder, uses: vec![use_("", "/a"), use_("used", "/b")], again: false };
    client.prepare(request).await.unwrap();
    std::fs::write(Path::new(&nameless.mountpoint).join("f"), vec![1_u8; 1 << 20]).unwrap();

    let pruned = client.prune(PruneRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.names, [nameless.name]);
    assert!(pruned.reclaimed_bytes >= 1 << 20);
    let pruned = client.prune(PruneRequest { all: true, filters: vec![] }).await.unwrap().into_inner();
    assert_eq!(pruned.names, ["named"]);
    assert_eq!(names(&mut client, &[]).await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = serve(folder.path()).await;
    for name in ["../x", "a/b", "-x", "ü", ".use", &"x".repeat(129)] {
        let error = create(&mut client, name).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{name}");
    }
    let option = HashMap::from([("kind".into(), "nfs".into())]);
    let request = CreateRequest { name: "n".into(), options: option, ..CreateRequest::default() };
    let error = RemoteError::from(client.create(request).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("kind=nfs"), "{error}");
    let request = CreateRequest { driver: "ceph".into(), ..CreateRequest::default() };
    let error = RemoteError::from(client.create(request).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("ceph") && error.message.contains("--volume-driver"), "{error}");

    let id = ContainerId::generate().unwrap().to_string();
    for (container_id, use_) in [
        ("short", use_("a", "/a")),
        (&*id, use_("a", "relative")),
        (&*id, use_("a", "/a/../../b")),
        (&*id, use_("../a", "/a")),
    ] {
        let request = PrepareRequest { container_id: container_id.into(), uses: vec![use_], again: false };
        assert_eq!(client.prepare(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    assert!(names(&mut client, &[]).await.is_empty(), "nothing was made on the way");
}

#[tokio::test]
async fn two_callers_at_once_make_one_volume() {
    let folder = tempfile::tempdir().unwrap();
    let client = serve(folder.path()).await;
    let calls = (0..32).map(|n| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let container_id = ContainerId::generate().unwrap().to_string();
            let request = PrepareRequest {
                container_id: container_id.clone(),
                uses: vec![use_("one", "/x")],
                again: false,
            };
            client.prepare(request).await.unwrap();
            if n % 2 == 0 {
                client
                    .release(ReleaseRequest { container_id, remove_anonymous: true, targets: Vec::new() })
                    .await
                    .unwrap();
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let mut client = client;
    let one =
        client.inspect(InspectRequest { name: "one".into() }).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(one.container_ids.len(), 16);
}
