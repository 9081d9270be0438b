//! Whole specs compared with kept ones, and the host that tests pretend to be on.

use super::*;
use davit_proto::container::{MountKind, MountSpec, Resources};
use serde_json::{Value, json};

/// A host with every right.
pub fn host() -> Host {
    Host {
        capabilities: capability::from_mask(u64::MAX),
        oom_score_adj: 0,
        nofile: 1 << 20,
        core: u64::MAX,
        hostname: "host".to_owned(),
        platform: "linux/amd64".to_owned(),
        thermal: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        cpus: 4,
        mqueue: false,
        online_cpus: vec![(0, 3)],
        online_mems: vec![(0, 0)],
        memory: 8 << 30,
        legacy_memory: true,
    }
}

fn id() -> ContainerId {
    "0123456789ab".repeat(6)[..64].parse().unwrap()
}

fn image() -> ImageConfig {
    ImageConfig::parse(
        br#"{"os":"linux","architecture":"amd64","config":{
            "User":"www-data","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","LANG=C"],"Entrypoint":["/entry"],
            "Cmd":["serve"],"Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"a":"image"},"StopSignal":"SIGQUIT"}}"#,
    )
    .unwrap()
}

fn layers() -> types::Mount {
    types::Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        target: "/".into(),
        options: vec!["lowerdir=/l/2".into(), "lowerdir=/l/1".into()],
    }
}

fn volume(name: &str) -> types::Mount {
    types::Mount {
        r#type: "bind".into(),
        source: format!("/volume/{name}/data"),
        target: String::new(),
        options: vec!["rbind".into()],
    }
}

/// Builds as the engine does, with `/volume/<n>` for every volume; sets in a fixed order.
fn built(spec: &ContainerSpec, image: &ImageConfig) -> Result<Value, Error> {
    let host = host();
    let resolved = resolve(spec, image, &id(), &host)?;
    let wanted = mounts::plan(spec, image)?;
    let volumes = held::uses(&wanted).iter().enumerate().map(|(n, _)| volume(&n.to_string())).collect();
    let mut held = Held::default();
    held.volumes.mounts = volumes;
    let made = build(&Input {
        linked: &[],
        spec,
        resolved: &resolved,
        rootfs: &layers(),
        wanted: &wanted,
        held: &held,
        devices: &Devices::find(spec)?,
        bundle: Path::new("/bundle"),
        cgroup_path: "/davit/x",
        host: &host,
        ids: None,
    })?;
    let mut value = serde_json::to_value(made).unwrap();
    for (_, set) in value["process"]["capabilities"].as_object_mut().unwrap() {
        set.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    Ok(value)
}

#[test]
fn the_spec_of_a_plain_container_is_as_kept() {
    let made = built(&ContainerSpec::default(), &image()).unwrap();
    let kept: Value = serde_json::from_str(include_str!("golden/plain.json")).unwrap();
    assert_eq!(made, kept, "{}", serde_json::to_string_pretty(&made).unwrap());
}

#[test]
fn the_spec_of_a_container_with_many_wishes_is_as_kept() {
    let mount = |kind: MountKind, source: &str, target: &str| MountSpec {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        ..Default::default()
    };
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let spec = ContainerSpec {
        command: own(&["-v"]),
        env: own(&["LANG", "A=1"]),
        user: "1000:50".into(),
        hostname: "web".into(),
        domainname: "lan".into(),
        terminal: true,
        auto_remove: true,
        init: true,
        read_only: true,
        cap_add: own(&["NET_ADMIN"]),
        cap_drop: own(&["ALL"]),
        security_opt: own(&[
            "no-new-privileges",
            "seccomp=unconfined",
            "mask=/proc/uptime",
            "unmask=/proc/keys",
        ]),
        mounts: vec![
            MountSpec { read_only: true, ..mount(MountKind::Bind, "/src", "/data/in") },
            mount(MountKind::Volume, "named", "/data"),
            mount(MountKind::Tmpfs, "", "/tmp"),
            mount(MountKind::Bind, "/h", "/etc/hosts"),
        ],
        resources: Some(Resources { memory_bytes: 64 << 20, pids: 100, ..Default::default() }),
        ulimits: own(&["nofile=10:20"]),
        sysctls: HashMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]),
        devices: own(&["/dev/null:/dev/nought:rw"]),
        shm_size: 1 << 20,
        group_add: own(&["audio", "44"]),
        oom_score_adj: 300,
        annotations: HashMap::from([("note".to_owned(), "x".to_owned())]),
        ..Default::default()
    };
    let made = built(&spec, &image()).unwrap();
    let kept: Value = serde_json::from_str(include_str!("golden/many.json")).unwrap();
    assert_eq!(made, kept, "{}", serde_json::to_string_pretty(&made).unwrap());
}

