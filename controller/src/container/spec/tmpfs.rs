//! Options of a tmpfs: docker's defaults, and no word that the kernel would understand otherwise.

use super::Error;

/// Words that stand alone.
const FLAGS: [&str; 18] = [
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "diratime",
    "nodiratime",
];
/// What every tmpfs has unless the request says the opposite.
const DEFAULTS: [&str; 3] = ["noexec", "nosuid", "nodev"];

/// The options of one tmpfs.
///
/// # Errors
/// When an option is none of a tmpfs.
pub fn options(wanted: &[String], read_only: bool) -> Result<Vec<String>, Error> {
    let mut options: Vec<String> = DEFAULTS.map(str::to_owned).to_vec();
    for option in wanted {
        check(option)?;
        let (opposite, same) = (opposite(option), name(option));
        options.retain(|kept| kept != &opposite && name(kept) != same);
        options.push(option.clone());
    }
    if read_only {
        options.retain(|kept| kept != "rw" && kept != "ro");
        options.push("ro".to_owned());
    }
    Ok(options)
}

fn name(option: &str) -> &str {
    option.split_once('=').map_or(option, |(name, _)| name)
}

fn opposite(option: &str) -> String {
    match option {
        "rw" => "ro".to_owned(),
        "ro" => "rw".to_owned(),
        "sync" => "async".to_owned(),
        "async" => "sync".to_owned(),
        _ => option.strip_prefix("no").map_or_else(|| format!("no{option}"), str::to_owned),
    }
}

fn check(option: &str) -> Result<(), Error> {
    let good = match option.split_once('=') {
        None => FLAGS.contains(&option),
        Some(("size" | "nr_blocks", value)) => is_size(value),
        Some(("nr_inodes", value)) => is_size(value) && !value.ends_with('%'),
        Some(("mode", value)) => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        Some(("uid" | "gid", value)) => value.parse::<i32>().is_ok_and(|id| id >= 0),
        Some(_) => false,
    };
    if good { Ok(()) } else { Err(Error::invalid("mounts.options", option, "no option of a tmpfs")) }
}

/// Digits, and k, m, g or % behind.
fn is_size(value: &str) -> bool {
    let digits = value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value);
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_until_the_opposite_is_said() {
        let made = |list: &[&str], ro| {
            let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
            options(&list, ro).map(|options| options.join(",")).map_err(|error| error.to_string())
        };
        assert_eq!(made(&[], false).unwrap(), "noexec,nosuid,nodev");
        assert_eq!(
            made(&["exec", "size=64m", "mode=1770"], false).unwrap(),
            "nosuid,nodev,exec,size=64m,mode=1770"
        );
        assert_eq!(made(&["size=1", "size=2", "noexec"], true).unwrap(), "nosuid,nodev,size=2,noexec,ro");
        for bad in [
            "",
            "size=",
            "size=1,mode=2",
            "size=1q",
            "mode=9",
            "mode=77777",
            "uid=-1",
            "remount",
            "huge=always",
            "exec ",
        ] {
            assert!(made(&[bad], false).is_err(), "{bad}");
        }
    }
}
