//! Drivers: volumes that somebody else makes and mounts, spoken to by `davit.volume.driver.v1`.
//!
//! A driver is foreign: every call has a deadline, every answer a limit, and nothing it says is used before it is
//! checked. One that is away costs a sentence with its name, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use davit_proto::id::Name;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::transport::{self, Address};
use davit_proto::volume_driver::driver_client::DriverClient;
use davit_proto::volume_driver::{
    CreateRequest, GetInfoRequest, Holder, InspectRequest, ListRequest, MountRequest, RemoveRequest,
    UnmountRequest, Volume,
};
use tokio::runtime::Handle;
use tonic::Response;
use tonic::transport::Channel;

use crate::deadline;
use crate::error::Error;
use crate::options::Options;
use crate::volume::LOCAL;

/// How long a driver may take to make or mount a volume.
const WORK: Duration = Duration::from_secs(20);
/// How long it may take to answer a question, or to let a volume go.
const QUESTION: Duration = Duration::from_secs(5);
/// Largest answer.
const ANSWER: usize = 1 << 20;
/// Longest path of an answer.
const PATH: usize = 4095;
/// Volumes of a driver that are looked at.
const VOLUMES: usize = 100_000;
/// Words of a status that are passed on, and bytes of each.
const STATUS: (usize, usize) = (64, 4096);
/// Drivers that one service knows.
const DRIVERS: usize = 64;

/// A driver as it is configured: `NAME=unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverAddress {
    /// Its name, as `volume create --driver` has it.
    pub name: Name,
    /// Path of its socket.
    pub socket: std::path::PathBuf,
}

/// A text that names no driver.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid volume driver {0:?}: must be NAME=unix:///absolute/path, and the name another one than \"local\""
)]
pub struct InvalidDriver(String);

impl FromStr for DriverAddress {
    type Err = InvalidDriver;
    fn from_str(text: &str) -> Result<Self, InvalidDriver> {
        let refused = || InvalidDriver(text.chars().take(200).collect());
        let (name, address) = text.split_once('=').ok_or_else(refused)?;
        let name: Name = name.parse().map_err(|_| refused())?;
        match address.parse() {
            Ok(Address::Unix(socket)) if name.as_str() != LOCAL => Ok(Self { name, socket }),
            _ => Err(refused()),
        }
    }
}

/// The drivers that are configured.
#[derive(Debug, Clone)]
pub struct Drivers {
    sockets: BTreeMap<String, std::path::PathBuf>,
    /// Calls are made from threads that may wait.
    runtime: Handle,
    /// By which drivers know whose holders are ours.
    engine_id: String,
}

impl Drivers {
    /// These drivers, spoken to on the present runtime.
    pub fn new(addresses: Vec<DriverAddress>, engine_id: String) -> Result<Self, Error> {
        if addresses.len() > DRIVERS {
            let value = addresses.len().to_string();
            return Err(Error::Invalid { field: "volume drivers", value, rule: "at most 64" });
        }
        let mut sockets = BTreeMap::new();
        for DriverAddress { name, socket } in addresses {
            if sockets.insert(name.to_string(), socket).is_some() {
                let rule = "is given twice";
                return Err(Error::Invalid { field: "volume driver", value: name.into(), rule });
            }
        }
        Ok(Self { sockets, runtime: Handle::current(), engine_id })
    }

    /// Name and address of each.
    pub fn all(&self) -> impl Iterator<Item = (&str, String)> {
        self.sockets.iter().map(|(name, socket)| (name.as_str(), format!("unix://{}", socket.display())))
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Result<Driver<'_>, Error> {
        match self.sockets.get_key_value(name) {
            Some((name, socket)) => Ok(Driver { drivers: self, name, socket }),
            None => Err(Error::NoDriver(name.chars().take(200).collect())),
        }
    }
}

/// One driver.
#[derive(Debug, Clone, Copy)]
pub struct Driver<'a> {
    drivers: &'a Drivers,
    name: &'a str,
    socket: &'a Path,
}

