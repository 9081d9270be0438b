//! What runs in a container: the request merged over the image by docker's rules.

use davit_proto::container::ContainerSpec;
use davit_proto::id::ContainerId;

use super::path;
use super::{Error, Host, ImageConfig};
use crate::container::signal;

/// Where programs are looked for when neither image nor request says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest single argument or variable that execve(2) takes.
const STRING_LIMIT: usize = 128 << 10;
/// Largest user or group number.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// Program and arguments: ENTRYPOINT, then CMD. A given entrypoint takes the image's CMD away too.
///
/// # Errors
/// When nothing is left to run.
pub fn args(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let cleared = spec.entrypoint.len() == 1 && spec.entrypoint.first().is_some_and(String::is_empty);
    let (entrypoint, default) = if cleared {
        (&[][..], &[][..])
    } else if spec.entrypoint.is_empty() {
        (image.entrypoint.as_slice(), image.cmd.as_slice())
    } else {
        (spec.entrypoint.as_slice(), &[][..])
    };
    let command = if spec.command.is_empty() { default } else { spec.command.as_slice() };
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    match args.first() {
        None => Err(Error::Conflict("no command specified".to_owned())),
        Some(program) if program.is_empty() => {
            Err(Error::invalid("command", program, "the program's name must not be empty"))
        }
        Some(_) => bounded("command", args),
    }
}

