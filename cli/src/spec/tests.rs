//! Whole command lines as container specs.

use davit_proto::container::MountKind;

use super::*;
use crate::args::run::RunArgs;

fn run(words: &str) -> RunArgs {
    let words: Vec<String> = format!("davit run {words}").split(' ').map(str::to_owned).collect();
    let matches = crate::verb::command().try_get_matches_from(words).unwrap();
    let (_, inner) = crate::verb::find(&matches).unwrap();
    clap::FromArgMatches::from_arg_matches(inner).unwrap()
}

fn spec_of(words: &str) -> Result<ContainerSpec, Error> {
    let args = run(words);
    of(&args.container, streams(&args.container, args.detach)?)
}

#[test]
fn the_notes_of_the_seeds() {
    let spec =
        spec_of("-i -t --rm -d --name hello-world -p 80:80 -v /opt/example:/example f/h:lastest my-command")
            .unwrap();
    assert_eq!(
        (spec.image.as_str(), spec.command.as_slice()),
        ("f/h:lastest", ["my-command".to_owned()].as_slice())
    );
    assert!(spec.terminal && spec.open_stdin && spec.auto_remove && !spec.stdin_once);
    assert_eq!((spec.ports[0].host_port, spec.ports[0].container_port), (80, 80));
    assert_eq!(
        (spec.mounts[0].source.as_str(), spec.mounts[0].target.as_str()),
        ("/opt/example", "/example")
    );
    assert!(spec.mounts[0].create_source);
    let spec = spec_of(
        "-i -t --name x --volumes-from volume_override --link db:db -v volume_id:/root/ ubuntu:18.04",
    )
    .unwrap();
    assert_eq!((spec.volumes_from[0].as_str(), spec.links[0].as_str()), ("volume_override", "db:db"));
    assert_eq!(spec.mounts[0].kind(), MountKind::Volume);
}

const EVERY_FLAG: &str = "-e A=1 -w /w -u 1:2 -h host --domainname d -l k=v --entrypoint sh --init --read-only --privileged \
     --cap-add NET_ADMIN --cap-drop ALL --security-opt seccomp=unconfined --tmpfs /t:size=1m --stop-signal INT \
     --stop-timeout 3 --platform linux/arm64 --group-add g --ulimit nofile=1:2 --shm-size 1m --device /dev/fuse \
     --sysctl a=b --add-host x:1.2.3.4 --dns 1.1.1.1 --dns-search s --dns-option o --memory 64m --memory-swap -1 \
     --cpus 1.5 --pids-limit 9 --cpu-shares 7 --oom-score-adj 5 --network n --network-alias al --ip 10.0.0.9 -P \
     --expose 70 --restart on-failure:3 --health-cmd true --health-interval 3s --log-opt max-size=1m --pid host \
     --ipc host --uts host --userns host --cgroupns host --annotation n=v --cgroup-parent /p \
     --device-cgroup-rule c --device-read-bps /dev/x:1m img a b";

