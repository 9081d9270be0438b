//! Standard input as a source: a Dockerfile, or an archive, as its first bytes tell.

use std::io::{self, Read};

use davit_archive::tar::Reader;
use davit_proto::build::ArchiveSource;
use davit_proto::build::context_source::Source as Wire;

use super::{Source, TEXT};
use crate::args::build::BuildArgs;
use crate::error::Error;

/// Bytes by which an archive is known.
const HEAD: u64 = 512;
/// What compressed archives begin with: gzip, bzip2, xz, zstd.
const MAGICS: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];

/// What a stream begins with, and the whole stream.
pub(super) type Looked = (Vec<u8>, Box<dyn Read + Send>);

/// Looks at the beginning of a stream.
pub(super) fn look(mut stream: impl Read + Send + 'static) -> Result<Looked, Error> {
    let mut head = Vec::new();
    let read = stream.by_ref().take(HEAD).read_to_end(&mut head);
    read.map_err(|error| Error::io("read the context", error))?;
    Ok((head.clone(), Box::new(io::Cursor::new(head).chain(stream))))
}

/// Whether what begins so is an archive.
pub(super) fn is_archive(head: &[u8]) -> bool {
    MAGICS.iter().any(|magic| head.starts_with(magic)) || Reader::new(head, HEAD).is_header()
}

/// All of standard input, which is a Dockerfile.
pub(super) fn text() -> Result<Vec<u8>, Error> {
    bounded(io::stdin())
}

fn bounded(stream: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = stream.take(TEXT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::io("read standard input", error))?;
    if bytes.len() as u64 > TEXT {
        return Err(Error::Usage(format!("the Dockerfile has more than {TEXT} bytes")));
    }
    Ok(bytes)
}

impl Source {
    pub(super) fn of_stdin(&mut self, args: &BuildArgs) -> Result<(), Error> {
        if args.file.as_deref() == Some("-") {
            let text = "standard input cannot be both the context and the Dockerfile";
            return Err(Error::Usage(text.to_owned()));
        }
        let (head, stream) = look(io::stdin())?;
        if is_archive(&head) {
            self.archive = Some(stream);
            self.main = Some(Wire::Archive(ArchiveSource {}));
            return self.inside(args);
        }
        if args.file.is_some() {
            let text = "standard input is a Dockerfile, and --file names another: which is meant?";
            return Err(Error::Usage(text.to_owned()));
        }
        self.dockerfile = bounded(stream)?;
        // A context without any file, so that there is one for COPY to miss files in.
        self.contexts.push(super::Context::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut archive = davit_archive::write::Writer::new(Vec::new());
        let entry = davit_archive::tar::Entry {
            kind: davit_archive::tar::Kind::File,
            path: b"Dockerfile".to_vec(),
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            modified: (0, 0),
            accessed: None,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        archive.entry(&entry).unwrap();
        let bytes = archive.finish().unwrap();
        let (head, mut whole) = look(io::Cursor::new(bytes.clone())).unwrap();
        assert!(is_archive(&head));
        let mut read = Vec::new();
        whole.read_to_end(&mut read).unwrap();
        assert!(read == bytes, "nothing of it is lost");
        assert!(is_archive(b"\x1f\x8b\x08") && is_archive(b"BZh9"));
        for text in [&b"FROM busybox\nRUN true\n"[..], b"", b"# syntax=x"] {
            assert!(!is_archive(text));
        }
    }
}
