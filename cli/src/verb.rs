//! All verbs: what they are called, what they take, and what does them. Short forms and groups come from the
//! same tables, so they never differ. Of all this only the verb that was typed is built.

use std::pin::Pin;

use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use crate::client::{DEFAULT_HOST, Engine};
use crate::error::Error;
use crate::exit::Place;
use crate::{args, build, container, image, manifest, network, system, volume};

/// The way a command goes to its end.
pub type Answer = Pin<Box<dyn Future<Output = Result<u8, Error>>>>;

/// Reads what was typed and begins.
type Act = Box<dyn Fn(Engine, &ArgMatches) -> Result<Answer, clap::Error>>;

/// One verb.
pub struct Verb {
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    usage: &'static str,
    hidden: bool,
    /// Where its failures belong in the table of exit codes.
    pub place: Place,
    build: fn(Command) -> Command,
    act: Act,
}

impl Verb {
    fn of<A, F>(name: &'static str, about: &'static str, usage: &'static str, act: fn(Engine, A) -> F) -> Self
    where
        A: Args + 'static,
        F: Future<Output = Result<u8, Error>> + 'static,
    {
        Self {
            name,
            aliases: &[],
            about,
            usage,
            hidden: false,
            place: Place::Ordinary,
            build: build::<A>,
            act: Box::new(move |engine, matches| Ok(Box::pin(act(engine, A::from_arg_matches(matches)?)))),
        }
    }

    fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// One that is not for people: no list shows it.
    fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    fn command(&self, group: &str) -> Command {
        let usage = format!("davit {group}{} {}", self.name, self.usage);
        Command::new(self.name)
            .about(self.about)
            .hide(self.hidden)
            .visible_aliases(self.aliases)
            .override_usage(usage.trim_end().to_owned())
            .after_help(if SEATS.contains(&self.name) { EVENTS } else { SWITCHES })
            .defer(self.build)
    }

    /// Begins to do it.
    pub fn begin(&self, engine: Engine, matches: &ArgMatches) -> Result<Answer, clap::Error> {
        (self.act)(engine, matches)
    }
}

/// The arguments of a verb: switches take `=false` as docker's do, positionals stand in the usage line, and
/// `-h` is help where it means nothing else.
fn build<A: Args>(command: Command) -> Command {
    // The arguments bring the words of their own documentation along.
    let about = command.get_about().cloned().unwrap_or_default();
    let command = A::augment_args(command).about(about).next_help_heading(None).mut_args(|arg| {
        let arg = if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg.action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .value_name("BOOL")
                .value_parser(args::switch)
        } else {
            arg
        };
        if arg.is_positional() { arg.hide(true) } else { arg }
    });
    let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
    let help = Arg::new("help").long("help").help("Print help").action(ArgAction::HelpShort);
    command
        .disable_help_flag(true)
        .arg(if taken { help } else { help.short('h') })
        .help_template("Usage:  {usage}\n\n{about}\n\n{all-args}{after-help}")
}

/// Below the help of every verb.
const SWITCHES: &str = "Flags that are only switches also take =true and =false.";

/// Verbs with which a person sits at a container.
const SEATS: [&str; 4] = ["run", "start", "attach", "exec"];

/// Below the help of those: the one table of what happens when.
const EVENTS: &str = "\
While attached, the same in run, start, attach and exec:
  Ctrl-C                 a signal for the container; with -it a key for its program;
                         three in two seconds leave the container running
  ctrl-p ctrl-q          leave it running, with -it (--detach-keys names other keys)
  closing the terminal   stops what run or start began there; attach only leaves, and what
                         exec began is hung up 10 s later
  the engine goes away   the container goes on, and so do all of them once it is back
Flags that are only switches also take =true and =false.";

