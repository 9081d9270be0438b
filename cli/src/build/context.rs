//! The files that go along with a build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use davit_dockerfile::Ignore;
use davit_proto::build::build_request::Frame;
use davit_proto::build::{BuildRequest, Content, Entry};
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

/// A folder as it is.
#[derive(Debug, Clone, Default)]
pub struct Context {
    folder: PathBuf,
    entries: Vec<Entry>,
}

impl Context {
    /// Looks at everything in a folder that does not stay behind. Files are not read. What is neither file, folder nor
    /// link stays behind.
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
                let stat = found.metadata().map_err(failed)?;
                if stat.is_dir() && !(ignored && ignore.ignores_all_below(&text)) {
                    open.push(inner.clone());
                }
                let entry = entry(&inner, &found.path(), &stat).map_err(failed)?;
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
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }

    /// Sends the content of files, until all is sent or nobody wants more.
    pub async fn send(self, numbers: Vec<u32>, frames: mpsc::Sender<BuildRequest>) {
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
        REGULAR | DIRECTORY => Bytes::new(),
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
