//! `--build-context NAME=…`: contexts beside the main one.

use std::path::Path;

use davit_dockerfile::{Ignore, Remote};
use davit_proto::build::context_source::Source as Wire;
use davit_proto::build::{ContextSource, LayoutSource, NamedContext};

use super::{Source, rules};
use crate::build::context::Context;
use crate::error::Error;

impl Source {
    /// One more context.
    pub(super) fn beside(&mut self, text: &str) -> Result<(), Error> {
        let wrong = |why: &str| Error::Usage(format!("invalid --build-context {text:?}: {why}"));
        let Some((name, place)) =
            text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty())
        else {
            return Err(wrong("must be like name=PATH, docker-image://…, oci-layout://… or an address"));
        };
        let source = if let Some(reference) = place.strip_prefix("docker-image://") {
            Wire::Image(reference.to_owned())
        } else if let Some(layout) = place.strip_prefix("oci-layout://") {
            let (path, image) = layout_of(layout);
            let entries_key = self.folder(Path::new(path), false)?;
            Wire::Layout(LayoutSource { entries_key, image: image.to_owned() })
        } else if Path::new(place).is_dir() {
            Wire::EntriesKey(self.folder(Path::new(place), true)?)
        } else if Remote::parse(place).map_err(wrong)?.is_some() {
            Wire::Location(place.to_owned())
        } else {
            return Err(wrong("there is no such folder"));
        };
        let source = Some(ContextSource { source: Some(source) });
        self.named.push(NamedContext { name: name.to_owned(), source });
        Ok(())
    }

    /// A folder that is sent; by which it is known the next time.
    fn folder(&mut self, path: &Path, ignoring: bool) -> Result<String, Error> {
        let folder = path.canonicalize();
        let folder = folder.map_err(|error| Error::io(format!("open {}", path.display()), error))?;
        let ignore = if ignoring { rules(folder.join(".dockerignore"))? } else { Ignore::default() };
        self.contexts.push(Context::walk(&folder, &ignore)?);
        Ok(folder.display().to_string())
    }
}

/// The folder of a layout, and the tag or digest of an image in it.
fn layout_of(text: &str) -> (&str, &str) {
    if let Some((path, digest)) = text.split_once('@') {
        return (path, digest);
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !Path::new(text).is_dir() => (path, tag),
        _ => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_tags_and_digests() {
        assert_eq!(layout_of("/a/b"), ("/a/b", ""));
        assert_eq!(layout_of("/a/b:1.0"), ("/a/b", "1.0"));
        assert_eq!(layout_of("./a:b/c"), ("./a:b/c", ""));
        assert_eq!(layout_of("/a@sha256:00"), ("/a", "sha256:00"));
    }
}