/// `davit container …`; all but the last ones also without the group.
pub fn containers() -> Vec<Verb> {
    const MANY: &str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ONE: &str = "[OPTIONS] CONTAINER";
    let mut verbs = vec![
        Verb::of(
            "run",
            "Make and run a container from an image",
            "[OPTIONS] IMAGE [COMMAND] [ARG...]",
            container::run::run,
        )
        .at(Place::Run),
        Verb::of(
            "exec",
            "Run a command in a running container",
            "[OPTIONS] CONTAINER COMMAND [ARG...]",
            container::exec::run,
        )
        .at(Place::Start),
        Verb::of(
            "cp",
            "Copy files between containers and this side",
            "[OPTIONS] CONTAINER:SRC_PATH|SRC_PATH|- CONTAINER:DEST_PATH|DEST_PATH|-",
            container::cp::run,
        ),
        Verb::of("create", "Make a container", "[OPTIONS] IMAGE [COMMAND] [ARG...]", container::create::run)
            .at(Place::Create),
        Verb::of("start", "Start stopped containers", MANY, container::start::run).at(Place::Start),
        Verb::of("attach", "Join input and output of a running container", ONE, container::attach::run),
        Verb::of("stop", "Stop running containers", MANY, container::stop::run),
        Verb::of("restart", "Stop containers and start them again", MANY, container::restart::run),
        Verb::of("kill", "Send a signal to running containers", MANY, container::kill::run),
        Verb::of("rm", "Remove containers", MANY, container::rm::run).or(&["remove"]),
        Verb::of("wait", "Wait until containers end, and print their exit codes", MANY, container::wait::run),
        Verb::of("logs", "Print the output of containers", MANY, container::logs::run),
        Verb::of("pause", "Freeze containers", MANY, container::pause::run),
        Verb::of("unpause", "Thaw containers", MANY, container::pause::resume),
        Verb::of("rename", "Give a container another name", "CONTAINER NEW_NAME", container::rename::run),
    ];
    verbs.extend(facts_of_containers());
    verbs
}

/// Those that tell of containers or take something out of them.
fn facts_of_containers() -> Vec<Verb> {
    const MANY: &str = "[OPTIONS] CONTAINER [CONTAINER...]";
    const ONE: &str = "[OPTIONS] CONTAINER";
    vec![
        Verb::of(
            "port",
            "Show where ports are published",
            "CONTAINER [PORT[/PROTOCOL]]",
            container::port::run,
        ),
        Verb::of("top", "Show the processes of a container", "CONTAINER [COLUMN...]", container::top::run),
        Verb::of("stats", "Show what containers use", "[OPTIONS] [CONTAINER...]", container::stats::run),
        Verb::of("update", "Change limits and policy of containers", MANY, container::update::run),
        Verb::of("diff", "Show what a container changed in its image's files", ONE, container::diff::run),
        Verb::of(
            "commit",
            "Make an image from a container",
            "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
            container::commit::run,
        ),
        Verb::of("export", "Write all files of a container as a tar archive", ONE, container::export::run),
        Verb::of("why", "Show each change of state of containers, with its cause", MANY, container::why::run),
        Verb::of("ls", "List containers", "[OPTIONS]", container::ls::run).or(&["ps", "list"]),
        Verb::of("inspect", "Show all of containers", MANY, container::inspect::run),
        Verb::of(
            "exists",
            "Tell by the exit code whether a container is there",
            "CONTAINER",
            container::exists::run,
        )
        .at(Place::Question),
        Verb::of("prune", "Remove all stopped containers", "[OPTIONS]", container::prune::run),
    ]
}

/// `davit image …`.
pub fn images() -> Vec<Verb> {
    const MANY: &str = "[OPTIONS] IMAGE [IMAGE...]";
    vec![
        Verb::of("pull", "Fetch an image from a registry", "[OPTIONS] NAME[:TAG|@DIGEST]", image::pull::run),
        Verb::of("push", "Send an image to a registry", "[OPTIONS] NAME[:TAG]", image::push::run),
        Verb::of(
            "tag",
            "Give an image one more name",
            "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
            image::tag::run,
        ),
        Verb::of("history", "Show how an image came to be", "[OPTIONS] IMAGE", image::history::run),
        Verb::of("load", "Read images from an archive", "[OPTIONS]", image::load::run),
        Verb::of(
            "import",
            "Make an image from a tar archive of a file system",
            "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
            image::import::run,
        ),
        Verb::of("save", "Write images as an archive", MANY, image::save::run),
        Verb::of("ls", "List images", "[OPTIONS] [REPOSITORY[:TAG]]", image::ls::run).or(&["list"]),
        Verb::of("rm", "Remove images", MANY, image::rm::run).or(&["remove"]),
        Verb::of("inspect", "Show all of images", MANY, image::inspect::run),
        Verb::of("exists", "Tell by the exit code whether an image is there", "IMAGE", image::exists::run)
            .at(Place::Question),
        Verb::of("prune", "Remove images that nothing uses", "[OPTIONS]", image::prune::run),
        building(),
    ]
}

/// `davit manifest …`.
fn manifests() -> Vec<Verb> {
    let usage = "[OPTIONS] MANIFEST";
    vec![Verb::of("inspect", "Show what a registry has under a name", usage, manifest::inspect::run)]
}

