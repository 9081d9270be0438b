//! Conditions of a list, in docker's words: `name`, `driver`, `label`, `label!`, `dangling`; `all` of a prune.

use davit_proto::condition::{Label, truth};

use crate::error::Error;
use crate::volume::Volume;

/// Conditions of one request.
const MAX_FILTERS: usize = 256;

/// Which volumes are wanted. Names and drivers are alternatives among themselves; labels all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    names: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<Label>,
    without: Vec<Label>,
    dangling: Option<bool>,
    all: bool,
}

impl Filter {
    /// Reads conditions, each a key and a value.
    pub fn parse(conditions: impl ExactSizeIterator<Item = (String, String)>) -> Result<Self, Error> {
        if conditions.len() > MAX_FILTERS {
            let value = conditions.len().to_string();
            return Err(Error::Invalid { field: "filters", value, rule: "at most 256 conditions" });
        }
        let mut filter = Self::default();
        for (key, value) in conditions {
            match key.as_str() {
                "name" => filter.names.push(value),
                "driver" => filter.drivers.push(value),
                "label" => filter.labels.push(Label::parse(&value)),
                "label!" => filter.without.push(Label::parse(&value)),
                "dangling" => filter.dangling = Some(boolean("dangling", value)?),
                "all" => filter.all = boolean("all", value)?,
                _ => {
                    return Err(Error::Invalid {
                        field: "filter",
                        value: key,
                        rule: "must be one of name, driver, label, label!, dangling, all",
                    });
                }
            }
        }
        Ok(filter)
    }

    /// Whether a prune means named volumes too.
    pub fn all(&self) -> bool {
        self.all
    }

    /// Whether a volume is wanted.
    pub fn admits(&self, volume: &Volume) -> bool {
        let record = &volume.record;
        let name = self.names.is_empty() || self.names.iter().any(|part| record.name.as_str().contains(part));
        let driver = self.drivers.is_empty() || self.drivers.contains(&record.driver);
        name && driver
            && self.labels.iter().all(|label| label.is_in(&record.labels))
            && !self.without.iter().any(|label| label.is_in(&record.labels))
            && self.dangling.is_none_or(|dangling| dangling == volume.holders.is_empty())
    }
}

fn boolean(field: &'static str, value: String) -> Result<bool, Error> {
    truth(&value).ok_or(Error::Invalid { field, value, rule: "must be true or false" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::volume::Wanted;

    fn volume(labels: &[(&str, &str)], used: bool) -> Volume {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let record = Wanted::named("web-data".parse().unwrap()).labelled(labels).unwrap().record();
        let holders =
            if used { [davit_proto::id::ContainerId::generate().unwrap()].into() } else { [].into() };
        Volume { record, mountpoint: String::new(), holders, status: BTreeMap::new() }
    }

    fn admits(conditions: &[(&str, &str)], volume: &Volume) -> bool {
        let pairs: Vec<_> = conditions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Filter::parse(pairs.into_iter()).unwrap().admits(volume)
    }

    #[test]
    fn conditions_as_docker_means_them() {
        let v = volume(&[("tier", "db"), ("x", "")], true);
        assert!(admits(&[], &v));
        assert!(admits(&[("name", "data"), ("name", "other")], &v));
        assert!(!admits(&[("name", "other")], &v));
        assert!(admits(&[("driver", "local"), ("label", "tier"), ("label", "tier=db")], &v));
        assert!(!admits(&[("label", "tier"), ("label", "missing")], &v));
        assert!(!admits(&[("label!", "tier=db")], &v));
        assert!(admits(&[("dangling", "false")], &v) && !admits(&[("dangling", "1")], &v));
        let bad = [("colour".to_owned(), "red".to_owned())];
        assert!(Filter::parse(bad.into_iter()).is_err());
    }
}
