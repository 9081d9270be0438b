//! `HostConfig`: what was asked of the host.

use davit_proto::container::{
    ContainerSpec, ContainerStatus, HealthCheck, MountKind, MountSpec, Resources, RestartMode, UserIds,
};
use davit_proto::port::each;

use super::or_null;
use crate::document::{Document, list, map, texts};

/// Docker's size of /dev/shm.
const SHM: u64 = 64 << 20;

/// The whole of it.
pub fn config(spec: &ContainerSpec, status: &ContainerStatus) -> Document {
    let mut fields = files(spec);
    fields.extend(sharing(spec));
    fields.extend(status.user_ids.map(|ids| ("IDMappings", id_mappings(&ids))));
    fields.extend(limits(spec));
    map(fields)
}

fn files(spec: &ContainerSpec) -> Vec<(&'static str, Document)> {
    let binds: Vec<String> = spec
        .mounts
        .iter()
        .filter(|mount| {
            let own = mount.taken_from.is_empty();
            own && !mount.source.is_empty() && is_short(mount)
        })
        .map(bind)
        .collect();
    let long = |mount: &&MountSpec| {
        mount.taken_from.is_empty() && mount.kind() != MountKind::Tmpfs && !is_short(mount)
    };
    let mounts: Vec<Document> = spec.mounts.iter().filter(long).map(long_mount).collect();
    let tmpfs = spec.mounts.iter().filter(|mount| mount.kind() == MountKind::Tmpfs);
    let tmpfs = map(tmpfs.map(|mount| (mount.target.as_str(), mount.options.join(",").into())));
    let log = spec.log.unwrap_or_default();
    let mut log_config = Vec::new();
    if log.max_size > 0 {
        log_config.push(("max-size", log.max_size.to_string().into()));
    }
    if log.max_files > 0 {
        log_config.push(("max-file", log.max_files.to_string().into()));
    }
    let mut fields = vec![
        ("Binds", or_null(list(binds))),
        ("ContainerIDFile", "".into()),
        ("LogConfig", map([("Type", "cri".into()), ("Config", map(log_config))])),
        ("NetworkMode", network_mode(spec).into()),
        ("PortBindings", port_bindings(spec)),
        ("RestartPolicy", restart(spec)),
        ("AutoRemove", spec.auto_remove.into()),
        ("VolumeDriver", "".into()),
        ("VolumesFrom", or_null(list(&spec.volumes_from))),
    ];
    if tmpfs != map::<&str>([]) {
        fields.push(("Tmpfs", tmpfs));
    }
    if !mounts.is_empty() {
        fields.push(("Mounts", Document::List(mounts)));
    }
    fields
}

/// Whether a mount can be said by `-v`.
fn is_short(mount: &MountSpec) -> bool {
    match mount.kind() {
        MountKind::Bind => mount.create_source && mount.recursive.is_empty(),
        MountKind::Volume => {
            mount.subpath.is_empty() && mount.driver_options.is_empty() && mount.volume_labels.is_empty()
        }
        MountKind::Tmpfs | MountKind::Image | MountKind::Unspecified => false,
    }
}

/// A mount as `--mount` says it.
fn long_mount(mount: &MountSpec) -> Document {
    let mut fields: Vec<(&str, Document)> = vec![("Type", super::mount_type(mount.kind()).into())];
    if !mount.source.is_empty() {
        fields.push(("Source", mount.source.as_str().into()));
    }
    fields.push(("Target", mount.target.as_str().into()));
    if mount.read_only {
        fields.push(("ReadOnly", true.into()));
    }
    let subpath = (!mount.subpath.is_empty()).then(|| ("Subpath", mount.subpath.as_str().into()));
    let (name, options): (&str, Vec<(&str, Document)>) = match mount.kind() {
        MountKind::Bind => ("BindOptions", bind_options(mount)),
        MountKind::Image => ("ImageOptions", subpath.into_iter().collect()),
        _ => ("VolumeOptions", volume_options(mount).into_iter().chain(subpath).collect()),
    };
    if !options.is_empty() {
        fields.push((name, map(options)));
    }
    map(fields)
}

fn bind_options(mount: &MountSpec) -> Vec<(&'static str, Document)> {
    let mut options: Vec<(&str, Document)> = Vec::new();
    if !mount.propagation.is_empty() {
        options.push(("Propagation", mount.propagation.as_str().into()));
    }
    match mount.recursive.as_str() {
        "disabled" => options.push(("NonRecursive", true.into())),
        "writable" => options.push(("ReadOnlyNonRecursive", true.into())),
        "readonly" => options.push(("ReadOnlyForceRecursive", true.into())),
        _ => {}
    }
    if mount.create_source {
        options.push(("CreateMountpoint", true.into()));
    }
    options
}

