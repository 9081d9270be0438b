//! DNS messages, as far as a resolver that forwards must understand them: the question, what the asker can take, and
//! whether an answer belongs to a question. Strict, bounded, and without following compression: the one name that is
//! read stands first, where nothing is before it that it could point to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the longest question that is taken.
pub const MAX_QUERY: usize = 4096;
/// Bytes of an answer by UDP that every asker takes.
const PLAIN: usize = 512;
/// Bytes of the longest answer of ours by UDP.
const MAX_UDP: usize = 4096;
/// Bytes of the longest answer of ours by TCP.
pub const MAX_TCP: usize = 65535;

const HEADER: usize = 12;
/// Bytes of a name on the wire.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;
/// Records beside the question that an asker may send.
const MAX_ADDITIONAL: u16 = 8;
/// Where the question's name is, as answers point to it.
const NAME_POINTER: [u8; 2] = [0xc0, 12];
/// Seconds that an answer of ours may be kept: a container that comes back may have another address.
const TTL: u32 = 5;

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const RCODE: u8 = 0x0f;

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;
const TYPE_OPT: u16 = 41;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// What an address is called.
    Ptr,
    /// Something that containers have none of.
    Other,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Well.
    Good = 0,
    /// The question is none.
    Malformed = 1,
    /// Nobody could say.
    Failed = 2,
    /// There is no such name.
    Absent = 3,
    /// Only questions are answered here.
    NotServed = 4,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An address.
    Address(IpAddr),
    /// A name.
    Called(String),
}

/// Why a message is not worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// It is no question, and an answer would go astray.
    Silence,
    /// This is what the asker is told.
    Answer(Vec<u8>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    bytes: &'a [u8],
    /// Where the question ends.
    end: usize,
    name: Option<String>,
    kind: Kind,
    /// What the asker takes by UDP, where it says so.
    payload: Option<u16>,
}

impl<'a> Query<'a> {
    /// Reads a message that somebody sent us.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unread> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(Unread::Silence) };
        if header[2] & RESPONSE != 0 {
            return Err(Unread::Silence);
        }
        let refuse = |code| Err(Unread::Answer(bare(header, code)));
        if header[2] & OPCODE != 0 {
            return refuse(Code::NotServed);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if bytes.len() > MAX_QUERY || [count(4), count(6), count(8)] != [1, 0, 0] {
            return refuse(Code::Malformed);
        }
        match Self::read_rest(bytes, count(10)) {
            Some(query) => Ok(query),
            None => refuse(Code::Malformed),
        }
    }

    fn read_rest(bytes: &'a [u8], additional: u16) -> Option<Self> {
        let (name, after) = read_name(bytes)?;
        let [a, b, c, d] = *bytes.get(after..)?.first_chunk::<4>()?;
        let (kind, class) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let kind = match (kind, class) {
            (1, CLASS_IN | CLASS_ANY) => Kind::A,
            (28, CLASS_IN | CLASS_ANY) => Kind::Aaaa,
            (12, CLASS_IN | CLASS_ANY) => Kind::Ptr,
            _ => Kind::Other,
        };
        let end = after + 4;
        let payload = read_additional(bytes, end, additional)?;
        Some(Self { bytes, end, name, kind, payload })
    }

    /// The name, in small letters and without the dot at its end; none for one that is no text.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What is asked for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same message with another number.
    pub fn numbered(&self, id: u16) -> Vec<u8> {
        renumbered(self.bytes, id)
    }

    /// Its number.
    pub fn id(&self) -> u16 {
        id_of(self.bytes)
    }

    /// Whether a message answers this question, asked under a number.
    pub fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        let (Some(header), Some(asked)) = (message.first_chunk::<HEADER>(), self.question()) else {
            return false;
        };
        let same = message.get(HEADER..self.end).is_some_and(|answered| answered.eq_ignore_ascii_case(asked));
        id_of(message) == id && header[2] & (RESPONSE | OPCODE) == RESPONSE && header[4..6] == [0, 1] && same
    }

    /// An answer of ours. What there is no room for by UDP is left out, and the asker told to come by TCP.
    pub fn answer(&self, code: Code, records: &[Record], by_tcp: bool) -> Vec<u8> {
        let told = self.payload.map_or(PLAIN, usize::from);
        let limit = if by_tcp { MAX_TCP } else { told.clamp(PLAIN, MAX_UDP) };
        let mut message = self.head(code);
        if matches!(code, Code::Good | Code::Absent) {
            set(&mut message, 2, AUTHORITATIVE);
        }
        let room = limit - if self.payload.is_some() { OPT.len() } else { 0 };
        let mut count: u16 = 0;
        for record in records.iter().filter_map(encode) {
            if message.len() + record.len() > room || count == u16::MAX {
                set(&mut message, 2, TRUNCATED);
                break;
            }
            message.extend(record);
            count += 1;
        }
        put(&mut message, 6, count.to_be_bytes());
        self.end_with_opt(message)
    }

    /// An answer that holds nothing but the advice to ask by TCP.
    pub fn too_long(&self) -> Vec<u8> {
        let mut message = self.head(Code::Good);
        set(&mut message, 2, TRUNCATED);
        self.end_with_opt(message)
    }

    fn question(&self) -> Option<&'a [u8]> {
        self.bytes.get(HEADER..self.end)
    }

    fn head(&self, code: Code) -> Vec<u8> {
        let header = self.bytes.first_chunk::<HEADER>().copied().unwrap_or_default();
        let mut message = bare(&header, code);
        put(&mut message, 4, [0, 1]);
        message.extend_from_slice(self.question().unwrap_or_default());
        message
    }

    fn end_with_opt(&self, mut message: Vec<u8>) -> Vec<u8> {
        if self.payload.is_some() {
            put(&mut message, 10, [0, 1]);
            message.extend(OPT);
        }
        message
    }
}