#[test]
fn every_flag_reaches_the_wire() {
    let spec = spec_of(EVERY_FLAG).unwrap();
    let resources = spec.resources.clone().unwrap();
    assert_eq!(resources.memory_bytes, 64 << 20);
    assert_eq!((resources.memory_swap_bytes, resources.nano_cpus, resources.pids), (-1, 1_500_000_000, 9));
    assert_eq!((resources.cpu_shares, resources.throttles[0].read_bps), (7, 1 << 20));
    assert_eq!((spec.entrypoint[0].as_str(), spec.command.len(), spec.shm_size), ("sh", 2, 1 << 20));
    assert_eq!(spec.restart.unwrap().max_retries, 3);
    assert_eq!(spec.health.as_ref().unwrap().test, ["CMD-SHELL", "true"]);
    let network = &spec.networks[0];
    assert_eq!(
        (network.network.as_str(), network.ipv4.as_str(), network.aliases.len()),
        ("n", "10.0.0.9", 1)
    );
    assert_eq!(spec.namespaces.as_ref().unwrap().pid, "host");
    assert_eq!(spec.stop_timeout.unwrap().seconds, 3);
    assert_eq!(spec.log.unwrap().max_size, 1 << 20);
    // Whatever is not said here must be what the wire calls absent.
    let said = [
        !spec.env.is_empty(),
        !spec.working_dir.is_empty(),
        !spec.user.is_empty(),
        !spec.hostname.is_empty(),
        !spec.domainname.is_empty(),
        !spec.labels.is_empty(),
        spec.init,
        spec.read_only,
        spec.privileged,
        !spec.cap_add.is_empty(),
        !spec.cap_drop.is_empty(),
        !spec.security_opt.is_empty(),
        !spec.mounts.is_empty(),
        spec.publish_all,
        !spec.expose.is_empty(),
        !spec.dns.is_empty(),
        !spec.dns_search.is_empty(),
        !spec.dns_options.is_empty(),
        !spec.extra_hosts.is_empty(),
        !spec.stop_signal.is_empty(),
        !spec.sysctls.is_empty(),
        !spec.devices.is_empty(),
        !spec.device_cgroup_rules.is_empty(),
        !spec.ulimits.is_empty(),
        !spec.group_add.is_empty(),
        spec.oom_score_adj == 5,
        !spec.cgroup_parent.is_empty(),
        !spec.annotations.is_empty(),
        !spec.platform.is_empty(),
    ];
    assert_eq!(said.iter().position(|said| !said), None);
    let plain = spec_of("img").unwrap();
    assert_eq!(plain, ContainerSpec { image: "img".into(), ..ContainerSpec::default() });
}

#[test]
fn streams_follow_the_flags() {
    let of = |words: &str| {
        let args = run(words);
        streams(&args.container, args.detach).map(|s| (s.stdin, s.stdout, s.stderr))
    };
    assert_eq!(of("x").unwrap(), (false, true, true));
    assert_eq!(of("-i x").unwrap(), (true, true, true));
    assert_eq!(of("-d -it x").unwrap(), (false, false, false));
    assert_eq!(of("-a stdout x").unwrap(), (false, true, false));
    assert_eq!(of("-i -a STDIN -a stderr x").unwrap(), (true, false, true));
    assert!(of("-d -a stdout x").is_err());
    assert!(of("-a nowhere x").is_err());
    assert!(spec_of("-i x").unwrap().stdin_once);
    assert!(!spec_of("-it x").unwrap().stdin_once);
}

#[test]
fn restart_policies_are_dockers() {
    let policy = restart("on-failure:3").unwrap();
    assert_eq!((policy.mode(), policy.max_retries), (RestartMode::OnFailure, 3));
    for (text, mode) in [
        ("", RestartMode::No),
        ("no", RestartMode::No),
        ("always", RestartMode::Always),
        ("unless-stopped", RestartMode::UnlessStopped),
        ("on-failure", RestartMode::OnFailure),
    ] {
        assert_eq!(restart(text).unwrap().mode(), mode, "{text}");
    }
    for (text, why) in [
        (":1", "invalid restart policy format: no policy provided before colon"),
        ("on-failure:x", "invalid restart policy format: maximum retry count must be an integer"),
        ("always:1", "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        ("on-failure:-1", "invalid restart policy: maximum retry count cannot be negative"),
        (
            "never",
            "invalid restart policy: unknown policy 'never'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
    ] {
        assert_eq!(restart(text).unwrap_err().to_string(), why);
    }
    let error = spec_of("--rm --restart always x").unwrap_err();
    assert_eq!(error.to_string(), "conflicting options: --restart and --rm");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for words in [
        "--rm --restart always x",
        "--restart sometimes x",
        "--restart always:3 x",
        "--restart on-failure:x x",
        "--memory lots x",
        "--log-opt colour=red x",
        "--cpus 1 --cpu-quota 5 x",
        "--no-healthcheck --health-cmd x y",
        "--health-cmd x --health-interval 5 y",
        "-p x y",
        "-v x y",
        "--mount x y",
        "-e =x y",
    ] {
        assert!(spec_of(words).is_err(), "{words}");
    }
    let error = spec_of("--memory lots x").unwrap_err().to_string();
    assert_eq!(error, "invalid --memory \"lots\": a size such as 64m or 1.5g is wanted");
    assert_eq!(spec_of("--entrypoint= x").unwrap().entrypoint, [""]);
}