fn volume_options(mount: &MountSpec) -> Vec<(&'static str, Document)> {
    let pairs = |texts: &[String]| -> Document {
        let pairs = texts.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
        map(pairs.map(|(key, value)| (key, value.into())))
    };
    let mut options: Vec<(&str, Document)> = Vec::new();
    if mount.no_copy {
        options.push(("NoCopy", true.into()));
    }
    if !mount.volume_labels.is_empty() {
        options.push(("Labels", pairs(&mount.volume_labels)));
    }
    if !(mount.driver.is_empty() && mount.driver_options.is_empty()) {
        let driver = [("Name", mount.driver.as_str().into()), ("Options", pairs(&mount.driver_options))];
        options.push(("DriverConfig", map(driver)));
    }
    options
}

fn bind(mount: &MountSpec) -> String {
    let mut options = Vec::new();
    if mount.read_only {
        options.push("ro");
    }
    if mount.no_copy {
        options.push("nocopy");
    }
    if !mount.propagation.is_empty() {
        options.push(&mount.propagation);
    }
    let end = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
    format!("{}:{}{end}", mount.source, mount.target)
}

/// The name of the first network.
pub fn network_mode(spec: &ContainerSpec) -> &str {
    spec.networks.first().map_or("bridge", |endpoint| endpoint.network.as_str())
}

fn port_bindings(spec: &ContainerSpec) -> Document {
    let mut bindings: Vec<(String, Vec<Document>)> = Vec::new();
    for port in &each(&spec.ports) {
        let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
        let key = format!("{}/{protocol}", port.container_port);
        let host_port = if port.host_port == 0 { String::new() } else { port.host_port.to_string() };
        let binding = map([("HostIp", port.host_ip.as_str().into()), ("HostPort", host_port.into())]);
        match bindings.iter_mut().find(|(known, _)| *known == key) {
            Some((_, places)) => places.push(binding),
            None => bindings.push((key, vec![binding])),
        }
    }
    map(bindings.into_iter().map(|(key, places)| (key, Document::List(places))))
}

fn restart(spec: &ContainerSpec) -> Document {
    let policy = spec.restart.unwrap_or_default();
    let name = match policy.mode() {
        RestartMode::Unspecified | RestartMode::No => "no",
        RestartMode::OnFailure => "on-failure",
        RestartMode::Always => "always",
        RestartMode::UnlessStopped => "unless-stopped",
    };
    map([("Name", name.into()), ("MaximumRetryCount", policy.max_retries.into())])
}

fn sharing(spec: &ContainerSpec) -> Vec<(&'static str, Document)> {
    let none = davit_proto::container::Namespaces::default();
    let namespaces = spec.namespaces.as_ref().unwrap_or(&none);
    let or = |text: &str, other: &'static str| Document::from(if text.is_empty() { other } else { text });
    vec![
        ("CapAdd", or_null(list(&spec.cap_add))),
        ("CapDrop", or_null(list(&spec.cap_drop))),
        ("CgroupnsMode", or(&namespaces.cgroup, "private")),
        ("Dns", list(&spec.dns)),
        ("DnsOptions", list(&spec.dns_options)),
        ("DnsSearch", list(&spec.dns_search)),
        ("ExtraHosts", or_null(list(&spec.extra_hosts))),
        ("GroupAdd", or_null(list(&spec.group_add))),
        ("IpcMode", or(&namespaces.ipc, "private")),
        ("Cgroup", "".into()),
        ("Links", or_null(list(&spec.links))),
        ("OomScoreAdj", spec.oom_score_adj.into()),
        ("PidMode", namespaces.pid.as_str().into()),
        ("Privileged", spec.privileged.into()),
        ("PublishAllPorts", spec.publish_all.into()),
        ("ReadonlyRootfs", spec.read_only.into()),
        ("SecurityOpt", or_null(list(&spec.security_opt))),
        ("UTSMode", namespaces.uts.as_str().into()),
        ("UsernsMode", namespaces.user.as_str().into()),
        ("ShmSize", (if spec.shm_size == 0 { SHM } else { spec.shm_size }).into()),
        ("Sysctls", or_null(texts(&spec.sysctls))),
        ("Init", spec.init.into()),
        ("Annotations", or_null(texts(&spec.annotations))),
        ("Runtime", "davit-shim".into()),
    ]
}