/// What we say of ourselves to an asker that speaks EDNS: we take as much as a question may have.
const OPT: [u8; 11] = {
    let [high, low] = (MAX_QUERY as u16).to_be_bytes();
    [0, 0, TYPE_OPT as u8, high, low, 0, 0, 0, 0, 0, 0]
};

/// How an answer of somebody else ended, as a number.
pub fn code_of(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |byte| byte & RCODE)
}

/// A message under another number.
pub fn renumbered(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    put(&mut message, 0, id.to_be_bytes());
    message
}

/// The address that a name of the reverse tree stands for.
pub fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = digits.split('.');
        for octet in octets.iter_mut().rev() {
            let label = labels.next()?;
            let plain =
                label.bytes().all(|b| b.is_ascii_digit()) && (label.len() == 1 || !label.starts_with('0'));
            *octet = label.parse().ok().filter(|_| plain)?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut labels = digits.split('.');
    for n in 0..32 {
        let [digit] = *labels.next()?.as_bytes() else { return None };
        bits |= u128::from(char::from(digit).to_digit(16)?) << (4 * n);
    }
    labels.next().is_none().then(|| Ipv6Addr::from(bits).into())
}

/// The name at the beginning of the question, and where it ends.
fn read_name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let mut at = HEADER;
    let mut text = String::new();
    let mut is_text = true;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if at + length - HEADER > MAX_NAME || length > MAX_LABEL {
            return None;
        }
        if length == 0 {
            return Some((is_text.then_some(text), at));
        }
        let label = bytes.get(at..at + length)?;
        at += length;
        is_text &= label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
}

/// Walks over the records after the question. Answers with what the asker takes by UDP, if it says so.
#[expect(clippy::option_option, reason = "no: not well formed; none: it does not say")]
fn read_additional(bytes: &[u8], mut at: usize, count: u16) -> Option<Option<u16>> {
    let mut payload = None;
    if count > MAX_ADDITIONAL {
        return None;
    }
    for _ in 0..count {
        let root = *bytes.get(at)? == 0;
        at = skip_name(bytes, at)?;
        let [a, b, c, d, _, _, _, _, e, f] = *bytes.get(at..)?.first_chunk::<10>()?;
        at = at + 10 + usize::from(u16::from_be_bytes([e, f]));
        if at > bytes.len() {
            return None;
        }
        if u16::from_be_bytes([a, b]) == TYPE_OPT {
            if payload.is_some() || !root {
                return None;
            }
            payload = Some(u16::from_be_bytes([c, d]));
        }
    }
    // Nothing may follow.
    (at == bytes.len()).then_some(payload)
}

/// Where a name ends, which may end by pointing elsewhere.
fn skip_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at - start <= MAX_NAME {
        let length = *bytes.get(at)?;
        at += 1;
        match length {
            0 => return Some(at),
            1..=63 => at += usize::from(length),
            0xc0.. => return Some(at + 1),
            _ => return None,
        }
    }
    None
}

fn bare(header: &[u8; HEADER], code: Code) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    put(&mut message, 0, [header[0], header[1]]);
    put(
        &mut message,
        2,
        [RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED), RECURSION_AVAILABLE | code as u8],
    );
    message
}

fn encode(record: &Record) -> Option<Vec<u8>> {
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(ip)) => (1_u16, ip.octets().to_vec()),
        Record::Address(IpAddr::V6(ip)) => (28, ip.octets().to_vec()),
        Record::Called(name) => (12, encode_name(name)?),
    };
    let mut bytes = NAME_POINTER.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes.extend(TTL.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    bytes.extend(data);
    Some(bytes)
}

/// A name on the wire; none for one that DNS cannot say.
fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    (bytes.len() <= MAX_NAME).then_some(bytes)
}

fn id_of(message: &[u8]) -> u16 {
    message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

fn put(message: &mut [u8], at: usize, value: [u8; 2]) {
    if let Some(slot) = message.get_mut(at..at + 2) {
        slot.copy_from_slice(&value);
    }
}

fn set(message: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = message.get_mut(at) {
        *byte |= bits;
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
