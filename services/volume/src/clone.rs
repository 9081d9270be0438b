//! `Clone`: a new volume with the files of another one, which share their content on disk where that can be.

use davit_archive::{Cloned, clone};
use davit_proto::id::Name;

use crate::error::Error;
use crate::options::{Medium, Options};
use crate::volume::{LOCAL, Record, Volume, Wanted};
use crate::volumes::Volumes;

impl Volumes {
    /// Makes a volume with the files of another one.
    pub fn clone_volume(&self, source: &Name, wanted: Wanted) -> Result<(Volume, Cloned), Error> {
        let visit = self.visit(source)?;
        let known = self.state().volume(source)?.record;
        let from = davit_sys::file::open_dir(visit.path()).map_err(Error::file("open", visit.path()))?;
        let failed = |error| Error::Clone { name: source.to_string(), source: Box::new(error) };
        self.make_filled(alike(wanted, &known)?, |to| clone::clone(from, to).map_err(failed))
    }
}

/// What was not said is as it is with the source; but the same device twice would be the same files twice.
fn alike(wanted: Wanted, known: &Record) -> Result<Wanted, Error> {
    if !wanted.driver.is_empty() || !wanted.options.is_empty() {
        return Ok(wanted);
    }
    if known.driver != LOCAL {
        return Ok(wanted.driven(known.driver.clone(), known.options.clone()));
    }
    let options = match Medium::parse(&known.options)? {
        Medium::Folder(_) => known.options.clone(),
        Medium::Mount(_) => Options::new(),
    };
    Ok(wanted.driven(LOCAL.to_owned(), options))
}
