//! ADD of what is not in the context, and what is in archives; and FROM of a context of files.

use std::path::PathBuf;
use std::sync::Arc;

use davit_dockerfile::instruction::{Source, TransferStep};
use davit_dockerfile::remote::Remote;
use davit_proto::build::StepState;

use super::{Follower, State, blocking};
use crate::context::Files;
use crate::error::Error;
use crate::fetch::{checksum, fetch};
use crate::gather::Match;
use crate::git;
use crate::layer::{Data, Item, Layer};
use crate::receive;
use crate::transfer::{Fetched, NAMELESS, Piece};
use crate::tree::{Kind, Node, Tree};
use crate::unpack::{Nodes, Watch, unpack, without_top};

impl Follower<'_> {
    /// Looks for the sources that are on web servers and in repositories: files are fetched, of repositories only the
    /// commit is asked for.
    pub(super) async fn look_elsewhere(&self, step: &TransferStep) -> Result<Vec<Fetched>, Error> {
        let (store, mut found) = (&self.build.store, Vec::new());
        for source in &step.sources {
            match source {
                Source::Path(_) | Source::Document { .. } => {}
                Source::Url(address) => {
                    let wanted = step.checksum.as_deref().map(checksum).transpose()?;
                    let fetched = fetch(store, address, wanted).await?;
                    let name = if fetched.name.is_empty() { NAMELESS } else { &fetched.name };
                    let path = PathBuf::from(name);
                    let nodes = Nodes::from([(path.clone(), receive::file(&fetched))]);
                    found.push(Fetched::File(self.tree(nodes), path));
                }
                Source::Git(address) => {
                    let wrong = |why| Error::Invalid(format!("repository {address:?}: {why}"));
                    let Some(Remote::Git(repository)) = Remote::parse(address).map_err(wrong)? else {
                        return Err(wrong("it is none"));
                    };
                    let commit = git::find(store, &repository, step.checksum.as_deref()).await?;
                    found.push(Fetched::Commit(commit));
                }
            }
        }
        Ok(found)
    }

    fn tree(&self, nodes: Nodes) -> Arc<dyn Tree> {
        Arc::new(Files::of(&self.build.store, Arc::clone(&self.build.held), nodes))
    }

    /// Unpacks archives and checks commits out: only what is done anew needs that.
    pub(super) async fn unpack(&self, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        for piece in pieces {
            let (nodes, unpacked): (_, fn(Match) -> Piece) = match piece {
                Piece::Files(_) | Piece::Unpacked(_) | Piece::CheckedOut(_) => continue,
                Piece::Commit(commit, keep) => {
                    (git::checkout(&self.build.store, commit, *keep).await?, Piece::CheckedOut)
                }
                Piece::Archive(found) => {
                    let (tree, path) = (Arc::clone(&found.tree), found.path.clone());
                    let (store, watch) = (self.build.store.clone(), Watch::default());
                    let watched = watch.watched();
                    let nodes = blocking(move || {
                        let file = tree.open(&path).map_err(Error::io(format!("read {}", path.display())))?;
                        unpack(file, &store, &watched)
                    });
                    let nodes = nodes.await;
                    drop(watch);
                    (nodes?, Piece::Unpacked)
                }
            };
            let tree = self.tree(without_top(nodes));
            *piece = unpacked(blocking(move || Match::all(tree)).await?);
        }
        Ok(())
    }

    /// FROM of a context of files: a layer with all of them.
    pub(super) async fn upon_files(&mut self, name: &str, context: &str) -> Result<State, Error> {
        let files = self.build.files_of(context).cloned().ok_or(Error::Lost)?;
        let step = self.begin_step(name).await?;
        self.state = State::scratch().of_platform(&self.build.platform);
        let all = blocking(move || Match::all(files as Arc<dyn Tree>)).await?;
        let mut key = self.state.key("context", self.build.epoch);
        all.describe(&mut key, &mut |found, path| found.digest(path))?;
        let (text, reference) = (format!("FROM context {context}"), key.reference());
        if self.was_done(&text, &reference).await? {
            step.tell(StepState::Cached).await?;
            return Ok(self.state.clone());
        }
        let now = self.build.epoch.untold();
        let layer = blocking(move || {
            let mut layer = Layer::new(None, Node::folder(0, 0, now));
            for (path, node) in all.below {
                let data = match node.kind {
                    Kind::File { .. } => Data::Tree(Arc::clone(&all.tree), path.clone()),
                    Kind::Directory | Kind::Symlink(_) | Kind::Other(..) => Data::None,
                };
                layer.put(&path, Item { node, data })?;
            }
            Ok(layer)
        });
        let layer = layer.await?;
        self.commit(text, reference, layer).await?;
        step.tell(StepState::Done).await?;
        Ok(self.state.clone())
    }
}
