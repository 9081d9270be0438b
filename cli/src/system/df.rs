//! `davit system df`.

use std::time::SystemTime;

use davit_proto::build::CacheRecord;
use davit_proto::container::Container;
use davit_proto::image::ImageUsage;
use davit_proto::status::{ErrorKind, RemoteError};
use davit_proto::system::{DiskUsageRequest, DiskUsageResponse, KindUsage};
use davit_proto::volume::VolumeUsage;

use crate::args::system::DiskUsageArgs;
use crate::build::usage as build;
use crate::client::Engine;
use crate::container::row;
use crate::document::{Document, map, texts};
use crate::error::Error;
use crate::format::{self, Column, Format, Listing};
use crate::image::ls;
use crate::{exit, human, output, time};

/// How builds call what steps made.
const STEP: &str = "regular";
/// The sums' columns.
const KINDS: &[Column] = &[
    Column { field: "Type", head: "TYPE" },
    Column { field: "TotalCount", head: "TOTAL" },
    Column { field: "Active", head: "ACTIVE" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "Reclaimable", head: "RECLAIMABLE" },
];
/// The volumes' columns.
const VOLUMES: &[Column] = &[
    Column { field: "Name", head: "VOLUME NAME" },
    Column { field: "Links", head: "LINKS" },
    Column { field: "Size", head: "SIZE" },
];
/// The build cache's columns.
const CACHE: &[Column] = &[
    Column { field: "ID", head: "CACHE ID" },
    Column { field: "CacheType", head: "CACHE TYPE" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "CreatedSince", head: "CREATED" },
    Column { field: "LastUsedSince", head: "LAST USED" },
    Column { field: "UsageCount", head: "USAGE" },
    Column { field: "Shared", head: "SHARED" },
];

/// Shows disk space.
pub async fn run(engine: Engine, args: DiskUsageArgs) -> Result<u8, Error> {
    let mut usage = ask(&engine, args.verbose).await?;
    let records = cache(&engine, &mut usage).await?;
    let text = match (args.verbose, args.format.as_deref().filter(|format| !format.is_empty())) {
        (false, template) => {
            let rows = usage.kinds.iter().map(kind).collect();
            let shown = KINDS.iter().map(|column| column.field).collect();
            Listing { columns: KINDS, shown, rows }.render(&Format::of(template))?
        }
        (true, None | Some("table")) => verbose(&usage, &records)?,
        (true, Some(template)) => format::one(&document(&usage, &records), template)?,
    };
    output::print(&text)?;
    for warning in &usage.warnings {
        output::complain(&format!("WARNING: {}", output::visible(warning)));
    }
    Ok(exit::SUCCESS)
}

