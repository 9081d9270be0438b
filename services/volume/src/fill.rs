//! A volume is made with files in it: out of sight where it is a folder of ours, so that it is there whole or not at
//! all. One that has to be mounted first is made, filled, and removed again when that fails.

use std::os::fd::OwnedFd;
use std::path::Path;

use davit_proto::id::Name;
use davit_proto::status::chain;

use crate::error::Error;
use crate::local;
use crate::options::Medium;
use crate::volume::{Volume, Wanted};
use crate::volumes::{Volumes, delete_later};

impl Volumes {
    /// Makes a volume that is not there yet, with what `fill` puts into its empty folder.
    pub fn make_filled<T>(
        &self,
        wanted: Wanted,
        fill: impl FnOnce(OwnedFd) -> Result<T, Error>,
    ) -> Result<(Volume, T), Error> {
        let name = wanted.name.clone();
        self.must_be_free(&name)?;
        let record = wanted.clone().record();
        if !record.is_plain() {
            return self.make_mounted(wanted, fill);
        }
        let medium = Medium::parse(&record.options)?;
        local::check(&medium)?;
        let unborn = self.state().store.begin(&record, &medium)?;
        let filled = fill(open(&unborn.data())?)?;
        sync(&unborn.data())?;
        let _turn = self.turns().take(&name);
        self.must_be_free(&name)?;
        let mut state = self.state();
        unborn.commit(&name)?;
        state.records.insert(name.clone(), record);
        Ok((state.volume(&name)?, filled))
    }

    fn make_mounted<T>(
        &self,
        wanted: Wanted,
        fill: impl FnOnce(OwnedFd) -> Result<T, Error>,
    ) -> Result<(Volume, T), Error> {
        let name = wanted.name.clone();
        self.create(wanted)?;
        let filled = self.visit(&name).and_then(|visit| {
            let filled = fill(open(visit.path())?)?;
            sync(visit.path())?;
            Ok(filled)
        });
        match filled {
            Ok(filled) => Ok((self.state().volume(&name)?, filled)),
            Err(error) => {
                match self.take(&name, None) {
                    Ok(trash) => delete_later(vec![trash]),
                    Err(left) => {
                        tracing::warn!(volume = %name, error = chain(&left), "left a volume filled in part");
                    }
                }
                Err(error)
            }
        }
    }

    fn must_be_free(&self, name: &Name) -> Result<(), Error> {
        match self.state().records.get(name) {
            Some(known) => Err(Error::OtherDriver { name: name.to_string(), driver: known.driver.clone() }),
            None => Ok(()),
        }
    }
}

fn open(folder: &Path) -> Result<OwnedFd, Error> {
    davit_sys::file::open_dir(folder).map_err(Error::file("open", folder))
}

/// What a name promises is on the disk before the name is.
fn sync(folder: &Path) -> Result<(), Error> {
    let opened = open(folder)?;
    rustix::fs::syncfs(opened).map_err(|errno| Error::file("sync", folder)(errno.into()))
}
