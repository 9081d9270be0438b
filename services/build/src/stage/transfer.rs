//! COPY, ADD and WORKDIR in a stage: known from before, or a layer that is put together here.

use std::path::Path;
use std::sync::Arc;

use davit_dockerfile::graph::{self, Origin};
use davit_dockerfile::instruction::{Instruction, Transfer};
use davit_proto::build::StepState;

use super::{Follower, State, blocking};
use crate::error::Error;
use crate::key::Key;
use crate::layer::Layer;
use crate::memo::Memo;
use crate::owner::owner;
use crate::progress::Step;
use crate::transfer::{self, Found};
use crate::tree::{Node, Tree, clean};
use crate::view::View;

impl Follower<'_> {
    /// WORKDIR: the folder is made where it is not there, for the user that the image has by then.
    pub(super) async fn workdir(&mut self, text: String) -> Result<(), Error> {
        let name = self.step_name(&text);
        let step = self.begin_step(&name).await?;
        let key = self.state.key(&text, self.build.epoch);
        let reference = key.reference();
        if self.was_done(&text, &reference).await? {
            return step.tell(StepState::Cached).await;
        }
        let folder = clean(self.state.config.text("WorkingDir"));
        let base = self.state.files()?;
        let (user, now) = (self.state.config.text("User").to_owned(), self.build.epoch.untold());
        let layer = blocking(move || missing_folder(base, &folder, &user, now)).await?;
        match layer {
            None => self.state.pending.push(text),
            Some(layer) => self.commit(text, reference, layer).await?,
        }
        step.tell(StepState::Done).await
    }

    pub(super) async fn transfer(
        &mut self,
        transfer: &Transfer,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        let step = self.step_name(&instruction.text);
        let step = self.begin_step(&step).await?;
        let (tree, origin) = self.source(transfer, &step).await?;
        let state = &self.state;
        let wanted =
            transfer.expand(&|name| state.variable(name)).map_err(|source| self.build.wrong(source))?;
        let fetched = self.look_elsewhere(&wanted).await?;
        let state = &self.state;
        let (transfer, folder) = (transfer.clone(), state.config.text("WorkingDir").to_owned());
        let of_context = transfer.from.is_none();
        let found = blocking(move || transfer::find(&transfer, wanted, &tree, &folder, fetched)).await;
        let found = found.map_err(|error| if of_context { error.of_context() } else { error })?;
        let key = state.key(instruction.name(), self.build.epoch);
        let memo = self.build.engine.memo.clone();
        let (mut found, reference) = blocking(move || named(found, &key, &origin, &memo)).await?;
        if self.was_done(&instruction.text, &reference).await? {
            return step.tell(StepState::Cached).await;
        }
        self.unpack(found.pieces()).await?;
        let (base, times) = (self.state.files()?, (self.written(), self.build.epoch.untold()));
        let layer = blocking(move || found.layer(base, times)).await?;
        if layer.is_empty() {
            self.state.pending.push(instruction.text.clone());
        } else {
            self.commit(instruction.text.clone(), reference, layer).await?;
        }
        step.tell(StepState::Done).await
    }

    /// When documents of the Dockerfile were written: when it was, which only its own folder tells.
    fn written(&self) -> (i64, u32) {
        let epoch = self.build.epoch;
        let file = Path::new(&self.build.options.dockerfile_name);
        let node = self.build.context.stat(file).ok().flatten();
        node.filter(|node| epoch.limit().is_none() && !node.is_dir())
            .map_or(epoch.now(), |node| node.modified)
    }

    /// The files that a transfer is from, and what stands for them in a step's name.
    async fn source(&self, transfer: &Transfer, step: &Step) -> Result<(Arc<dyn Tree>, String), Error> {
        let Some(word) = &transfer.from else {
            return Ok((Arc::clone(&self.build.context) as Arc<dyn Tree>, String::new()));
        };
        let origin =
            graph::origin(&self.build.file, word, self.index).map_err(|source| self.build.wrong(source))?;
        if let Origin::Image(name) = &origin
            && let Some(files) = self.build.files_of(name)
        {
            return Ok((Arc::clone(files) as Arc<dyn Tree>, String::new()));
        }
        let state = match origin {
            Origin::Scratch => State::default(),
            Origin::Stage(stage) => self.states.get(stage)?,
            Origin::Image(name) => State::of(Some(self.build.image(&name, None, step).await?.0))?,
        };
        let origin = state.chain();
        let empty: Arc<dyn Tree> = Arc::new(View::open(&[]).map_err(Error::io("open an empty image"))?);
        Ok((state.files()?.unwrap_or(empty), origin))
    }
}

/// The name of a step, by what is copied and not by where it lies.
fn named(found: Found, key: &Key, origin: &str, memo: &Memo) -> Result<(Found, String), Error> {
    let name = |origin: Option<&str>| {
        let mut key = key.clone();
        found.describe(&mut key, origin)?;
        Ok::<_, Error>(key.reference())
    };
    if found.is_read() {
        let name = name(None)?;
        return Ok((found, name));
    }
    let place = name(Some(origin))?;
    let content = match memo.get(&place) {
        Some(content) => content,
        None => name(None)?,
    };
    memo.put(place, content.clone());
    Ok((found, content))
}

fn missing_folder(
    base: Option<Arc<dyn Tree>>,
    folder: &Path,
    user: &str,
    now: (i64, u32),
) -> Result<Option<Layer>, Error> {
    let (uid, gid) = if user.is_empty() { (0, 0) } else { owner(user, base.as_deref())? };
    let mut layer = Layer::new(base, Node::folder(uid, gid, now));
    let there = layer.resolve(folder, true)?;
    if there.as_os_str().is_empty() || layer.stat(&there)?.is_some_and(|node| node.is_dir()) {
        return Ok(None);
    }
    layer.make_folder(folder)?;
    Ok(Some(layer))
}
