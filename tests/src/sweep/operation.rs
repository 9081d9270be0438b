//! The operations whose calls are swept, each with what must be before it, and how it is seen to have worked.

use std::fs;

use anyhow::Result;

use super::fault::Fault;
use crate::engine::{Answer, Engine, binaries};
use crate::image::{Compression, Layout, append, busybox_layer, many_files};
use crate::recipe::Recipe;
use crate::registry::Registry;
use crate::wait::until_true;

/// The image that is pulled.
const PULLED: &str = "127.0.0.1:5000/swept:1";
/// What a container of it says.
const SAID: &str = "it is whole\n";

/// What is asked of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A container with a volume and a port.
    Create,
    /// Another life of a container that was stopped.
    Start,
    /// The end of a container that runs, with its volume.
    Remove,
    /// An image of three layers.
    Pull,
    /// An image of a container that runs.
    Commit,
    /// An image of a file and a step.
    Build,
}

/// Whose calls are swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `davitd` with all services in it, and for a commit the helper that reads.
    Engine,
    /// The container's shim and its init, up to the container's own program.
    Shim,
}

impl Target {
    /// As it is asked for and told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Shim => "shim",
        }
    }
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Create, Self::Start, Self::Remove, Self::Pull, Self::Commit, Self::Build];

    /// As it is asked for and told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Remove => "rm",
            Self::Pull => "pull",
            Self::Commit => "commit",
            Self::Build => "build",
        }
    }

    /// Whose calls it has.
    #[must_use]
    pub fn targets(self) -> &'static [Target] {
        match self {
            Self::Pull | Self::Build => &[Target::Engine],
            _ => &[Target::Engine, Target::Shim],
        }
    }

    /// Whether what the engine executes belongs to it, and is no shim.
    #[must_use]
    pub fn has_helpers(self) -> bool {
        self == Self::Commit
    }

    /// Whether it is about images, whose blobs and layers are then read and judged.
    #[must_use]
    pub fn is_of_images(self) -> bool {
        matches!(self, Self::Pull | Self::Commit | Self::Build)
    }

    /// What it needs once.
    ///
    /// # Errors
    /// When an image cannot be made.
    pub fn set_stage(engine: &Engine, registry: &Registry) -> Result<()> {
        let folder = engine.host().folder().join("published");
        let mut layout = Layout::new(folder.clone())?;
        layout.layer(&busybox_layer()?, Compression::Gzip)?;
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "said", tar::EntryType::Regular, 0o644, SAID.as_bytes())?;
        layout.layer(&archive.into_inner()?, Compression::Zstd)?;
        layout.layer(&many_files(7, 3, 20_000)?, Compression::Gzip)?;
        layout.finish("1", &serde_json::json!({"Cmd": ["/bin/busybox", "cat", "/said"]}))?;
        registry.push_layout(engine.host(), &folder, "1", "swept:1")?;

        let context = engine.host().folder().join("context");
        fs::create_dir(&context)?;
        fs::write(context.join("said"), SAID)?;
        let dockerfile = "FROM busybox\nCOPY said /said\nRUN rm /etc/group\nCMD [\"cat\", \"/said\"]\n";
        fs::write(context.join("Dockerfile"), dockerfile)?;
        Ok(())
    }

    /// What it needs each time.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn make_ready(self, engine: &Engine) {
        let run = ["run", "-d", "--name", "c", "-v", "/data", "-p", "9080:80", "busybox", "sleep", "1000"];
        match self {
            Self::Create | Self::Pull | Self::Build => {}
            Self::Remove => drop(engine.ok(run)),
            Self::Start => {
                engine.ok(run);
                engine.ok(["stop", "-t", "0", "c"]);
            }
            Self::Commit => {
                engine.ok(run);
                let change = format!("printf '{SAID}' > /said; rm /etc/group");
                engine.ok(["exec", "c", "sh", "-c", &change]);
            }
        }
    }

    /// How it is asked for.
    #[must_use]
    pub fn words(self, engine: &Engine) -> Vec<String> {
        let context = engine.host().folder().join("context").display().to_string();
        let words: &[&str] = match self {
            Self::Create => {
                &["create", "--name", "c", "-v", "/data", "-p", "9080:80", "busybox", "sleep", "1000"]
            }
            Self::Start => &["start", "c"],
            Self::Remove => &["rm", "-f", "-v", "c"],
            Self::Pull => &["pull", "-q", PULLED],
            Self::Commit => &["commit", "-c", "CMD [\"cat\", \"/said\"]", "c", "committed:1"],
            Self::Build => &["build", "-q", "-t", "built:1", &context],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// Asks for it. One that hangs is ended after five minutes, and has the code 124: with `strace` beside it, and on a
    /// machine that has much else to do, a minute is not long.
    #[must_use]
    pub fn ask(self, engine: &Engine) -> Answer {
        let mut command = engine.host().command("timeout");
        command.arg("300").arg(binaries().join("davit"));
        command.arg("--host").arg(format!("unix://{}", engine.socket().display()));
        Recipe::of(&command).run(&self.words(engine))
    }

    /// Whether what it is for is so.
    ///
    /// # Panics
    /// When the engine does not answer.
    #[must_use]
    pub fn is_so(self, engine: &Engine) -> bool {
        let lists = |words: &[&str], wanted: &str| {
            engine.ok(words.iter().copied()).stdout.lines().any(|line| line == wanted)
        };
        let image = |name: &str| lists(&["images", "--format", "{{.Repository}}:{{.Tag}}"], name);
        match self {
            Self::Create => lists(&["ps", "-a", "--format", "{{.Names}}"], "c"),
            Self::Start => lists(&["ps", "--format", "{{.Names}}"], "c"),
            Self::Remove => !lists(&["ps", "-a", "--format", "{{.Names}}"], "c"),
            Self::Pull => image(PULLED),
            Self::Commit => image("committed:1"),
            Self::Build => image("built:1"),
        }
    }

    /// Makes use of what it made.
    ///
    /// # Panics
    /// When that is not as it should be.
    pub fn try_out(self, engine: &Engine) {
        let says = |image: &str| {
            assert_eq!(engine.ok(["run", "--rm", image]).stdout, SAID);
            let group = engine.davit(["run", "--rm", image, "ls", "/etc/group"]);
            assert_eq!(group.code == 0, self == Self::Pull, "{group:?}");
        };
        match self {
            Self::Create => {
                engine.ok(["start", "c"]);
                assert_eq!(engine.ok(["exec", "c", "echo", "works"]).stdout, "works\n");
            }
            Self::Start => assert_eq!(engine.ok(["exec", "c", "echo", "works"]).stdout, "works\n"),
            Self::Remove => {}
            Self::Pull => says(PULLED),
            Self::Commit => says("committed:1"),
            Self::Build => says("built:1"),
        }
    }

    /// Takes everything back.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn undo(self, engine: &Engine) {
        if engine.ok(["ps", "-a", "--format", "{{.Names}}"]).stdout.lines().any(|name| name == "c") {
            engine.ok(["rm", "-f", "-v", "c"]);
        }
        match self {
            Self::Pull => drop(engine.ok(["rmi", "-f", PULLED])),
            Self::Commit => drop(engine.ok(["rmi", "-f", "committed:1"])),
            Self::Build => {
                engine.ok(["rmi", "-f", "built:1"]);
                engine.ok(["builder", "prune", "-a", "-f"]);
            }
            _ => {}
        }
        if self.is_of_images() {
            // What one that was cut off had written and nobody names is collected by itself in some minutes, or so.
            engine.ok(["image", "prune", "-a", "-f"]);
        }
        until_true("the container is gone", || Self::Remove.is_so(engine));
    }

    /// Whether an answer of success may be true no more: who was killed was what it is about.
    #[must_use]
    pub fn may_be_over(self, target: Target, fault: Fault) -> bool {
        target == Target::Shim && matches!(self, Self::Start | Self::Create) && fault == Fault::Kill
    }
}