/// `davit volume …`.
fn volumes() -> Vec<Verb> {
    const MANY: &str = "[OPTIONS] VOLUME [VOLUME...]";
    vec![
        Verb::of("create", "Make a volume", "[OPTIONS] [VOLUME]", volume::create::run),
        Verb::of("ls", "List volumes", "[OPTIONS]", volume::ls::run).or(&["list"]),
        Verb::of(
            "export",
            "Write a volume's files as a tar archive",
            "[OPTIONS] VOLUME",
            volume::export::run,
        ),
        Verb::of(
            "import",
            "Put a tar archive's files into a volume",
            "[OPTIONS] VOLUME [FILE|-]",
            volume::import::run,
        ),
        Verb::of(
            "clone",
            "Make a volume with another one's files",
            "[OPTIONS] SOURCE VOLUME",
            volume::clone::run,
        ),
        Verb::of("inspect", "Show all of volumes", MANY, volume::inspect::run),
        Verb::of("rm", "Remove volumes", MANY, volume::rm::run).or(&["remove"]),
        Verb::of("exists", "Tell by the exit code whether a volume is there", "VOLUME", volume::exists::run)
            .at(Place::Question),
        Verb::of("prune", "Remove volumes that nobody uses", "[OPTIONS]", volume::prune::run),
    ]
}

/// `davit network …`.
fn networks() -> Vec<Verb> {
    const MANY: &str = "[OPTIONS] NETWORK [NETWORK...]";
    vec![
        Verb::of("create", "Make a network", "[OPTIONS] NETWORK", network::create::run),
        Verb::of(
            "connect",
            "Join a container to a network",
            "[OPTIONS] NETWORK CONTAINER",
            network::connect::run,
        ),
        Verb::of(
            "disconnect",
            "Take a container from a network",
            "[OPTIONS] NETWORK CONTAINER",
            network::disconnect::run,
        ),
        Verb::of("ls", "List networks", "[OPTIONS]", network::ls::run).or(&["list"]),
        Verb::of("inspect", "Show all of networks", MANY, network::inspect::run),
        Verb::of("rm", "Remove networks", MANY, network::rm::run).or(&["remove"]),
        Verb::of(
            "exists",
            "Tell by the exit code whether a network is there",
            "NETWORK",
            network::exists::run,
        )
        .at(Place::Question),
        Verb::of("prune", "Remove networks that nobody uses", "[OPTIONS]", network::prune::run),
    ]
}

/// `davit system …`; the first ones also without the group.
fn systems() -> Vec<Verb> {
    vec![
        Verb::of("info", "Show the state of engine and host", "[OPTIONS]", system::info::run),
        Verb::of("events", "Print changes as they happen", "[OPTIONS]", system::events::run),
        Verb::of("df", "Show disk space", "[OPTIONS]", system::df::run),
        Verb::of("prune", "Remove all that nothing uses", "[OPTIONS]", system::prune::run),
        Verb::of("drain", "End all containers because the host goes down", "[OPTIONS]", system::drain::run),
    ]
}

/// `davit build`, in its group or without it.
fn building() -> Verb {
    Verb::of("build", "Build an image from a Dockerfile", "[OPTIONS] PATH|-", build::run)
}

/// `davit builder …`.
pub fn builders() -> Vec<Verb> {
    vec![
        building(),
        Verb::of("du", "Show what builds keep for the next one", "[OPTIONS]", build::usage::run),
        Verb::of("prune", "Remove what builds keep for the next one", "[OPTIONS]", build::prune::run),
    ]
}

/// Verbs without a group, and short forms under a name of their own.
fn shorts() -> Vec<Verb> {
    vec![
        Verb::of("ps", "List containers", "[OPTIONS]", container::ls::run),
        Verb::of("images", "List images", "[OPTIONS] [REPOSITORY[:TAG]]", image::ls::run),
        Verb::of("rmi", "Remove images", "[OPTIONS] IMAGE [IMAGE...]", image::rm::run),
        Verb::of("inspect", "Show all of anything", "[OPTIONS] NAME|ID [NAME|ID...]", system::inspect::run),
        Verb::of("search", "Look for images at a registry", "[OPTIONS] [REGISTRY/]TERM", image::search::run),
        Verb::of("login", "Log in to a registry", "[OPTIONS] [SERVER]", system::login::run),
        Verb::of("logout", "Log out from a registry", "[SERVER]", system::logout::run),
        Verb::of("version", "Show versions of command line and engine", "[OPTIONS]", system::version::run),
        Verb::of("completion", "Print the completions of a shell", "bash|zsh|fish", system::completion::run),
        Verb::of("man", "Write the manual pages", "FOLDER", system::man::run).hidden(),
    ]
}

