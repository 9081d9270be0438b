//! Kernel settings of a container: which may be set, and setting them.

use std::fs::File;
use std::io::{Read, Write};

use davit_proto::confinement::is_of_ipc;
use davit_sys::file::{OFlags, Root};

use super::error::{Failure, Step};
use super::shape::Shape;

/// Checks that a setting belongs to a namespace of the container's own, and gives its path below `/proc/sys`.
pub fn plan_sysctl(shape: &Shape, name: &str, value: &str) -> Result<(String, String), Failure> {
    let refused = |why: &str| Failure::refused(format!("sysctl {name:?}: {why}"));
    // Both spellings are in use; a slash inside a name written with dots stands for a dot of the name.
    let path = match (name.find('.'), name.find('/')) {
        (Some(dot), Some(slash)) if slash < dot => name.to_owned(),
        (None, Some(_)) => name.to_owned(),
        _ => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@');
    let component = |c: &str| !c.is_empty() && c != "." && c != ".." && c.chars().all(plain);
    if path.len() > 256 || !path.split('/').all(component) {
        return Err(refused("is no name of a setting"));
    }
    if value.len() > 4096 || value.contains(['\n', '\0']) {
        return Err(refused("value has a newline or NUL, or is too long"));
    }
    let dotted = path.replace('/', ".");
    let owned = if dotted.starts_with("net.") {
        shape.net.is_own()
    } else if is_of_ipc(&dotted) {
        shape.ipc.is_own()
    } else {
        return Err(refused("is not a setting of a container"));
    };
    if !owned {
        return Err(refused("belongs to a namespace that is not the container's own"));
    }
    Ok((path, value.to_owned()))
}

/// Writes settings through a handle of `/proc/sys` from before it became read-only, and reads them back.
pub fn apply(proc_sys: &Root, sysctls: &[(String, String)]) -> Result<(), Failure> {
    for (path, value) in sysctls {
        let name = path.replace('/', ".");
        let fd = proc_sys
            .resolve_same_mount(path.as_ref(), OFlags::RDWR | OFlags::NOFOLLOW, 0)
            .step(format_args!("set sysctl {name}"))?;
        let mut file = File::from(fd);
        file.write_all(value.as_bytes()).step(format_args!("set sysctl {name} to {value:?}"))?;
        let mut text = String::new();
        let fd = proc_sys.resolve_same_mount(path.as_ref(), OFlags::RDONLY | OFlags::NOFOLLOW, 0);
        let read = fd.and_then(|fd| File::from(fd).take(8192).read_to_string(&mut text));
        read.step(format_args!("read sysctl {name} back"))?;
        if !text.split_ascii_whitespace().eq(value.split_ascii_whitespace()) {
            return Err(Failure::invalid(format!("sysctl {name}: set to {value:?}, is {:?}", text.trim())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::shape::Namespace;

    #[test]
    fn only_settings_of_own_namespaces() {
        let shape = Shape::standard();
        let path = |name| plan_sysctl(&shape, name, "1").map(|(path, _)| path);
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
        path("kernel.shmmax").unwrap();
        path("fs.mqueue.msg_max").unwrap();
        for bad in [
            "",
            ".",
            "net..x",
            "net/../kernel/core_pattern",
            "kernel.core_pattern",
            "a=1+kernel.x",
            "vm.swappiness",
            "net.ipv4.x\n",
            "/net/ipv4/ip_forward",
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(plan_sysctl(&shape, "net.a", "1\n2").is_err());
        let host = Shape { net: Namespace::Host, ..Shape::standard() };
        assert!(plan_sysctl(&host, "net.ipv4.ip_forward", "1").is_err());
    }
}
