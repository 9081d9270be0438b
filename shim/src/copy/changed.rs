//! What a container changed in its image's files: as a list, or as the layer of an image. Read from the disk beside the
//! container's own mount, which need not be there.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use davit_archive::changes::Kind;
use davit_archive::write::Writer;
use davit_archive::{Change, Overlay, PackError, changes, layer};
use davit_proto::copy::{Action, Answer, FailureKind, Order};
use davit_proto::status::chain;
use davit_sys::file::FileType;

use super::failure::Failure;
use super::{pipe, tell};
use crate::bundle::Bundle;
use crate::init::stopped;

/// Follows an order for the writable layer of a bundle.
pub fn write(socket: &OwnedFd, order: &Order, bundle: &Path) -> Result<Answer, Failure> {
    let overlay = open(order, bundle)?;
    tell(socket, &Answer::Ready).map_err(Failure::io("answer"))?;
    let output = pipe()?;
    let failed = |error: PackError| Failure::of_whole(&error, order);
    match &order.action {
        Action::Layer { not_after } => {
            let mut writer = Writer::new(output).not_after(*not_after);
            let entries = match &overlay {
                Some(overlay) => layer(overlay, &mut writer).map_err(failed)?,
                None => 0,
            };
            writer.end().map_err(Failure::io("write the archive"))?;
            Ok(Answer::Done { entries, bytes: writer.written() })
        }
        Action::Diff => {
            let mut list = List { output, directories: Vec::new(), entries: 0, bytes: 0 };
            if let Some(overlay) = &overlay {
                changes(overlay, &mut |change| list.take(change)).map_err(failed)?;
            }
            list.output.flush().map_err(Failure::io("write the list"))?;
            Ok(Answer::Done { entries: list.entries, bytes: list.bytes })
        }
        _ => Err(Failure::new(FailureKind::Internal, "that is not done with a layer as it lies on the disk")),
    }
}

fn open(order: &Order, bundle: &Path) -> Result<Option<Overlay>, Failure> {
    let internal = |error: &dyn std::error::Error| {
        let why = format!("find the layers of container {}: {}", order.container, chain(error));
        Failure::new(FailureKind::Internal, why)
    };
    let spec = Bundle::new(bundle.to_owned()).spec().map_err(|error| internal(&error))?;
    stopped::layers(&spec, bundle).map_err(|error| internal(&error))
}

/// Changes in docker's words: a directory in which something came or went has changed.
struct List<W> {
    output: W,
    /// The directories on the way to where the list is, and whether it has each.
    directories: Vec<(Vec<u8>, bool)>,
    entries: u64,
    bytes: u64,
}

impl<W: Write> List<W> {
    fn take(&mut self, change: &Change<'_>) -> Result<(), PackError> {
        if change.path.is_empty() {
            return Ok(());
        }
        let is_in = |directory: &[u8]| {
            change.path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        while self.directories.pop_if(|(directory, _)| !is_in(directory)).is_some() {}
        let letter = match change.kind {
            Kind::Added => Some(b'A'),
            Kind::Changed => Some(b'C'),
            Kind::Deleted | Kind::Covered => Some(b'D'),
            Kind::Same => None,
        };
        if matches!(letter, Some(b'A' | b'D'))
            && let Some((parent, listed)) = self.directories.last_mut()
            && !*listed
        {
            *listed = true;
            let parent = parent.clone();
            self.line(b'C', &parent)?;
        }
        if let Some(letter) = letter {
            self.line(letter, change.path)?;
        }
        let is_directory = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
        if change.stat.is_some_and(|stat| is_directory(stat.st_mode)) {
            self.directories.push((change.path.to_vec(), letter.is_some()));
        }
        Ok(())
    }

    fn line(&mut self, letter: u8, path: &[u8]) -> Result<(), PackError> {
        self.entries += 1;
        self.bytes += path.len() as u64 + 3;
        for part in [&[letter, b'/'][..], path, &[0]] {
            self.output.write_all(part).map_err(PackError::Write)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(told: &[(Kind, &str)]) -> String {
        let directory = davit_sys::file::stat(std::fs::File::open("/").unwrap()).unwrap();
        let file = davit_sys::file::stat(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let mut list = List { output: Vec::new(), directories: Vec::new(), entries: 0, bytes: 0 };
        for (kind, path) in told {
            let (path, is_directory) = match path.strip_suffix('/') {
                Some(path) => (path, true),
                None => (*path, false),
            };
            let stat = Some(if is_directory { &directory } else { &file });
            list.take(&Change { path: path.as_bytes(), kind: *kind, handle: None, stat, opaque: false })
                .unwrap();
        }
        assert_eq!(list.output.len() as u64, list.bytes);
        String::from_utf8(list.output).unwrap().replace('\0', " ")
    }

    #[test]
    fn directories_in_which_something_came_or_went_have_changed() {
        use Kind::{Added, Changed, Covered, Deleted, Same};
        assert_eq!(
            listed(&[(Same, ""), (Same, "etc/"), (Added, "etc/x"), (Deleted, "etc/y")]),
            "C/etc A/etc/x D/etc/y "
        );
        assert_eq!(listed(&[(Same, "etc/"), (Changed, "etc/x")]), "C/etc/x ");
        assert_eq!(
            listed(&[(Same, "a/"), (Same, "a/b/"), (Added, "a/b/c/"), (Added, "a/b/c/d")]),
            "C/a/b A/a/b/c A/a/b/c/d "
        );
        assert_eq!(
            listed(&[(Same, "a/"), (Changed, "a/b"), (Deleted, "c"), (Added, "ab")]),
            "C/a/b D/c A/ab "
        );
        assert_eq!(listed(&[(Changed, "d/"), (Added, "d/new"), (Covered, "d/old")]), "C/d A/d/new D/d/old ");
    }
}
