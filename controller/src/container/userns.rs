//! User namespaces: the words of `--userns`, and which ids of the host a container gets.

use davit_proto::store::ContainerRecord;
use davit_proto::task::{IdMap, NamespaceMode, Shape};
use prost::Message as _;

use super::spec::Error;

/// Ids of a container that does not say how many.
const COUNT: u32 = 65_536;
/// Where ids of containers lie that do not say which: above all that `/etc/subuid` usually gives to users, in the
/// range that systemd leaves to containers.
const POOL: std::ops::Range<u64> = 0x4000_0000..0x7000_0000;
/// Ids below 2^31 only: some programs still count with a sign.
const HIGHEST: u64 = 1 << 31;

/// What a request wants of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// None: the ids of the host.
    Host,
    /// Any ids that no other container of this engine has.
    Auto {
        /// How many.
        count: u32,
    },
    /// These.
    Fixed(IdMap),
}

/// Understands `host`, `auto`, `auto:size=N` and `UID:GID:SIZE`.
///
/// # Errors
/// When it is none of them, or the ids are out of range.
pub fn parse(text: &str) -> Result<Wanted, Error> {
    let invalid = |rule: &str| Error::invalid("namespaces.user", text, rule);
    let count = |text: &str| text.parse::<u32>().ok().filter(|count| *count > 0);
    match text {
        "" | "host" => return Ok(Wanted::Host),
        "auto" | "private" => return Ok(Wanted::Auto { count: COUNT }),
        _ => {}
    }
    if let Some(size) = text.strip_prefix("auto:size=") {
        let fits = |count: &u32| u64::from(*count) <= POOL.end - POOL.start;
        let count = count(size).filter(fits);
        return count.map(|count| Wanted::Auto { count }).ok_or_else(|| {
            invalid(&format!("the size must be a number from 1 to {}", POOL.end - POOL.start))
        });
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [uid, gid, size] = parts.as_slice() else {
        return Err(invalid("must be host, auto, auto:size=N or UID:GID:SIZE"));
    };
    let (Ok(host_uid), Ok(host_gid), Some(count)) = (uid.parse(), gid.parse(), count(size)) else {
        return Err(invalid("UID, GID and SIZE must be numbers, and SIZE at least 1"));
    };
    let map = IdMap { host_uid, host_gid, count };
    let end = |first: u32| u64::from(first) + u64::from(count);
    if end(host_uid) > HIGHEST || end(host_gid) > HIGHEST {
        return Err(invalid("ids of the host end at 2147483647"));
    }
    if host_uid == 0 || host_gid == 0 {
        // It would have root's files and processes, and look as if it had not.
        return Err(invalid("root of the host cannot be given to a container"));
    }
    Ok(Wanted::Fixed(map))
}

impl Wanted {
    /// Whether the container gets a user namespace of its own.
    #[must_use]
    pub fn is_own(self) -> bool {
        self != Self::Host
    }

    /// The ids, where the request names them.
    #[must_use]
    pub fn ids(self) -> Option<IdMap> {
        match self {
            Self::Fixed(map) => Some(map),
            Self::Host | Self::Auto { .. } => None,
        }
    }
}

/// Whether a shape lacks the ids that its user namespace needs.
#[must_use]
pub fn lacks_ids(shape: &Shape) -> bool {
    let own = shape.user.as_ref().is_some_and(|user| user.mode() == NamespaceMode::Own);
    own && shape.ids.is_none()
}

/// The ids of a container, as its record keeps them for all its lives.
#[must_use]
pub fn ids_of(record: &ContainerRecord) -> Option<IdMap> {
    Shape::decode(record.shape.as_slice()).ok()?.ids
}

/// Ids for a container that wants any. `taken` are those of all others; `instance` spreads the engines of one host.
///
/// # Errors
/// When there are not so many in a row.
pub fn choose(count: u32, taken: &[IdMap], instance: &str) -> Result<IdMap, Error> {
    let step = u64::from(COUNT);
    let slots = (POOL.end - POOL.start) / step;
    let first = hash(instance) % slots;
    let is_free = |from: u64| {
        let to = from + u64::from(count);
        let apart = |first: u32, len: u32| {
            let first = u64::from(first);
            to <= first || first + u64::from(len) <= from
        };
        to <= POOL.end && taken.iter().all(|t| apart(t.host_uid, t.count) && apart(t.host_gid, t.count))
    };
    let mut starts = (0..slots).map(|n| POOL.start + (first + n) % slots * step);
    let found = starts.find(|from| is_free(*from)).and_then(|from| u32::try_from(from).ok());
    let id = found.ok_or_else(|| {
        Error::Host(format!("no {count} ids in a row are left for a user namespace on this host"))
    })?;
    Ok(IdMap { host_uid: id, host_gid: id, count })
}

/// FNV-1a: the same in every version, so that an engine's ids stay where they are.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_flag() {
        assert_eq!(parse("").unwrap(), Wanted::Host);
        assert_eq!(parse("host").unwrap(), Wanted::Host);
        assert_eq!(parse("auto").unwrap(), Wanted::Auto { count: 65_536 });
        assert_eq!(parse("auto:size=1000").unwrap(), Wanted::Auto { count: 1000 });
        let fixed = IdMap { host_uid: 100_000, host_gid: 200_000, count: 65_536 };
        assert_eq!(parse("100000:200000:65536").unwrap(), Wanted::Fixed(fixed));
        for bad in [
            "keep-id",
            "auto:",
            "auto:size=0",
            "auto:size=x",
            "auto:size=4294967295",
            "1:2",
            "1:2:3:4",
            "1:2:0",
            "-1:2:3",
            "0:1:2",
            "1:0:2",
            "2147483647:1:2",
            "1:4294967295:1",
            "4294967296:1:1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_two_containers_share_an_id() {
        let mut taken = Vec::new();
        for count in [65_536, 1, 200_000, 65_536] {
            let map = choose(count, &taken, "davit").unwrap();
            assert!(POOL.contains(&u64::from(map.host_uid)));
            taken.push(map);
        }
        for (n, a) in taken.iter().enumerate() {
            for b in &taken[n + 1..] {
                assert!(
                    a.host_uid + a.count <= b.host_uid || b.host_uid + b.count <= a.host_uid,
                    "{a:?} {b:?}"
                );
            }
        }
        // What was named by hand counts as well, as user and as group.
        let next = choose(65_536, &taken, "davit").unwrap();
        let by_hand = IdMap { host_uid: 5, host_gid: next.host_gid + 7, count: 1 };
        let other = choose(65_536, &[&taken[..], &[by_hand]].concat(), "davit").unwrap();
        assert_ne!(other, next);
        assert_ne!(choose(1, &[], "davit").unwrap(), choose(1, &[], "davit-x").unwrap());
    }

    #[test]
    fn a_full_host_says_so() {
        let all = IdMap { host_uid: 0x4000_0000, host_gid: 0x4000_0000, count: 0x3000_0000 };
        let error = choose(1, &[all], "davit").unwrap_err().to_string();
        assert_eq!(error, "no 1 ids in a row are left for a user namespace on this host");
    }
}
