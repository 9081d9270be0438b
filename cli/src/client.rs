//! The way to the engine.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use davit_proto::build::builds_client::BuildsClient;
use davit_proto::container::containers_client::ContainersClient;
use davit_proto::image::images_client::ImagesClient;
use davit_proto::network::networks_client::NetworksClient;
use davit_proto::system::system_client::SystemClient;
use davit_proto::transport::{self, Address};
use davit_proto::volume::volumes_client::VolumesClient;
use tokio::sync::OnceCell;
use tonic::transport::Channel;

use crate::error::Error;

/// Where the engine listens when nobody says otherwise.
pub const DEFAULT_HOST: &str = "unix:///run/davit/davitd.sock";

/// Why the engine cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The address is none.
    #[error("invalid host {0:?}: unix:///absolute/path is wanted")]
    Address(String),
    /// An address of a kind that comes later.
    #[error("host {0:?} is not served by this version: davit speaks over Unix sockets only, unix:///path")]
    Network(String),
    /// Flags of TLS, which comes later.
    #[error("--tls is not served by this version: davit speaks over Unix sockets only")]
    Tls,
    /// Nobody listens.
    #[error(
        "no engine answers at unix://{0}: start one with `davitd` as root (or `systemctl start davitd`), \
         or name another with --host"
    )]
    Absent(String),
    /// We may not connect.
    #[error("permission denied at unix://{0}: run davit as root, or as a member of the socket's group")]
    Denied(String),
    /// Something else.
    #[error("cannot reach the engine at unix://{0}: {1}")]
    Other(String, String),
}

/// The engine that a command speaks to. Connects at the first call.
#[derive(Debug)]
pub struct Engine {
    path: PathBuf,
    channel: OnceCell<Channel>,
}

impl Engine {
    /// The engine at an address.
    pub fn at(host: &str) -> Result<Self, Unreachable> {
        for scheme in ["tcp://", "http://", "https://", "ssh://"] {
            if host.starts_with(scheme) {
                return Err(Unreachable::Network(host.to_owned()));
            }
        }
        match host.parse::<Address>() {
            Ok(Address::Unix(path)) => Ok(Self { path, channel: OnceCell::new() }),
            _ => Err(Unreachable::Address(host.to_owned())),
        }
    }

    /// A connection of its own, for a call that outlives the first one.
    pub async fn dial(&self) -> Result<Channel, Unreachable> {
        let address = Address::Unix(self.path.clone());
        match transport::dial(&address).await {
            Ok(channel) => Ok(channel),
            Err(error) => Err(self.reason(&error)),
        }
    }

    async fn channel(&self) -> Result<Channel, Error> {
        Ok(self.channel.get_or_try_init(|| self.dial()).await?.clone())
    }

    /// The plain reason behind a transport's failure: what connecting says.
    fn reason(&self, error: &tonic::transport::Error) -> Unreachable {
        let path = self.path.display().to_string();
        match UnixStream::connect(&self.path).map_err(|error| error.kind()) {
            Err(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Unreachable::Absent(path),
            Err(io::ErrorKind::PermissionDenied) => Unreachable::Denied(path),
            _ => Unreachable::Other(path, davit_proto::status::chain(error)),
        }
    }

    /// Containers.
    pub async fn containers(&self) -> Result<ContainersClient<Channel>, Error> {
        Ok(ContainersClient::new(self.channel().await?))
    }

    /// Images.
    pub async fn images(&self) -> Result<ImagesClient<Channel>, Error> {
        Ok(ImagesClient::new(self.channel().await?))
    }

    /// Volumes.
    pub async fn volumes(&self) -> Result<VolumesClient<Channel>, Error> {
        Ok(VolumesClient::new(self.channel().await?))
    }

    /// Networks.
    pub async fn networks(&self) -> Result<NetworksClient<Channel>, Error> {
        Ok(NetworksClient::new(self.channel().await?))
    }

    /// Builds.
    pub async fn builds(&self) -> Result<BuildsClient<Channel>, Error> {
        Ok(BuildsClient::new(self.channel().await?))
    }

    /// The engine itself.
    pub async fn system(&self) -> Result<SystemClient<Channel>, Error> {
        Ok(SystemClient::new(self.channel().await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(Engine::at(DEFAULT_HOST).is_ok());
        assert!(matches!(Engine::at("tcp://x:2376"), Err(Unreachable::Network(_))));
        assert!(matches!(Engine::at("/run/x.sock"), Err(Unreachable::Address(_))));
        assert!(matches!(Engine::at("unix://x"), Err(Unreachable::Address(_))));
    }

    #[tokio::test]
    async fn an_absent_engine_is_one_sentence() {
        let engine = Engine::at("unix:///nonexistent/davitd.sock").unwrap();
        let error = engine.containers().await.unwrap_err().to_string();
        assert!(error.starts_with("no engine answers at unix:///nonexistent/davitd.sock"), "{error}");
        assert!(error.contains("start one with `davitd`"), "{error}");
    }
}
