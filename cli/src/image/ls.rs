//! `davit images`.

use std::time::SystemTime;

use davit_proto::image::{Image, ListRequest};
use davit_proto::status::RemoteError;
use davit_proto::types::Filter;

use crate::args::image::ListArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, filter, human, output, reference, time};

/// Docker's fields and heads.
pub const COLUMNS: &[Column] = &[
    Column { field: "ID", head: "IMAGE ID" },
    Column { field: "Repository", head: "REPOSITORY" },
    Column { field: "Tag", head: "TAG" },
    Column { field: "Digest", head: "DIGEST" },
    Column { field: "CreatedSince", head: "CREATED" },
    Column { field: "CreatedAt", head: "CREATED AT" },
    Column { field: "Size", head: "SIZE" },
    Column { field: "VirtualSize", head: "SIZE" },
    Column { field: "SharedSize", head: "SHARED SIZE" },
    Column { field: "UniqueSize", head: "UNIQUE SIZE" },
    Column { field: "Containers", head: "CONTAINERS" },
    Column { field: "Labels", head: "LABELS" },
];
/// Docker's word for what is not there.
const NONE: &str = "<none>";

/// Lists images.
pub async fn run(engine: Engine, args: ListArgs) -> Result<u8, Error> {
    let mut filters = filter::parse(&args.filter)?;
    if let Some(repository) = &args.repository {
        filters.push(Filter { key: "reference".into(), value: repository.clone() });
    }
    let request = ListRequest { filters, all: args.all };
    let mut answer = engine.images().await?.list(request).await.map_err(RemoteError::from)?.into_inner();
    let mut images: Vec<Image> = Vec::new();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        images.extend(frame.images);
    }
    let patterns: Vec<&String> = args.repository.iter().collect();
    for image in &mut images {
        image.references.retain(|name| patterns.iter().all(|pattern| reference::matches(pattern, name)));
    }
    images.retain(|image| patterns.is_empty() || !image.references.is_empty() || !image.digests.is_empty());
    images.sort_by_key(|image| std::cmp::Reverse(image.created_at.map(|at| (at.seconds, at.nanos))));
    let now = SystemTime::now();
    let digests = args.digests || args.format.as_deref().is_some_and(|format| format.contains(".Digest"));
    let shown = Shown { no_trunc: args.no_trunc, digests };
    let rows: Vec<Document> = images.iter().flat_map(|image| rows(image, now, shown)).collect();
    if args.quiet && args.format.is_none() {
        return quiet(&rows);
    }
    let mut shown = vec!["Repository", "Tag", "ID", "CreatedSince", "Size"];
    if args.digests {
        shown.insert(2, "Digest");
    }
    let format = Format::of(args.format.as_deref());
    output::print(&Listing { columns: COLUMNS, shown, rows }.render(&format)?)?;
    Ok(exit::SUCCESS)
}

fn quiet(rows: &[Document]) -> Result<u8, Error> {
    let ids = rows.iter().filter_map(|row| match row.field("ID") {
        Some(Document::Text(id)) => Some(format!("{}\n", output::visible(id))),
        _ => None,
    });
    output::print(&ids.collect::<String>())?;
    Ok(exit::SUCCESS)
}

/// How much of an image is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// Whole ids.
    pub no_trunc: bool,
    /// The digest of an image without a name.
    pub digests: bool,
}

/// What an image takes, as it is shown.
#[derive(Debug)]
pub struct Sizes {
    /// All of it.
    pub size: String,
    /// What another image has too.
    pub shared: String,
    /// What only this one has.
    pub unique: String,
}

/// A row a name; one without a name when there is none.
fn rows(image: &Image, now: SystemTime, shown: Shown) -> Vec<Document> {
    let sizes = Sizes { size: human::size(image.size), shared: "N/A".into(), unique: "N/A".into() };
    rows_with(image, now, shown, &sizes)
}

/// The same with sizes that were found otherwise.
pub fn rows_with(image: &Image, now: SystemTime, shown: Shown, sizes: &Sizes) -> Vec<Document> {
    let Shown { no_trunc, digests } = shown;
    let digest_of = |repository: &str| {
        let all = image.digests.iter().map(|digest| reference::familiar(digest));
        all.filter_map(|digest| digest.split_once('@'))
            .find(|(name, _)| reference::split(name).0 == repository)
            .map_or(NONE, |(_, digest)| digest)
    };
    let row = |repository: &str, tag: &str, digest: &str| {
        let id = if no_trunc { image.id.as_str() } else { output::short_id(&image.id) };
        let mut labels: Vec<_> = image.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.sort();
        map([
            ("Containers", image.container_ids.len().to_string().into()),
            ("CreatedAt", time::local(image.created_at.as_ref()).into()),
            ("CreatedSince", or(time::ago(image.created_at.as_ref(), now), "N/A").into()),
            ("Digest", digest.into()),
            ("ID", id.into()),
            ("Labels", labels.join(",").into()),
            ("Repository", repository.into()),
            ("SharedSize", sizes.shared.as_str().into()),
            ("Size", sizes.size.as_str().into()),
            ("Tag", tag.into()),
            ("UniqueSize", sizes.unique.as_str().into()),
            ("VirtualSize", sizes.size.as_str().into()),
        ])
    };
    if !image.references.is_empty() {
        let names = image.references.iter().map(|name| reference::split(reference::familiar(name)));
        return names.map(|(repository, tag)| row(repository, tag, digest_of(repository))).collect();
    }
    let names: Vec<&str> = image.digests.iter().map(|digest| reference::familiar(digest)).collect();
    match names.first().and_then(|digest| digest.split_once('@')) {
        Some((repository, digest)) => vec![row(repository, NONE, if digests { digest } else { NONE })],
        None => vec![row(NONE, NONE, NONE)],
    }
}

fn or(text: String, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(image: &Image, digests: bool) -> Vec<String> {
        let rows = rows(image, SystemTime::now(), Shown { no_trunc: false, digests });
        let field = |row: &Document, name: &str| match row.field(name) {
            Some(Document::Text(text)) => text.clone(),
            other => panic!("{name}: {other:?}"),
        };
        rows.iter()
            .map(|row| ["Repository", "Tag", "Digest", "ID", "Size"].map(|name| field(row, name)).join(" "))
            .collect()
    }

    #[test]
    fn a_row_a_name() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let image = Image {
            id,
            references: vec!["docker.io/library/alpine:3".into(), "localhost:5000/a:1".into()],
            digests: vec!["docker.io/library/alpine@sha256:11".into()],
            size: 5_590_000,
            ..Image::default()
        };
        assert_eq!(
            shown(&image, true),
            ["alpine 3 sha256:11 abababababab 5.59MB", "localhost:5000/a 1 <none> abababababab 5.59MB",]
        );
        let dangling = Image { references: vec![], digests: vec![], ..image.clone() };
        assert_eq!(shown(&dangling, true), ["<none> <none> <none> abababababab 5.59MB"]);
        let by_digest = Image { references: vec![], ..image };
        assert_eq!(shown(&by_digest, true), ["alpine <none> sha256:11 abababababab 5.59MB"]);
    }
}
