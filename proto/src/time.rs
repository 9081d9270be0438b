//! The two conversions between `std::time` and protobuf's well-known times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// The present, as a protobuf timestamp.
#[must_use]
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A point in time as a protobuf timestamp; times before 1970 count backwards.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// A protobuf timestamp as a point in time. Out-of-range values are clamped to the epoch, because no
/// fact of an engine is older.
#[must_use]
pub fn system_time(timestamp: &Timestamp) -> SystemTime {
    SystemTime::try_from(*timestamp).unwrap_or(UNIX_EPOCH)
}

/// A duration as protobuf says it.
#[must_use]
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).expect("sub-second nanoseconds are below 1e9"),
    }
}

/// A protobuf duration; negative ones become zero.
#[must_use]
pub fn duration(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or(Duration::ZERO)
}
