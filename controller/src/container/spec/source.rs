//! The host's side of bind mounts: a source must be there before anything is mounted, and `-v` makes a
//! missing one a folder.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Error;
use super::mounts::{Wanted, What};

/// Makes sure that every bind source of a plan exists. A source belongs to whoever asked, so nothing
/// that is made here is ever taken away again.
///
/// # Errors
/// When a source does not exist and is not to be made, or cannot be made.
pub fn ensure(plan: &[Wanted]) -> Result<(), Error> {
    for wanted in plan {
        if let What::Bind { source, create, .. } = &wanted.what {
            one(Path::new(source), *create)?;
        }
    }
    Ok(())
}

fn one(source: &Path, create: bool) -> Result<(), Error> {
    let failed =
        |action, source_error| Error::File { action, path: PathBuf::from(source), source: source_error };
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && create => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(source)
            .map_err(|error| failed("make the bind source", error)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = source.display().to_string();
            Err(Error::invalid("mounts.source", &path, "bind source path does not exist"))
        }
        Err(error) => Err(failed("find the bind source", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::mounts::Recursive;

    fn bind(source: &Path, create: bool) -> Vec<Wanted> {
        let what = What::Bind {
            source: source.display().to_string(),
            propagation: "rprivate".to_owned(),
            create,
            idmap: false,
            recursive: Recursive::Enabled,
        };
        vec![Wanted { target: "/x".to_owned(), read_only: false, what, of_image: false }]
    }

    #[test]
    fn missing_sources_are_made_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("a/b");
        let error = ensure(&bind(&missing, false)).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
        ensure(&bind(&missing, true)).unwrap();
        assert!(missing.is_dir());
        ensure(&bind(&missing, false)).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        ensure(&bind(&file, true)).unwrap();
        assert!(ensure(&bind(&file.join("below"), true)).is_err());
    }
}
