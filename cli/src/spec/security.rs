//! Flags of confinement.

use davit_proto::container::{ContainerSpec, Namespaces};

use super::{Invalid, env, text};
use crate::args::run::SecurityArgs;
use crate::error::Error;

/// Largest seccomp profile that is read.
const PROFILE_LIMIT: u64 = 1 << 20;

/// Fills in what a container is kept from.
pub fn fill(spec: &mut ContainerSpec, args: &SecurityArgs) -> Result<(), Error> {
    spec.privileged = args.privileged;
    spec.cap_add.clone_from(&args.cap_add);
    spec.cap_drop.clone_from(&args.cap_drop);
    spec.security_opt = options(&args.security_opt)?;
    spec.devices.clone_from(&args.device);
    spec.device_cgroup_rules.clone_from(&args.device_cgroup_rule);
    spec.sysctls = env::strict_pairs("--sysctl", &args.sysctl)?;
    let namespaces = Namespaces {
        pid: text(args.pid.as_ref()),
        ipc: text(args.ipc.as_ref()),
        uts: text(args.uts.as_ref()),
        user: text(args.userns.as_ref()),
        cgroup: text(args.cgroupns.as_ref()),
    };
    if namespaces != Namespaces::default() {
        spec.namespaces = Some(namespaces);
    }
    Ok(())
}

/// Options in the engine's words.
pub fn options(flags: &[String]) -> Result<Vec<String>, Error> {
    let read = flags.iter().map(|option| security_option(option, read_profile));
    Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// One option in the engine's words; `None` when it says what is so anyway.
fn security_option(
    option: &str,
    profile: impl Fn(&str) -> Result<String, Error>,
) -> Result<Option<String>, Error> {
    // docker's older form has a colon; only the first one counts, paths may have more.
    let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    let said = match (key, value) {
        ("no-new-privileges", None) => "no-new-privileges".to_owned(),
        ("no-new-privileges", Some(value)) => {
            let on =
                crate::args::switch(value).map_err(|rule| Invalid::new("--security-opt", option, rule))?;
            return Ok(on.then(|| "no-new-privileges".to_owned()));
        }
        ("systempaths", Some("unconfined")) => "unmask=ALL".to_owned(),
        ("seccomp", Some(value @ ("unconfined" | "default" | "builtin"))) => {
            format!("seccomp={}", if value == "builtin" { "default" } else { value })
        }
        ("seccomp", Some(path)) => format!("seccomp={}", profile(path)?),
        (_, Some(value)) => format!("{key}={value}"),
        (_, None) => return Err(Invalid::new("--security-opt", option, "KEY=VALUE is wanted").into()),
    };
    Ok(Some(said))
}

/// A profile is read here, where its path means something, and travels as its text.
fn read_profile(path: &str) -> Result<String, Error> {
    let failed = |source| Error::io(format!("read seccomp profile {path}"), source);
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_file() && meta.len() > PROFILE_LIMIT {
        return Err(Invalid::new("--security-opt", path, "the profile is larger than 1 MiB").into());
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let profile: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Invalid::new("--security-opt", path, format!("the profile is no JSON: {error}")))?;
    // Without its white space a profile takes a fraction of the request's room.
    Ok(profile.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: &str) -> Option<String> {
        security_option(option, |path| Ok(format!("<{path}>"))).unwrap()
    }

    #[test]
    fn dockers_words() {
        for (option, wanted) in [
            ("no-new-privileges", Some("no-new-privileges")),
            ("no-new-privileges:true", Some("no-new-privileges")),
            ("no-new-privileges=false", None),
            ("seccomp=unconfined", Some("seccomp=unconfined")),
            ("seccomp:unconfined", Some("seccomp=unconfined")),
            ("seccomp=/a:b.json", Some("seccomp=</a:b.json>")),
            ("seccomp=builtin", Some("seccomp=default")),
            ("systempaths=unconfined", Some("unmask=ALL")),
            ("mask=/a:/b", Some("mask=/a:/b")),
            ("apparmor=unconfined", Some("apparmor=unconfined")),
            ("label=disable", Some("label=disable")),
        ] {
            assert_eq!(read(option).as_deref(), wanted, "{option}");
        }
        for bad in ["seccomp", "x", "no-new-privileges=perhaps"] {
            assert!(security_option(bad, |_| Ok(String::new())).is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_are_read_here() {
        let path = std::env::temp_dir().join(format!("davit-seccomp-{}.json", std::process::id()));
        std::fs::write(&path, "{ \"defaultAction\":\n \"SCMP_ACT_ALLOW\" }").unwrap();
        let name = path.to_str().unwrap();
        assert_eq!(read_profile(name).unwrap(), "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
        std::fs::write(&path, "nope").unwrap();
        assert!(read_profile(name).unwrap_err().to_string().contains("no JSON"));
        std::fs::remove_file(&path).unwrap();
        assert!(read_profile(name).is_err());
    }
}
