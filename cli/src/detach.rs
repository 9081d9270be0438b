//! The keys that leave a container running: `ctrl-p,ctrl-q` unless `--detach-keys` says otherwise.

use crate::credential::Settings;
use crate::error::Error;
use crate::output;
use crate::spec::Invalid;

/// Docker's keys.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Watches what is typed for the sequence. Keys that begin it are held back until it is clear whether they
/// belong to it.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

/// What became of some typed bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// These are for the container.
    Forward(Vec<u8>),
    /// The sequence is complete; what was typed before it is for the container.
    Detach(Vec<u8>),
}

impl DetachKeys {
    /// The keys of a flag, else those of docker's `config.json`. A file that cannot be read is complained of only.
    pub fn chosen(flag: Option<&str>) -> Result<Self, Error> {
        if flag.is_some() {
            return Ok(Self::parse(flag)?);
        }
        let settings = Settings::if_any().unwrap_or_else(|error| {
            output::complain(&format!("WARNING: {error}"));
            None
        });
        let Some(settings) = settings else { return Ok(Self::parse(None)?) };
        Self::parse(settings.text("detachKeys"))
            .map_err(|wrong| Error::Usage(format!("detachKeys of {}: {wrong}", settings.path().display())))
    }

    /// Reads `ctrl-p,ctrl-q`, `a,b`, `ctrl-@`, …
    pub fn parse(text: Option<&str>) -> Result<Self, Invalid> {
        let keys = match text {
            None | Some("") => DEFAULT.to_vec(),
            Some(text) => text.split(',').map(|key| key_of(key, text)).collect::<Result<_, _>>()?,
        };
        Ok(Self { keys, seen: 0 })
    }

    /// Takes bytes as they were typed.
    pub fn feed(&mut self, typed: &[u8]) -> Typed {
        let mut forward = Vec::with_capacity(typed.len() + self.seen);
        for &byte in typed {
            while self.seen > 0 && self.keys.get(self.seen) != Some(&byte) {
                self.fall_back(&mut forward);
            }
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
            } else {
                forward.push(byte);
            }
            if self.seen == self.keys.len() {
                return Typed::Detach(forward);
            }
        }
        Typed::Forward(forward)
    }

    /// What was held back is not the sequence; perhaps its end begins it anew.
    fn fall_back(&mut self, forward: &mut Vec<u8>) {
        let held = self.keys.get(..self.seen).unwrap_or_default();
        let again = (0..self.seen).rev().find(|&n| held.get(..n) == held.get(self.seen - n..)).unwrap_or(0);
        forward.extend_from_slice(held.get(..self.seen - again).unwrap_or_default());
        self.seen = again;
    }
}

fn key_of(key: &str, whole: &str) -> Result<u8, Invalid> {
    let control = key.strip_prefix("ctrl-").or_else(|| key.strip_prefix("CTRL-"));
    let byte = match (control, key) {
        (Some(letter), _) => match letter.as_bytes() {
            [c @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(c & 0x1f),
            _ => None,
        },
        (None, "DEL") => Some(0x7f),
        (None, _) => match key.as_bytes() {
            [c] if c.is_ascii() => Some(*c),
            _ => None,
        },
    };
    byte.ok_or_else(|| {
        Invalid::new("--detach-keys", whole, format!("{key:?} is neither one character nor ctrl-LETTER"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(DetachKeys::parse(None).unwrap().keys, [0x10, 0x11]);
        assert_eq!(DetachKeys::parse(Some("")).unwrap().keys, [0x10, 0x11]);
        assert_eq!(DetachKeys::parse(Some("ctrl-a,x")).unwrap().keys, [1, b'x']);
        assert_eq!(
            DetachKeys::parse(Some("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_")).unwrap().keys,
            [0, 27, 28, 29, 30, 31]
        );
        assert_eq!(DetachKeys::parse(Some("DEL")).unwrap().keys, [127]);
        for bad in ["ctrl-", "ctrl-1", "ab", ",", "ü", "ctrl-p ctrl-q"] {
            assert!(DetachKeys::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads() {
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.feed(b"ls\x10"), Typed::Forward(b"ls".to_vec()));
        assert_eq!(keys.feed(b"\x11"), Typed::Detach(vec![]));
        let mut keys = DetachKeys::parse(None).unwrap();
        assert_eq!(keys.feed(b"a\x10\x10b"), Typed::Forward(b"a\x10\x10b".to_vec()));
        assert_eq!(keys.feed(b"\x10\x10\x11c"), Typed::Detach(vec![0x10]));
        let mut keys = DetachKeys::parse(Some("a,a,b")).unwrap();
        assert_eq!(keys.feed(b"aaab"), Typed::Detach(b"a".to_vec()));
    }

    proptest! {
        #[test]
        fn nothing_typed_is_lost(parts in proptest::collection::vec(proptest::collection::vec(0_u8..3, 0..5), 0..6)) {
            // Keys from the same small alphabet as the input, so that sequences nearly match all the time.
            let mut keys = DetachKeys { keys: vec![0, 1, 0, 2], seen: 0 };
            let (mut typed, mut got, mut detached) = (Vec::new(), Vec::new(), false);
            for part in parts {
                typed.extend_from_slice(&part);
                match keys.feed(&part) {
                    Typed::Forward(bytes) => got.extend(bytes),
                    Typed::Detach(bytes) => { got.extend(bytes); detached = true; break; }
                }
            }
            let found = typed.windows(4).position(|w| w == [0, 1, 0, 2]);
            prop_assert_eq!(detached, found.is_some());
            match found {
                Some(at) => prop_assert_eq!(&got, &typed[..at]),
                None => prop_assert!(typed.starts_with(&got) && typed.len() - got.len() < 4),
            }
        }
    }
}
