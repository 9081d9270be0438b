//! `davit search`.

use davit_proto::image::{FoundImage, SearchRequest};
use davit_proto::status::RemoteError;

use crate::args::image::SearchArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{credential, exit, filter, output, reference};

const COLUMNS: &[Column] = &[
    Column { field: "Name", head: "NAME" },
    Column { field: "Description", head: "DESCRIPTION" },
    Column { field: "StarCount", head: "STARS" },
    Column { field: "IsOfficial", head: "OFFICIAL" },
    Column { field: "IsAutomated", head: "AUTOMATED" },
];
/// Characters of a description.
const DESCRIPTION: usize = 45;

/// Looks for images at a registry: the one that the term begins with, else Docker Hub.
pub async fn run(engine: Engine, args: SearchArgs) -> Result<u8, Error> {
    let registry = reference::registry(&args.term);
    let term = args.term.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&args.term);
    let request = SearchRequest {
        registry: registry.to_owned(),
        term: term.to_owned(),
        limit: args.limit,
        filters: filter::parse(&args.filter)?,
        credential: credential::of_image(&args.term),
    };
    let found = engine.images().await?.search(request).await.map_err(RemoteError::from)?.into_inner();
    let rows = found.images.iter().map(|image| row(image, args.no_trunc)).collect();
    let shown = vec!["Name", "Description", "StarCount", "IsOfficial"];
    let format = Format::of(args.format.as_deref());
    output::print(&Listing { columns: COLUMNS, shown, rows }.render(&format)?)?;
    Ok(exit::SUCCESS)
}

fn row(image: &FoundImage, no_trunc: bool) -> Document {
    let words: Vec<&str> = image.description.split_whitespace().collect();
    let whole = words.join(" ");
    let description = if no_trunc { whole } else { output::ellipsis(&whole, DESCRIPTION) };
    let mark = |yes: bool| if yes { "[OK]" } else { "" };
    map([
        ("Name", Document::from(image.name.strip_prefix("library/").unwrap_or(&image.name))),
        ("Description", description.into()),
        ("StarCount", image.stars.to_string().into()),
        ("IsOfficial", mark(image.official).into()),
        ("IsAutomated", mark(image.automated).into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_an_image() {
        let image = FoundImage {
            name: "library/busybox".into(),
            description: format!("Busybox\nbase  image. {}", "x".repeat(60)),
            stars: 12,
            official: true,
            automated: false,
        };
        let rows = vec![row(&image, false)];
        let shown = vec!["Name", "Description", "StarCount", "IsOfficial"];
        let text = Listing { columns: COLUMNS, shown, rows }.render(&Format::of(None)).unwrap();
        let mut lines = text.lines();
        let words = |line: Option<&str>| line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines.next()), "NAME DESCRIPTION STARS OFFICIAL");
        assert_eq!(words(lines.next()), format!("busybox Busybox base image. {}… 12 [OK]", "x".repeat(24)));
    }
}
