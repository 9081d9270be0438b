//! The content of one file becomes another's: shared on disk where the file system can, and copied without its holes
//! elsewhere.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Bytes that are copied at once.
const CHUNK: usize = 256 << 10;

/// Has both files share what the first one holds, until one of them is changed; whether the file system can.
pub fn share(from: &File, to: &File) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies the first `length` bytes of a file into an empty one, leaving its holes holes. Answers with the length that
/// the copy has: less when the file becomes shorter meanwhile.
pub fn copy_data(from: &File, to: &File, length: u64) -> io::Result<u64> {
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        if start >= length {
            break;
        }
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(length).clamp(start + 1, length);
        let copied = copy_stretch(from, to, start, end)?;
        at = start + copied;
        if at < end {
            break;
        }
    }
    let length = from.metadata()?.len().min(length);
    to.set_len(length)?;
    Ok(length)
}

fn copy_stretch(from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let most = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), most) {
            Ok(0) => return Ok(read - start),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_by_hand(from, to, read, end).map(|copied| read - start + copied);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(end - start)
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
        match from.read_at(&mut buffer[..most], at) {
            Ok(0) => break,
            Ok(read) => {
                to.write_all_at(&buffer[..read], at)?;
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn data_is_copied_and_holes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            File::options().read(true).write(true).create_new(true).open(dir.path().join(name)).unwrap()
        };
        let from = file("from");
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"end", 10 << 20).unwrap();
        from.set_len(20 << 20).unwrap();
        let to = file("to");
        assert_eq!(copy_data(&from, &to, 20 << 20).unwrap(), 20 << 20);
        let bytes = std::fs::read(dir.path().join("to")).unwrap();
        assert!(bytes == std::fs::read(dir.path().join("from")).unwrap());
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20, "the holes are still there");
        let by_hand = file("by-hand");
        assert_eq!(copy_by_hand(&from, &by_hand, 0, 5).unwrap(), 5);
        let short = file("short");
        assert_eq!(copy_data(&from, &short, 30 << 20).unwrap(), 20 << 20, "it had less than was said");
        share(&from, &file("shared")).unwrap();
    }
}
