//! Forwarding by the host, of each family: switched on where it was off, and then for us alone, so that the host does
//! not become a router for others.
//!
//! A host that forwards IPv6 takes no router's advertisements unless its links say 2 instead of 1 in `accept_ra`:
//! where it took them it goes on taking them.

use std::io;
use std::path::{Path, PathBuf};

use crate::firewall::FirewallError;
use crate::sysctl;

/// Families that are forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// What is kept of how the host was.
#[derive(Debug)]
pub struct Forwarding {
    /// Files that hold the boot id since which a family is forwarded for us alone.
    mark4: PathBuf,
    mark6: PathBuf,
    /// The families that are forwarded for us alone.
    closed: Families,
}

impl Forwarding {
    /// With files of ours that begin like this one.
    pub fn new(mark: PathBuf) -> Self {
        let mut mark6 = mark.clone().into_os_string();
        mark6.push("6");
        Self { mark4: mark, mark6: mark6.into(), closed: Families::default() }
    }

    /// The families that are forwarded for us alone.
    pub fn closed(&self) -> Families {
        self.closed
    }

    /// Whether the host forwards all that is needed.
    pub fn is_on(&self, needed: Families) -> Result<bool, FirewallError> {
        let now = now()?;
        Ok((now.ipv4 || !needed.ipv4) && (now.ipv6 || !needed.ipv6))
    }

    /// Finds out which families will be forwarded for us alone, and writes that down. To be called before the table is
    /// loaded that closes them to others.
    pub fn prepare(&mut self, needed: Families) -> Result<(), FirewallError> {
        let now = now()?;
        self.closed = Families {
            ipv4: is_closed(&self.mark4, now.ipv4, needed.ipv4)?,
            ipv6: is_closed(&self.mark6, now.ipv6, needed.ipv6)?,
        };
        Ok(())
    }

    /// Makes the host forward.
    pub fn switch_on(&self, needed: Families) -> Result<(), FirewallError> {
        let now = now()?;
        if needed.ipv4 && !now.ipv4 {
            setting("switch on net.ipv4.ip_forward", sysctl::forward())?;
        }
        if needed.ipv6 && !now.ipv6 {
            setting("keep the host's way with router advertisements", sysctl::keep_accept_ra())?;
            setting("switch on net.ipv6.conf.all.forwarding", sysctl::forward6())?;
        }
        Ok(())
    }
}

fn now() -> Result<Families, FirewallError> {
    Ok(Families {
        ipv4: setting("read net.ipv4.ip_forward", sysctl::forwarding())?,
        ipv6: setting("read net.ipv6.conf.all.forwarding", sysctl::forwarding6())?,
    })
}

/// Whether a family is forwarded for us alone: it was off when we came, in this boot.
fn is_closed(mark: &Path, forwarding: bool, needed: bool) -> Result<bool, FirewallError> {
    let boot = setting("read the boot id", std::fs::read_to_string("/proc/sys/kernel/random/boot_id"))?;
    if forwarding {
        return Ok(std::fs::read_to_string(mark).is_ok_and(|mark| mark == boot));
    }
    if needed {
        setting("keep that forwarding was off", std::fs::write(mark, boot))?;
    }
    Ok(needed)
}

fn setting<T>(what: &'static str, result: io::Result<T>) -> Result<T, FirewallError> {
    result.map_err(|error| FirewallError::Setting(what, error))
}