impl Driver<'_> {
    /// Whether its volumes are the same ones on all hosts.
    pub fn is_global(self) -> Result<bool, Error> {
        let asked = async |mut client: DriverClient<Channel>| client.get_info(GetInfoRequest {}).await;
        Ok(self.ask(QUESTION, "say what it is", asked)?.global)
    }

    /// Has a volume made.
    pub fn create(self, name: &Name, options: &Options) -> Result<(), Error> {
        let options = options.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let request = CreateRequest { name: name.to_string(), options };
        self.call(WORK, "make", name, async |mut client| client.create(request).await).map(drop)
    }

    /// Has a volume removed; one that the driver does not know is.
    pub fn remove(self, name: &Name) -> Result<(), Error> {
        let request = RemoveRequest { name: name.to_string() };
        let removed = self.call(WORK, "remove", name, async |mut client| client.remove(request).await);
        unless_missing(removed.map(drop))
    }

    /// Has a volume mounted for a holder, and answers where.
    pub fn mount(self, name: &Name, holder: &str) -> Result<String, Error> {
        let request = MountRequest { name: name.to_string(), holder: Some(self.holder(holder)) };
        let answer = self.call(WORK, "mount", name, async |mut client| client.mount(request).await)?;
        self.check_mountpoint(&answer.mountpoint)?;
        Ok(answer.mountpoint)
    }

    /// Ends what a holder has of a volume.
    pub fn unmount(self, name: &Name, holder: &str) -> Result<(), Error> {
        let request = UnmountRequest { name: name.to_string(), holder: Some(self.holder(holder)) };
        let ended = self.call(QUESTION, "unmount", name, async |mut client| client.unmount(request).await);
        unless_missing(ended.map(drop))
    }

    /// What the driver says of a volume.
    pub fn inspect(self, name: &Name) -> Result<Volume, Error> {
        let request = InspectRequest { name: name.to_string() };
        let answer =
            self.call(QUESTION, "look at", name, async |mut client| client.inspect(request).await)?;
        let mut volume = answer.volume.unwrap_or_default();
        volume.status = volume.status.into_iter().take(STATUS.0).collect();
        for value in volume.status.values_mut() {
            value.truncate(value.floor_char_boundary(STATUS.1));
        }
        Ok(volume)
    }

    /// Volumes that this engine holds, each with a holder.
    pub fn held(self) -> Result<Vec<(Name, String)>, Error> {
        let (mut held, mut after, mut seen) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListRequest { after: after.clone() };
            let page = self.ask(QUESTION, "list volumes", async |mut client| client.list(request).await)?;
            let last = page.volumes.last().map(|volume| volume.name.clone()).unwrap_or_default();
            seen += page.volumes.len();
            for volume in page.volumes {
                let Ok(name) = volume.name.parse::<Name>() else {
                    return Err(self.lied("a volume's name", &volume.name, "is no name"));
                };
                let ours = volume.holders.into_iter().filter(|h| h.engine_id == self.drivers.engine_id);
                held.extend(ours.map(|holder| (name.clone(), holder.id)));
            }
            if !page.more {
                return Ok(held);
            }
            if last <= after || seen > VOLUMES {
                return Err(self.lied("a list", &last, "does not come to an end"));
            }
            after = last;
        }
    }

    fn holder(self, id: &str) -> Holder {
        Holder { engine_id: self.drivers.engine_id.clone(), id: id.to_owned() }
    }

    /// A driver may say where, but not anything.
    fn check_mountpoint(self, path: &str) -> Result<(), Error> {
        let refuse = |rule| Err(self.lied("a mountpoint", path, rule));
        if !path.starts_with('/') {
            return refuse("is not absolute");
        }
        if path.len() > PATH || path.contains('\0') || path.split('/').any(|part| part == "..") {
            return refuse("is too long or holds NUL or '..'");
        }
        if path.split('/').all(|part| part.is_empty() || part == ".") {
            return refuse("is the root of this host");
        }
        let (owned, doing) = (path.to_owned(), format!("open the mountpoint of driver {:?}", self.name));
        // What is mounted there is the driver's, and may hang.
        let opened = deadline::within(QUESTION, &doing, move || {
            Ok(davit_sys::file::open_dir(Path::new(&owned)).map(drop))
        })?;
        match opened {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => refuse("does not exist here"),
            Err(_) => refuse("is no directory that can be opened"),
        }
    }

    fn lied(self, what: &'static str, value: &str, rule: &'static str) -> Error {
        let value = value.chars().take(200).collect();
        Error::DriverAnswer { driver: self.name.to_owned(), what, value, rule }
    }

    fn call<T, E: Into<RemoteError>>(
        self,
        limit: Duration,
        verb: &'static str,
        name: &Name,
        call: impl AsyncFnOnce(DriverClient<Channel>) -> Result<Response<T>, E>,
    ) -> Result<T, Error> {
        self.ask(limit, &format!("{verb} volume {:?}", name.as_str()), call)
    }

    fn ask<T, E: Into<RemoteError>>(
        self,
        limit: Duration,
        doing: &str,
        call: impl AsyncFnOnce(DriverClient<Channel>) -> Result<Response<T>, E>,
    ) -> Result<T, Error> {
        let away = |why: String| Error::DriverAway {
            driver: self.name.to_owned(),
            socket: self.socket.to_owned(),
            why,
        };
        let asked = async {
            // Dialled anew each time: calls are few, and a driver that was started again is there at once.
            let channel = transport::dial(&Address::Unix(self.socket.to_owned())).await;
            let channel = channel.map_err(|error| away(innermost(&error)))?;
            let client = DriverClient::new(channel).max_decoding_message_size(ANSWER);
            match call(client).await.map_err(Into::into) {
                Ok(answer) => Ok(answer.into_inner()),
                Err(error) if error.kind == ErrorKind::Unavailable => Err(away(error.message)),
                Err(source) => {
                    let (driver, doing) = (self.name.to_owned(), doing.to_owned());
                    Err(Error::Driver { driver, doing, source: Box::new(source) })
                }
            }
        };
        let late = || away(format!("it did not {doing} within {} s", limit.as_secs()));
        self.drivers
            .runtime
            .block_on(async { tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(late())) })
    }
}

/// The transport's own words say only that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn unless_missing(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Driver { source, .. }) if source.kind == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_a_name_and_a_socket() {
        let driver: DriverAddress = "loop=unix:///run/loop.sock".parse().unwrap();
        assert_eq!((driver.name.as_str(), driver.socket), ("loop", "/run/loop.sock".into()));
        for wrong in ["loop", "loop=/run/x", "=unix:///x", "a b=unix:///x", "local=unix:///x", "x=unix://y"] {
            assert!(wrong.parse::<DriverAddress>().is_err(), "{wrong}");
        }
    }
}
