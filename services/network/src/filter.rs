//! Conditions of a list, in docker's words: `name`, `id`, `driver`, `label`, `label!`, `type`, `dangling`, `until`.

use davit_proto::condition::{Label, truth};

use crate::error::Error;
use crate::networks::Populated;

/// Conditions of one request.
const MAX_FILTERS: usize = 256;

/// Which networks are wanted. Names, ids, drivers and types are alternatives among themselves; labels all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    names: Vec<String>,
    ids: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<Label>,
    without: Vec<Label>,
    built_in: Vec<bool>,
    dangling: Option<bool>,
    until: Option<jiff::Timestamp>,
}

impl Filter {
    /// Reads conditions, each a key and a value.
    pub fn parse(conditions: impl ExactSizeIterator<Item = (String, String)>) -> Result<Self, Error> {
        if conditions.len() > MAX_FILTERS {
            return Err(Error::invalid("filters", conditions.len(), "at most 256 conditions"));
        }
        let mut filter = Self::default();
        for (key, value) in conditions {
            filter.add(&key, value)?;
        }
        Ok(filter)
    }

    fn add(&mut self, key: &str, value: String) -> Result<(), Error> {
        match key {
            "name" => self.names.push(value),
            "id" => self.ids.push(value),
            "driver" => self.drivers.push(value),
            "label" => self.labels.push(Label::parse(&value)),
            "label!" => self.without.push(Label::parse(&value)),
            "type" => self.built_in.push(match value.as_str() {
                "builtin" => true,
                "custom" => false,
                _ => return Err(Error::invalid("type", value, "must be builtin or custom")),
            }),
            "dangling" => {
                let rule = "must be true or false";
                self.dangling = Some(truth(&value).ok_or_else(|| Error::invalid("dangling", &value, rule))?);
            }
            "until" => {
                let rule = "must be a time such as 2026-01-02T15:04:05Z, a unix time, or an age such as 24h";
                let time = moment(&value).ok_or_else(|| Error::invalid("until", &value, rule))?;
                self.until = Some(self.until.map_or(time, |until| until.min(time)));
            }
            _ => {
                let rule = "must be one of name, id, driver, label, label!, type, dangling, until";
                return Err(Error::invalid("filter", key, rule));
            }
        }
        Ok(())
    }

    /// Whether a network is wanted.
    pub fn admits(&self, populated: &Populated) -> bool {
        let network = &populated.network;
        let any = |wanted: &[String], matches: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|text| matches(text))
        };
        any(&self.names, &|part| network.name.as_str().contains(part))
            && any(&self.ids, &|part| network.id.as_str().contains(part))
            && any(&self.drivers, &|driver| network.driver.as_str() == driver)
            && (self.built_in.is_empty() || self.built_in.contains(&network.is_built_in()))
            && self.labels.iter().all(|label| label.is_in(&network.labels))
            && !self.without.iter().any(|label| label.is_in(&network.labels))
            && self.until.is_none_or(|until| network.created_at < until)
            && self
                .dangling
                .is_none_or(|dangling| dangling == (populated.endpoints.is_empty() && !network.is_built_in()))
    }
}

/// A point in time, seconds since 1970, or how long ago.
fn moment(text: &str) -> Option<jiff::Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    if let Ok(seconds) = text.parse::<u32>() {
        return jiff::Timestamp::from_second(seconds.into()).ok();
    }
    let ago: jiff::SignedDuration = text.parse().ok()?;
    if ago.is_negative() {
        return None;
    }
    jiff::Timestamp::now().checked_sub(ago).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Driver, Network};

    fn admits(conditions: &[(&str, &str)], name: &str) -> Result<bool, Error> {
        let mut network = Network::new(name.parse().unwrap(), Driver::Bridge, None).unwrap();
        network.labels = [("tier".to_owned(), "db".to_owned())].into();
        let pairs: Vec<_> = conditions.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ok(Filter::parse(pairs.into_iter())?.admits(&Populated { network, endpoints: vec![] }))
    }

    #[test]
    fn conditions_as_docker_means_them() {
        assert!(admits(&[], "web").unwrap());
        assert!(admits(&[("name", "e"), ("driver", "bridge"), ("label", "tier=db")], "web").unwrap());
        assert!(!admits(&[("type", "builtin")], "web").unwrap());
        assert!(admits(&[("type", "builtin")], "bridge").unwrap());
        assert!(!admits(&[("dangling", "true")], "bridge").unwrap(), "what is built in is never dangling");
        assert!(!admits(&[("until", "2001-01-01T00:00:00Z")], "web").unwrap());
        assert!(!admits(&[("until", "24h")], "web").unwrap() && admits(&[("until", "0s")], "web").unwrap());
        assert!(!admits(&[("until", "60")], "web").unwrap());
        for bad in [("colour", "red"), ("until", "soon"), ("until", "-1h"), ("type", "x"), ("dangling", "x")]
        {
            assert!(admits(&[bad], "web").is_err(), "{bad:?}");
        }
    }
}
