//! `davit info`.

use std::fmt::Write as _;

use davit_proto::image::GetCollectionResponse;
use davit_proto::status::RemoteError;
use davit_proto::system::{InfoRequest, InfoResponse};

use super::version::VERSION;
use crate::args::system::FormatArgs;
use crate::client::Engine;
use crate::document::{Document, list, map};
use crate::error::Error;
use crate::{credential, exit, format, human, output, time};

/// What runs containers, and is the small init of `--init` too.
const RUNTIME: &str = "davit-shim";

/// What a container changed is read from its layer as it is: overlays are mounted so that it means the same on every
/// host (`redirect_dir=off`, `metacopy=off`).
const NATIVE_DIFF: bool = true;

/// Shows the state of engine and host.
pub async fn run(engine: Engine, args: FormatArgs) -> Result<u8, Error> {
    let answer = ask(&engine).await;
    if let Some(template) = args.format.as_deref().filter(|template| !template.is_empty()) {
        output::print(&format::one(&document(&answer?), template)?)?;
        return Ok(exit::SUCCESS);
    }
    let client = format!("Client: davit\n Version:    {VERSION}\n Debug Mode: false\n\n");
    match answer {
        Ok(info) => {
            output::print(&output::visible_lines(&(client + &text(&info))))?;
            for warning in &info.warnings {
                output::complain(&format!("WARNING: {}", output::visible(warning)));
            }
            Ok(exit::SUCCESS)
        }
        Err(error) => {
            output::print(&client)?;
            Err(error)
        }
    }
}

async fn ask(engine: &Engine) -> Result<InfoResponse, Error> {
    let answer = engine.system().await?.info(InfoRequest {}).await.map_err(RemoteError::from)?;
    Ok(answer.into_inner())
}

/// The server's half as docker lays it out: each name once, what belongs below a name further right.
fn text(info: &InfoResponse) -> String {
    let mut lines = Lines("Server:\n".into());
    lines.add(1, "Containers", &info.containers.to_string());
    lines.add(2, "Running", &info.running.to_string());
    lines.add(2, "Paused", &info.paused.to_string());
    lines.add(2, "Stopped", &info.stopped.to_string());
    lines.add(1, "Images", &info.images.to_string());
    lines.add(1, "Server Version", &info.server_version);
    lines.add(1, "Storage Driver", &info.storage_driver);
    lines.add(2, "Backing Filesystem", &info.backing_filesystem);
    lines.add(2, "Supports d_type", &info.supports_d_type.to_string());
    lines.add(2, "Native Overlay Diff", &NATIVE_DIFF.to_string());
    lines.add(1, "Logging Driver", &info.logging_driver);
    lines.add(1, "Cgroup Driver", &info.cgroup_driver);
    lines.add(1, "Cgroup Version", &info.cgroup_version);
    lines.add(1, "Plugins", "");
    lines.add(2, "Volume", &info.volume_drivers.join(" "));
    lines.add(2, "Network", &info.network_drivers.join(" "));
    lines.add(2, "Log", &info.logging_driver);
    lines.add(1, "Swarm", "inactive");
    lines.add(1, "Runtimes", RUNTIME);
    lines.add(1, "Default Runtime", RUNTIME);
    lines.add(1, "Init Binary", RUNTIME);
    lines.add(1, "Security Options", "");
    for option in &info.security_options {
        lines.security_option(option);
    }
    lines.add(1, "Kernel Version", &info.kernel_version);
    lines.add(1, "Operating System", &info.operating_system);
    lines.add(1, "OSType", &info.os_type);
    lines.add(1, "Architecture", &info.architecture);
    lines.add(1, "CPUs", &info.cpus.to_string());
    lines.add(1, "Total Memory", &human::binary_size(info.memory_bytes));
    lines.add(1, "Name", &info.name);
    lines.add(1, "ID", &info.id);
    lines.add(1, "Docker Root Dir", &info.root_dir);
    lines.add(1, "Run Dir", &info.run_dir);
    lines.add(1, "Debug Mode", "false");
    lines.add(1, "Registry", credential::HUB_KEY);
    lines.add(1, "Labels", "");
    for label in &info.labels {
        lines.add(2, label, "");
    }
    lines.add(1, "Experimental", "false");
    lines.list("Insecure Registries", &info.insecure_registries);
    lines.list("Registry Mirrors", &info.registry_mirrors);
    lines.list("Recovery", &info.recovery);
    if let Some(collection) = &info.collection {
        lines.list("Image Collection", &collection.policy);
        lines.add(2, "Last Run", &last_run(collection));
    }
    lines.add(1, "Live Restore Enabled", "true");
    lines.0
}

/// How the last collection of images went, in one line.
fn last_run(collection: &GetCollectionResponse) -> String {
    let Some(run) = &collection.last else { return "none yet".into() };
    let trouble = if run.trouble.is_empty() { String::new() } else { format!("; {}", run.trouble) };
    let at = run.at.as_ref().map(time::fixed).unwrap_or_default();
    let freed = human::exact_size(run.freed_bytes);
    format!("{at}: {} images, {} loose parts, {freed}{trouble}", run.images, run.loose)
}

