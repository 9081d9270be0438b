//! Capabilities: their names, the default set, and what `--cap-add`, `--cap-drop` and `--privileged`
//! make of it.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::Error;

/// One capability.
pub type Cap = Capability;

/// All capabilities in the order of their numbers, which is their order in the kernel's masks.
const NUMBERED: [Cap; 41] = [
    Cap::Chown,
    Cap::DacOverride,
    Cap::DacReadSearch,
    Cap::Fowner,
    Cap::Fsetid,
    Cap::Kill,
    Cap::Setgid,
    Cap::Setuid,
    Cap::Setpcap,
    Cap::LinuxImmutable,
    Cap::NetBindService,
    Cap::NetBroadcast,
    Cap::NetAdmin,
    Cap::NetRaw,
    Cap::IpcLock,
    Cap::IpcOwner,
    Cap::SysModule,
    Cap::SysRawio,
    Cap::SysChroot,
    Cap::SysPtrace,
    Cap::SysPacct,
    Cap::SysAdmin,
    Cap::SysBoot,
    Cap::SysNice,
    Cap::SysResource,
    Cap::SysTime,
    Cap::SysTtyConfig,
    Cap::Mknod,
    Cap::Lease,
    Cap::AuditWrite,
    Cap::AuditControl,
    Cap::Setfcap,
    Cap::MacOverride,
    Cap::MacAdmin,
    Cap::Syslog,
    Cap::WakeAlarm,
    Cap::BlockSuspend,
    Cap::AuditRead,
    Cap::Perfmon,
    Cap::Bpf,
    Cap::CheckpointRestore,
];

/// What every container gets that asks for nothing else.
const DEFAULT: [Cap; 14] = [
    Cap::Chown,
    Cap::DacOverride,
    Cap::Fowner,
    Cap::Fsetid,
    Cap::Kill,
    Cap::Setgid,
    Cap::Setuid,
    Cap::Setpcap,
    Cap::NetBindService,
    Cap::NetRaw,
    Cap::SysChroot,
    Cap::Mknod,
    Cap::AuditWrite,
    Cap::Setfcap,
];

/// A capability by name: `NET_ADMIN`, `cap_net_admin`.
fn parse(field: &'static str, text: &str) -> Result<Cap, Error> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NUMBERED
        .into_iter()
        .find(|cap| cap.to_string() == name)
        .ok_or_else(|| Error::invalid(field, text, "no such capability"))
}

fn is_all(text: &str) -> bool {
    text.eq_ignore_ascii_case("ALL") || text.eq_ignore_ascii_case("CAP_ALL")
}

/// Checks the names of what is to be added and dropped.
///
/// # Errors
/// When one is no capability.
pub fn check(add: &[String], drop: &[String]) -> Result<(), Error> {
    for (field, list) in [("cap_add", add), ("cap_drop", drop)] {
        for text in list.iter().filter(|text| !is_all(text)) {
            parse(field, text)?;
        }
    }
    Ok(())
}

/// The capabilities in a mask as `/proc/<pid>/status` shows it; bits of a newer kernel are left out.
#[must_use]
pub fn from_mask(mask: u64) -> Vec<Cap> {
    NUMBERED.into_iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, cap)| cap).collect()
}

/// All capabilities there are: what root of a user namespace has in it.
#[must_use]
pub fn all() -> &'static [Cap] {
    &NUMBERED
}

/// The sets of a container's processes, of those that can be given. Inheritable and ambient stay empty, or a program without any
/// capability on its file would keep them over execve(2).
///
/// # Errors
/// When a capability is asked for by name that the engine does not have itself.
pub fn sets(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: &[Cap],
) -> Result<LinuxCapabilities, Error> {
    let given = granted(add, drop, privileged, available)?;
    let all: Capabilities = given.into_iter().collect();
    let none = Capabilities::new();
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(all.clone())
        .effective(all.clone())
        .permitted(all)
        .inheritable(none.clone())
        .ambient(none)
        .build()
        .expect("every field has a value"))
}

fn granted(add: &[String], drop: &[String], privileged: bool, available: &[Cap]) -> Result<Vec<Cap>, Error> {
    if privileged {
        return Ok(available.to_vec());
    }
    let mut given: Vec<Cap> = if add.iter().any(|text| is_all(text)) {
        available.to_vec()
    } else if drop.iter().any(|text| is_all(text)) {
        Vec::new()
    } else {
        DEFAULT.into_iter().filter(|cap| available.contains(cap)).collect()
    };
    for text in drop.iter().filter(|text| !is_all(text)) {
        let cap = parse("cap_drop", text)?;
        given.retain(|kept| *kept != cap);
    }
    for text in add.iter().filter(|text| !is_all(text)) {
        let cap = parse("cap_add", text)?;
        if !available.contains(&cap) {
            return Err(Error::Host(format!(
                "capability {cap} cannot be given: the engine has it not itself"
            )));
        }
        if !given.contains(&cap) {
            given.push(cap);
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::tests::host;

    fn names(add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        granted(&own(add), &own(drop), false, &host().capabilities)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn names_of_the_library_are_the_kernels() {
        for cap in NUMBERED {
            assert_eq!(parse("cap_add", &format!("cap_{cap}")).unwrap(), cap);
        }
        assert_eq!(from_mask(0b101), [Cap::Chown, Cap::DacReadSearch]);
        assert_eq!(from_mask(u64::MAX).len(), 41);
    }

    #[test]
    fn add_and_drop_follow_docker() {
        assert_eq!(names(&[], &[]).len(), 14);
        assert_eq!(names(&["NET_ADMIN"], &["ALL"]), ["NET_ADMIN"]);
        assert_eq!(names(&[], &["all"]), [""; 0]);
        assert_eq!(names(&["ALL"], &["CAP_MKNOD"]).len(), host().capabilities.len() - 1);
        assert_eq!(names(&["CHOWN"], &["CHOWN"]).len(), 14, "what is added stays");
        assert!(!names(&[], &["net_raw"]).contains(&"NET_RAW".to_owned()));
    }

    #[test]
    fn what_the_engine_lacks_is_told() {
        let mut poor = host();
        poor.capabilities.retain(|cap| *cap != Cap::SysResource);
        let error = granted(&["SYS_RESOURCE".to_owned()], &[], false, &poor.capabilities).unwrap_err();
        assert!(error.to_string().contains("SYS_RESOURCE"), "{error}");
        assert!(check(&["NET_ADMINX".to_owned()], &[]).is_err());
        assert!(!granted(&[], &[], true, &poor.capabilities).unwrap().contains(&Cap::SysResource));
    }
}
