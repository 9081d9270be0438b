//! STOPSIGNAL's signal: a number, or a name with or without SIG.

/// Linux's names, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Names that some signals have beside.
const OTHERS: [&str; 4] = ["IOT", "CLD", "POLL", "UNUSED"];

/// The lowest and the highest signal without a meaning of its own.
const REAL_TIME: std::ops::RangeInclusive<u32> = 34..=64;

/// Whether there is such a signal.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=*REAL_TIME.end()).contains(&number) && !text.starts_with('+');
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let distance = REAL_TIME.end() - REAL_TIME.start();
    let within = |offset: &str| offset.parse::<u32>().is_ok_and(|offset| offset <= distance);
    match name.strip_prefix("RTMIN").map(|rest| rest.strip_prefix('+').map_or(rest.is_empty(), within)) {
        Some(real) => real,
        None => match name.strip_prefix("RTMAX") {
            Some(rest) => rest.strip_prefix('-').map_or(rest.is_empty(), within),
            None => NAMES.contains(&name) || OTHERS.contains(&name),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn numbers_and_names_are_signals() {
        for signal in ["9", "SIGTERM", "quit", "SIGRTMIN", "RTMIN+30", "SIGRTMAX-1", "64", "CLD"] {
            assert!(is_signal(signal), "{signal}");
        }
        for wrong in ["", "0", "65", "+9", "-9", "SIGFOO", "SIG", "RTMIN+31", "RTMIN3", "RTMAX+1", "9 "] {
            assert!(!is_signal(wrong), "{wrong}");
        }
    }
}
