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

/// Whether the host forwards IPv6; a kernel without it does not.
pub fn forwarding6() -> io::Result<bool> {
    match read(&conf("ipv6", "all", "forwarding")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

/// Makes the host forward IPv6.
pub fn forward6() -> io::Result<()> {
    write(&conf("ipv6", "all", "forwarding"), true)
}

/// Lets the host's links go on taking router advertisements when it forwards: 2 where it was 1, also for links that
/// come later.
pub fn keep_accept_ra() -> io::Result<()> {
    for entry in fs::read_dir(path("ipv6/conf"))? {
        let setting = entry?.path().join("accept_ra");
        match fs::read_to_string(&setting) {
            Ok(text) if text.trim() == "1" => set(&setting, "2")?,
            Ok(_) => {}
            // The link went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    conf("ipv6", "all", "forwarding").exists()
}

/// Lets a link have IPv6 addresses that we give, and none of anybody else's: no advertisement is taken, no address
/// made up from one, no other way believed in. Its addresses serve at once, for nobody else has them.
pub fn ipv6_on(link: &str) -> io::Result<()> {
    for (key, value) in [
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("accept_redirects", "0"),
        ("accept_dad", "0"),
        ("disable_ipv6", "0"),
    ] {
        let path = conf("ipv6", link, key);
        if fs::read_to_string(&path)?.trim() != value {
            set(&path, value)?;
        }
    }
    Ok(())
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
    set(path, if on { "1" } else { "0" })
}

fn set(path: &PathBuf, value: &str) -> io::Result<()> {
    fs::write(path, value)
}
