//! What a volume is: its record on disk, and the rules for what may be asked.

use std::collections::{BTreeMap, BTreeSet};

use davit_proto::id::{ContainerId, Name, random_hex};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The one driver: a directory of this host.
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
}

impl Wanted {
    /// A volume of this name without labels.
    pub fn named(name: Name) -> Self {
        Self { name, labels: BTreeMap::new(), anonymous: false }
    }

    /// A volume that nobody named.
    pub fn anonymous() -> Result<Self, Error> {
        let hex = random_hex().map_err(|error| Error::Random(error.to_string()))?;
        Ok(Self { name: hex.parse()?, labels: BTreeMap::new(), anonymous: true })
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

    /// Its record, made now.
    pub fn record(self) -> Record {
        Record {
            version: 1,
            name: self.name,
            driver: LOCAL.to_owned(),
            labels: self.labels,
            created_at: jiff::Timestamp::now(),
            anonymous: self.anonymous,
        }
    }
}