/// The environment of image and request together, in order, each key once. A search path is always
/// there unless the request removed it.
///
/// # Errors
/// When one variable is too long for execve(2).
pub fn env(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, Error> {
    let mut merged: Vec<String> = vec![PATH.to_owned()];
    // Entries of an image without a sign mean nothing; those of a request remove.
    for entry in image.env.iter().filter(|entry| entry.contains('=')) {
        put(&mut merged, entry);
    }
    for entry in &spec.env {
        if entry.contains('=') {
            put(&mut merged, entry);
        } else {
            merged.retain(|kept| key(kept) != entry);
        }
    }
    let said = |name: &str| spec.env.iter().chain(&image.env).any(|entry| key(entry) == name);
    for entry in spec.env_defaults.iter().filter(|entry| !said(key(entry))) {
        put(&mut merged, entry);
    }
    merged.retain(|entry| !key(entry).is_empty());
    bounded("env", merged)
}

/// Adds what the engine itself tells a container: its name, the kind of its terminal, its links.
#[must_use]
pub fn process_env(
    spec: &ContainerSpec,
    resolved: &[String],
    hostname: &str,
    linked: &[String],
) -> Vec<String> {
    let known = |name: &str| resolved.iter().any(|entry| key(entry) == name);
    // What the request removed by name stays away.
    let removed = |name: &str| spec.env.iter().any(|entry| entry == name);
    let mut env = resolved.to_vec();
    if !known("HOSTNAME") && !removed("HOSTNAME") && !hostname.is_empty() {
        env.push(format!("HOSTNAME={hostname}"));
    }
    if spec.terminal && !known("TERM") && !removed("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(linked.iter().filter(|entry| !known(key(entry)) && !removed(key(entry))).cloned());
    env
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn put(merged: &mut Vec<String>, entry: &str) {
    match merged.iter_mut().find(|kept| key(kept) == key(entry)) {
        Some(kept) => entry.clone_into(kept),
        None => merged.push(entry.to_owned()),
    }
}

fn bounded(field: &'static str, list: Vec<String>) -> Result<Vec<String>, Error> {
    match list.iter().find(|text| text.len() >= STRING_LIMIT) {
        Some(long) => Err(Error::invalid(field, long, format!("at most {STRING_LIMIT} bytes each"))),
        None => Ok(list),
    }
}

/// The directory to start in.
///
/// # Errors
/// When it is not absolute, or a name that leads out of the root.
pub fn working_dir(spec: &ContainerSpec, image: &ImageConfig) -> Result<String, Error> {
    if !spec.working_dir.is_empty() {
        return check_working_dir(&spec.working_dir);
    }
    match image.working_dir.as_str() {
        "" => Ok("/".to_owned()),
        dir => check_working_dir(dir).map_err(|_| {
            Error::Image(format!("names the working directory {dir:?}, which no container may start in"))
        }),
    }
}

/// Checks one working directory and answers with its clean form.
///
/// # Errors
/// When it is not absolute, or a name that leads out of the root.
pub fn check_working_dir(dir: &str) -> Result<String, Error> {
    let clean = path::clean("working_dir", dir)?;
    // A descriptor or a root of another process is no folder of the container, whatever it leads to.
    let mut parts = clean.split('/').filter(|part| !part.is_empty());
    let magic = match (parts.next(), parts.next()) {
        (Some("proc"), Some(process)) => {
            process.ends_with("self") || process.bytes().all(|b| b.is_ascii_digit())
        }
        (Some("dev"), Some(entry)) => matches!(entry, "fd" | "stdin" | "stdout" | "stderr"),
        _ => false,
    };
    if magic {
        return Err(Error::invalid("working_dir", dir, "must not go through a process's descriptors"));
    }
    Ok(clean)
}

/// The user as text, `user[:group]`, resolved by init against the image's own files.
///
/// # Errors
/// When it cannot be a user.
pub fn user(spec: &ContainerSpec, image: &ImageConfig) -> Result<String, Error> {
    if !spec.user.is_empty() {
        check_user("user", &spec.user)?;
        return Ok(spec.user.clone());
    }
    check_user("user", &image.user)
        .map_err(|_| Error::Image(format!("names the user {:?}, which cannot be one", image.user)))?;
    Ok(image.user.clone())
}

/// Checks a `user[:group]`. Digits are a number, never a name.
///
/// # Errors
/// When a part is empty, out of range, or has characters that no name has.
pub fn check_user(field: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Ok(());
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    for part in std::iter::once(user).chain(group) {
        check_account(field, text, part)?;
    }
    Ok(())
}

/// Checks one name or number of a user or group; `whole` is what an error shows.
///
/// # Errors
/// When it can be neither.
pub fn check_account(field: &'static str, whole: &str, part: &str) -> Result<(), Error> {
    let fail = |rule: &str| Err(Error::invalid(field, whole, rule));
    if part.is_empty() {
        return fail("user and group must not be empty");
    }
    if part.bytes().all(|b| b.is_ascii_digit()) {
        return match part.parse::<u32>() {
            Ok(number) if number <= MAX_ID => Ok(()),
            _ => fail("numbers go from 0 to 2147483647"),
        };
    }
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '/');
    if part.starts_with(['-', '+']) || part.len() > 256 || part.chars().any(odd) {
        return fail("must be user[:group], names or numbers");
    }
    Ok(())
}

/// The user's and group's numbers where the text gives them; init resolves names.
#[must_use]
pub fn numbers(user: &str) -> (u32, u32) {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    (user.parse().unwrap_or(0), group.parse().unwrap_or(0))
}

/// The signal that asks the container to end, as `SIGTERM`.
///
/// # Errors
/// When it is none.
pub fn stop_signal(spec: &ContainerSpec, image: &ImageConfig) -> Result<String, Error> {
    if !spec.stop_signal.is_empty() {
        return match signal::parse(&spec.stop_signal) {
            Some(number) => Ok(signal::name(number)),
            None => Err(Error::invalid("stop_signal", &spec.stop_signal, "no such signal")),
        };
    }
    match image.stop_signal.as_str() {
        "" => Ok("SIGTERM".to_owned()),
        text => signal::parse(text)
            .map(signal::name)
            .ok_or_else(|| Error::Image(format!("names the stop signal {text:?}, which is none"))),
    }
}

/// The host name a container sees.
#[must_use]
pub fn hostname(spec: &ContainerSpec, container_id: &ContainerId, host: &Host, host_network: bool) -> String {
    if !spec.hostname.is_empty() {
        spec.hostname.clone()
    } else if host_network || spec.namespaces.as_ref().is_some_and(|n| n.uts == "host") {
        host.hostname.clone()
    } else {
        container_id.short().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> ImageConfig {
        ImageConfig { entrypoint: own(entrypoint), cmd: own(cmd), env: own(env), ..ImageConfig::default() }
    }

    #[test]
    fn entrypoint_and_command_merge_as_docker_does() {
        let both = image(&["/entry"], &["serve"], &[]);
        for (entrypoint, command, wanted) in [
            (&[][..], &[][..], Some(&["/entry", "serve"][..])),
            (&[], &["x", "y"], Some(&["/entry", "x", "y"])),
            (&["sh", "-c"], &[], Some(&["sh", "-c"])),
            (&["sh"], &["a"], Some(&["sh", "a"])),
            (&[""], &["ls"], Some(&["ls"])),
            (&[""], &[], None),
            (&["", "x"], &[], None),
        ] {
            let spec =
                ContainerSpec { entrypoint: own(entrypoint), command: own(command), ..Default::default() };
            assert_eq!(args(&spec, &both).ok(), wanted.map(own), "{entrypoint:?} {command:?}");
        }
        assert!(args(&ContainerSpec::default(), &image(&[], &[], &[])).is_err());
        assert_eq!(args(&ContainerSpec::default(), &image(&[], &["sh"], &[])).unwrap(), ["sh"]);
    }

    #[test]
    fn environments_merge_and_keys_alone_remove() {
        let base = image(&[], &[], &["PATH=/bin", "A=1", "B=2", "ODD", "=x"]);
        let spec = ContainerSpec { env: own(&["A=3", "B", "C=a=b", "D"]), ..Default::default() };
        assert_eq!(env(&spec, &base).unwrap(), ["PATH=/bin", "A=3", "C=a=b"]);
        assert_eq!(env(&ContainerSpec::default(), &ImageConfig::default()).unwrap(), [PATH]);
        let without = ContainerSpec { env: own(&["PATH"]), ..Default::default() };
        assert_eq!(env(&without, &base).unwrap(), ["A=1", "B=2"]);
    }

    #[test]
    fn the_engine_adds_host_name_and_terminal() {
        let spec = ContainerSpec { terminal: true, ..Default::default() };
        assert_eq!(
            process_env(&spec, &own(&["A=1"]), "h", &own(&["A=2", "DB_NAME=/x/db"])),
            ["A=1", "HOSTNAME=h", "TERM=xterm", "DB_NAME=/x/db"]
        );
        assert_eq!(
            process_env(&spec, &own(&["TERM=vt100", "HOSTNAME=x"]), "h", &[]),
            ["TERM=vt100", "HOSTNAME=x"]
        );
        let spec = ContainerSpec { env: own(&["HOSTNAME"]), ..Default::default() };
        assert_eq!(process_env(&spec, &[], "h", &own(&["HOSTNAME=removed"])), [""; 0]);
    }

    #[test]
    fn users_are_numbers_in_range_or_names() {
        for good in ["", "0", "1000:1000", "www-data", "a:b", "2147483647", "user.name", "name$"] {
            check_user("user", good).unwrap();
        }
        for bad in
            ["-1", "2147483648", "4294967296", ":", "a:", ":b", "a b", "a\nb", "a:b:c", "+1", "a/b", "0x"]
        {
            let parsed = check_user("user", bad);
            assert_eq!(parsed.is_err(), bad != "0x", "{bad}");
        }
        assert_eq!(numbers("12:34"), (12, 34));
        assert_eq!(numbers("root"), (0, 0));
    }

    #[test]
    fn working_directories_stay_inside() {
        for (dir, clean) in [("/", "/"), ("/a//b/../c/", "/a/c"), ("/../etc", "/etc"), ("/proc", "/proc")] {
            assert_eq!(check_working_dir(dir).unwrap(), clean);
        }
        for bad in [
            "a",
            "",
            "/proc/self/fd/7",
            "/proc/1/root",
            "/proc/thread-self/fd/3",
            "/x/../proc/self/cwd",
            "/dev/fd/7",
            "/a\0b",
        ] {
            assert!(check_working_dir(bad).is_err(), "{bad}");
        }
        let hostile = ImageConfig { working_dir: "/proc/self/fd/7".to_owned(), ..Default::default() };
        assert!(
            working_dir(&ContainerSpec::default(), &hostile)
                .unwrap_err()
                .to_string()
                .starts_with("the image")
        );
    }

    #[test]
    fn stop_signals_come_from_request_then_image() {
        let quit = ImageConfig { stop_signal: "SIGQUIT".to_owned(), ..Default::default() };
        let spec = ContainerSpec { stop_signal: "9".to_owned(), ..Default::default() };
        assert_eq!(stop_signal(&spec, &quit).unwrap(), "SIGKILL");
        assert_eq!(stop_signal(&ContainerSpec::default(), &quit).unwrap(), "SIGQUIT");
        assert_eq!(stop_signal(&ContainerSpec::default(), &ImageConfig::default()).unwrap(), "SIGTERM");
    }
}