/// What a template sees of the collection of images.
fn collection(info: &InfoResponse) -> Document {
    let Some(collection) = &info.collection else { return Document::Null };
    let last = collection.last.as_ref().map_or(Document::Null, |run| {
        map([
            ("At", run.at.as_ref().map(time::fixed).unwrap_or_default().into()),
            ("Images", run.images.into()),
            ("Loose", run.loose.into()),
            ("FreedBytes", run.freed_bytes.into()),
            ("Trouble", run.trouble.as_str().into()),
        ])
    });
    map([("Policy", list(&collection.policy)), ("LastRun", last)])
}

/// Lines of names and values.
struct Lines(String);

impl Lines {
    /// A name and its value; a name of the first level keeps its colon also without a value.
    fn add(&mut self, depth: usize, name: &str, value: &str) {
        let (name, value) = (output::visible(name), output::visible(value));
        let colon = if depth == 1 || !value.is_empty() { ":" } else { "" };
        let space = if value.is_empty() { "" } else { " " };
        writeln!(self.0, "{:depth$}{name}{colon}{space}{value}", "")
            .expect("writing to a string cannot fail");
    }

    /// A name with values below it; nothing without values.
    fn list(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.add(1, name, "");
        }
        for value in values {
            self.add(2, value, "");
        }
    }

    /// `name=seccomp,profile=default` as two lines.
    fn security_option(&mut self, option: &str) {
        for (at, field) in option.split(',').enumerate() {
            let (key, value) = field.split_once('=').unwrap_or(("", field));
            match (at, key) {
                (0, _) => self.add(2, value, ""),
                (_, "profile") => self.add(3, "Profile", value),
                (_, key) => self.add(3, key, value),
            }
        }
    }
}

fn driver_status(info: &InfoResponse) -> Document {
    let d_type = info.supports_d_type.to_string();
    let native = NATIVE_DIFF.to_string();
    Document::List(vec![
        list(["Backing Filesystem", info.backing_filesystem.as_str()]),
        list(["Supports d_type", d_type.as_str()]),
        list(["Native Overlay Diff", native.as_str()]),
    ])
}

fn document(info: &InfoResponse) -> Document {
    map([
        ("ID", info.id.as_str().into()),
        ("Containers", info.containers.into()),
        ("ContainersRunning", info.running.into()),
        ("ContainersPaused", info.paused.into()),
        ("ContainersStopped", info.stopped.into()),
        ("Images", info.images.into()),
        ("Driver", info.storage_driver.as_str().into()),
        ("DriverStatus", driver_status(info)),
        (
            "Plugins",
            map([
                ("Volume", list(&info.volume_drivers)),
                ("Network", list(&info.network_drivers)),
                ("Log", list([info.logging_driver.as_str()])),
            ]),
        ),
        ("Debug", false.into()),
        ("LoggingDriver", info.logging_driver.as_str().into()),
        ("CgroupDriver", info.cgroup_driver.as_str().into()),
        ("CgroupVersion", info.cgroup_version.as_str().into()),
        ("KernelVersion", info.kernel_version.as_str().into()),
        ("OperatingSystem", info.operating_system.as_str().into()),
        ("OSType", info.os_type.as_str().into()),
        ("Architecture", info.architecture.as_str().into()),
        ("NCPU", info.cpus.into()),
        ("MemTotal", info.memory_bytes.into()),
        ("DockerRootDir", info.root_dir.as_str().into()),
        ("RunDir", info.run_dir.as_str().into()),
        ("Name", info.name.as_str().into()),
        ("Labels", list(&info.labels)),
        ("ExperimentalBuild", false.into()),
        ("ServerVersion", info.server_version.as_str().into()),
        ("DefaultRuntime", RUNTIME.into()),
        ("InitBinary", RUNTIME.into()),
        ("IndexServerAddress", credential::HUB_KEY.into()),
        ("LiveRestoreEnabled", true.into()),
        ("SecurityOptions", list(&info.security_options)),
        ("InsecureRegistries", list(&info.insecure_registries)),
        ("RegistryMirrors", list(&info.registry_mirrors)),
        ("Warnings", list(&info.warnings)),
        ("Recovery", list(&info.recovery)),
        ("ImageCollection", collection(info)),
        ("Revision", info.revision.into()),
        ("ClientInfo", map([("Version", VERSION.into())])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_docker_has_them() {
        let info = InfoResponse {
            containers: 3,
            running: 1,
            memory_bytes: 4_136_000_000,
            security_options: vec!["name=seccomp,profile=default".into()],
            insecure_registries: vec!["127.0.0.0/8".into()],
            volume_drivers: vec!["local".into()],
            ..InfoResponse::default()
        };
        let text = text(&info);
        for line in [
            " Containers: 3",
            "  Running: 1",
            " Plugins:",
            "  Volume: local",
            " Security Options:",
            "  seccomp",
            "   Profile: default",
            " Total Memory: 3.852GiB",
            " Insecure Registries:",
            "  127.0.0.0/8",
            " Live Restore Enabled: true",
        ] {
            assert!(text.lines().any(|got| got == line), "{line:?} in\n{text}");
        }
    }
}
