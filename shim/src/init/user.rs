//! Who a container's process is: its own passwd and group files, read with limits, and numbers that stay numbers.

use std::io;
use std::path::Path;

use davit_sys::file::{self, FileType, Root};

use super::error::Failure;
use super::plan::UserPlan;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All other groups.
    pub groups: Vec<u32>,
    /// Where the user lives.
    pub home: String,
}

/// Larger files are refused: they are an image's, and nothing of it is trusted.
const MAX_FILE: usize = 10 * 1024 * 1024;
const MAX_ID: u32 = i32::MAX as u32;
/// The kernel takes 65536.
const MAX_GROUPS: usize = 4096;

/// The user databases of a container.
#[derive(Debug, Default)]
pub struct Databases {
    passwd: String,
    group: String,
}

#[derive(Debug, Clone, Copy)]
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

#[derive(Debug, Clone, Copy)]
struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Databases {
    /// Reads both files inside a root; one that is not there is empty.
    pub fn read(root: &Root) -> Result<Self, Failure> {
        Ok(Self { passwd: read(root, "/etc/passwd")?, group: read(root, "/etc/group")? })
    }

    fn passwd(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1).unwrap_or_default();
            (!name.is_empty()).then_some(PasswdEntry { name, uid, gid, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _password) = (fields.next()?, fields.next()?);
            let gid = fields.next()?.parse().ok()?;
            let members = fields.next().unwrap_or_default();
            (!name.is_empty()).then_some(GroupEntry { name, gid, members })
        })
    }

    /// Finds out who runs.
    pub fn resolve(&self, plan: &UserPlan) -> Result<Identity, Failure> {
        let (mut identity, extra) = match plan {
            UserPlan::Numeric { uid, gid, groups } => {
                let entry = self.passwd().find(|e| e.uid == *uid);
                let home = home(entry);
                (Identity { uid: *uid, gid: *gid, groups: Vec::new(), home }, groups)
            }
            UserPlan::Named { user, groups } => (self.resolve_named(user)?, groups),
        };
        for group in extra {
            identity.groups.push(self.resolve_group(group)?);
        }
        let mut seen = Vec::with_capacity(identity.groups.len());
        identity.groups.retain(|g| {
            !seen.contains(g) && {
                seen.push(*g);
                true
            }
        });
        if identity.groups.len() > MAX_GROUPS {
            return Err(Failure::invalid(format!("user is in more than {MAX_GROUPS} groups")));
        }
        let ids = [identity.uid, identity.gid];
        match ids.iter().chain(&identity.groups).find(|id| **id > MAX_ID) {
            Some(bad) => Err(Failure::invalid(format!("user or group {bad} is out of range"))),
            None => Ok(identity),
        }
    }

    fn resolve_named(&self, text: &str) -> Result<Identity, Failure> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
            None => (text, None),
        };
        let number = number(user)?;
        let entry = match number {
            // A number is never a name, whatever the file says.
            Some(uid) => self.passwd().find(|e| e.uid == uid),
            None if user.is_empty() => self.passwd().find(|e| e.uid == 0),
            None => Some(self.passwd().find(|e| e.name == user).ok_or_else(|| {
                Failure::invalid(format!("unable to find user {user}: no matching entries in passwd file"))
            })?),
        };
        let uid = entry.map_or(number.unwrap_or(0), |e| e.uid);
        let gid = match group {
            Some(group) => self.resolve_group(group)?,
            None => entry.map_or(0, |e| e.gid),
        };
        // Groups by membership belong to the user's own login, not to one with a group of the caller's choice.
        let member = |g: &GroupEntry<'_>| entry.is_some_and(|e| g.members.split(',').any(|m| m == e.name));
        let groups = match group {
            Some(_) => Vec::new(),
            None => self.groups().filter(member).map(|g| g.gid).take(MAX_GROUPS + 1).collect(),
        };
        Ok(Identity { uid, gid, groups, home: home(entry) })
    }

    fn resolve_group(&self, group: &str) -> Result<u32, Failure> {
        if let Some(gid) = number(group)? {
            return Ok(gid);
        }
        let found = self.groups().find(|g| g.name == group).map(|g| g.gid);
        found.ok_or_else(|| {
            Failure::invalid(format!("unable to find group {group}: no matching entries in group file"))
        })
    }
}