/// Names that mean something else, or nothing, without their group.
const ONLY_IN_GROUP: [&str; 6] = ["ls", "inspect", "exists", "prune", "df", "drain"];

/// A group of verbs.
#[derive(Clone, Copy)]
pub struct Group {
    name: &'static str,
    about: &'static str,
    verbs: fn() -> Vec<Verb>,
    build: fn(Command) -> Command,
}

/// The groups.
const GROUPS: [Group; 8] = [
    Group {
        name: "builder",
        about: "Verbs of builds",
        verbs: builders,
        build: |c| group(c, "builder ", &builders()),
    },
    Group {
        name: "buildx",
        about: "The same as builder",
        verbs: builders,
        build: |c| group(c, "buildx ", &builders()),
    },
    Group {
        name: "container",
        about: "Verbs of containers",
        verbs: containers,
        build: |c| group(c, "container ", &containers()),
    },
    Group {
        name: "image",
        about: "Verbs of images",
        verbs: images,
        build: |c| group(c, "image ", &images()),
    },
    Group {
        name: "manifest",
        about: "Verbs of manifests at registries",
        verbs: manifests,
        build: |c| group(c, "manifest ", &manifests()),
    },
    Group {
        name: "network",
        about: "Verbs of networks",
        verbs: networks,
        build: |c| group(c, "network ", &networks()),
    },
    Group {
        name: "volume",
        about: "Verbs of volumes",
        verbs: volumes,
        build: |c| group(c, "volume ", &volumes()),
    },
    Group {
        name: "system",
        about: "Verbs of the engine",
        verbs: systems,
        build: |c| group(c, "system ", &systems()),
    },
];

fn group(command: Command, name: &str, verbs: &[Verb]) -> Command {
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verbs.iter().map(|verb| verb.command(name)))
}

/// The verbs that need no group. `rm` is of containers; images have `rmi`.
fn ungrouped() -> Vec<Verb> {
    let images = images().into_iter().filter(|verb| verb.name != "rm");
    let alone = |verb: &Verb| !ONLY_IN_GROUP.contains(&verb.name);
    containers()
        .into_iter()
        .filter(alone)
        .chain(shorts())
        .chain(images.filter(alone))
        .chain(systems().into_iter().filter(alone))
        .collect()
}

/// The whole command line.
pub fn command() -> Command {
    let verbs = ungrouped();
    Command::new("davit")
        .about("Runs containers")
        .disable_version_flag(true)
        .version(system::version::VERSION)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print the version")
                .action(ArgAction::Version),
        )
        .arg(
            Arg::new("host")
                .short('H')
                .long("host")
                .value_name("ADDRESS")
                .help("Engine to speak to [env: DAVIT_HOST]"),
        )
        .args(
            ["tls", "tlsverify"].map(|name| Arg::new(name).long(name).action(ArgAction::SetTrue).hide(true)),
        )
        .args(["tlscacert", "tlscert", "tlskey"].map(|name| Arg::new(name).long(name).hide(true)))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .override_usage("davit [OPTIONS] COMMAND")
        .subcommands(verbs.iter().map(|verb| verb.command("")))
        .subcommands(GROUPS.map(|group| Command::new(group.name).about(group.about).defer(group.build)))
}

/// The engine that flags or environment name.
pub fn engine(matches: &ArgMatches) -> Result<Engine, Error> {
    use clap::parser::ValueSource::CommandLine;
    let tls = ["tls", "tlsverify", "tlscacert", "tlscert", "tlskey"];
    if tls.iter().any(|name| matches.value_source(name) == Some(CommandLine)) {
        return Err(crate::client::Unreachable::Tls.into());
    }
    let typed = matches.get_one::<String>("host").cloned();
    let named = typed.or_else(|| std::env::var("DAVIT_HOST").ok()).filter(|host| !host.is_empty());
    Ok(Engine::at(named.as_deref().unwrap_or(DEFAULT_HOST))?)
}

/// The verb that was typed, and what was typed after it.
pub fn find(matches: &ArgMatches) -> Option<(Verb, &ArgMatches)> {
    let (name, matches) = matches.subcommand()?;
    match GROUPS.iter().find(|group| group.name == name) {
        Some(group) => {
            let (name, matches) = matches.subcommand()?;
            pick((group.verbs)(), name).map(|verb| (verb, matches))
        }
        None => pick(ungrouped(), name).map(|verb| (verb, matches)),
    }
}

fn pick(verbs: Vec<Verb>, name: &str) -> Option<Verb> {
    verbs.into_iter().find(|verb| verb.name == name)
}

#[cfg(test)]
mod tests;