/// Podman's field: docker has one map for all containers.
fn id_mappings(ids: &UserIds) -> Document {
    let one = |first: u32| list(&[format!("0:{first}:{}", ids.count)]);
    map([("UidMap", one(ids.host_uid)), ("GidMap", one(ids.host_gid))])
}

fn limits(spec: &ContainerSpec) -> Vec<(&'static str, Document)> {
    let none = Resources::default();
    let limits = spec.resources.as_ref().unwrap_or(&none);
    let rate = |pick: fn(&davit_proto::container::BlockThrottle) -> u64| {
        let set = limits.throttles.iter().filter(move |throttle| pick(throttle) > 0);
        or_null(Document::List(
            set.map(|throttle| {
                map([("Path", throttle.device.as_str().into()), ("Rate", pick(throttle).into())])
            })
            .collect(),
        ))
    };
    let weights = limits.blkio_weight_devices.iter();
    let weights = weights
        .map(|device| map([("Path", device.device.as_str().into()), ("Weight", device.weight.into())]))
        .collect();
    vec![
        ("CpuShares", limits.cpu_shares.into()),
        ("Memory", limits.memory_bytes.into()),
        ("NanoCpus", limits.nano_cpus.into()),
        ("CpuPeriod", limits.cpu_period_us.into()),
        ("CpuQuota", limits.cpu_quota_us.into()),
        ("CgroupParent", spec.cgroup_parent.as_str().into()),
        ("BlkioWeight", limits.blkio_weight.into()),
        ("BlkioWeightDevice", or_null(Document::List(weights))),
        ("BlkioDeviceReadBps", rate(|throttle| throttle.read_bps)),
        ("BlkioDeviceWriteBps", rate(|throttle| throttle.write_bps)),
        ("BlkioDeviceReadIOps", rate(|throttle| throttle.read_iops)),
        ("BlkioDeviceWriteIOps", rate(|throttle| throttle.write_iops)),
        ("CpusetCpus", limits.cpuset_cpus.as_str().into()),
        ("CpusetMems", limits.cpuset_mems.as_str().into()),
        ("Devices", devices(&spec.devices)),
        ("DeviceCgroupRules", or_null(list(&spec.device_cgroup_rules))),
        ("MemoryReservation", limits.memory_reservation_bytes.into()),
        ("MemorySwap", limits.memory_swap_bytes.into()),
        (
            "MemorySwappiness",
            limits.memory_swappiness.map_or(Document::Null, |value| u64::from(value).into()),
        ),
        ("OomKillDisable", limits.oom_kill_disable.into()),
        ("PidsLimit", if limits.pids == 0 { Document::Null } else { limits.pids.into() }),
        ("Ulimits", or_null(Document::List(spec.ulimits.iter().map(|text| ulimit(text)).collect()))),
    ]
}

fn devices(devices: &[String]) -> Document {
    let devices = devices.iter().map(|device| {
        let mut parts = device.split(':');
        let host = parts.next().unwrap_or_default();
        let (second, third) = (parts.next(), parts.next());
        let (inside, access) = match (second, third) {
            (Some(inside), Some(access)) => (inside, access),
            (Some(inside), None) if inside.starts_with('/') => (inside, "rwm"),
            (Some(access), None) => (host, access),
            (None, _) => (host, "rwm"),
        };
        map([
            ("PathOnHost", host.into()),
            ("PathInContainer", inside.into()),
            ("CgroupPermissions", access.into()),
        ])
    });
    or_null(Document::List(devices.collect()))
}

fn ulimit(text: &str) -> Document {
    let (name, limits) = text.split_once('=').unwrap_or((text, ""));
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().unwrap_or(-1).into();
    map([("Name", name.into()), ("Hard", number(hard)), ("Soft", number(soft))])
}

/// A health check in docker's fields, times in nanoseconds.
pub fn health(check: &HealthCheck) -> Document {
    let nanos = |duration: &Option<prost_types::Duration>| -> Document {
        let length = duration.as_ref().map(davit_proto::time::duration).unwrap_or_default();
        u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).into()
    };
    map([
        ("Test", list(&check.test)),
        ("Interval", nanos(&check.interval)),
        ("Timeout", nanos(&check.timeout)),
        ("StartPeriod", nanos(&check.start_period)),
        ("Retries", check.retries.into()),
    ])
}
