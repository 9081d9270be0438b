//! `davit image inspect`: an image in docker's fields.

use davit_proto::image::{InspectRequest, InspectResponse};
use davit_proto::status::RemoteError;
use serde_json::Value;

use crate::args::image::InspectArgs;
use crate::client::Engine;
use crate::document::{Document, list, map};
use crate::error::Error;
use crate::system::inspect::{self, Found};
use crate::{reference, time, usage};

/// Fields of an image's configuration, in docker's order.
const CONFIG: [&str; 14] = [
    "Hostname",
    "User",
    "ExposedPorts",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "OnBuild",
    "Labels",
    "StopSignal",
];

/// Shows all of some images.
pub async fn run(engine: Engine, args: InspectArgs) -> Result<u8, Error> {
    let engine = &engine;
    inspect::show(args.images, args.format.as_deref(), async move |name| find(engine, &name).await).await
}

/// One image as a document; `None` when there is none by that name.
pub async fn find(engine: &Engine, name: &str) -> Result<Found, Error> {
    usage::check_target(name)?;
    let request = InspectRequest { image: name.to_owned() };
    let answer = engine.images().await?.inspect(request).await.map_err(RemoteError::from);
    Found::or_missing(answer, davit_proto::reason::IMAGE_NOT_FOUND, |answer| {
        Some(document(&answer.into_inner()))
    })
}

fn document(answer: &InspectResponse) -> Document {
    let image = answer.image.clone().unwrap_or_default();
    let whole: Value = serde_json::from_slice(&answer.config).unwrap_or_default();
    let platform = image.platform.clone().unwrap_or_default();
    let text = |name: &str| Document::from(whole.get(name).and_then(Value::as_str).unwrap_or_default());
    let familiar = |names: &[String]| list(names.iter().map(|name| reference::familiar(name)));
    let mut fields: Vec<(&str, Document)> = vec![
        ("Id", image.id.as_str().into()),
        ("RepoTags", familiar(&image.references)),
        ("RepoDigests", familiar(&image.digests)),
        ("Parent", "".into()),
        ("Comment", comment(&whole)),
        ("Created", time::exact(image.created_at.as_ref()).into()),
        ("DockerVersion", text("docker_version")),
        ("Author", text("author")),
        ("Config", config(whole.get("config"))),
        ("Architecture", platform.architecture.as_str().into()),
    ];
    if !platform.variant.is_empty() {
        fields.push(("Variant", platform.variant.as_str().into()));
    }
    let lower: Vec<&str> = answer.layer_paths.iter().skip(1).map(String::as_str).collect();
    let upper = answer.layer_paths.first().map_or("", String::as_str);
    fields.extend([
        ("Os", platform.os.as_str().into()),
        ("Size", image.size.into()),
        (
            "GraphDriver",
            map([
                ("Data", map([("LowerDir", lower.join(":").into()), ("UpperDir", upper.into())])),
                ("Name", "overlay".into()),
            ]),
        ),
        ("RootFS", map([("Type", "layers".into()), ("Layers", list(&answer.diff_ids))])),
        ("Metadata", map([("LastTagTime", time::exact(None).into())])),
    ]);
    map(fields)
}

/// The image's own comment, or that of its last step.
fn comment(whole: &Value) -> Document {
    if let Some(own) = whole.get("comment").and_then(Value::as_str).filter(|own| !own.is_empty()) {
        return own.into();
    }
    let steps = whole.get("history").and_then(Value::as_array);
    let last = steps.and_then(|steps| steps.last()).and_then(|step| step.get("comment"));
    last.and_then(Value::as_str).unwrap_or_default().into()
}

/// The known fields in docker's order, then what else there is.
fn config(config: Option<&Value>) -> Document {
    let Some(Value::Object(config)) = config else {
        return Document::Null;
    };
    let known = CONFIG.iter().filter_map(|name| Some((*name, config.get(*name)?)));
    let other = config.iter().filter(|(name, _)| !CONFIG.contains(&name.as_str()));
    let fields = known.chain(other.map(|(name, value)| (name.as_str(), value)));
    map(fields.map(|(name, value)| (name, value.clone().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::image::{Image, Platform};

    #[test]
    fn fields_that_scripts_look_for() {
        let config = br#"{"config":{"Cmd":["sh"],"Env":["A=1"],"Zz":1},"history":[{"comment":"last"}]}"#;
        let answer = InspectResponse {
            image: Some(Image {
                id: "sha256:00".into(),
                references: vec!["docker.io/library/alpine:3".into()],
                platform: Some(Platform {
                    os: "linux".into(),
                    architecture: "amd64".into(),
                    variant: String::new(),
                }),
                size: 7,
                ..Image::default()
            }),
            config: config.as_slice().into(),
            layer_paths: vec!["/l/2".into(), "/l/1".into(), "/l/0".into()],
            diff_ids: vec!["sha256:aa".into()],
            ..InspectResponse::default()
        };
        let document = document(&answer);
        let field =
            |name: &str| document.field(name).unwrap_or_else(|| panic!("{name} is missing")).compact();
        assert_eq!(field("RepoTags"), "[\"alpine:3\"]");
        assert_eq!(field("Config"), r#"{"Env":["A=1"],"Cmd":["sh"],"Zz":1}"#);
        assert_eq!(field("RootFS"), r#"{"Type":"layers","Layers":["sha256:aa"]}"#);
        assert_eq!(field("Comment"), "\"last\"");
        assert_eq!(
            field("GraphDriver"),
            r#"{"Data":{"LowerDir":"/l/1:/l/0","UpperDir":"/l/2"},"Name":"overlay"}"#
        );
        assert!(document.field("Variant").is_none());
    }
}
