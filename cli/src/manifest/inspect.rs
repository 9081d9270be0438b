//! `davit manifest inspect`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use davit_proto::image::{InspectManifestRequest, InspectManifestResponse};
use davit_proto::status::RemoteError;
use serde_json::{Value, json};

use super::indent::indent;
use crate::args::manifest::InspectArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::{credential, exit, output, usage};

/// Prints what a registry has under a reference.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    usage::check_target(&args.image)?;
    let request = InspectManifestRequest {
        reference: args.image.clone(),
        credential: credential::of_image(&args.image),
        verbose: args.verbose,
    };
    let answer = engine.images().await?.inspect_manifest(request).await.map_err(RemoteError::from)?;
    let mut answer = answer.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = answer.message().await.map_err(RemoteError::from)? {
        parts.push(part);
    }
    let json = match parts.as_slice() {
        [] => return Err(Error::Usage(format!("the engine said nothing of {:?}", args.image))),
        [only] if !args.verbose => only.content.to_vec(),
        [only] => whole(only),
        // The index itself is only the way to what is listed.
        [_, parts @ ..] => {
            let parts: Vec<String> =
                parts.iter().map(|part| String::from_utf8_lossy(&whole(part)).into_owned()).collect();
            format!("[{}]", parts.join(",")).into_bytes()
        }
    };
    let text = indent(&json)
        .ok_or_else(|| Error::Usage(format!("what the registry has as {:?} is no JSON", args.image)))?;
    output::print(&format!("{text}\n"))?;
    Ok(exit::SUCCESS)
}

/// A manifest with all that is known of it, as docker lays it out.
fn whole(part: &InspectManifestResponse) -> Vec<u8> {
    let mut descriptor = serde_json::Map::new();
    descriptor.insert("mediaType".into(), part.media_type.as_str().into());
    descriptor.insert("digest".into(), part.digest.as_str().into());
    descriptor.insert("size".into(), part.content.len().into());
    if let Some(platform) = &part.platform {
        let mut fields = json!({"architecture": platform.architecture, "os": platform.os});
        if !platform.variant.is_empty() {
            fields["variant"] = Value::from(platform.variant.as_str());
        }
        descriptor.insert("platform".into(), fields);
    }
    let name = if part.media_type.contains("docker") { "SchemaV2Manifest" } else { "OCIManifest" };
    // The manifest is put in as it is, so that its fields keep their order.
    let head = format!(
        r#"{{"Ref":{},"Descriptor":{},"Raw":{},"{name}":"#,
        Value::from(part.reference.as_str()),
        Value::from(descriptor),
        Value::from(STANDARD.encode(&part.content)),
    );
    [head.as_bytes(), &part.content, b"}"].concat()
}
