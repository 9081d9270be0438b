//! From a wish and an image to the OCI runtime spec of a container. Everything here but [`Host::read`],
//! [`Devices::find`] and [`source`] takes values and returns values, so that it is tested without root.
//!
//! ```text
//! ContainerSpec ─┬─ resolve ──▶ Resolved   what runs, as whom, where: shown by inspect
//! ImageConfig ───┤
//!                └─ mounts::plan ▶ Wanted  what is mounted ─▶ volume service, bind sources
//! Resolved + Wanted + the services' answers ── build ──▶ config.json
//! ```

pub mod capability;
pub mod device;
mod error;
pub mod files;
pub mod health;
pub mod held;
mod host;
pub mod hosts;
mod image;
pub mod layout;
pub mod limit;
pub mod mounts;
pub mod path;
pub mod port;
pub mod process;
pub mod resource;
pub mod seccomp;
pub mod security;
pub mod source;
mod tmpfs;

#[cfg(test)]
pub mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use davit_proto::container::{ContainerSpec, EndpointSpec, PortSpec};
use davit_proto::id::ContainerId;
use davit_proto::task::IdMap;
use davit_proto::types;
use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, User, UserBuilder,
};

pub use capability::Cap;
pub use device::Devices;
pub use error::Error;
pub use held::Held;
pub use host::{Host, architecture};
pub use image::ImageConfig;
pub use mounts::Wanted;

use super::{join, shape};

/// Version of the runtime specification that is written.
const OCI_VERSION: &str = "1.2.0";
/// Prefix of annotations that tell the shim what the runtime specification has no word for.
pub const OUR_PREFIX: &str = "davit.";

/// What a request and an image come to together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment as image and request say it.
    pub env: Vec<String>,
    /// Directory to start in.
    pub working_dir: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Signal that asks it to end: "SIGTERM".
    pub stop_signal: String,
    /// Ports noted as exposed: "80/tcp".
    pub exposed_ports: Vec<String>,
    /// Labels of both.
    pub labels: BTreeMap<String, String>,
    /// Host name.
    pub hostname: String,
    /// Ports to publish, those of `publish_all` included.
    pub ports: Vec<PortSpec>,
    /// Networks to join; none where the network is the host's or there is none.
    pub networks: Vec<EndpointSpec>,
    /// How to see whether it works.
    pub health: Option<davit_proto::task::HealthCheck>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Merges a request over an image.
///
/// # Errors
/// When nothing can be run so.
pub fn resolve(
    spec: &ContainerSpec,
    image: &ImageConfig,
    container_id: &ContainerId,
    host: &Host,
) -> Result<Resolved, Error> {
    let network = shape::network(spec)?;
    let mut warnings = Vec::new();
    check_platform(spec, image, host, &mut warnings)?;
    let exposed_ports = port::exposed(spec, image, &mut warnings)?;
    let mut ports = port::published(spec, &exposed_ports)?;
    if !ports.is_empty() && network.endpoints().is_empty() {
        warnings.push(format!("published ports are discarded with the network {:?}", network.name()));
        ports.clear();
    }
    let mut labels = image.labels.clone();
    labels.extend(spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(Resolved {
        args: process::args(spec, image)?,
        env: process::env(spec, image)?,
        working_dir: process::working_dir(spec, image)?,
        user: process::user(spec, image)?,
        stop_signal: process::stop_signal(spec, image)?,
        exposed_ports,
        labels,
        hostname: process::hostname(spec, container_id, host, matches!(network, shape::Network::Host)),
        ports,
        networks: network.endpoints().to_vec(),
        health: health::resolve(spec, image)?,
        warnings,
    })
}

/// An image for another platform than the one asked for is an error; than this host's, a warning, for
/// the kernel may know how to run it.
fn check_platform(
    spec: &ContainerSpec,
    image: &ImageConfig,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if image.platform.is_empty() {
        return Ok(());
    }
    let fits =
        |wanted: &str| path::is_below(&image.platform, wanted) || path::is_below(wanted, &image.platform);
    if !spec.platform.is_empty() && !fits(&spec.platform) {
        return Err(Error::Image(format!("is for {}, and {} was asked for", image.platform, spec.platform)));
    }
    if !fits(&host.platform) && spec.platform.is_empty() {
        warnings.push(format!(
            "the image's platform ({}) is not this host's ({})",
            image.platform, host.platform
        ));
    }
    Ok(())
}

/// All that a runtime spec is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What was asked for.
    pub spec: &'a ContainerSpec,
    /// What it came to.
    pub resolved: &'a Resolved,
    /// The image's layers, as the image service answered.
    pub rootfs: &'a types::Mount,
    /// The plan of the mounts.
    pub wanted: &'a [Wanted],
    /// The services' answers, in the order of the plan.
    pub held: &'a Held,
    /// Devices found on the host.
    pub devices: &'a Devices,
    /// Folder of the container.
    pub bundle: &'a Path,
    /// Where its cgroup is.
    pub cgroup_path: &'a str,
    /// Facts of the host.
    pub host: &'a Host,
    /// Variables that tell of linked containers.
    pub linked: &'a [String],
    /// Ids of the host that are the container's, where it has a user namespace of its own.
    pub ids: Option<IdMap>,
}

