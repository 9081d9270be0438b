//! `--volume`, `--mount`, `--tmpfs`.

use std::path::Path;

use davit_proto::container::{ContainerSpec, MountKind, MountSpec};
use davit_proto::id::Name;

use super::{Invalid, bytes, csv};
use crate::args::run::StorageArgs;
use crate::error::Error;

/// Ways a mount may pass on to others.
const PROPAGATION: [&str; 6] = ["rprivate", "private", "rslave", "slave", "rshared", "shared"];
/// What may become of the mounts below the source of a bind.
const RECURSIVE: [&str; 4] = ["enabled", "disabled", "writable", "readonly"];
/// Where programs write that know no better, and what memory there is like.
const SCRATCH: [&str; 3] = ["/run:mode=755", "/tmp:mode=1777", "/var/tmp:mode=1777"];
/// Words of docker that change nothing here: labels of SELinux and hints for macOS.
const IGNORED: [&str; 5] = ["z", "Z", "consistent", "cached", "delegated"];

/// Fills in what a container mounts.
pub fn fill(spec: &mut ContainerSpec, args: &StorageArgs) -> Result<(), Error> {
    for text in &args.volume {
        let mut mount = volume(text)?;
        if mount.kind() == MountKind::Volume {
            mount.driver.clone_from(&args.volume_driver);
        }
        spec.mounts.push(mount);
    }
    for text in &args.mount {
        spec.mounts.push(mount(text)?);
    }
    for text in &args.tmpfs {
        spec.mounts.push(tmpfs(text)?);
    }
    spec.volumes_from.clone_from(&args.volumes_from);
    spec.read_only = args.read_only;
    if args.read_only && args.read_only_tmpfs {
        let taken = |target: &str| spec.mounts.iter().any(|mount| mount.target == target);
        let free: Vec<&str> =
            SCRATCH.into_iter().filter(|text| !taken(text.split(':').next().unwrap_or(text))).collect();
        spec.mounts.extend(free.into_iter().map(tmpfs).collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(size) = &args.shm_size {
        spec.shm_size = bytes("--shm-size", size)?;
    }
    Ok(())
}

/// What `--mount` or `--volume` would take: fields with a target are the former's.
pub fn either(text: &str) -> Result<MountSpec, Invalid> {
    let fields = csv::fields("--mount-add", text)?;
    let is_field = |key: &str| matches!(key, "type" | "target" | "dst" | "destination");
    if fields.iter().any(|(key, value)| value.is_some() && is_field(key)) {
        mount(text)
    } else {
        volume(text)
    }
}

/// `TARGET`, `SOURCE:TARGET` or `SOURCE:TARGET:OPTIONS`.
pub fn volume(text: &str) -> Result<MountSpec, Invalid> {
    let invalid = |rule: &str| Invalid::new("--volume", text, rule);
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 1 && parts.iter().any(|part| part.is_empty()) {
        return Err(invalid("empty section between colons"));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(invalid("too many colons; SOURCE:TARGET[:OPTIONS] is wanted")),
    };
    let mut mount = MountSpec { target: target_of("--volume", text, target)?, ..MountSpec::default() };
    if source.starts_with(['/', '.']) {
        mount.set_kind(MountKind::Bind);
        mount.source = absolute(source).ok_or_else(|| invalid("the source cannot be found from here"))?;
        mount.create_source = true;
    } else if source.is_empty() || source.parse::<Name>().is_ok() {
        mount.set_kind(MountKind::Volume);
        source.clone_into(&mut mount.source);
    } else {
        let rule = format!(
            "{source:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed; if you intended to pass a host directory, use absolute path"
        );
        return Err(invalid(&rule));
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
        _ => return Err(format!("invalid mode: {option}")),
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
        Some(other) => {
            let other = other.unwrap_or_default();
            return Err(invalid(&format!(
                "mount type unknown: {other:?}; bind, volume, tmpfs or image is wanted"
            )));
        }
    };
    let mut mount = MountSpec { kind: kind.into(), ..MountSpec::default() };
    for (key, value) in &fields {
        field(&mut mount, key, value.as_deref()).map_err(|rule| invalid(&rule))?;
    }
    if mount.target.is_empty() {
        return Err(invalid("target is required"));
    }
    mount.target = target_of("--mount", text, &mount.target)?;
    check_recursive(&mount).map_err(|rule| invalid(&rule))?;
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

/// docker's conditions, in its words.
fn check_recursive(mount: &MountSpec) -> Result<(), String> {
    let word = mount.recursive.as_str();
    if matches!(word, "writable" | "readonly") && !mount.read_only {
        return Err(format!(
            "option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction"
        ));
    }
    if word == "readonly" && !matches!(mount.propagation.as_str(), "" | "rprivate") {
        let needed = "'bind-propagation=rprivate'";
        return Err(format!(
            "option 'bind-recursive=readonly' requires {needed} to be specified in conjunction"
        ));
    }
    Ok(())
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
        "bind-recursive" if kind == MountKind::Bind => {
            mount.recursive = wanted()?;
            if !RECURSIVE.contains(&mount.recursive.as_str()) {
                return Err(format!(
                    "invalid value for bind-recursive: {} (must be \"enabled\", \"disabled\", \"writable\", or \
                     \"readonly\")",
                    mount.recursive
                ));
            }
        }
        "bind-nonrecursive" if kind == MountKind::Bind => {
            let word = if switch(key, value)? { "disabled" } else { "enabled" };
            word.clone_into(&mut mount.recursive);
        }
        "volume-driver" if kind == MountKind::Volume => mount.driver = wanted()?,
        "volume-opt" if kind == MountKind::Volume => mount.driver_options.push(pair(key, wanted()?)?),
        "volume-label" if kind == MountKind::Volume => mount.volume_labels.push(pair(key, wanted()?)?),
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
        _ => return Err(format!("unexpected key '{key}' for this type of mount")),
    }
    Ok(())
}

/// A label may be without a value.
fn pair(key: &str, text: String) -> Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("{key} wants a name before the =")),
        Some(_) => Ok(text),
        None => Ok(format!("{text}=")),
    }
}