#[test]
fn a_privileged_container_is_not_confined() {
    let made = built(&ContainerSpec { privileged: true, ..Default::default() }, &image()).unwrap();
    assert_eq!(made["linux"]["maskedPaths"], json!([]));
    assert_eq!(made["linux"]["readonlyPaths"], json!([]));
    assert_eq!(made["annotations"]["davit.seccomp"], "unconfined");
    assert_eq!(made["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
    assert_eq!(made["linux"]["resources"]["devices"][0]["allow"], true);
}

#[test]
fn a_container_on_the_hosts_network_has_its_name_and_no_namespace() {
    let spec = ContainerSpec {
        networks: vec![EndpointSpec { network: "host".into(), ..Default::default() }],
        ports: vec![PortSpec { container_port: 80, host_port: 80, ..Default::default() }],
        ..Default::default()
    };
    let made = built(&spec, &image()).unwrap();
    assert_eq!(made["hostname"], "host");
    let kinds: Vec<_> =
        made["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
    assert!(!kinds.contains(&json!("network")) && kinds.contains(&json!("uts")));
    let resolved = resolve(&spec, &image(), &id(), &host()).unwrap();
    assert!(resolved.ports.is_empty() && resolved.warnings.len() == 1, "{:?}", resolved.warnings);
}

#[test]
fn a_container_in_the_hosts_ipc_namespace_shares_what_the_host_has() {
    let names = davit_proto::container::Namespaces { ipc: "host".into(), ..Default::default() };
    let made = built(&ContainerSpec { namespaces: Some(names), ..Default::default() }, &image()).unwrap();
    let found = |target: &str| {
        made["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["destination"] == target)
            .map(|m| m["source"].clone())
    };
    assert_eq!(found("/dev/shm"), Some(json!("/dev/shm")));
    assert_eq!(found("/dev/mqueue"), None, "this host has none");
}

#[test]
fn annotations_of_the_engine_cannot_be_given() {
    let spec = ContainerSpec {
        annotations: HashMap::from([("davit.privileged".to_owned(), "true".to_owned())]),
        ..Default::default()
    };
    let made = built(&spec, &image()).unwrap();
    assert_eq!(made["annotations"], json!({"davit.seccomp": "default", "davit.user": "www-data"}));
}

#[test]
fn an_image_for_another_platform_is_told() {
    let arm = ImageConfig { platform: "linux/arm64/v8".into(), cmd: vec!["sh".into()], ..Default::default() };
    let warned = resolve(&ContainerSpec::default(), &arm, &id(), &host()).unwrap().warnings;
    assert!(warned.iter().any(|warning| warning.contains("linux/arm64/v8")), "{warned:?}");
    let asked = |platform: &str| ContainerSpec { platform: platform.into(), ..Default::default() };
    assert!(resolve(&asked("linux/arm64"), &arm, &id(), &host()).unwrap().warnings.is_empty());
    assert!(resolve(&asked("linux/amd64"), &arm, &id(), &host()).is_err());
}

#[test]
fn the_score_is_never_below_what_the_engine_may_give() {
    let score = |wanted, own, caps: &[Cap]| {
        let host = Host { oom_score_adj: own, capabilities: caps.to_vec(), ..host() };
        oom_score_adj(&ContainerSpec { oom_score_adj: wanted, ..Default::default() }, &host).ok()
    };
    assert_eq!(score(0, -500, &[]), Some(0));
    assert_eq!(score(0, 200, &[]), Some(200));
    assert_eq!(score(0, 200, &[Cap::SysResource]), Some(0));
    assert_eq!(score(-100, 0, &[]), None);
    assert_eq!(score(-100, 0, &[Cap::SysResource]), Some(-100));
}

#[test]
fn a_root_that_is_no_overlay_is_refused() {
    let host = host();
    let (spec, image) =
        (ContainerSpec::default(), ImageConfig { cmd: vec!["x".into()], ..Default::default() });
    let resolved = resolve(&spec, &image, &id(), &host).unwrap();
    for odd in [
        types::Mount::default(),
        types::Mount { options: vec!["lowerdir=x".into()], ..layers() },
        types::Mount { options: vec!["upperdir=/x".into()], ..layers() },
    ] {
        let input = Input {
            linked: &[],
            spec: &spec,
            resolved: &resolved,
            rootfs: &odd,
            wanted: &[],
            held: &Held::default(),
            devices: &Devices::default(),
            bundle: Path::new("/b"),
            cgroup_path: "/c",
            host: &host,
            ids: None,
        };
        assert!(build(&input).is_err(), "{odd:?}");
    }
}
