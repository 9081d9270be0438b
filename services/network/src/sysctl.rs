//! The few settings of the kernel that we touch, in the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::network::LinkName;

/// Whether the host forwards IPv4.
pub fn forwarding() -> io::Result<bool> {
    read(&path("ipv4/ip_forward"))
}

/// Makes the host forward IPv4.
pub fn forward() -> io::Result<()> {
    write(&path("ipv4/ip_forward"), true)
}

/// Lets a link carry 127.0.0.0/8, or not. Only ever with the guard chain in place.
pub fn set_route_localnet(link: &LinkName, on: bool) -> io::Result<()> {
    write(&conf("ipv4", link.as_str(), "route_localnet"), on)
}

/// Switches IPv6 off on a link, or with `default` on those that come later. A kernel without IPv6 has nothing to
/// switch off.
pub fn ipv6_off(link: &str) -> io::Result<()> {
    match write(&conf("ipv6", link, "disable_ipv6"), true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(key)
}

fn conf(family: &str, link: &str, key: &str) -> PathBuf {
    path(family).join("conf").join(link).join(key)
}

fn read(path: &PathBuf) -> io::Result<bool> {
    Ok(fs::read_to_string(path)?.trim() != "0")
}

/// A setting that is right already is not written: each write of forwarding walks all links.
fn write(path: &PathBuf, on: bool) -> io::Result<()> {
    if read(path)? == on {
        return Ok(());
    }
    fs::write(path, if on { "1" } else { "0" })
}
