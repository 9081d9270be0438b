//! A layer, as what it holds and as the archive that it becomes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_archive::tar;
use davit_archive::write::Writer;

use crate::error::Error;
use crate::tree::{Kind, Node, Tree, resolve};

/// What names begin with that say of another that it is gone.
const WHITEOUT: &[u8] = b".wh.";

/// What a layer holds at a path.
#[derive(Debug)]
pub struct Item {
    /// What it is.
    pub node: Node,
    /// Where its bytes are.
    pub data: Data,
}

/// Where the bytes of a file are.
#[derive(Debug)]
pub enum Data {
    /// It has none.
    None,
    /// In another tree.
    Tree(Arc<dyn Tree>, PathBuf),
    /// In another tree, under several names; those with the same number become one file again. The first part of it is
    /// the source that they came with: two sources that name one file make two.
    Shared(Arc<dyn Tree>, PathBuf, (usize, (u64, u64))),
    /// Here.
    Bytes(Vec<u8>),
}

/// A layer that is being put together upon a base.
#[derive(Debug)]
pub struct Layer {
    base: Option<Arc<dyn Tree>>,
    /// Whose folders are that have to be made.
    folder: Node,
    items: BTreeMap<PathBuf, Item>,
    not_after: Option<i64>,
}

impl Layer {
    /// Begins an empty layer. What `folder` is, folders that have to be made are.
    pub fn new(base: Option<Arc<dyn Tree>>, folder: Node) -> Self {
        Self { base, folder, items: BTreeMap::new(), not_after: None }
    }

    /// No time of it is to be later than this, in seconds since 1970.
    #[must_use]
    pub fn not_after(mut self, seconds: Option<i64>) -> Self {
        self.not_after = seconds;
        self
    }

    /// What is at a path by now: of this layer, or of the base.
    pub fn stat(&self, path: &Path) -> Result<Option<Node>, Error> {
        if let Some(item) = self.items.get(path) {
            return Ok(Some(item.node.clone()));
        }
        match &self.base {
            Some(base) => base.stat(path).map_err(Error::io(format!("read {} of the base", path.display()))),
            None => Ok(None),
        }
    }

    /// Where a path leads, links of the base followed.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf, Error> {
        match &self.base {
            Some(base) => resolve(base.as_ref(), path, follow_last)
                .map_err(Error::io(format!("find {} in the base", path.display()))),
            None => Ok(path.to_owned()),
        }
    }

    /// Puts something at a path, and the folders above it where they are not there.
    ///
    /// # Errors
    /// A folder would become a file, or the other way round.
    pub fn put(&mut self, path: &Path, item: Item) -> Result<(), Error> {
        let path = self.resolve(path, item.node.is_dir())?;
        if let Some(name) = path.iter().find(|name| name.as_bytes().starts_with(WHITEOUT)) {
            let (path, name) = (path.display(), name.display());
            let text = format!("cannot copy /{path}: a name like {name} says in a layer that a file is gone");
            return Err(Error::Invalid(text));
        }
        self.make_above(&path)?;
        if let Some(there) = self.stat(&path)?
            && there.is_dir()
            && !item.node.is_dir()
        {
            let text = format!("cannot overwrite the folder /{} with a file", path.display());
            return Err(Error::Invalid(text));
        }
        self.items.insert(path, item);
        Ok(())
    }

    /// Makes a folder and those above it, and leaves those that are there as they are.
    ///
    /// # Errors
    /// Something else is there.
    pub fn make_folder(&mut self, path: &Path) -> Result<PathBuf, Error> {
        let path = self.resolve(path, true)?;
        self.make_above(&path)?;
        self.mention(&path)?;
        Ok(path)
    }

    /// Whether there is anything in it that the base does not have.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn make_above(&mut self, path: &Path) -> Result<(), Error> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        above.reverse();
        above.into_iter().try_for_each(|folder| self.mention(folder))
    }

    /// Says a folder again as the base has it, for a layer that only implied it would change its owner and mode; or
    /// makes it.
    fn mention(&mut self, path: &Path) -> Result<(), Error> {
        if path.as_os_str().is_empty() || self.items.contains_key(path) {
            return Ok(());
        }
        let node = match self.stat(path)? {
            Some(node) if node.is_dir() => node,
            Some(_) => return Err(Error::Invalid(format!("/{} is no folder", path.display()))),
            None => self.folder.clone(),
        };
        self.items.insert(path.to_owned(), Item { node, data: Data::None });
        Ok(())
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read or changes meanwhile, or the output fails.
    pub fn write(&self, output: impl Write) -> io::Result<()> {
        let mut writer =
            Writer::new(io::BufWriter::with_capacity(128 << 10, output)).not_after(self.not_after);
        let mut seen = Seen::default();
        for (path, item) in &self.items {
            write(&mut writer, &mut seen, path, item)?;
        }
        writer.end()
    }
}

/// The first names of files that have several.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<(usize, (u64, u64)), PathBuf>);

impl Seen {
    /// The name under which a file is in the archive already.
    fn earlier(&mut self, path: &Path, data: &Data) -> Option<PathBuf> {
        let Data::Shared(_, _, file) = data else { return None };
        match self.0.entry(*file) {
            Entry::Occupied(first) => Some(first.get().clone()),
            Entry::Vacant(here) => {
                here.insert(path.to_owned());
                None
            }
        }
    }
}

pub(crate) fn write(
    writer: &mut Writer<impl Write>,
    seen: &mut Seen,
    path: &Path,
    item: &Item,
) -> io::Result<()> {
    let Node { kind, mode, uid, gid, modified, xattrs } = &item.node;
    let earlier = seen.earlier(path, &item.data);
    let (kind, link, size, device) = match kind {
        Kind::File { .. } if let Some(first) = &earlier => {
            (tar::Kind::Hardlink, first.as_os_str().as_bytes().to_vec(), 0, (0, 0))
        }
        Kind::File { size, .. } => (tar::Kind::File, Vec::new(), *size, (0, 0)),
        Kind::Directory => (tar::Kind::Directory, Vec::new(), 0, (0, 0)),
        Kind::Symlink(target) => (tar::Kind::Symlink, target.as_os_str().as_bytes().to_vec(), 0, (0, 0)),
        Kind::Other(kind, device) => (*kind, Vec::new(), 0, *device),
    };
    writer.entry(&tar::Entry {
        kind,
        path: path.as_os_str().as_bytes().to_vec(),
        link,
        mode: *mode,
        uid: *uid,
        gid: *gid,
        size,
        modified: *modified,
        accessed: None,
        device,
        xattrs: xattrs.clone(),
    })?;
    match &item.data {
        Data::None => Ok(()),
        Data::Bytes(bytes) => writer.data(bytes),
        Data::Shared(..) if earlier.is_some() => Ok(()),
        Data::Tree(tree, source) | Data::Shared(tree, source, _) => {
            let mut file = tree.open(source)?.take(size);
            let mut piece = vec![0; 64 << 10];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(()),
                    length => writer.data(&piece[..length])?,
                }
            }
        }
    }
}
