//! How to see whether a container works, from request and image: pure.

use davit_proto::container::{ContainerSpec, HealthCheck};
use davit_proto::task;
use prost_types::Duration;

use super::error::Error;
use super::image::ImageConfig;

/// The shell of an image that names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Docker's shortest time between checks, in nanoseconds.
const SHORTEST: i32 = 1_000_000;

/// The check of a container; none when nobody asks for one, or somebody asks for none.
///
/// # Errors
/// When what is said is no check.
pub fn resolve(spec: &ContainerSpec, image: &ImageConfig) -> Result<Option<task::HealthCheck>, Error> {
    let (none, nothing) = (HealthCheck::default(), HealthCheck::default());
    let asked = spec.health.as_ref().unwrap_or(&none);
    let images = image.health.as_ref().unwrap_or(&nothing);
    check(asked)?;
    // What the request does not say is the image's, word by word.
    let test = if asked.test.is_empty() { &images.test } else { &asked.test };
    let Some(args) = command(test, &image.shell)? else { return Ok(None) };
    let said = |time: &Option<Duration>| time.filter(|time| (time.seconds, time.nanos) != (0, 0));
    let time = |pick: fn(&HealthCheck) -> &Option<Duration>| said(pick(asked)).or_else(|| said(pick(images)));
    Ok(Some(task::HealthCheck {
        args,
        interval: time(|check| &check.interval),
        timeout: time(|check| &check.timeout),
        start_period: time(|check| &check.start_period),
        start_interval: time(|check| &check.start_interval),
        retries: if asked.retries == 0 { images.retries } else { asked.retries },
        ..task::HealthCheck::default()
    }))
}

/// Whether a request's check is one, as far as can be said without the image.
///
/// # Errors
/// When it is not.
pub fn check(health: &HealthCheck) -> Result<(), Error> {
    command(&health.test, &[])?;
    for (field, time, shortest) in [
        ("health.interval", &health.interval, SHORTEST),
        ("health.timeout", &health.timeout, SHORTEST),
        ("health.start_interval", &health.start_interval, SHORTEST),
        ("health.start_period", &health.start_period, 0),
    ] {
        let Some(Duration { seconds, nanos }) = *time else { continue };
        let sane = (0..=i64::from(i32::MAX)).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        if !sane || (seconds == 0 && (1..shortest).contains(&nanos)) {
            return Err(Error::invalid(field, &format!("{seconds}s {nanos}ns"), "from 1 ms to 2147483647 s"));
        }
    }
    Ok(())
}

fn command(test: &[String], shell: &[String]) -> Result<Option<Vec<String>>, Error> {
    let refused = |rule: &str| Error::invalid("health.test", &test.join(" "), rule);
    if test.iter().any(|word| word.contains('\0')) {
        return Err(refused("must not hold a NUL byte"));
    }
    match test.split_first().map(|(kind, rest)| (kind.as_str(), rest)) {
        None => Ok(None),
        Some(("NONE", [])) => Ok(None),
        Some(("CMD", args)) if args.first().is_some_and(|program| !program.is_empty()) => {
            Ok(Some(args.to_vec()))
        }
        Some(("CMD-SHELL", [line])) => {
            let own = SHELL.map(str::to_owned);
            let shell = if shell.is_empty() { &own[..] } else { shell };
            Ok(Some(shell.iter().chain([line]).cloned().collect()))
        }
        Some(_) => Err(refused("must be [\"CMD\", program, ...], [\"CMD-SHELL\", line] or [\"NONE\"]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn health(test: &[&str]) -> HealthCheck {
        HealthCheck { test: words(test), ..HealthCheck::default() }
    }

    fn args(spec: Option<HealthCheck>, image: Option<HealthCheck>, shell: &[&str]) -> Option<Vec<String>> {
        let spec = ContainerSpec { health: spec, ..ContainerSpec::default() };
        let image = ImageConfig { health: image, shell: words(shell), ..ImageConfig::default() };
        resolve(&spec, &image).unwrap().map(|check| check.args)
    }

    #[test]
    fn the_request_goes_before_the_image() {
        let images = || Some(health(&["CMD", "image", "x"]));
        assert_eq!(args(None, None, &[]), None);
        assert_eq!(args(None, images(), &[]), Some(words(&["image", "x"])));
        assert_eq!(args(Some(health(&["NONE"])), images(), &[]), None);
        let line = Some(health(&["CMD-SHELL", "a | b"]));
        assert_eq!(args(line.clone(), images(), &[]), Some(words(&["/bin/sh", "-c", "a | b"])));
        assert_eq!(args(line, None, &["/bin/bash", "-c"]), Some(words(&["/bin/bash", "-c", "a | b"])));
        assert_eq!(args(Some(health(&[])), None, &[]), None);
    }

    #[test]
    fn what_one_does_not_say_the_other_may() {
        let seconds = |seconds| Some(Duration { seconds, nanos: 0 });
        let spec = HealthCheck { interval: seconds(7), ..HealthCheck::default() };
        let spec = ContainerSpec { health: Some(spec), ..ContainerSpec::default() };
        let image =
            HealthCheck { interval: seconds(1), timeout: seconds(2), retries: 9, ..health(&["CMD", "x"]) };
        let image = ImageConfig { health: Some(image), ..ImageConfig::default() };
        let check = resolve(&spec, &image).unwrap().unwrap();
        assert_eq!((check.interval, check.timeout, check.retries), (seconds(7), seconds(2), 9));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            [&["CMD"][..], &["CMD", ""], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["NONE", "x"], &["ls"]]
        {
            assert!(check(&health(bad)).is_err(), "{bad:?}");
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 999_999), (1, 1_000_000_000), (1 << 40, 0)] {
            let interval = Some(Duration { seconds, nanos });
            assert!(check(&HealthCheck { interval, ..HealthCheck::default() }).is_err(), "{seconds} {nanos}");
        }
    }
}
