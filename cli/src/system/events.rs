//! `davit events`.

use std::time::SystemTime;

use davit_proto::status::RemoteError;
use davit_proto::system::{Event, WatchRequest};

use crate::args::system::EventsArgs;
use crate::client::Engine;
use crate::document::{Document, map, texts};
use crate::error::Error;
use crate::patience::{self, Patience};
use crate::{exit, filter, format, output, time};

/// Prints changes as they happen, also across a restart of the engine.
pub async fn run(engine: Engine, args: EventsArgs) -> Result<u8, Error> {
    let now = SystemTime::now();
    let moment = |flag, text: Option<&String>| text.map(|text| time::parse(flag, text, now)).transpose();
    let mut request = WatchRequest {
        from_revision: args.since_revision,
        filters: filter::parse(&args.filter)?,
        since: moment("--since", args.since.as_ref())?,
        until: moment("--until", args.until.as_ref())?,
    };
    let mut patience = Patience::new();
    loop {
        let before = request.from_revision;
        match follow(&engine, &mut request, args.format.as_deref()).await {
            // Without a revision there is nothing to go on from.
            Err(error) if patience::is_away(&error) && request.from_revision > 0 => {
                if !patience.is_left().await {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(exit::SUCCESS),
        }
        if request.from_revision > before {
            // It was there in between.
            patience = Patience::new();
        }
    }
}

async fn follow(engine: &Engine, request: &mut WatchRequest, template: Option<&str>) -> Result<(), Error> {
    let mut system = engine.system().await?;
    let mut answer = system.watch(request.clone()).await.map_err(RemoteError::from)?.into_inner();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        if let Some(event) = frame.event {
            match template.filter(|template| !template.is_empty()) {
                None => output::line(&text(&event))?,
                Some("json") => output::print(&format::one(&message(&event), "json")?)?,
                Some(template) => output::print(&format::one(&document(&event), template)?)?,
            }
        }
        // Frames without an event tell how far the engine has looked.
        request.from_revision = frame.revision;
    }
    Ok(())
}

/// What a template sees.
fn document(event: &Event) -> Document {
    map([
        ("Type", event.r#type.as_str().into()),
        ("Action", event.action.as_str().into()),
        ("Status", event.action.as_str().into()),
        ("ID", event.id.as_str().into()),
        ("From", event.attributes.get("image").map_or("", String::as_str).into()),
        ("Actor", actor(event)),
        ("Scope", "local".into()),
        ("Time", event.at.as_ref().map_or(0, |at| at.seconds).into()),
        ("TimeNano", nanoseconds(event).into()),
        ("Revision", event.revision.into()),
    ])
}

/// What docker's API sends, and the revision.
fn message(event: &Event) -> Document {
    map([
        ("status", event.action.as_str().into()),
        ("id", event.id.as_str().into()),
        ("from", event.attributes.get("image").map_or("", String::as_str).into()),
        ("Type", event.r#type.as_str().into()),
        ("Action", event.action.as_str().into()),
        ("Actor", actor(event)),
        ("scope", "local".into()),
        ("time", event.at.as_ref().map_or(0, |at| at.seconds).into()),
        ("timeNano", nanoseconds(event).into()),
        ("revision", event.revision.into()),
    ])
}

fn actor(event: &Event) -> Document {
    map([("ID", event.id.as_str().into()), ("Attributes", texts(&event.attributes))])
}

fn nanoseconds(event: &Event) -> i64 {
    let at = event.at.unwrap_or_default();
    at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into())
}

/// `TIME TYPE ACTION ID (name=value, …)`.
fn text(event: &Event) -> String {
    let mut attributes: Vec<String> =
        event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    attributes.sort();
    let at = event.at.as_ref().map(time::fixed).unwrap_or_default();
    format!("{at} {} {} {} ({})", event.r#type, event.action, event.id, attributes.join(", "))
}
