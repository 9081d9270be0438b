//! Signals by name and number, as people write them.

/// The signals with a name of their own, by number.
const NAMES: [(&str, u32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Further names of signals that have one above.
const ALIASES: [(&str, u32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// First real-time signal that a program may use; the C library keeps 32 and 33 for itself.
const REALTIME_FIRST: u32 = 34;
/// Last real-time signal.
const REALTIME_LAST: u32 = 64;

/// The number of a signal given as `15`, `TERM`, `SIGTERM`, `rtmin+3`, in any case. `None` for what is
/// no signal of this kernel.
#[must_use]
pub fn parse(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=REALTIME_LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().chain(&ALIASES).find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign).and_then(|digits| digits.parse::<u32>().ok()),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REALTIME_FIRST.checked_add(offset(rest, '+')?)?
    } else {
        REALTIME_LAST.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (REALTIME_FIRST..=REALTIME_LAST).contains(&number).then_some(number)
}

/// A signal in a sentence: `signal 15 (SIGTERM)`.
#[must_use]
pub fn say(number: u32) -> String {
    let name = name(number);
    if name.starts_with('S') { format!("signal {number} ({name})") } else { format!("signal {number}") }
}

/// The name of a signal: `SIGTERM`; the digits of one that has none.
#[must_use]
pub fn name(number: u32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == REALTIME_FIRST => "SIGRTMIN".to_owned(),
        None if (REALTIME_FIRST..=REALTIME_LAST).contains(&number) => {
            format!("SIGRTMIN+{}", number - REALTIME_FIRST)
        }
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [
            ("15", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("SIGQUIT", 3),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
            ("CLD", 17),
        ] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for bad in
            ["", "0", "65", "-1", "SIG", "TERMX", "RTMIN+31", "RTMAX-31", "RTMIN3", "1 5", "99999999999"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_parses_back() {
        for number in 1..=64 {
            assert_eq!(parse(&name(number)), Some(number), "{}", name(number));
        }
    }
}
