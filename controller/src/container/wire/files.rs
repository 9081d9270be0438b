//! The files by which a container's programs find names, as its shim is to show them.

use std::io;
use std::path::Path;

use super::{Plan, Wired};
use crate::container::bundle::Bundle;
use crate::container::shape::{self, Network};
use crate::container::spec::{files, hosts};
use crate::error::Error;

/// The longest `hosts` or `resolv.conf` of the host that is copied.
const FILE: usize = 1 << 20;

/// Writes hosts, resolv.conf and hostname. `resolv_conf` is the network service's text, where it had one.
pub fn write(
    bundle: &Bundle,
    plan: Plan<'_>,
    wired: &Wired,
    resolv_conf: Option<String>,
) -> Result<(), Error> {
    if let Some(owner) = &plan.joined.network {
        return share(bundle, owner);
    }
    let host = matches!(shape::network(plan.spec)?, Network::Host);
    let hosts_of_host = if host { Some(of_host("/etc/hosts")?) } else { None };
    let hosts = hosts::whole(plan.spec, &plan.resolved.hostname, &wired.networks, hosts_of_host.as_deref())?;
    let base = match resolv_conf {
        Some(text) => text,
        None => of_host("/etc/resolv.conf")?,
    };
    let resolv_conf = files::resolv_conf(plan.spec, &base, wired.names.is_some());
    let hostname = files::hostname(plan.resolved);
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv_conf), ("hostname", hostname)] {
        let failed = Error::io(format!("write {}", bundle.file(name).display()));
        bundle.write_shown(name, &text).map_err(failed)?;
    }
    Ok(())
}

/// Who shares a network is found, and finds others, as its owner.
fn share(bundle: &Bundle, owner: &Bundle) -> Result<(), Error> {
    for name in ["hosts", "resolv.conf", "hostname"] {
        let path = owner.file(name);
        let bytes = davit_sys::file::read_bounded(&path, FILE);
        let bytes = bytes.map_err(Error::io(format!("read {}", path.display())))?;
        let failed = Error::io(format!("write {}", bundle.file(name).display()));
        bundle.write_shown(name, &String::from_utf8_lossy(&bytes)).map_err(failed)?;
    }
    Ok(())
}

/// A file of the host; one that is not there is empty.
fn of_host(path: &str) -> Result<String, Error> {
    match davit_sys::file::read_bounded(Path::new(path), FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::io(format!("read {path}"))(error)),
    }
}
