//! The writing end of a container's journal: the file `life`, whose form is [`davit_proto::journal`].
//!
//! Written, not synced: after a power cut nothing runs, and how the last life ended is in the exit record, which is
//! synced. Once the file has grown too large its older half goes. A line that was cut off is ended by a newline before
//! the next one, so that it costs only itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use davit_proto::journal::{Entry, What, entries};
use davit_sys::file::{Durability, open_dir, read_bounded, write_atomic};

use super::{BundleError, LIFE, io_error};
use crate::stdio::clock::rfc3339;

/// The file is cut to its younger half when it has grown beyond this. One entry is at most [`CAUSE`] bytes and a few
/// fields long.
pub(super) const LIMIT: usize = 256 << 10;
/// Most bytes of a cause: part of it may be what a client or a container said.
const CAUSE: usize = 1 << 10;

/// Where the next entry goes.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Number of the last entry.
    last: u64,
    /// The last life that an entry tells of.
    life: u64,
}

impl Journal {
    /// Goes on with the journal of a bundle, or begins it. Only who has the bundle's lock may append.
    pub(super) fn open(folder: PathBuf) -> Result<Self, BundleError> {
        let path = folder.join(LIFE);
        let text = match read_bounded(&path, 2 * LIMIT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        // Both only grow, so the last entry that can be read tells of all before it.
        let last = text.rsplit(|byte| *byte == b'\n').find_map(|line| entries(line).next());
        let (last, life) = last.map_or((0, 0), |entry| (entry.n, entry.life));
        Ok(Self { folder, last, life })
    }

    /// Number of the last entry; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The last life that an entry tells of; 0 before the first.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Adds what happened. An entry that cannot be written uses up no number.
    pub fn append(
        &mut self,
        life: u64,
        at: SystemTime,
        what: What,
        mut cause: String,
    ) -> Result<(), BundleError> {
        cause.truncate(cause.floor_char_boundary(CAUSE));
        let entry = Entry { n: self.last + 1, at: rfc3339(at), life, what, cause };
        let path = self.folder.join(LIFE);
        self.write(&entry).map_err(io_error("append to", &path))?;
        self.last = entry.n;
        self.life = self.life.max(life);
        Ok(())
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let path = self.folder.join(LIFE);
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let size = file.metadata()?.len();
        if size > LIMIT as u64 {
            let kept = younger_half(&read_bounded(&path, usize::try_from(size).unwrap_or(usize::MAX))?);
            return write_atomic(open_dir(&self.folder)?, LIFE, &[kept, line].concat(), Durability::Cached);
        }
        if ends_torn(&file, size)? {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    }
}

/// A cut write of an earlier life left a line without its end.
fn ends_torn(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 1 && byte != [b'\n'])
}

fn younger_half(journal: &[u8]) -> Vec<u8> {
    let half = journal.get(journal.len() / 2..).unwrap_or_default();
    let begin = half.iter().position(|byte| *byte == b'\n').map_or(half.len(), |end| end + 1);
    half.get(begin..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::UNIX_EPOCH;

    fn start(journal: &mut Journal, life: u64) {
        journal.append(life, UNIX_EPOCH, What::Start { pid: 7 }, String::new()).unwrap();
    }

    fn numbers(folder: &tempfile::TempDir) -> Vec<u64> {
        entries(&fs::read(folder.path().join(LIFE)).unwrap()).map(|entry| entry.n).collect()
    }

    #[test]
    fn numbers_go_on_where_another_shim_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path().to_owned()).unwrap();
        let mut first = open();
        assert_eq!((first.last(), first.life()), (0, 0));
        start(&mut first, 1);
        start(&mut first, 2);
        let mut second = open();
        assert_eq!((second.last(), second.life()), (2, 2));
        start(&mut second, 3);
        assert_eq!(numbers(&folder), [1, 2, 3]);
        let text = fs::read_to_string(folder.path().join(LIFE)).unwrap();
        let line = r#"{"n":1,"at":"1970-01-01T00:00:00.000000000Z","life":1,"event":"start","pid":7}"#;
        assert_eq!(text.lines().next(), Some(line));
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LIFE);
        let mut journal = Journal::open(folder.path().to_owned()).unwrap();
        start(&mut journal, 4);
        let torn = [fs::read(&path).unwrap(), br#"{"n":2,"life":9,"ev"#.to_vec()].concat();
        fs::write(&path, torn).unwrap();
        let mut journal = Journal::open(folder.path().to_owned()).unwrap();
        assert_eq!((journal.last(), journal.life()), (1, 4));
        start(&mut journal, 5);
        assert_eq!(numbers(&folder), [1, 2]);
    }

    #[test]
    fn what_cannot_be_written_leaves_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let away = folder.path().join("away");
        fs::create_dir(&away).unwrap();
        let mut journal = Journal::open(away.clone()).unwrap();
        fs::remove_dir(&away).unwrap();
        let refused = journal.append(1, UNIX_EPOCH, What::Pause, String::new());
        assert!(refused.unwrap_err().to_string().starts_with("append to "));
        assert_eq!((journal.last(), journal.life()), (0, 0));
        fs::create_dir(&away).unwrap();
        start(&mut journal, 1);
        assert_eq!(journal.last(), 1);
    }

    #[test]
    fn the_journal_is_bounded_and_so_are_causes() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path().to_owned()).unwrap();
        for life in 1..2_000 {
            journal.append(life, UNIX_EPOCH, What::GaveUp, "ä".repeat(5000)).unwrap();
        }
        assert!(fs::metadata(folder.path().join(LIFE)).unwrap().len() < 2 * LIMIT as u64);
        let kept = numbers(&folder);
        assert!(kept.is_sorted() && kept.last() == Some(&1_999), "{kept:?}");
        assert_eq!(kept.len() as u64, 2_000 - kept[0], "no gap");
        let again = Journal::open(folder.path().to_owned()).unwrap();
        assert_eq!((again.last(), again.life()), (1_999, 1_999));
    }
}