fn read(root: &Root, path: &str) -> Result<String, Failure> {
    match root.read(Path::new(path), MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        // Masked, or the image's own way to say that there is nobody.
        Err(_) if is_null(root, path) => Ok(String::new()),
        Err(e) => Err(Failure::kernel(format_args!("read {path} of the container"), &e)),
    }
}

fn is_null(root: &Root, path: &str) -> bool {
    let seen = root.open_path(Path::new(path)).and_then(file::stat);
    seen.is_ok_and(|seen| {
        FileType::from_raw_mode(seen.st_mode) == FileType::CharacterDevice
            && file::device_numbers(&seen) == (1, 3)
    })
}

/// Digits, with or without a sign, are a number and must be in range; anything else is a name.
fn number(text: &str) -> Result<Option<u32>, Failure> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse::<u32>().ok().filter(|id| *id <= MAX_ID && text.len() == digits.len());
    id.map(Some).ok_or_else(|| Failure::invalid(format!("user or group {text} is out of range 0-{MAX_ID}")))
}

fn home(entry: Option<PasswdEntry<'_>>) -> String {
    entry
        .map(|e| e.home)
        .filter(|home| home.starts_with('/') && !home.contains('\0'))
        .unwrap_or("/")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn databases() -> Databases {
        Databases {
            passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:\n1000:x:0:0:trap:/trap:\n\
                     :x:5:5::/:\nbroken\nbig:x:4294967295:0::/:\nodd:x:7:8::relative:\n"
                .into(),
            group: "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:root,app\ntrap:x:zz:app\n1234:x:0:app\n"
                .into(),
        }
    }

    fn named(user: &str) -> Result<Identity, Failure> {
        databases().resolve(&UserPlan::Named { user: user.into(), groups: vec![] })
    }

    #[test]
    fn names_and_groups() {
        let app = named("app").unwrap();
        assert_eq!((app.uid, app.gid, app.home.as_str()), (1000, 1001, "/home/app"));
        assert_eq!(app.groups, [50, 10, 0]);
        let app = named("app:staff").unwrap();
        assert_eq!((app.gid, app.groups), (50, vec![]));
        assert_eq!(named("app:77").unwrap().gid, 77);
        assert_eq!(named("odd").unwrap().home, "/");
    }

    #[test]
    fn digits_are_a_number_and_never_a_name() {
        let user = named("1000").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1001, "/home/app"));
        assert_eq!(named("4242").unwrap(), Identity { uid: 4242, gid: 0, groups: vec![], home: "/".into() });
        assert_eq!(named("app:1234").unwrap().gid, 1234);
    }

    #[test]
    fn what_is_out_of_range_or_unknown_is_refused() {
        for bad in [
            "2147483648",
            "4294967296",
            "-1",
            "+5",
            "nobody",
            "app:nogroup",
            "app:-1",
            "big",
            "99999999999999999999",
        ] {
            assert!(named(bad).is_err(), "{bad}");
        }
        assert_eq!(named("2147483647").unwrap().uid, 2147483647);
    }

    #[test]
    fn numbers_of_a_spec_find_their_home_and_keep_their_groups() {
        let plan =
            UserPlan::Numeric { uid: 1000, gid: 5, groups: ["7", "7", "8"].map(str::to_owned).to_vec() };
        let user = databases().resolve(&plan).unwrap();
        assert_eq!((user.gid, user.groups, user.home.as_str()), (5, vec![7, 8], "/home/app"));
        assert_eq!(Databases::default().resolve(&plan).unwrap().home, "/");
        let more = |groups: &[&str]| UserPlan::Numeric {
            uid: 0,
            gid: 0,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        assert_eq!(databases().resolve(&more(&["staff", "44"])).unwrap().groups, [50, 44]);
        assert!(databases().resolve(&more(&["nogroup"])).is_err());
    }
}
