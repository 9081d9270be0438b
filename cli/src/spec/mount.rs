//! `--volume`, `--mount`, `--tmpfs`.

use std::path::Path;

use davit_proto::container::{ContainerSpec, MountKind, MountSpec};
use davit_proto::id::Name;

use super::{Invalid, bytes, csv};
use crate::args::run::StorageArgs;
use crate::error::Error;

/// Ways a mount may pass on to others.
const PROPAGATION: [&str; 6] = ["rprivate", "private", "rslave", "slave", "rshared", "shared"];
/// Words of docker that change nothing here: labels of SELinux and hints for macOS.
const IGNORED: [&str; 5] = ["z", "Z", "consistent", "cached", "delegated"];

/// Fills in what a container mounts.
pub fn fill(spec: &mut ContainerSpec, args: &StorageArgs) -> Result<(), Error> {
    for text in &args.volume {
        spec.mounts.push(volume(text)?);
    }
    for text in &args.mount {
        spec.mounts.push(mount(text)?);
    }
    for text in &args.tmpfs {
        spec.mounts.push(tmpfs(text)?);
    }
    spec.volumes_from.clone_from(&args.volumes_from);
    spec.read_only = args.read_only;
    if let Some(size) = &args.shm_size {
        spec.shm_size = bytes("--shm-size", size)?;
    }
    Ok(())
}

/// `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.
pub fn volume(text: &str) -> Result<MountSpec, Invalid> {
    let invalid = |rule: &str| Invalid::new("--volume", text, rule);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid("SOURCE:TARGET[:OPTIONS] is wanted")),
    };
    let mut mount = MountSpec { target: target_of("--volume", text, target)?, ..MountSpec::default() };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid("the source must not be empty"));
    }
    if source.starts_with(['/', '.']) {
        mount.set_kind(MountKind::Bind);
        mount.source = absolute(source).ok_or_else(|| invalid("the source cannot be found from here"))?;
        mount.create_source = true;
    } else if source.is_empty() || source.parse::<Name>().is_ok() {
        mount.set_kind(MountKind::Volume);
        source.clone_into(&mut mount.source);
    } else {
        return Err(invalid("the source must be a path that begins with / or ., or the name of a volume"));
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        volume_option(&mut mount, option).map_err(|rule| invalid(&rule))?;
    }
    Ok(mount)
}

fn volume_option(mount: &mut MountSpec, option: &str) -> Result<(), String> {
    match option {
        "ro" | "readonly" => mount.read_only = true,
        "rw" => mount.read_only = false,
        "nocopy" if mount.kind() == MountKind::Volume => mount.no_copy = true,
        // A volume always is.
        "idmap" => mount.idmap = mount.kind() == MountKind::Bind,
        _ if IGNORED.contains(&option) => {}
        _ if PROPAGATION.contains(&option) && mount.kind() == MountKind::Bind => {
            option.clone_into(&mut mount.propagation);
        }
        _ => return Err(format!("{option:?} is no option of such a mount")),
    }
    Ok(())
}

/// `TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<MountSpec, Invalid> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    Ok(MountSpec {
        kind: MountKind::Tmpfs.into(),
        target: target_of("--tmpfs", text, target)?,
        options: options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        ..MountSpec::default()
    })
}

