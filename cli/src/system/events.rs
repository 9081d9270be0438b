//! `davit events`.

use davit_proto::status::RemoteError;
use davit_proto::system::{Event, WatchRequest};

use crate::args::system::EventsArgs;
use crate::client::Engine;
use crate::document::{map, texts};
use crate::error::Error;
use crate::{exit, filter, format, output, time};

/// Prints changes as they happen.
pub async fn run(engine: Engine, args: EventsArgs) -> Result<u8, Error> {
    let request = WatchRequest { from_revision: args.from_revision, filters: filter::parse(&args.filter)? };
    let mut answer = engine.system().await?.watch(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        let Some(event) = frame.event else { continue };
        match args.format.as_deref().filter(|template| !template.is_empty()) {
            None => output::line(&text(&event))?,
            Some(template) => {
                let document = map([
                    ("Type", event.r#type.as_str().into()),
                    ("Action", event.action.as_str().into()),
                    ("Status", event.action.as_str().into()),
                    ("ID", event.id.as_str().into()),
                    (
                        "Actor",
                        map([("ID", event.id.as_str().into()), ("Attributes", texts(&event.attributes))]),
                    ),
                    ("Time", event.at.as_ref().map_or(0, |at| at.seconds).into()),
                    ("Revision", event.revision.into()),
                ]);
                output::print(&format::one(&document, template)?)?;
            }
        }
    }
    Ok(exit::SUCCESS)
}

/// `TIME TYPE ACTION ID (name=value, …)`.
fn text(event: &Event) -> String {
    let mut attributes: Vec<String> =
        event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    attributes.sort();
    let at = event.at.as_ref().map(time::fixed).unwrap_or_default();
    format!("{at} {} {} {} ({})", event.r#type, event.action, event.id, attributes.join(", "))
}
