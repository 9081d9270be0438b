//! An OCI image layout among a client's files, as an archive of the one image in it that is meant.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::context::Files;
use crate::error::Error;
use crate::layer::{Data, Item, Layer};
use crate::tree::{Kind, Node, Tree};

/// Bytes of an index that are read.
const INDEX: u64 = 4 << 20;
const INDEX_NAME: &str = "index.json";
/// The key under which an index names an image.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The archive of an image, which has no name in it: whoever loads it gives no name away.
///
/// # Errors
/// It is no layout, or has no such image.
pub fn archive(files: Arc<Files>, wanted: &str) -> Result<Layer, Error> {
    let index = read(files.as_ref())?;
    let manifests = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut chosen = choose(manifests, wanted)?;
    if let Some(manifest) = chosen.as_object_mut() {
        manifest.remove("annotations");
    }
    let text = json!({ "schemaVersion": 2, "manifests": [chosen] }).to_string().into_bytes();
    let tree: Arc<dyn Tree> = files;
    let mut layer = Layer::new(None, Node::folder(0, 0, (0, 0)));
    for (path, node) in all(tree.as_ref())? {
        let data = match node.kind {
            Kind::File { .. } => Data::Tree(Arc::clone(&tree), path.clone()),
            Kind::Directory => Data::None,
            Kind::Symlink(_) | Kind::Other(..) => continue,
        };
        layer.put(&path, Item { node, data })?;
    }
    let kind = Kind::File { size: text.len() as u64, digest: None, number: None };
    let node = Node { kind, mode: 0o644, ..Node::folder(0, 0, (0, 0)) };
    layer.put(Path::new(INDEX_NAME), Item { node, data: Data::Bytes(text) })?;
    Ok(layer)
}

fn read(files: &Files) -> Result<Value, Error> {
    let wrong = || Error::Invalid(format!("this is no OCI image layout: it has no {INDEX_NAME}"));
    let file = files.open(Path::new(INDEX_NAME)).map_err(|_| wrong())?;
    let mut bytes = Vec::new();
    file.take(INDEX).read_to_end(&mut bytes).map_err(Error::io(format!("read {INDEX_NAME}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::Invalid(format!("{INDEX_NAME} of the layout: {error}")))
}

/// The image that is meant: by digest, by name, or the only one.
fn choose(manifests: Vec<Value>, wanted: &str) -> Result<Value, Error> {
    let text = |manifest: &Value, path: &str| {
        manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let name = |manifest: &Value| {
        manifest.get("annotations").and_then(|annotations| text_of(annotations, NAME)).unwrap_or_default()
    };
    let matches = |manifest: &&Value| {
        wanted.is_empty() || text(manifest, "/digest") == wanted || name(manifest) == wanted
    };
    let found: Vec<&Value> = manifests.iter().filter(matches).collect();
    match found.as_slice() {
        [] if wanted.is_empty() => Err(Error::Invalid("the layout has no image".to_owned())),
        [] => Err(Error::NotFound(format!("{wanted} in the layout"))),
        [only] => Ok((*only).clone()),
        several => {
            let named = several.iter().find(|manifest| name(manifest) == "latest");
            let several = "the layout has several images: name one with oci-layout://PATH:TAG or @DIGEST";
            named.map(|manifest| (*manifest).clone()).ok_or_else(|| Error::Invalid(several.to_owned()))
        }
    }
}

fn text_of(annotations: &Value, name: &str) -> Option<String> {
    annotations.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Everything in a tree.
fn all(tree: &dyn Tree) -> Result<BTreeMap<PathBuf, Node>, Error> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let failed = || Error::io(format!("read {}", folder.display()));
        for name in tree.list(&folder).map_err(failed())? {
            let path = folder.join(name);
            let Some(node) = tree.stat(&path).map_err(failed())? else { continue };
            if node.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, node);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_that_is_meant_is_found() {
        let all = vec![
            json!({"digest": "sha256:1", "annotations": {NAME: "one"}}),
            json!({"digest": "sha256:2", "annotations": {NAME: "latest"}}),
            json!({"digest": "sha256:3"}),
        ];
        let chosen = |wanted: &str| choose(all.clone(), wanted).map(|manifest| manifest["digest"].clone());
        assert_eq!(chosen("one").unwrap(), "sha256:1");
        assert_eq!(chosen("sha256:3").unwrap(), "sha256:3");
        assert_eq!(chosen("").unwrap(), "sha256:2");
        assert!(chosen("two").is_err());
        assert!(choose(Vec::new(), "").is_err());
        assert!(choose(vec![json!({}), json!({})], "").is_err());
    }
}
