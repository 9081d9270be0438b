//! Records as bytes: what versions there were, how large one may be, how it is cut into parts.

use davit_proto::store::ContainerRecord;
use prost::Message as _;

use super::Conflict;

/// Version of the record's layout that this build writes.
pub const VERSION: u32 = 1;
/// Bytes of a record that are kept in one value.
pub(super) const PART: usize = 48 << 10;
/// The largest record: 255 parts could be counted, a spec of this size is a mistake.
const LARGEST: usize = 1 << 20;

pub(super) fn check_size(record: &ContainerRecord) -> Result<(), Conflict> {
    let size = record.encoded_len();
    if size > LARGEST { Err(Conflict::TooLarge { size, limit: LARGEST }) } else { Ok(()) }
}

/// The record in parts, each small enough for sled to keep it inline. Never empty.
pub(super) fn parts(record: &ContainerRecord) -> Vec<Vec<u8>> {
    record.encode_to_vec().chunks(PART).map(<[u8]>::to_vec).collect()
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("undecodable")]
    Decode(#[from] prost::DecodeError),
    #[error("version {0} is not known")]
    Version(u32),
    #[error("without a container")]
    Empty,
}

pub(crate) fn decode(bytes: &[u8]) -> Result<ContainerRecord, Malformed> {
    let record = ContainerRecord::decode(bytes)?;
    match (record.version, &record.container) {
        // A newer version only adds fields, so it is read and kept by an older engine after a downgrade.
        (1.., Some(_)) => Ok(record),
        (0, _) => Err(Malformed::Version(0)),
        (_, None) => Err(Malformed::Empty),
    }
}
