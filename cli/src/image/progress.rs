//! How a transfer of layers goes: bars on a terminal, a line a step elsewhere, nothing with `--quiet`.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use davit_proto::image::{LayerProgress, LayerState};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::pull::Place;
use crate::error::Error;
use crate::{human, output};

/// Redraws a second.
const RATE: u8 = 10;

/// The layers of one transfer.
#[derive(Debug)]
pub struct Progress {
    show: Show,
    place: Place,
    states: HashMap<String, LayerState>,
    /// Layers go out, not in.
    sending: bool,
}

#[derive(Debug)]
enum Show {
    Nothing,
    Lines,
    Bars { all: MultiProgress, bars: HashMap<String, ProgressBar> },
}

impl Progress {
    /// Progress to be told at a place.
    pub fn new(quiet: bool, place: Place) -> Self {
        let terminal = match place {
            Place::Stdout => std::io::stdout().is_terminal(),
            Place::Stderr => std::io::stderr().is_terminal(),
        };
        let show = match (quiet, terminal) {
            (true, _) => Show::Nothing,
            (false, false) => Show::Lines,
            (false, true) => {
                let target = match place {
                    Place::Stdout => ProgressDrawTarget::stdout_with_hz(RATE),
                    Place::Stderr => ProgressDrawTarget::stderr_with_hz(RATE),
                };
                Show::Bars { all: MultiProgress::with_draw_target(target), bars: HashMap::new() }
            }
        };
        Self { show, place, states: HashMap::new(), sending: false }
    }

    /// Tells one thing in a line of its own.
    pub fn line(&self, text: &str) -> Result<(), Error> {
        if matches!(self.show, Show::Nothing) {
            return Ok(());
        }
        match self.place {
            Place::Stdout => output::line(text),
            Place::Stderr => {
                output::complain(&output::visible(text));
                Ok(())
            }
        }
    }

    /// The layers there are, lowest first.
    pub fn layers(&mut self, digests: &[String]) {
        for digest in digests {
            self.bar(digest);
        }
    }

    /// The layers that are to be sent, lowest first.
    pub fn preparing(&mut self, digests: &[String]) -> Result<(), Error> {
        self.sending = true;
        for digest in digests {
            if matches!(self.show, Show::Lines) {
                self.line(&format!("{}: Preparing", output::short_id(digest)))?;
            }
            self.bar(digest);
        }
        Ok(())
    }

    /// A layer moved on.
    pub fn layer(&mut self, layer: &LayerProgress) -> Result<(), Error> {
        let before = self.states.insert(layer.digest.clone(), layer.state());
        let changed = before != Some(layer.state());
        let words = match layer.state() {
            LayerState::Mounted => format!("Mounted from {}", layer.mounted_from),
            state => words(state, self.sending).to_owned(),
        };
        if matches!(self.show, Show::Lines) {
            let was_said = self.sending && layer.state() == LayerState::Waiting;
            if changed && !words.is_empty() && !was_said {
                self.line(&format!("{}: {words}", output::short_id(&layer.digest)))?;
            }
            return Ok(());
        }
        let Some(bar) = self.bar(&layer.digest) else {
            return Ok(());
        };
        let sizes = format!("{}/{}", human::size(layer.current), human::size(layer.total));
        match layer.state() {
            LayerState::Complete
            | LayerState::Exists
            | LayerState::Pushed
            | LayerState::Mounted
            | LayerState::Skipped => bar.finish_with_message(words),
            LayerState::Downloading | LayerState::Pushing => bar.set_message(format!("{words} {sizes}")),
            _ => bar.set_message(words),
        }
        if changed {
            bar.set_style(style(layer.state()));
        }
        bar.set_length(layer.total);
        bar.set_position(layer.current);
        Ok(())
    }

    /// The bar of a layer, made at its first sight; none where no bars are shown.
    fn bar(&mut self, digest: &str) -> Option<ProgressBar> {
        let Show::Bars { all, bars } = &mut self.show else {
            return None;
        };
        if let Some(bar) = bars.get(digest) {
            return Some(bar.clone());
        }
        let bar = all.add(ProgressBar::new(0));
        bar.set_style(style(LayerState::Waiting));
        bar.set_prefix(output::visible(output::short_id(digest)).into_owned());
        bar.set_message(words(LayerState::Waiting, self.sending));
        bar.tick();
        bars.insert(digest.to_owned(), bar.clone());
        Some(bar)
    }

    /// All is well: what stands there stays.
    pub fn finish(&mut self) {
        if let Show::Bars { bars, .. } = &self.show {
            for bar in bars.values().filter(|bar| !bar.is_finished()) {
                bar.finish();
            }
        }
    }

    /// It failed: bars stop where they are.
    pub fn abandon(&mut self) {
        if let Show::Bars { bars, .. } = &self.show {
            for bar in bars.values().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }
}

/// Docker's words for what a layer is doing.
fn words(state: LayerState, sending: bool) -> &'static str {
    match state {
        LayerState::Unspecified | LayerState::Mounted => "",
        LayerState::Waiting if sending => "Preparing",
        LayerState::Exists if sending => "Layer already exists",
        LayerState::Pushing => "Pushing",
        LayerState::Pushed => "Pushed",
        LayerState::Skipped => "Skipped foreign layer",
        LayerState::Waiting => "Pulling fs layer",
        LayerState::Downloading => "Downloading",
        LayerState::Unpacking => "Extracting",
        LayerState::Complete => "Pull complete",
        LayerState::Exists => "Already exists",
    }
}

fn style(state: LayerState) -> ProgressStyle {
    let template = match state {
        LayerState::Downloading | LayerState::Pushing => "{prefix}: {msg} [{bar:40}] {eta}",
        _ => "{prefix}: {msg}",
    };
    ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> ")
}

/// A quiet sign of life for transfers whose size nobody knows.
pub fn spinner(quiet: bool, words: &'static str) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(RATE));
    bar.set_style(
        ProgressStyle::with_template("{msg} {bytes} {bytes_per_sec}").expect("the template is a constant"),
    );
    bar.set_message(words);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
