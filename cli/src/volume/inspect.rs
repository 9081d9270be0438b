//! `davit volume inspect`: a volume in docker's fields.

use davit_proto::status::RemoteError;
use davit_proto::volume::{InspectRequest, Volume};

use crate::args::volume::InspectArgs;
use crate::client::Engine;
use crate::document::{Document, map, texts};
use crate::error::Error;
use crate::system::inspect::{self, Found};
use crate::{time, usage};

/// Shows all of some volumes.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    let engine = &engine;
    inspect::show(args.volumes, args.format.as_deref(), async move |name| find(engine, &name).await).await
}

/// One volume as a document; `None` when there is none by that name.
pub async fn find(engine: &Engine, name: &str) -> Result<Found, Error> {
    usage::check_target(name)?;
    let request = InspectRequest { name: name.to_owned() };
    let answer = engine.volumes().await?.inspect(request).await.map_err(RemoteError::from);
    Found::or_missing(answer, davit_proto::reason::VOLUME_NOT_FOUND, |answer| {
        answer.into_inner().volume.map(|volume| document(&volume))
    })
}

fn document(volume: &Volume) -> Document {
    let mut fields = vec![
        ("CreatedAt", time::exact(volume.created_at.as_ref()).into()),
        ("Driver", volume.driver.as_str().into()),
        ("Labels", texts(&volume.labels)),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Name", volume.name.as_str().into()),
        ("Options", texts(&volume.options)),
        ("Scope", scope(volume).into()),
    ];
    if !volume.status.is_empty() {
        fields.push(("Status", texts(&volume.status)));
    }
    map(fields)
}

/// Where it is the same volume.
pub fn scope(volume: &Volume) -> &str {
    if volume.scope.is_empty() { "local" } else { &volume.scope }
}