/// `type=…,source=…,target=…,…`.
pub fn mount(text: &str) -> Result<MountSpec, Invalid> {
    let invalid = |rule: &str| Invalid::new("--mount", text, rule);
    let fields = csv::fields("--mount", text)?;
    let kind = match fields.iter().find(|(key, _)| key == "type").map(|(_, value)| value.as_deref()) {
        None => MountKind::Volume,
        Some(Some("bind")) => MountKind::Bind,
        Some(Some("volume")) => MountKind::Volume,
        Some(Some("tmpfs")) => MountKind::Tmpfs,
        Some(Some("image")) => MountKind::Image,
        Some(_) => return Err(invalid("the type must be bind, volume, tmpfs or image")),
    };
    let mut mount = MountSpec { kind: kind.into(), ..MountSpec::default() };
    for (key, value) in &fields {
        field(&mut mount, key, value.as_deref()).map_err(|rule| invalid(&rule))?;
    }
    mount.target = target_of("--mount", text, &mount.target)?;
    match kind {
        MountKind::Bind => {
            mount.source = Some(mount.source.as_str())
                .filter(|source| source.starts_with(['/', '.']))
                .and_then(absolute)
                .ok_or_else(|| invalid("the source of a bind must be a path"))?;
        }
        MountKind::Volume if !mount.source.is_empty() && mount.source.parse::<Name>().is_err() => {
            return Err(invalid("the source of a volume must be a name; type=bind mounts a path"));
        }
        MountKind::Image if mount.source.is_empty() => return Err(invalid("which image is the source?")),
        MountKind::Tmpfs if !mount.source.is_empty() => return Err(invalid("memory has no source")),
        _ => {}
    }
    Ok(mount)
}

fn field(mount: &mut MountSpec, key: &str, value: Option<&str>) -> Result<(), String> {
    let kind = mount.kind();
    let wanted = || value.map(str::to_owned).ok_or_else(|| format!("{key} wants a value"));
    match key {
        "type" | "consistency" => {}
        "source" | "src" => mount.source = wanted()?,
        "target" | "dst" | "destination" => mount.target = wanted()?,
        "readonly" | "ro" => mount.read_only = switch(key, value)?,
        "bind-propagation" if kind == MountKind::Bind => {
            mount.propagation = wanted()?;
            if !PROPAGATION.contains(&mount.propagation.as_str()) {
                return Err(format!("{:?} is no propagation", mount.propagation));
            }
        }
        "idmap" if matches!(kind, MountKind::Bind | MountKind::Volume) => {
            // A volume always is.
            mount.idmap = switch(key, value)? && kind == MountKind::Bind;
        }
        "bind-create-src" if kind == MountKind::Bind => mount.create_source = switch(key, value)?,
        "volume-nocopy" if kind == MountKind::Volume => mount.no_copy = switch(key, value)?,
        "volume-subpath" if kind == MountKind::Volume => mount.subpath = wanted()?,
        "image-subpath" if kind == MountKind::Image => mount.subpath = wanted()?,
        "tmpfs-size" if kind == MountKind::Tmpfs => {
            let size = wanted()?;
            let size = bytes("--mount", &size).map_err(|error| error.to_string())?;
            mount.options.push(format!("size={size}"));
        }
        "tmpfs-mode" if kind == MountKind::Tmpfs => {
            let mode = wanted()?;
            if u32::from_str_radix(&mode, 8).is_err() {
                return Err(format!("{mode:?} is no octal mode"));
            }
            mount.options.push(format!("mode={mode}"));
        }
        _ => return Err(format!("{key:?} is no field of such a mount")),
    }
    Ok(())
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    value.map_or(Ok(true), |value| crate::args::switch(value).map_err(|error| format!("{key}: {error}")))
}

fn target_of(flag: &str, whole: &str, target: &str) -> Result<String, Invalid> {
    if !target.starts_with('/') {
        return Err(Invalid::new(flag, whole, "the path inside the container must begin with /"));
    }
    if target.split('/').all(|part| part.is_empty() || part == ".") {
        return Err(Invalid::new(flag, whole, "the root of the container cannot be mounted over"));
    }
    Ok(target.to_owned())
}