fn switch(key: &str, value: Option<&str>) -> Result<bool, String> {
    value.map_or(Ok(true), |value| crate::args::switch(value).map_err(|error| format!("{key}: {error}")))
}

fn target_of(flag: &str, whole: &str, target: &str) -> Result<String, Invalid> {
    if !target.starts_with('/') {
        let rule = format!("invalid mount path: '{target}' mount path must be absolute");
        return Err(Invalid::new(flag, whole, rule));
    }
    if target.split('/').all(|part| part.is_empty() || part == ".") {
        return Err(Invalid::new(flag, whole, "invalid specification: destination can't be '/'"));
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
    fn what_is_wrong_is_said_in_dockers_words() {
        for (bad, words) in [
            (":/b", "empty section between colons"),
            ("/a::ro", "empty section between colons"),
            ("/a:/b:ro:rw", "too many colons"),
            ("/a:/b:odd", "invalid mode: odd"),
            ("/a:b", "invalid mount path: 'b' mount path must be absolute"),
            ("/a:/", "destination can't be '/'"),
            ("a/b:/c", "includes invalid characters for a local volume name"),
        ] {
            let said = volume(bad).unwrap_err().to_string();
            assert!(said.contains(words), "{bad}: {said}");
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
        let made = mount("src=d,dst=/b,volume-driver=image,volume-opt=size=1g,volume-opt=o=a,volume-label=x")
            .unwrap();
        assert_eq!((made.driver.as_str(), made.driver_options.len()), ("image", 2));
        assert_eq!((made.driver_options[0].as_str(), made.volume_labels[0].as_str()), ("size=1g", "x="));
        let image = mount("type=image,source=busybox:1,target=/i,image-subpath=etc").unwrap();
        assert_eq!((image.source.as_str(), image.subpath.as_str()), ("busybox:1", "etc"));
        let recursive =
            |more: &str| mount(&format!("type=bind,src=/a,dst=/b{more}")).map(|mount| mount.recursive);
        assert_eq!(recursive(",bind-nonrecursive").unwrap(), "disabled");
        assert_eq!(recursive(",ro,bind-recursive=writable").unwrap(), "writable");
        assert_eq!(recursive(",ro,bind-propagation=rprivate,bind-recursive=readonly").unwrap(), "readonly");
        assert!(recursive(",bind-recursive=readonly").is_err() && recursive(",bind-recursive=odd").is_err());
        assert!(recursive(",ro,bind-propagation=rslave,bind-recursive=readonly").is_err());
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
    fn either_form_is_known_by_itself() {
        assert_eq!(either("type=tmpfs,dst=/t").unwrap().kind(), MountKind::Tmpfs);
        assert_eq!(either("/a:/b:ro,z").unwrap(), volume("/a:/b:ro,z").unwrap());
        assert_eq!(either("data:/b").unwrap().source, "data");
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
