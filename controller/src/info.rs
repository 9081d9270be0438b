//! Facts for `version` and `info`: what this engine is, what this host is, and what it lacks.

mod host;

use std::sync::Arc;

use davit_proto::container::Phase;
use davit_proto::network::CheckRequest;
use davit_proto::status::{RemoteError, chain};
use davit_proto::system::{InfoResponse, VersionResponse};
use davit_proto::{image, volume};
use sha2::Digest as _;

use crate::container::live::status_of;
use crate::container::spec::architecture;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Version of the API, as its packages say it.
const API: &str = "v1";

/// What this engine is.
#[must_use]
pub fn version() -> VersionResponse {
    VersionResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: API.to_owned(),
        commit: option_env!("DAVIT_COMMIT").unwrap_or_default().to_owned(),
        os: "linux".to_owned(),
        architecture: architecture().to_owned(),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        rust_version: env!("DAVIT_RUST_VERSION").to_owned(),
    }
}

/// The state of engine and host.
///
/// # Errors
/// When the facts cannot be gathered at all; a service that does not answer is one of them.
pub async fn info(engine: &Arc<Engine>) -> Result<InfoResponse, Error> {
    let config = &engine.config;
    let root = config.root.clone();
    let looked = tokio::task::spawn_blocking(move || host::look(&root)).await;
    let facts = looked.map_err(|error| Error::Task { doing: "look at this host", why: error.to_string() })?;
    let mut warnings = facts.warnings;
    warnings.extend(lacking(engine));
    warnings.extend(engine.warnings());
    let images = match count_images(engine).await {
        Ok(images) => images,
        Err(error) => {
            warnings.push(format!("the image service does not answer: {}", chain(&error)));
            0
        }
    };
    match within(SHORT, "ask the network service", engine.networks().check(CheckRequest {})).await {
        Ok(checked) => warnings.extend(checked.warnings),
        Err(error) => warnings.push(format!("the network service does not answer: {}", chain(&error))),
    }
    let volume_drivers = volume_drivers(engine, &mut warnings).await;
    let (containers, revision) = engine.containers();
    let count = |wanted: &[Phase]| {
        containers.iter().filter(|c| wanted.contains(&status_of(c).phase())).count() as u64
    };
    let uname = rustix::system::uname();
    Ok(InfoResponse {
        containers: containers.len() as u64,
        running: count(&[Phase::Running, Phase::Restarting, Phase::Unknown]),
        paused: count(&[Phase::Paused]),
        stopped: count(&[Phase::Creating, Phase::Created, Phase::Exited, Phase::Removing]),
        images,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        storage_driver: "overlay".to_owned(),
        backing_filesystem: facts.backing_filesystem,
        supports_d_type: facts.supports_d_type,
        labels: config.labels.clone(),
        logging_driver: "cri".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: facts.cgroup_version.to_owned(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: facts.operating_system,
        os_type: "linux".to_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        cpus: engine.facts.host.cpus,
        memory_bytes: facts.memory_bytes,
        name: engine.facts.host.hostname.clone(),
        id: identity(&facts.machine_id, &config.instance),
        root_dir: config.root.display().to_string(),
        run_dir: config.run.display().to_string(),
        insecure_registries: config.insecure_registry.clone(),
        registry_mirrors: config.registry_mirror.clone(),
        security_options: facts.security_options,
        network_drivers: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
        volume_drivers,
        warnings,
        revision,
        recovery: engine.recovery(),
        collection: collection(engine).await,
    })
}

/// The drivers of volumes; why they are not known is one more warning.
async fn volume_drivers(engine: &Arc<Engine>, warnings: &mut Vec<String>) -> Vec<String> {
    let mut volumes = engine.volumes();
    let asked = volumes.list_drivers(volume::ListDriversRequest {});
    match within(SHORT, "ask the volume service", asked).await {
        Ok(listed) => listed.drivers.into_iter().map(|driver| driver.name).collect(),
        Err(error) => {
            warnings.push(format!("the volume service does not answer: {}", chain(&error)));
            Vec::new()
        }
    }
}

/// What the image service collects by itself. That it does not answer is a warning already.
async fn collection(engine: &Arc<Engine>) -> Option<image::GetCollectionResponse> {
    let mut images = engine.images();
    let asked = images.get_collection(image::GetCollectionRequest {});
    within(SHORT, "ask what is collected", asked).await.ok()
}

async fn count_images(engine: &Arc<Engine>) -> Result<u64, Error> {
    let mut images = engine.images();
    let mut frames = within(SHORT, "list the images", images.list(image::ListRequest::default())).await?;
    let mut count = 0;
    let counted = async {
        while let Some(frame) = frames.message().await? {
            count += frame.images.len() as u64;
        }
        Ok::<_, RemoteError>(tonic::Response::new(()))
    };
    within(SHORT, "list the images", counted).await?;
    Ok(count)
}

/// Rights that the engine itself has not.
fn lacking(engine: &Engine) -> Vec<String> {
    use crate::container::spec::Cap;
    let mut warnings = Vec::new();
    if !engine.facts.host.has(Cap::SysResource) {
        warnings.push(
            "the engine lacks CAP_SYS_RESOURCE: it can neither raise hard limits nor lower out-of-memory scores"
                .to_owned(),
        );
    }
    if !engine.facts.host.has(Cap::SysAdmin) || !engine.facts.host.has(Cap::NetAdmin) {
        warnings
            .push("the engine lacks CAP_SYS_ADMIN or CAP_NET_ADMIN: it cannot make containers".to_owned());
    }
    warnings
}

/// An id of this engine on this machine. A hash, because the machine's own id is not to be handed out.
fn identity(machine_id: &str, instance: &str) -> String {
    let mut hash = sha2::Sha256::new();
    hash.update(b"davit engine\0");
    hash.update(machine_id.as_bytes());
    hash.update([0]);
    hash.update(instance.as_bytes());
    hex::encode(hash.finalize().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_what_made_it() {
        let version = version();
        assert!(version.rust_version.starts_with("1."), "{}", version.rust_version);
        assert!(!version.kernel_version.is_empty());
    }

    #[test]
    fn identities_hide_the_machines_own_and_differ_by_engine() {
        let one = identity("secret", "davit");
        assert_eq!(one, identity("secret", "davit"));
        assert_ne!(one, identity("secret", "davit-1"));
        assert!(!one.contains("secret") && one.len() == 32);
    }
}
