//! PAX extended headers: `length key=value\n` records, read without tolerance, and written.

use super::sparse::{self, Sparse};
use super::tar::Problem;

/// Prefix of the keys that carry extended attributes.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the extended header of one entry says, as far as it concerns us.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub modified: Option<(i64, u32)>,
    pub accessed: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

impl Records {
    /// Reads the records of one entry.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Problem> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes)?;
            records.take(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    /// Checks a header for the rest of the archive: readers disagree about what it does, so it may say nothing that
    /// has an effect.
    pub fn check_global(mut bytes: &[u8]) -> Result<(), Problem> {
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes)?;
            let mut records = Self::default();
            records.take(key, value)?;
            if records.has_effect() {
                return Err(Problem::GlobalHeader(lossy(key)));
            }
            bytes = rest;
        }
        Ok(())
    }

    fn has_effect(&self) -> bool {
        self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.uid.is_some()
            || self.gid.is_some()
            || self.modified.is_some()
            || self.accessed.is_some()
            || !self.xattrs.is_empty()
            || self.sparse.is_some()
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => once(&mut self.path, key, text(key, value)?),
            b"linkpath" => once(&mut self.link, key, text(key, value)?),
            b"size" => once(&mut self.size, key, decimal(key, value)?),
            b"uid" => once(&mut self.uid, key, decimal(key, value)?),
            b"gid" => once(&mut self.gid, key, decimal(key, value)?),
            b"mtime" => once(&mut self.modified, key, time(key, value)?),
            b"atime" => once(&mut self.accessed, key, time(key, value)?),
            b"SCHILY.realsize" => Err(Problem::Sparse),
            _ if key.starts_with(sparse::KEYS) => {
                self.sparse.get_or_insert_default().record(&key[sparse::KEYS.len()..], value)
            }
            _ => match key.strip_prefix(XATTR) {
                Some(name) => self.xattr(key, name, value),
                None => Ok(()),
            },
        }
    }

    fn xattr(&mut self, key: &[u8], name: &[u8], value: &[u8]) -> Result<(), Problem> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(Problem::Pax(lossy(key)));
        }
        if self.xattrs.iter().any(|(known, _)| known == name) {
            return Err(Problem::Doubled(lossy(key)));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Two values for one key are read differently by different readers.
fn once<T>(slot: &mut Option<T>, key: &[u8], value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(Problem::Doubled(lossy(key)));
    }
    Ok(())
}

/// A record's key, its value, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits off the first record.
fn split_record(bytes: &[u8]) -> Result<Split<'_>, Problem> {
    let bad = || Problem::Pax(lossy(&bytes[..bytes.len().min(40)]));
    let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(bad)?;
    let length = usize::try_from(digits(&bytes[..space]).ok_or_else(bad)?).map_err(|_| bad())?;
    if length > bytes.len() || length < space + 2 {
        return Err(bad());
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(bad)?;
    let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
    if equals == 0 {
        return Err(bad());
    }
    Ok((&record[..equals], &record[equals + 1..], rest))
}

fn text(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Problem> {
    // An empty value takes an earlier one back for some readers and is an empty name for others.
    if value.is_empty() || value.contains(&0) {
        return Err(Problem::Pax(lossy(key)));
    }
    Ok(value.to_vec())
}

fn decimal(key: &[u8], value: &[u8]) -> Result<u64, Problem> {
    digits(value).ok_or_else(|| Problem::Pax(lossy(key)))
}

/// A plain decimal number, without sign and blanks.
pub(super) fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Seconds since 1970 with an optional sign and fraction; the fraction counts away from the past, as POSIX says.
fn time(key: &[u8], value: &[u8]) -> Result<(i64, u32), Problem> {
    parse_time(value).ok_or_else(|| Problem::Pax(lossy(key)))
}

fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    let seconds = i64::try_from(digits(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanos = 0u32;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |b| u32::from(b - b'0'));
        nanos = nanos * 10 + digit;
    }
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some(((-seconds).checked_sub(1)?, 1_000_000_000 - nanos)),
    }
}

/// Adds a record. Its length counts its own digits.
pub(crate) fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds since 1970 with a fraction where there is one.
pub(crate) fn time_text((seconds, nanoseconds): (i64, u32)) -> String {
    // In one number, for the sign counts for both parts.
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, all) = (if all < 0 { "-" } else { "" }, all.unsigned_abs());
    let (whole, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_owned()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        format!("{length}{body}").into_bytes()
    }

    #[test]
    fn reads_what_it_knows_and_leaves_the_rest() {
        let mut bytes = record("path", "a/b=c");
        bytes.extend(record("mtime", "12.5"));
        bytes.extend(record("comment", "hello"));
        bytes.extend(record("SCHILY.xattr.user.a", "x=\ny"));
        let records = Records::parse(&bytes).unwrap();
        assert_eq!(records.path.unwrap(), b"a/b=c");
        assert_eq!(records.modified, Some((12, 500_000_000)));
        assert_eq!(records.xattrs, vec![(b"user.a".to_vec(), b"x=\ny".to_vec())]);
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        let mut doubled = record("path", "a");
        doubled.extend(record("path", "b"));
        let sparse = record("GNU.sparse.offset", "1");
        let bad: [&[u8]; 8] = [
            &doubled,
            &sparse,
            b"9 path=\n",
            b"11 path=a\0b\n",
            b"99 path=a\n",
            b"10 path=ab",
            b"x path=a\n",
            b"12 size=-12\n",
        ];
        for bytes in bad {
            assert!(Records::parse(bytes).is_err(), "{:?} was accepted", lossy(bytes));
        }
        assert!(Records::check_global(&record("comment", "0123")).is_ok());
        assert!(Records::check_global(&record("path", "x")).is_err());
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for at in [(0, 0), (12, 500_000_000), (-2, 750_000_000), (-1, 999_999_999), (-3, 0), (i64::MAX, 1)] {
            assert_eq!(parse_time(time_text(at).as_bytes()), Some(at), "{}", time_text(at));
        }
    }

    #[test]
    fn times_before_1970_have_positive_nanoseconds() {
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"-3"), Some((-3, 0)));
        assert_eq!(parse_time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(parse_time(b"1."), Some((1, 0)));
        for bad in [&b""[..], b".5", b"1.x", b"--1", b"99999999999999999999"] {
            assert_eq!(parse_time(bad), None);
        }
    }
}