/// What builds keep, and its sums in place of those of steps alone. An engine that does not build keeps nothing more.
async fn cache(engine: &Engine, usage: &mut DiskUsageResponse) -> Result<Vec<CacheRecord>, Error> {
    let records = match build::ask(engine, Vec::new()).await {
        Err(Error::Remote(error)) if error.kind == ErrorKind::Unimplemented => return Ok(Vec::new()),
        other => other?,
    };
    let own = |record: &CacheRecord| record.bytes.saturating_sub(record.shared_bytes);
    // The engine counted the steps already, each byte once.
    let rest = records.iter().filter(|record| record.r#type != STEP).map(own).fold(0, u64::saturating_add);
    if let Some(kind) = usage.kinds.iter_mut().find(|kind| kind.kind == "build-cache") {
        kind.total = records.len() as u64;
        kind.active = records.iter().filter(|record| record.in_use).count() as u64;
        kind.bytes = kind.bytes.saturating_add(rest);
        kind.reclaimable_bytes = kind.reclaimable_bytes.saturating_add(rest);
    }
    Ok(records)
}

async fn ask(engine: &Engine, verbose: bool) -> Result<DiskUsageResponse, Error> {
    let request = DiskUsageRequest { verbose };
    let mut frames =
        engine.system().await?.disk_usage(request).await.map_err(RemoteError::from)?.into_inner();
    let mut all = DiskUsageResponse::default();
    while let Some(frame) = frames.message().await.map_err(RemoteError::from)? {
        all.kinds.extend(frame.kinds);
        all.images.extend(frame.images);
        all.containers.extend(frame.containers);
        all.volumes.extend(frame.volumes);
        all.warnings.extend(frame.warnings);
    }
    all.images.sort_by_key(|usage| {
        std::cmp::Reverse(usage.image.as_ref().and_then(|image| image.created_at).map(|at| at.seconds))
    });
    Ok(all)
}

/// A row of what builds keep.
fn cached(record: &CacheRecord, now: SystemTime) -> Document {
    map([
        ("ID", record.id.chars().take(12).collect::<String>().into()),
        ("CacheType", record.r#type.as_str().into()),
        ("Size", human::size(record.bytes).into()),
        ("CreatedSince", time::ago(record.created_at.as_ref(), now).into()),
        ("LastUsedSince", time::ago(record.used_at.as_ref(), now).into()),
        ("UsageCount", i32::from(record.in_use).to_string().into()),
        ("Shared", (record.shared_bytes > 0).to_string().into()),
        ("InUse", record.in_use.to_string().into()),
        ("Description", record.description.as_str().into()),
    ])
}

/// A row of sums.
fn kind(kind: &KindUsage) -> Document {
    let name = match kind.kind.as_str() {
        "image" => "Images",
        "container" => "Containers",
        "volume" => "Local Volumes",
        "build-cache" => "Build Cache",
        other => other,
    };
    map([
        ("Active", kind.active.to_string().into()),
        ("Reclaimable", reclaimable(kind).into()),
        ("Size", human::exact_size(kind.bytes).into()),
        ("TotalCount", kind.total.to_string().into()),
        ("Type", name.into()),
    ])
}

/// Bytes and their share of all; without any there is no share.
fn reclaimable(kind: &KindUsage) -> String {
    let bytes = human::exact_size(kind.reclaimable_bytes);
    let share = u128::from(kind.reclaimable_bytes) * 100;
    match share.checked_div(kind.bytes.into()) {
        Some(percent) => format!("{bytes} ({percent}%)"),
        None => bytes,
    }
}

/// A row a name of an image, with what it shares.
fn image(usage: &ImageUsage, now: SystemTime) -> Vec<Document> {
    let Some(image) = &usage.image else { return Vec::new() };
    let sizes = ls::Sizes {
        size: human::size(usage.bytes),
        shared: human::exact_size(usage.shared_bytes),
        unique: human::exact_size(usage.bytes.saturating_sub(usage.shared_bytes)),
    };
    ls::rows_with(image, now, ls::Shown::default(), &sizes)
}

/// A container as `ps` shows it; its size is what removing it gives back.
fn container(container: &Container, now: SystemTime) -> Document {
    let disk = container.status.as_ref().map_or(0, |status| status.size_disk);
    match row::of(container, now, false) {
        Document::Map(fields) => Document::Map(
            fields
                .into_iter()
                .map(|(name, field)| {
                    let field = if name == "Size" { human::size(disk).into() } else { field };
                    (name, field)
                })
                .collect(),
        ),
        other => other,
    }
}

fn volume(usage: &VolumeUsage) -> Document {
    let empty = davit_proto::volume::Volume::default();
    let volume = usage.volume.as_ref().unwrap_or(&empty);
    map([
        ("Driver", volume.driver.as_str().into()),
        ("Labels", texts(&volume.labels)),
        ("Links", volume.container_ids.len().to_string().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Scope", "local".into()),
        ("Size", usage.size_bytes.map_or_else(|| "N/A".to_owned(), human::exact_size).into()),
    ])
}

fn verbose(usage: &DiskUsageResponse, records: &[CacheRecord]) -> Result<String, Error> {
    let now = SystemTime::now();
    let images = Listing {
        columns: ls::COLUMNS,
        shown: vec![
            "Repository",
            "Tag",
            "ID",
            "CreatedSince",
            "Size",
            "SharedSize",
            "UniqueSize",
            "Containers",
        ],
        rows: usage.images.iter().flat_map(|usage| image(usage, now)).collect(),
    };
    let containers = Listing {
        columns: row::COLUMNS,
        shown: vec!["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
        rows: usage.containers.iter().map(|one| container(one, now)).collect(),
    };
    let volumes = Listing {
        columns: VOLUMES,
        shown: VOLUMES.iter().map(|column| column.field).collect(),
        rows: usage.volumes.iter().map(volume).collect(),
    };
    let cache = Listing {
        columns: CACHE,
        shown: CACHE.iter().map(|column| column.field).collect(),
        rows: records.iter().map(|record| cached(record, now)).collect(),
    };
    let bytes = usage.kinds.iter().find(|kind| kind.kind == "build-cache").map_or(0, |kind| kind.bytes);
    let table = Format::Table;
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache \
         usage: {}\n\n{}",
        images.render(&table)?,
        containers.render(&table)?,
        volumes.render(&table)?,
        human::exact_size(bytes),
        cache.render(&table)?,
    ))
}

/// What a template or JSON shows of everything.
fn document(usage: &DiskUsageResponse, records: &[CacheRecord]) -> Document {
    let now = SystemTime::now();
    map([
        ("Images", Document::List(usage.images.iter().flat_map(|usage| image(usage, now)).collect())),
        ("Containers", Document::List(usage.containers.iter().map(|one| container(one, now)).collect())),
        ("Volumes", Document::List(usage.volumes.iter().map(volume).collect())),
        ("BuildCache", Document::List(records.iter().map(|record| cached(record, now)).collect())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_like_dockers() {
        let some = KindUsage {
            kind: "image".into(),
            total: 5,
            active: 2,
            bytes: 16_430_000,
            reclaimable_bytes: 11_630_000,
        };
        let none = KindUsage { kind: "build-cache".into(), ..KindUsage::default() };
        let rows = [&some, &none].map(kind).to_vec();
        let shown = KINDS.iter().map(|column| column.field).collect();
        let text = Listing { columns: KINDS, shown, rows }.render(&Format::Table).unwrap();
        assert_eq!(
            text,
            "TYPE          TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images        5         2         16.43MB   11.63MB (70%)\n\
             Build Cache   0         0         0B        0B\n"
        );
    }

    #[test]
    fn the_long_form_has_all_tables() {
        let text = verbose(&DiskUsageResponse::default(), &[]).unwrap();
        for head in [
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS",
            "CONTAINER ID   IMAGE     COMMAND   LOCAL VOLUMES   SIZE      CREATED   STATUS    NAMES",
            "VOLUME NAME   LINKS     SIZE",
            "Build cache usage: 0B",
        ] {
            assert!(text.lines().any(|line| line == head), "{head:?} in\n{text}");
        }
    }
}
