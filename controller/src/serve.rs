//! Opens everything an engine is made of, and puts the API over it.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use davit_proto::build::builds_server::BuildsServer;
use davit_proto::container::containers_server::ContainersServer;
use davit_proto::id::InvalidId;
use davit_proto::image::images_server::ImagesServer;
use davit_proto::network::networks_server::NetworksServer;
use davit_proto::system::system_server::SystemServer;
use davit_proto::transport::{self, Address, InProcess};
use davit_proto::volume::volumes_server::VolumesServer;
use davit_sys::file::Flock;
use tokio::net::UnixListener;
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::api;
use crate::config::{self, Config};
use crate::engine::{Engine, Facts, Services};
use crate::error::Error;
use crate::shim::Program;
use crate::store::{self, Store};
use crate::{pool, recover, reserve};

/// Full names of the gRPC services that the controller serves.
pub const SERVICES: &[&str] = &[
    "davit.container.v1.Containers",
    "davit.image.v1.Images",
    "davit.volume.v1.Volumes",
    "davit.network.v1.Networks",
    "davit.system.v1.System",
    "davit.build.v1.Builds",
];

/// How long a root that another engine has is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(10);
/// Registry that `--registry-mirror` is about.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("{doing}")]
    Io {
        /// What was tried, on what.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Another controller has the root.
    #[error("another davitd uses {0}")]
    Locked(PathBuf),
    /// There can be no store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The shim cannot be run.
    #[error(transparent)]
    Program(Error),
    /// The embedded image service does not open.
    #[error("open the image service")]
    Image(#[source] davit_image::Error),
    /// The embedded volume service does not open.
    #[error("open the volume service")]
    Volume(#[source] davit_volume::Error),
    /// The embedded network service does not open.
    #[error("open the network service")]
    Network(#[source] davit_network::Error),
    /// The embedded build service does not open.
    #[error("open the build service")]
    Build(#[source] davit_build::Error),
    /// A service of its own cannot be reached.
    #[error("reach the {service} service")]
    Dial {
        /// Which.
        service: &'static str,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The instance's name is none.
    #[error(transparent)]
    Instance(#[from] InvalidId),
    /// The bridge's name is none.
    #[error(transparent)]
    Bridge(#[from] davit_network::InvalidLinkName),
    /// What is on disk cannot be made sense of.
    #[error(transparent)]
    Recover(Error),
    /// The group does not exist.
    #[error("no such group: {0}")]
    Group(String),
}

/// An engine that is open, and the lock that makes it the only one.
#[derive(Debug)]
pub struct Opened {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Where the API is to be served. It listens already, so that clients wait instead of failing.
    pub listener: UnixListener,
    _lock: Flock,
}

/// Opens an engine: folders, lock, socket, store, services, and what earlier lives of it left.
///
/// # Errors
/// When a part does not open.
pub async fn open(config: Config) -> Result<Opened, OpenError> {
    make_folders(&config)?;
    let lock = lock(&config.root).await?;
    let listener = listen(&config)?;
    reserve::release_when_full(&config.root);
    let (root, run) = (config.root.clone(), config.run.clone());
    let blocking = tokio::task::spawn_blocking(move || -> Result<_, OpenError> {
        let opened = Store::open(&root)?;
        let facts = Facts::read(&run)
            .map_err(|source| OpenError::Io { doing: "read the host's facts".to_owned(), source })?;
        let program = Program::beside_us().map_err(OpenError::Program)?;
        Ok((opened, facts, program))
    });
    let (services, parts) = tokio::join!(services(&config), blocking);
    let parts = parts.map_err(|error| OpenError::Io {
        doing: "open the store".to_owned(),
        source: io::Error::other(error),
    })?;
    let (services, (opened, facts, program)) = (services?, parts?);
    let engine = Arc::new(Engine::new(config, opened.store, facts, program, services));
    recover::recover(&engine, opened.rebuilt).await.map_err(OpenError::Recover)?;
    tokio::spawn(pool::keep(engine.clone()));
    let root = engine.config.root.clone();
    // Beside the work: nobody waits for it.
    drop(tokio::task::spawn_blocking(move || reserve::keep(&root)));
    Ok(Opened { engine, listener, _lock: lock })
}

/// The API over an engine, and the builds that are made with it: here, or by a service of its own. Those only have the engine's public calls, over the
/// same in-memory transport as everything that stands below it.
///
/// # Errors
/// When the build service does not open.
pub async fn with_builds(engine: &Arc<Engine>) -> Result<Routes, OpenError> {
    if let Some(address) = &engine.config.build_service {
        // It needs an engine to start, so it starts after this one.
        let builds = BuildsServer::new(api::build::Builds::new(transport::dial_later(address)));
        let builds = builds.max_decoding_message_size(transport::MESSAGE_LIMIT);
        return Ok(routes(engine).add_service(builds));
    }
    let channel = dial("engine", &Address::Here(InProcess::serve(routes(engine)))).await?;
    let (root, run) = (engine.config.root.clone(), engine.config.run.clone());
    let config = davit_build::Config { root, run, engine: channel };
    let builds = davit_build::service(config).await.map_err(OpenError::Build)?;
    Ok(routes(engine).add_service(builds))
}

/// The API over an engine.
#[must_use]
pub fn routes(engine: &Arc<Engine>) -> Routes {
    let engine = || engine.clone();
    Routes::new(ContainersServer::new(api::container::Api::new(engine())))
        .add_service(ImagesServer::new(api::image::Images::new(engine())))
        .add_service(VolumesServer::new(api::volume::Volumes::new(engine())))
        .add_service(NetworksServer::new(api::network::Networks::new(engine())))
        .add_service(SystemServer::new(api::system::System::new(engine())))
}

/// Takes the lock that makes this engine the only one of its root. A child of an engine that was just killed holds it a
/// moment longer, until it executes its program.
async fn lock(root: &Path) -> Result<Flock, OpenError> {
    let begun = tokio::time::Instant::now();
    loop {
        let lock = Flock::try_lock(&root.join("lock")).map_err(io_error("lock", root))?;
        match lock {
            Some(lock) => return Ok(lock),
            None if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            None => return Err(OpenError::Locked(root.to_owned())),
        }
    }
}

fn io_error(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let doing = format!("{doing} {}", path.display());
    move |source| OpenError::Io { doing, source }
}

fn make_folders(config: &Config) -> Result<(), OpenError> {
    for folder in [&config.root, &config.bundles(), &config.trash(), &config.run, &config.shims()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io_error("make the folder", folder))?;
    }
    Ok(())
}

/// Binds the API's socket. With a group its members may pass the folder and connect; what the socket's mode says is
/// then all there is to check.
fn listen(config: &Config) -> Result<UnixListener, OpenError> {
    let failed = || io_error("listen on", &config.listen);
    if let Some(folder) = config.listen.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed())?;
    }
    let listener = transport::bind_unix(&config.listen).map_err(failed())?;
    if let Some(name) = &config.group {
        let gid = group_id(name)?;
        let open = |path: &Path, mode| -> io::Result<()> {
            std::os::unix::fs::chown(path, None, Some(gid))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        };
        if config.listen.parent() == Some(config.run.as_path()) {
            open(&config.run, 0o710).map_err(failed())?;
        }
        open(&config.listen, 0o660).map_err(failed())?;
    }
    Ok(listener)
}

fn group_id(name: &str) -> Result<u32, OpenError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let path = Path::new("/etc/group");
    let text = davit_sys::file::read_bounded(path, 1 << 20).map_err(io_error("read", path))?;
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| OpenError::Group(name.to_owned()))
}

/// Channels to the services: dialled where an address is given, embedded otherwise.
async fn services(config: &Config) -> Result<Services, OpenError> {
    let (image, volume, network) =
        tokio::try_join!(image_service(config), volume_service(config), network_service(config))?;
    Ok(Services { image, volume, network })
}

async fn dial(service: &'static str, address: &Address) -> Result<Channel, OpenError> {
    transport::dial(address).await.map_err(|source| OpenError::Dial { service, source })
}

async fn image_service(config: &Config) -> Result<Channel, OpenError> {
    let address = match &config.image_service {
        Some(address) => address.clone(),
        None => {
            let routes = davit_image::routes(davit_image::Config {
                root: config.root.clone(),
                insecure_registries: config.insecure_registry.clone(),
                registry_mirrors: config::mirrors(config, DEFAULT_REGISTRY),
                gc: config.gc.clone(),
            });
            Address::Here(InProcess::serve(routes.await.map_err(OpenError::Image)?))
        }
    };
    dial("image", &address).await
}

async fn volume_service(config: &Config) -> Result<Channel, OpenError> {
    let address = match &config.volume_service {
        Some(address) => address.clone(),
        None => {
            let routes = davit_volume::routes(davit_volume::Config {
                root: config.root.clone(),
                drivers: config.volume_drivers.clone(),
            });
            Address::Here(InProcess::serve(routes.await.map_err(OpenError::Volume)?))
        }
    };
    dial("volume", &address).await
}

async fn network_service(config: &Config) -> Result<Channel, OpenError> {
    let address = match &config.network_service {
        Some(address) => address.clone(),
        None => {
            let routes = davit_network::routes(davit_network::Config {
                root: config.root.clone(),
                run: config.run.clone(),
                // The service says of itself that it is davit's.
                instance: config.instance.strip_prefix("davit-").unwrap_or(&config.instance).parse()?,
                bridge: config.bridge.parse()?,
                bridge_subnet: config.bridge_subnet,
            });
            Address::Here(InProcess::serve(routes.await.map_err(OpenError::Network)?))
        }
    };
    dial("network", &address).await
}