/// The runtime spec of a container.
///
/// # Errors
/// When request, image and host do not fit together.
pub fn build(input: &Input<'_>) -> Result<Spec, Error> {
    let spec = input.spec;
    let options = security::parse(&spec.security_opt)?;
    let available = if input.ids.is_some() { capability::all() } else { &input.host.capabilities };
    let caps = capability::sets(&spec.cap_add, &spec.cap_drop, spec.privileged, available)?;
    let given: Vec<String> = caps.bounding().iter().flatten().map(|cap| format!("CAP_{cap}")).collect();
    let (word, profile) = security::seccomp_of(&options, spec.privileged, &given)?;

    let mut process = process_of(input)?;
    process.set_capabilities(Some(caps)).set_no_new_privileges(Some(options.no_new_privileges));
    let mut linux = linux_of(input, &options)?;
    linux.set_seccomp(profile);
    let root = RootBuilder::default()
        .path("rootfs")
        .readonly(spec.read_only)
        .build()
        .expect("every field has a value");
    let mut built = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(root)
        .process(process)
        .mounts(layout::mounts(input, &options)?)
        .annotations(annotations(input, word))
        .linux(linux)
        .build()
        .expect("every field has a default");
    let shares_name = shape::shares_name(spec);
    built.set_hostname((!shares_name).then(|| input.resolved.hostname.clone()));
    built.set_domainname((!shares_name && !spec.domainname.is_empty()).then(|| spec.domainname.clone()));
    Ok(built)
}

fn process_of(input: &Input<'_>) -> Result<Process, Error> {
    let Input { spec, resolved, host, .. } = *input;
    let (uid, gid) = process::numbers(&resolved.user);
    let mut user: User = UserBuilder::default().uid(uid).gid(gid).build().expect("both are given");
    let groups: Vec<u32> = spec.group_add.iter().filter_map(|group| group.parse().ok()).collect();
    user.set_additional_gids((!groups.is_empty()).then_some(groups));
    user.set_umask(spec.umask);
    Ok(ProcessBuilder::default()
        .terminal(spec.terminal)
        .user(user)
        .args(resolved.args.clone())
        .env(process::process_env(spec, &resolved.env, &resolved.hostname, input.linked))
        .cwd(PathBuf::from(&resolved.working_dir))
        .rlimits(limit::rlimits(spec, host)?)
        .oom_score_adj(oom_score_adj(spec, host)?)
        .build()
        .expect("every field has a default"))
}

/// Lowering the score takes a right that the engine may lack; 0, which is also what nobody asked for,
/// then means the engine's own.
fn oom_score_adj(spec: &ContainerSpec, host: &Host) -> Result<i32, Error> {
    let (wanted, own) = (spec.oom_score_adj, host.oom_score_adj);
    if wanted >= own || host.has(Cap::SysResource) {
        return Ok(wanted);
    }
    if wanted == 0 {
        return Ok(own);
    }
    Err(Error::Host(format!(
        "the out-of-memory score {wanted} is below {own}, the engine's own, which it may not lower"
    )))
}

fn linux_of(input: &Input<'_>, options: &security::Options) -> Result<Linux, Error> {
    let Input { spec, host, devices, .. } = *input;
    let network = shape::network(spec)?;
    let (masked, protected) = security::paths_of(options, spec.privileged, host);
    let sysctls = limit::sysctls(spec, !network.is_own())?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(spec, &network, input.ids.is_some()))
        .resources(resource::resources(spec, devices, host)?)
        .cgroups_path(PathBuf::from(input.cgroup_path))
        .masked_paths(masked)
        .readonly_paths(protected)
        .build()
        .expect("every field has a default");
    linux.set_devices((!devices.nodes.is_empty()).then(|| devices.nodes.clone()));
    if let Some(ids) = input.ids {
        linux.set_uid_mappings(Some(vec![mapping(ids.host_uid, ids.count)]));
        linux.set_gid_mappings(Some(vec![mapping(ids.host_gid, ids.count)]));
    }
    linux.set_sysctl((!sysctls.is_empty()).then_some(sysctls));
    Ok(linux)
}

fn mapping(host: u32, count: u32) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .container_id(0u32)
        .host_id(host)
        .size(count)
        .build()
        .expect("every field has a value")
}

fn namespaces(spec: &ContainerSpec, network: &shape::Network, own_users: bool) -> Vec<LinuxNamespace> {
    let named = spec.namespaces.clone().unwrap_or_default();
    // What is another container's is joined by what its shim holds, which the shape says.
    let own = |text: &str| text != "host" && join::other(text).is_none();
    let own = [
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Pid, own(&named.pid)),
        (LinuxNamespaceType::Network, network.is_own()),
        (LinuxNamespaceType::Ipc, own(&named.ipc)),
        (LinuxNamespaceType::Uts, own(&named.uts)),
        (LinuxNamespaceType::Cgroup, own(&named.cgroup)),
        (LinuxNamespaceType::User, own_users),
    ];
    own.into_iter()
        .filter(|(_, own)| *own)
        .map(|(typ, _)| LinuxNamespaceBuilder::default().typ(typ).build().expect("the kind is given"))
        .collect()
}

fn annotations(input: &Input<'_>, seccomp: &str) -> HashMap<String, String> {
    let spec = input.spec;
    let mut notes: HashMap<String, String> = spec
        .annotations
        .iter()
        .filter(|(key, _)| !key.starts_with(OUR_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut ours = |key: &str, value: String| notes.insert(format!("{OUR_PREFIX}{key}"), value);
    ours("seccomp", seccomp.to_owned());
    // Named even when nobody named one: root, too, is in the groups that the image's files say.
    let user = if input.resolved.user.is_empty() { "0" } else { &input.resolved.user };
    ours("user", user.to_owned());
    if !spec.group_add.is_empty() {
        ours("group-add", spec.group_add.join(","));
    }
    if spec.init {
        ours("init", "true".to_owned());
    }
    if spec.privileged {
        ours("privileged", "true".to_owned());
    }
    if !spec.env_files.is_empty() {
        let pairs: Vec<_> = spec.env_files.iter().map(|file| (&file.name, &file.path)).collect();
        ours("env-files", serde_json::to_string(&pairs).expect("pairs of strings are JSON"));
    }
    notes
}
