//! What a volume is: its record on disk, and the rules for what may be asked.

use std::collections::{BTreeMap, BTreeSet};

use davit_proto::id::{ContainerId, Name, random_hex};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::options::Options;

/// The driver of our own: a directory of this host.
pub const LOCAL: &str = "local";
/// Bytes that all labels of a volume may have together.
const MAX_LABELS: usize = 256 << 10;

/// The record of a volume, `volume.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Form of this file; 1.
    pub version: u32,
    /// Its name, which is also its folder's.
    pub name: Name,
    /// Its driver.
    pub driver: String,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// Nobody named it.
    #[serde(default)]
    pub anonymous: bool,
    /// What was given to the driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: Options,
    /// Its driver has not yet said that it made it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unmade: bool,
    /// It is the same volume on all hosts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub global: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Record {
    /// Whether it is nothing but its folder: never mounted, and nobody else's.
    pub fn is_plain(&self) -> bool {
        self.driver == LOCAL && self.options.keys().all(|key| key == "size")
    }
}

/// A volume and who uses it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Its record.
    pub record: Record,
    /// Where its data lies.
    pub mountpoint: String,
    /// Containers that use it.
    pub holders: BTreeSet<ContainerId>,
    /// What its driver says about it, when it was asked.
    pub status: BTreeMap<String, String>,
}

/// What a volume is to be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: Name,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The service chose the name.
    pub anonymous: bool,
    /// Its driver; empty for whatever it has, and local for a new one.
    pub driver: String,
    /// Options for the driver; none for whatever it has.
    pub options: Options,
}

impl Wanted {
    /// A volume of this name without labels.
    pub fn named(name: Name) -> Self {
        Self {
            name,
            labels: BTreeMap::new(),
            anonymous: false,
            driver: String::new(),
            options: Options::new(),
        }
    }

    /// A volume that nobody named.
    pub fn anonymous() -> Result<Self, Error> {
        let hex = random_hex().map_err(|error| Error::Random(error.to_string()))?;
        Ok(Self { anonymous: true, ..Self::named(hex.parse()?) })
    }

    /// With these labels.
    pub fn labelled(mut self, labels: BTreeMap<String, String>) -> Result<Self, Error> {
        if let Some(key) = labels.keys().find(|key| key.is_empty() || key.contains(['=', '\n', '\0'])) {
            return Err(Error::Invalid {
                field: "label",
                value: key.chars().take(200).collect(),
                rule: "a label's name may not be empty or hold '=', newline or NUL",
            });
        }
        let size: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_LABELS {
            return Err(Error::Invalid {
                field: "labels",
                value: format!("{size} bytes"),
                rule: "all labels together may have 256 KiB",
            });
        }
        self.labels = labels;
        Ok(self)
    }

    /// On this driver, with these options.
    pub fn driven(self, driver: String, options: Options) -> Self {
        Self { driver, options, ..self }
    }

    /// Whether a volume that is there is the one that is wanted. Labels do not make another one, as with docker.
    pub fn agrees(&self, known: &Record) -> Result<(), Error> {
        let name = || known.name.to_string();
        if !self.driver.is_empty() && self.driver != known.driver {
            return Err(Error::OtherDriver { name: name(), driver: known.driver.clone() });
        }
        if !self.options.is_empty() && self.options != known.options {
            let options: Vec<_> = known.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
            return Err(Error::OtherOptions { name: name(), options });
        }
        Ok(())
    }

    /// Its record, made now.
    pub fn record(self) -> Record {
        let driver = if self.driver.is_empty() { LOCAL.to_owned() } else { self.driver };
        Record {
            version: 1,
            name: self.name,
            unmade: driver != LOCAL,
            global: false,
            driver,
            options: self.options,
            labels: self.labels,
            created_at: jiff::Timestamp::now(),
            anonymous: self.anonymous,
        }
    }
}
