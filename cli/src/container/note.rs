//! Files in which `run` and `create` note what came of them: `--cidfile`, `--pidfile`.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::error::Error;

/// The file of `--cidfile`: made before the container, so that two runs never share one; gone again when
/// there was no container to name.
#[derive(Debug)]
pub struct CidFile {
    open: Option<(File, PathBuf)>,
    written: bool,
}

impl CidFile {
    /// Makes the file, which must not exist.
    pub fn reserve(path: Option<&str>) -> Result<Self, Error> {
        let open = match path {
            None => None,
            Some(path) => {
                let file = File::create_new(path).map_err(|error| {
                    if error.kind() == io::ErrorKind::AlreadyExists {
                        Error::Usage(format!(
                            "the file {path:?} of --cidfile exists: make sure that its container is gone and delete it"
                        ))
                    } else {
                        Error::io(format!("make the file {path:?} of --cidfile"), error)
                    }
                })?;
                Some((file, PathBuf::from(path)))
            }
        };
        Ok(Self { open, written: false })
    }

    /// Writes the id.
    pub fn write(&mut self, container_id: &str) -> Result<(), Error> {
        if let Some((file, path)) = &mut self.open {
            let failed = |error| Error::io(format!("write {}", path.display()), error);
            file.write_all(container_id.as_bytes()).map_err(failed)?;
        }
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let (false, Some((_, path))) = (self.written, &self.open) {
            // An empty file that stays is a nuisance, not a failure of the command.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The file of `--pidfile`: opened before the container is made, so that a place where none can be written is told of in
/// time.
#[derive(Debug)]
pub struct PidFile(Option<(File, PathBuf)>);

impl PidFile {
    /// Makes the file, or takes the one that is there.
    pub fn open(path: Option<&str>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self(None)) };
        let open = File::options().write(true).create(true).truncate(false).open(path);
        let file = open.map_err(|error| Error::io(format!("open the file {path:?} of --pidfile"), error))?;
        Ok(Self(Some((file, PathBuf::from(path)))))
    }

    /// Writes the process id. One that has ended already has none to be told of.
    pub fn write(&self, pid: i32) -> Result<(), Error> {
        let Some((file, path)) = &self.0 else { return Ok(()) };
        let text = if pid > 0 { pid.to_string() } else { String::new() };
        let write = || -> io::Result<()> {
            file.set_len(0)?;
            file.write_all_at(text.as_bytes(), 0)
        };
        write().map_err(|error| Error::io(format!("write {}", path.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_id_takes_the_place_of_what_was_there() {
        let path = std::env::temp_dir().join(format!("davit-pid-{}", std::process::id()));
        std::fs::write(&path, "1234567").unwrap();
        PidFile::open(path.to_str()).unwrap().write(42).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "42");
        PidFile::open(path.to_str()).unwrap().write(0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        std::fs::remove_file(path).unwrap();
        PidFile::open(None).unwrap().write(42).unwrap();
        assert!(PidFile::open(Some("/nonexistent/pid")).is_err());
    }
}
