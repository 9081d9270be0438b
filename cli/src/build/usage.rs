//! `davit builder du`, and how what builds keep is shown.

use std::time::SystemTime;

use davit_proto::build::{CacheRecord, DiskUsageRequest};
use davit_proto::status::RemoteError;
use davit_proto::types::Filter;

use crate::args::build::UsageArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, filter, human, output, time};

/// The columns, as docker has them.
const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "ID" },
    Column { field: "Reclaimable", head: "RECLAIMABLE" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "LastUsedSince", head: "LAST ACCESSED" },
    Column { field: "Type", head: "TYPE" },
    Column { field: "Shared", head: "SHARED" },
    Column { field: "Mutable", head: "MUTABLE" },
    Column { field: "Description", head: "DESCRIPTION" },
    Column { field: "CreatedAt", head: "CREATED AT" },
    Column { field: "LastUsedAt", head: "LAST USED AT" },
];
/// Those of the table.
const SHOWN: [&str; 4] = ["ID", "Reclaimable", "Size", "LastUsedSince"];
/// Characters of an id that are shown.
const ID: usize = 25;

/// Shows what builds keep.
pub async fn run(engine: Engine, args: UsageArgs) -> Result<u8, Error> {
    let records = ask(&engine, filters(&args.filter)?).await?;
    let text = match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => listing(&records).render(&Format::of(Some(format)))?,
        None if args.verbose => verbose(&records),
        None => format!("{}{}", table(&records)?, sums(&records)),
    };
    output::print(&text)?;
    Ok(exit::SUCCESS)
}

/// All that builds keep, the one that goes first at the front.
pub async fn ask(engine: &Engine, filters: Vec<Filter>) -> Result<Vec<CacheRecord>, Error> {
    let request = DiskUsageRequest { filters };
    let mut frames =
        engine.builds().await?.disk_usage(request).await.map_err(RemoteError::from)?.into_inner();
    let mut records = Vec::new();
    while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
        records.extend(frame.records);
    }
    Ok(records)
}

/// The conditions that were typed; a moment or an age as the engine takes it.
pub fn filters(typed: &[String]) -> Result<Vec<Filter>, Error> {
    let mut filters = Vec::new();
    for text in typed {
        // A key alone says that it is so.
        let text = if text.contains('=') { text.clone() } else { format!("{text}=true") };
        filters.extend(filter::parse(&[text])?);
    }
    let now = SystemTime::now();
    for filter in filters.iter_mut().filter(|filter| filter.key == "until") {
        filter.value = time::parse("--filter until", &filter.value, now)?.seconds.to_string();
    }
    Ok(filters)
}

/// Whether removing it gives anything back.
pub fn is_reclaimable(record: &CacheRecord) -> bool {
    !record.in_use && record.shared_bytes == 0
}

fn row(record: &CacheRecord, now: SystemTime) -> Document {
    let id: String = record.id.chars().take(ID).collect();
    let mark = if record.mutable { "*" } else { "" };
    map([
        ("ID", format!("{}{mark}", output::visible(&id)).into()),
        ("Reclaimable", is_reclaimable(record).to_string().into()),
        ("Size", human::size(record.bytes).into()),
        ("LastUsedSince", time::ago(record.used_at.as_ref(), now).into()),
        ("Type", record.r#type.as_str().into()),
        ("Shared", (record.shared_bytes > 0).to_string().into()),
        ("Mutable", record.mutable.to_string().into()),
        ("Description", record.description.as_str().into()),
        ("CreatedAt", time::exact(record.created_at.as_ref()).into()),
        ("LastUsedAt", time::exact(record.used_at.as_ref()).into()),
    ])
}

fn listing(records: &[CacheRecord]) -> Listing {
    let now = SystemTime::now();
    let rows = records.iter().map(|record| row(record, now)).collect();
    Listing { columns: COLUMNS, shown: SHOWN.to_vec(), rows }
}

/// A table of records.
pub fn table(records: &[CacheRecord]) -> Result<String, Error> {
    listing(records).render(&Format::Table)
}

/// Each record with all that is known of it.
pub fn verbose(records: &[CacheRecord]) -> String {
    let now = SystemTime::now();
    let one = |record: &CacheRecord| {
        format!(
            "ID:\t\t{}\nCreated at:\t{}\nMutable:\t{}\nReclaimable:\t{}\nShared:\t\t{}\nSize:\t\t{}\n\
             Description:\t{}\nLast used:\t{}\nType:\t\t{}\n\n",
            output::visible(&record.id),
            time::exact(record.created_at.as_ref()),
            record.mutable,
            is_reclaimable(record),
            record.shared_bytes > 0,
            human::size(record.bytes),
            output::visible(&record.description),
            time::ago(record.used_at.as_ref(), now),
            output::visible(&record.r#type),
        )
    };
    records.iter().map(one).collect::<String>() + &sums(records)
}

/// docker's last lines.
fn sums(records: &[CacheRecord]) -> String {
    let sum = |part: &dyn Fn(&CacheRecord) -> u64| {
        human::size(records.iter().map(part).fold(0, u64::saturating_add))
    };
    let own = |record: &CacheRecord| record.bytes.saturating_sub(record.shared_bytes);
    let mut text = String::new();
    if records.iter().any(|record| record.shared_bytes > 0) {
        let shared = sum(&|record| record.shared_bytes);
        text.push_str(&format!("Shared:\t\t{shared}\nPrivate:\t{}\n", sum(&own)));
    }
    let idle = sum(&|record| if record.in_use { 0 } else { own(record) });
    text.push_str(&format!("Reclaimable:\t{idle}\nTotal:\t\t{}\n", sum(&|record| record.bytes)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_like_dockers() {
        let records = [
            CacheRecord {
                id: "ab".repeat(32),
                r#type: "regular".into(),
                bytes: 4100,
                ..CacheRecord::default()
            },
            CacheRecord {
                id: "cd".into(),
                bytes: 100,
                shared_bytes: 60,
                mutable: true,
                in_use: true,
                ..CacheRecord::default()
            },
        ];
        let text = table(&records).unwrap();
        assert!(
            text.starts_with("ID                          RECLAIMABLE   SIZE      LAST ACCESSED\n"),
            "{text}"
        );
        assert!(text.contains("ababababababababababababa   true"), "{text}");
        assert!(text.contains("cd*                         false"), "{text}");
        assert_eq!(
            sums(&records),
            "Shared:\t\t60B\nPrivate:\t4.14kB\nReclaimable:\t4.1kB\nTotal:\t\t4.2kB\n"
        );
        assert!(verbose(&records[..1]).contains("Size:\t\t4.1kB\n"));
    }

    #[test]
    fn a_key_alone_says_that_it_is_so() {
        let read = filters(&["shared".into(), "until=10m".into()]).unwrap();
        assert_eq!((read[0].key.as_str(), read[0].value.as_str()), ("shared", "true"));
        assert!(read[1].value.parse::<u64>().is_ok(), "{read:?}");
    }
}