fn absolute(path: &str) -> Option<String> {
    std::path::absolute(Path::new(path)).ok()?.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(kind: MountKind, source: &str, target: &str) -> MountSpec {
        MountSpec {
            kind: kind.into(),
            source: source.into(),
            target: target.into(),
            create_source: kind == MountKind::Bind,
            ..MountSpec::default()
        }
    }

    #[test]
    fn volumes() {
        assert_eq!(volume("/a:/b").unwrap(), of(MountKind::Bind, "/a", "/b"));
        assert_eq!(volume("data:/b").unwrap(), of(MountKind::Volume, "data", "/b"));
        assert_eq!(volume("/b").unwrap(), of(MountKind::Volume, "", "/b"));
        let read_only = MountSpec { read_only: true, ..of(MountKind::Bind, "/a", "/b") };
        assert_eq!(volume("/a:/b:ro").unwrap(), read_only);
        assert_eq!(volume("/a:/b:ro,z").unwrap(), read_only);
        assert_eq!(volume("/a:/b:rslave").unwrap().propagation, "rslave");
        assert!(volume("/a:/b:ro,idmap").unwrap().idmap && !volume("v:/b:idmap").unwrap().idmap);
        assert!(volume("d:/b:nocopy").unwrap().no_copy);
        let here = std::env::current_dir().unwrap();
        assert_eq!(volume("./x:/b").unwrap().source, here.join("x").to_str().unwrap());
        assert_eq!(volume(".:/b").unwrap().source.trim_end_matches('/'), here.to_str().unwrap());
        for bad in [
            "",
            "b",
            ":/b",
            "/a:b",
            "/a:",
            "a/b:/c",
            "/a:/b:x",
            "/a:/b:ro:rw",
            "/a:/",
            "/a:/./",
            "/a:/b:nocopy",
            "d:/b:rslave",
            "ü:/b",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts() {
        let bind = mount("type=bind,source=/a,target=/b,readonly").unwrap();
        assert_eq!(
            bind,
            MountSpec { read_only: true, create_source: false, ..of(MountKind::Bind, "/a", "/b") }
        );
        assert_eq!(mount("src=data,dst=/b").unwrap(), of(MountKind::Volume, "data", "/b"));
        assert_eq!(mount("type=volume,destination=/b").unwrap().source, "");
        assert!(!mount("type=bind,src=/a,dst=/b,ro=false").unwrap().read_only);
        assert_eq!(mount("type=bind,src=/a,dst=/b,bind-propagation=rshared").unwrap().propagation, "rshared");
        assert!(mount("type=bind,src=/a,dst=/b,idmap").unwrap().idmap);
        let memory = mount("type=tmpfs,target=/b,tmpfs-size=64m,tmpfs-mode=1777").unwrap();
        assert_eq!(memory.options, ["size=67108864", "mode=1777"]);
        assert!(mount("type=volume,src=d,dst=/b,volume-nocopy,volume-subpath=x").unwrap().no_copy);
        assert_eq!(mount("\"type=bind\",\"src=/a,b\",dst=/c").unwrap().source, "/a,b");
        for bad in [
            "",
            "type=bind,dst=/b",
            "type=bind,src=x,dst=/b",
            "type=x,dst=/b",
            "src=/a,dst=/b",
            "type=bind,src=/a",
            "type=tmpfs,src=/a,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1",
            "type=bind,src=/a,dst=/b,ro=maybe",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=image,dst=/b",
            "type=bind,src=/a,dst=/b,bind-propagation=x",
            "type=bind,src=/a,dst=/b,colour=red",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory() {
        let mount = tmpfs("/run:rw,size=64m").unwrap();
        assert_eq!(
            (mount.target.as_str(), mount.options.as_slice()),
            ("/run", ["rw".into(), "size=64m".into()].as_slice())
        );
        assert_eq!(tmpfs("/run").unwrap().options, Vec::<String>::new());
        assert!(tmpfs("run").is_err());
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_a_parser_panic(text in "\\PC{0,40}") {
            let _ = (volume(&text), mount(&text), tmpfs(&text));
        }

        #[test]
        fn targets_are_absolute(text in "[a-z/:.,=]{0,20}") {
            for mount in [volume(&text), tmpfs(&text), mount(&format!("type=bind,src=/a,dst={text}"))].into_iter().flatten() {
                prop_assert!(mount.target.starts_with('/'));
            }
        }
    }
}
