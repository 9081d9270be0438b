//! The two documents of a new image, from those of its base: everything in them that is not known here stays as it is.

use serde_json::{Map, Value, json};

use crate::document::{Descriptor, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform};
use crate::image::Image;

/// What docker wrote into configurations about the step that made the base, which says nothing of the new image.
const OF_BASE: [&str; 7] = ["id", "parent", "container", "container_config", "comment", "author", "Size"];

/// The words of a new image.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Who made it.
    pub author: String,
    /// What is to be said of it.
    pub comment: String,
    /// By which command.
    pub created_by: String,
    /// By which commands before it that made no layer, oldest first.
    pub earlier: Vec<String>,
    /// When, RFC 3339.
    pub created: String,
}

/// The new layer.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// Its blob.
    pub blob: Descriptor,
    /// Its diff id.
    pub diff_id: davit_proto::id::Digest,
}

/// The defaults of the base's containers.
pub fn defaults(base: Option<&Image>) -> serde_json::Result<Map<String, Value>> {
    let Some(base) = base else { return Ok(Map::new()) };
    let mut config: Map<String, Value> = serde_json::from_slice(&base.config_bytes)?;
    match config.remove("config") {
        Some(Value::Object(defaults)) => Ok(defaults),
        _ => Ok(Map::new()),
    }
}

/// The bytes of the configuration. With the words may come a history that is the whole of it.
pub fn config(
    base: Option<&Image>,
    platform: &Platform,
    defaults: Map<String, Value>,
    layer: Option<&NewLayer>,
    (words, history): (&Words, Option<Vec<Map<String, Value>>>),
) -> serde_json::Result<Vec<u8>> {
    let mut config: Map<String, Value> = match base {
        Some(base) => serde_json::from_slice(&base.config_bytes)?,
        None => from_nothing(platform),
    };
    for key in OF_BASE {
        config.remove(key);
    }
    config.insert("created".to_owned(), json!(words.created));
    if !words.author.is_empty() {
        config.insert("author".to_owned(), json!(words.author));
    }
    config.insert("config".to_owned(), Value::Object(defaults));
    let mut diff_ids: Vec<_> = base.map(|base| base.diff_ids().to_vec()).unwrap_or_default();
    let history = match history {
        Some(history) => history.into_iter().map(Value::Object).collect(),
        None => with_words(steps(&config, base, diff_ids.len()), words, layer),
    };
    diff_ids.extend(layer.map(|layer| layer.diff_id.clone()));
    config.insert("history".to_owned(), Value::Array(history));
    config.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    serde_json::to_vec(&config)
}

/// The steps of the base, and those of the words.
fn with_words(mut history: Vec<Value>, words: &Words, layer: Option<&NewLayer>) -> Vec<Value> {
    for text in &words.earlier {
        let earlier = Words { created_by: text.clone(), created: words.created.clone(), ..Words::default() };
        history.push(step(&earlier, true));
    }
    history.push(step(words, layer.is_none()));
    history
}

fn from_nothing(platform: &Platform) -> Map<String, Value> {
    let Platform { os, architecture, variant } = platform;
    let mut config = Map::new();
    config.insert("os".to_owned(), json!(os));
    config.insert("architecture".to_owned(), json!(architecture));
    if !variant.is_empty() {
        config.insert("variant".to_owned(), json!(variant));
    }
    config
}

/// The steps of the base. Layers that none of them tells of get one each, or the new step would be taken for theirs.
fn steps(config: &Map<String, Value>, base: Option<&Image>, layers: usize) -> Vec<Value> {
    let mut steps = match config.get("history") {
        Some(Value::Array(steps)) => steps.clone(),
        _ => Vec::new(),
    };
    let told = base.map_or(0, |base| base.config.history.iter().filter(|step| !step.empty_layer).count());
    let created = base.map(|base| base.config.created.as_str()).unwrap_or_default();
    let untold = if created.is_empty() { json!({}) } else { json!({ "created": created }) };
    steps.extend(std::iter::repeat_n(untold, layers.saturating_sub(told)));
    steps
}

fn step(words: &Words, empty: bool) -> Value {
    let mut step = Map::new();
    let said = [
        ("created", &words.created),
        ("author", &words.author),
        ("created_by", &words.created_by),
        ("comment", &words.comment),
    ];
    for (key, text) in said.into_iter().filter(|(_, text)| !text.is_empty()) {
        step.insert(key.to_owned(), json!(text));
    }
    if empty {
        step.insert("empty_layer".to_owned(), json!(true));
    }
    Value::Object(step)
}

/// The bytes of the manifest.
pub fn manifest(
    base: Option<&Image>,
    config: &Descriptor,
    layer: Option<&NewLayer>,
) -> serde_json::Result<Vec<u8>> {
    let mut layers: Vec<Value> = match base {
        Some(base) => {
            let mut manifest: Map<String, Value> = serde_json::from_slice(&base.manifest_bytes)?;
            match manifest.remove("layers") {
                Some(Value::Array(layers)) => layers,
                _ => Vec::new(),
            }
        }
        None => Vec::new(),
    };
    for layer in &mut layers {
        if let Some(media_type) = layer.get_mut("mediaType")
            && let Some(oci) = media_type.as_str().and_then(as_oci)
        {
            *media_type = json!(oci);
        }
    }
    layers.extend(layer.map(|layer| json!(layer.blob)));
    serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": layers,
    }))
}

/// docker's media types of layers in OCI's words: one manifest speaks one language.
fn as_oci(media_type: &str) -> Option<String> {
    let kind = match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => "",
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => "+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => {
            return Some("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".to_owned());
        }
        _ => return None,
    };
    Some(format!("{OCI_LAYER}{kind}"))
}

/// A descriptor of a configuration.
pub fn config_descriptor(digest: davit_proto::id::Digest, bytes: &[u8]) -> Descriptor {
    Descriptor::new(OCI_CONFIG, digest, bytes.len() as u64)
}
