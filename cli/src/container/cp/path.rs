//! docker's rules of what a copy is called and where it goes: pure.

use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// One side of a copy as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// A path of this side, or `-`.
    Host(&'a str),
    /// A path of a container.
    Container {
        /// Which.
        container: &'a str,
        /// Where; from its root also without a slash in front.
        path: &'a str,
    },
}

impl<'a> End<'a> {
    /// A colon parts container and path, unless the path is plainly one of this side.
    pub fn parse(typed: &'a str) -> Self {
        match typed.split_once(':') {
            Some((container, path)) if !typed.starts_with(['/', '.']) && !container.is_empty() => {
                Self::Container { container, path }
            }
            _ => Self::Host(typed),
        }
    }
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name; `.` where only the content of a folder is meant.
    pub name: String,
    /// A folder.
    pub is_dir: bool,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The path as it was typed, or what a link there leads to.
    pub path: String,
    /// Something is there.
    pub exists: bool,
    /// It is a folder.
    pub is_dir: bool,
}

/// The folder that an archive is extracted into, and the name that its first entry needs for that.
pub fn plan(subject: &Subject, target: &Target) -> Result<(String, String), Error> {
    if target.exists && target.is_dir {
        return Ok((target.path.clone(), subject.name.clone()));
    }
    if target.exists && subject.is_dir {
        return Err(Error::Usage("cannot copy directory".into()));
    }
    if !subject.is_dir && says_directory(&target.path) {
        // docker's words differ with what is there.
        let why = if target.exists { "not a directory" } else { "no such directory" };
        return Err(Error::Usage(why.into()));
    }
    Ok(split(&target.path))
}

/// Whether a path says of itself that a folder is meant.
pub fn says_directory(path: &str) -> bool {
    path.ends_with('/') || says_content(path)
}

/// Whether a path means what is in a folder.
fn says_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// The folder that holds the end of a path, and that end: `.` where the path ends in it.
pub fn split(path: &str) -> (String, String) {
    let clean = clean(path);
    if says_content(path) {
        return (clean, ".".into());
    }
    match clean.rsplit_once('/') {
        _ if clean == "/" => ("/".into(), ".".into()),
        None => (".".into(), clean),
        Some(("", name)) => ("/".into(), name.to_owned()),
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
    }
}

/// A link's target as a path: from the link's folder where it is not absolute.
pub fn through_link(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let (folder, _) = split(path.trim_end_matches('/'));
    format!("{}/{link}", folder.trim_end_matches('/'))
}

/// Without double slashes, `.` and, as far as that can be told, `..`.
pub fn clean(path: &str) -> String {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => {
                    clean.pop();
                }
                Some(Component::RootDir) => {}
                _ => clean.push(".."),
            },
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    let text = clean.to_string_lossy().into_owned();
    if text.is_empty() { ".".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_parted_at_the_first_colon() {
        let inside = |container, path| End::Container { container, path };
        for (typed, wanted) in [
            ("web:/a", inside("web", "/a")),
            ("web:a:b", inside("web", "a:b")),
            ("web:", inside("web", "")),
            ("/a:b", End::Host("/a:b")),
            ("./a:b", End::Host("./a:b")),
            ("../a:b", End::Host("../a:b")),
            ("a", End::Host("a")),
            (":b", End::Host(":b")),
            ("-", End::Host("-")),
        ] {
            assert_eq!(End::parse(typed), wanted, "{typed}");
        }
    }

    #[test]
    fn dockers_table_of_names() {
        let dir = |name: &str| Subject { name: name.into(), is_dir: true };
        let file = |name: &str| Subject { name: name.into(), is_dir: false };
        let there = |path: &str, is_dir| Target { path: path.into(), exists: true, is_dir };
        let missing = |path: &str| Target { path: path.into(), exists: false, is_dir: false };
        let ok =
            |subject: &Subject, target: &Target| plan(subject, target).map_err(|error| error.to_string());
        let to = |folder: &str, name: &str| Ok((folder.to_owned(), name.to_owned()));
        // A file: to a missing name, to a missing folder, over a file, into a folder.
        assert_eq!(ok(&file("f"), &missing("/d/new")), to("/d", "new"));
        assert_eq!(ok(&file("f"), &missing("/d/new/")), Err("no such directory".into()));
        assert_eq!(ok(&file("f"), &missing("/d/new/.")), Err("no such directory".into()));
        assert_eq!(ok(&file("f"), &there("/d/old", false)), to("/d", "old"));
        assert_eq!(ok(&file("f"), &there("/d", true)), to("/d", "f"));
        assert_eq!(ok(&file("f"), &there("/d/", true)), to("/d/", "f"));
        // A folder: to a missing name it takes that name, with and without "/."; over a file it cannot go.
        assert_eq!(ok(&dir("s"), &missing("/d/new")), to("/d", "new"));
        assert_eq!(ok(&dir("s"), &missing("/d/new/")), to("/d", "new"));
        assert_eq!(ok(&dir("."), &missing("/d/new")), to("/d", "new"));
        assert_eq!(ok(&dir("s"), &there("/d/old", false)), Err("cannot copy directory".into()));
        // Into a folder it goes whole, or with "/." only what is in it.
        assert_eq!(ok(&dir("s"), &there("/d", true)), to("/d", "s"));
        assert_eq!(ok(&dir("."), &there("/d", true)), to("/d", "."));
    }

    #[test]
    fn paths_are_split_at_their_end() {
        for (path, folder, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("a", ".", "a"),
            (".", ".", "."),
            ("/", "/", "."),
            ("/a", "/", "a"),
            ("a/../b//c", "b", "c"),
        ] {
            assert_eq!(split(path), (folder.into(), name.into()), "{path}");
        }
        assert_eq!(through_link("/a/l", "t"), "/a/t");
        assert_eq!(through_link("/l", "../t"), "/../t");
        assert_eq!(through_link("/a/l/", "/t"), "/t");
        assert_eq!((clean("/../a"), clean("../a"), clean("")), ("/a".into(), "../a".into(), ".".into()));
    }
}
