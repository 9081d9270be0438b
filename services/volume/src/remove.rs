//! `Remove` and `Prune`: volumes that nobody uses go.

use davit_proto::id::Name;

use crate::error::Error;
use crate::filter::Filter;
use crate::volumes::{Volumes, delete_later};

/// What a prune removed.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names.
    pub names: Vec<Name>,
    /// Bytes of disk that come free.
    pub reclaimed: u64,
}

impl Volumes {
    /// Removes a volume that nobody uses.
    pub fn remove(&self, name: &Name) -> Result<(), Error> {
        let trash = self.state().take(name)?;
        delete_later(vec![trash]);
        Ok(())
    }

    /// Removes all volumes that nobody uses and the filter admits: those without a name, or all.
    pub fn prune(&self, all: bool, filter: &Filter) -> Result<Pruned, Error> {
        let unused = self.list(filter).into_iter().filter(|volume| volume.holders.is_empty());
        let names: Vec<Name> =
            unused.filter(|volume| all || volume.record.anonymous).map(|volume| volume.record.name).collect();
        let mut pruned = Pruned::default();
        for name in names {
            let trash = match self.state().take(&name) {
                Ok(trash) => trash,
                // Somebody began to use or removed it since it was listed.
                Err(Error::InUse { .. } | Error::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            pruned.reclaimed = pruned.reclaimed.saturating_add(trash.size());
            pruned.names.push(name);
            delete_later(vec![trash]);
        }
        Ok(pruned)
    }
}
