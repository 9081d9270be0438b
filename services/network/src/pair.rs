//! Names of veth pairs on the host: made from whose they are, so that they are found again whatever became of the
//! other end.

use davit_proto::id::ContainerId;

use crate::hash::fnv;
use crate::network::NetworkId;

/// Names that are tried for the host's end of a pair. More than one is needed while the kernel still takes down the
/// namespace of an earlier life.
const ATTEMPTS: u32 = 16;
/// What they begin with.
const PREFIX: &str = "dv";
/// Hex digits after that.
const DIGITS: usize = 13;

/// The names that the host's end of a container's pair on a network may have, the usual one first. A hash, so that no
/// name that a person chose reaches the kernel.
pub fn host_names(
    instance: &str,
    container_id: &ContainerId,
    network: &NetworkId,
) -> impl Iterator<Item = String> + use<> {
    let instance = instance.to_owned();
    let (container_id, network) = (container_id.clone(), network.clone());
    (0..ATTEMPTS).map(move |attempt| {
        let hash = fnv([&*instance, container_id.as_str(), network.as_str(), &attempt.to_string()]);
        format!("{PREFIX}{:0DIGITS$x}", hash >> 12)
    })
}

/// Whether a name may be one of those.
pub fn may_be_host_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_again() {
        let (container, network) = (ContainerId::generate().unwrap(), NetworkId::generate().unwrap());
        let names: Vec<String> = host_names("davit", &container, &network).collect();
        assert_eq!(names, host_names("davit", &container, &network).collect::<Vec<_>>());
        assert!(names.iter().all(|name| name.len() <= 15 && may_be_host_name(name)));
        assert_ne!(names[0], host_names("other", &container, &network).next().unwrap());
        for other in ["davit0", "dv", "dv0123456789abg"] {
            assert!(!may_be_host_name(other), "{other}");
        }
    }
}
