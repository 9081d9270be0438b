//! Whose a file is: the same numbers here and in the archive, or those of a container's user namespace.

/// Who has what nobody of a range has.
const NOBODY: u32 = 65_534;

/// Ids of the host that are a container's: 0 and those after it inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// User of the host that is root inside.
    pub uid: u32,
    /// Group of the host that is root inside.
    pub gid: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// The host's ids as the container has them; nobody where it has none.
    #[must_use]
    pub fn inside(self, uid: u32, gid: u32) -> (u32, u32) {
        let inside =
            |id: u32, first: u32| id.checked_sub(first).filter(|n| *n < self.count).unwrap_or(NOBODY);
        (inside(uid, self.uid), inside(gid, self.gid))
    }

    /// The container's ids as the host has them; none where they are not the container's.
    #[must_use]
    pub fn outside(self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let outside = |id: u32, first: u32| if id < self.count { first.checked_add(id) } else { None };
        Some((outside(uid, self.uid)?, outside(gid, self.gid)?))
    }
}

/// Whose files become when they are extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Whoever extracts: nothing is changed.
    Caller,
    /// All of them this user's and group's.
    Fixed(u32, u32),
    /// As the archive says, in a container's range where there is one.
    Kept(Option<IdRange>),
}

impl Owners {
    /// The owner to be set for one that the archive names; `Err` with that one when nobody here is meant.
    pub(crate) fn of(self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>, (u32, u32)> {
        match self {
            Self::Caller => Ok(None),
            Self::Fixed(uid, gid) => Ok(Some((uid, gid))),
            Self::Kept(None) => Ok(Some((uid, gid))),
            Self::Kept(Some(range)) => range.outside(uid, gid).map(Some).ok_or((uid, gid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_go_both_ways_and_end() {
        let range = IdRange { uid: 1000, gid: 2000, count: 10 };
        assert_eq!(range.outside(0, 9), Some((1000, 2009)));
        assert_eq!(range.outside(10, 0), None);
        assert_eq!(range.inside(1000, 2009), (0, 9));
        assert_eq!(range.inside(0, 2010), (NOBODY, NOBODY));
        assert_eq!(Owners::Kept(Some(range)).of(3, 50), Err((3, 50)));
        assert_eq!(Owners::Kept(None).of(3, 50), Ok(Some((3, 50))));
        assert_eq!(IdRange { uid: u32::MAX, gid: 0, count: 5 }.outside(1, 1), None);
    }
}
