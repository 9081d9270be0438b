//! The files that go along with a build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use davit_dockerfile::Ignore;
use davit_proto::build::build_request::Frame;
use davit_proto::build::{ArchivePiece, BuildRequest, Content, Entry};
use davit_sys::file::OFlags;
use tokio::sync::mpsc;

use crate::error::Error;

/// Bytes of a frame.
const PIECE: usize = 256 << 10;
/// A link at the end is refused, and the writer of a pipe is not waited for.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
const FORMAT: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const FIFO: u32 = 0o010_000;

/// A folder as it is.
#[derive(Debug, Clone, Default)]
pub struct Context {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Context {
    /// Looks at everything in a folder that does not stay behind. Files are not read. Sockets and devices stay behind.
    pub fn walk(folder: &Path, ignore: &Ignore) -> Result<Self, Error> {
        let mut context = Self { folder: folder.to_owned(), entries: Vec::new() };
        let mut open = vec![PathBuf::new()];
        // Folders that stay behind, unless something in them does not.
        let mut waiting = BTreeMap::new();
        while let Some(inner) = open.pop() {
            let path = folder.join(&inner);
            let failed = |error| Error::io(format!("read {}", path.display()), error);
            for found in std::fs::read_dir(&path).map_err(failed)? {
                let found = found.map_err(failed)?;
                let inner = inner.join(found.file_name());
                let text = inner.to_string_lossy();
                let ignored = ignore.ignores(&text);
                let below = !ignored || !ignore.ignores_all_below(&text);
                // What stays behind with all that is in it is not even looked at.
                if !below {
                    continue;
                }
                let stat = match found.metadata() {
                    Ok(stat) => stat,
                    // Gone since its name was read.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Error::io(format!("read {}", found.path().display()), error)),
                };
                if stat.is_dir() {
                    open.push(inner.clone());
                }
                let path = found.path();
                let failed = |error| Error::io(format!("read {}", path.display()), error);
                let entry = entry(&inner, &path, &stat).map_err(failed)?;
                if ignored {
                    waiting.extend(entry.filter(|_| stat.is_dir()).map(|entry| (inner, entry)));
                    continue;
                }
                context.entries.extend(inner.ancestors().skip(1).filter_map(|above| waiting.remove(above)));
                context.entries.extend(entry);
            }
        }
        context.entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(context)
    }

    /// What there is.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sends the content of files, until all is sent or nobody wants more.
    pub async fn send(self: Arc<Self>, numbers: Vec<u32>, frames: mpsc::Sender<BuildRequest>) {
        let sent = tokio::task::spawn_blocking(move || {
            for number in numbers {
                let Some(entry) = self.entries.get(number as usize) else { return };
                let path = self.folder.join(Path::new(std::ffi::OsStr::from_bytes(&entry.path)));
                let mut piece = |content: Content| {
                    let frame = Frame::Content(Content { entry: number, ..content });
                    frames.blocking_send(BuildRequest { frame: Some(frame) }).is_ok()
                };
                match send_file(&path, &mut piece) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        let error = format!("read {}: {error}", path.display());
                        piece(Content { error, ..Content::default() });
                        return;
                    }
                }
            }
        });
        // A thread that panicked has said so.
        let _ = sent.await;
    }
}

/// Sends one file; false when nobody wants more.
fn send_file(path: &Path, send: &mut impl FnMut(Content) -> bool) -> io::Result<bool> {
    let mut file = File::options().read(true).custom_flags(FLAGS.bits().cast_signed()).open(path)?;
    loop {
        let mut chunk = Vec::with_capacity(PIECE);
        io::Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut chunk)?;
        let last = chunk.len() < PIECE;
        if !send(Content { chunk: Bytes::from(chunk), last, ..Content::default() }) {
            return Ok(false);
        }
        if last {
            return Ok(true);
        }
    }
}

fn entry(inner: &Path, path: &Path, stat: &std::fs::Metadata) -> io::Result<Option<Entry>> {
    let link = match stat.mode() & FORMAT {
        REGULAR | DIRECTORY | FIFO => Bytes::new(),
        LINK => Bytes::copy_from_slice(std::fs::read_link(path)?.as_os_str().as_bytes()),
        _ => return Ok(None),
    };
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    Ok(Some(Entry {
        path: Bytes::copy_from_slice(inner.as_os_str().as_bytes()),
        mode: stat.mode(),
        size: if stat.is_file() { stat.len() } else { 0 },
        modified: nanoseconds(stat.mtime(), stat.mtime_nsec()),
        changed: nanoseconds(stat.ctime(), stat.ctime_nsec()),
        inode: stat.ino(),
        link,
    }))
}

/// Sends an archive as it is, until all is sent or nobody wants more.
pub fn send_archive(mut archive: Box<dyn io::Read + Send>, frames: mpsc::Sender<BuildRequest>) {
    // A thread that nobody waits for: standard input may never end.
    std::thread::spawn(move || {
        loop {
            let mut chunk = Vec::with_capacity(PIECE);
            if let Err(error) = archive.by_ref().take(PIECE as u64).read_to_end(&mut chunk) {
                // Without an end, what came is not taken for whole.
                crate::output::complain(&format!("read the context: {error}"));
                return;
            }
            let last = chunk.len() < PIECE;
            let frame = Frame::Archive(ArchivePiece { chunk: Bytes::from(chunk), last });
            if frames.blocking_send(BuildRequest { frame: Some(frame) }).is_err() || last {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn everything_is_seen_in_order_and_what_cannot_travel_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["b/c/file", "a.txt", "b.txt", "gone/x", "gone/y/z"] {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), name).unwrap();
        }
        std::fs::hard_link(path.join("a.txt"), path.join("b/again")).unwrap();
        symlink("/nowhere", path.join("link")).unwrap();
        let strange = OsStr::from_bytes(b"strange\xff");
        std::fs::write(path.join(strange), "").unwrap();
        let _socket = UnixListener::bind(path.join("socket")).unwrap();
        let ignore = Ignore::parse("gone\n*.log\n").unwrap();
        let context = Context::walk(path, &ignore).unwrap();
        let names: Vec<&[u8]> = context.entries.iter().map(|entry| entry.path.as_ref()).collect();
        let wanted: [&[u8]; 8] =
            [b"a.txt", b"b", b"b.txt", b"b/again", b"b/c", b"b/c/file", b"link", b"strange\xff"];
        assert_eq!(names, wanted);
        assert_eq!(context.entries[6].link.as_ref(), b"/nowhere");
        assert_eq!(context.entries[0].inode, context.entries[3].inode);
    }
}
