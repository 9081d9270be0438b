//! Messages as bytes: a header, a fixed body, attributes that may hold attributes.

use super::flag;

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// Bytes of an attribute's header.
const ATTRIBUTE: usize = 4;
/// The bit that says that an attribute holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's number.
const NUMBER: u16 = 0x3fff;

/// One message under construction.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of this type with this fixed body.
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        put(&mut bytes, 4, &kind.to_ne_bytes());
        put(&mut bytes, 6, &(flags | flag::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Appends an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, payload: impl AsRef<[u8]>) -> Self {
        self.push(kind, payload.as_ref());
        self
    }

    /// Appends an attribute that holds a text and its NUL.
    #[must_use]
    pub fn with_text(self, kind: u16, text: &str) -> Self {
        let payload = [text.as_bytes(), &[0]].concat();
        self.with(kind, payload)
    }

    /// Appends an attribute that holds what `fill` appends.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.push(kind | NESTED, &[]);
        let mut message = fill(self);
        let length = attribute_length(message.bytes.len() - start);
        put(&mut message.bytes, start, &length.to_ne_bytes());
        message
    }

    /// Appends bytes as they are: the fixed body of a nested message.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Whether a receipt is wanted.
    pub fn wants_receipt(&self) -> bool {
        self.bytes.get(6..8).is_some_and(|f| u16::from_ne_bytes([f[0], f[1]]) & flag::ACK != 0)
    }

    /// The bytes to send, numbered.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a message of ours is short");
        put(&mut self.bytes, 0, &length.to_ne_bytes());
        put(&mut self.bytes, 8, &sequence.to_ne_bytes());
        self.bytes
    }

    fn push(&mut self, kind: u16, payload: &[u8]) {
        let length = attribute_length(ATTRIBUTE + payload.len());
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn attribute_length(length: usize) -> u16 {
    u16::try_from(length).expect("an attribute of ours is far below 64 KiB")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The attributes in some bytes: number and payload of each. What is cut off ends them.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Those of these bytes, after a fixed body of `skip` bytes.
    pub fn after(bytes: &'a [u8], skip: usize) -> Self {
        Self { bytes: bytes.get(skip.next_multiple_of(4)..).unwrap_or(&[]) }
    }

    /// The payload of the first one with this number.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// The attributes inside the first one with this number; none when there is none.
    pub fn inside(&self, kind: u16) -> Attributes<'a> {
        Self { bytes: self.get(kind).unwrap_or(&[]) }
    }

    /// A payload as a text without its NUL.
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// A payload of exactly `N` bytes.
    pub fn array<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        self.get(kind)?.try_into().ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.bytes.first_chunk::<ATTRIBUTE>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NUMBER;
        let payload = self.bytes.get(ATTRIBUTE..length)?;
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, payload))
    }
}

/// One message out of what the kernel sent.
#[derive(Debug)]
pub struct Received<'a> {
    /// Its type.
    pub kind: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages in a datagram. What is cut off ends them.
pub fn split(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER>()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = usize::try_from(u32::from_ne_bytes(word(0))).ok()?;
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        Some(Received { kind, sequence: u32::from_ne_bytes(word(8)), body })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let message = Message::new(16, flag::ACK, &[7; 6])
            .with_text(3, "eth0")
            .nest(18, |m| m.with_text(1, "veth").nest(2, |m| m.raw(&[9; 16]).with(28, 5_u32.to_ne_bytes())));
        assert!(message.wants_receipt());
        let bytes = message.finish(42);
        let received: Vec<_> = split(&bytes).collect();
        assert_eq!((received[0].kind, received[0].sequence, received.len()), (16, 42, 1));
        let attributes = Attributes::after(received[0].body, 6);
        assert_eq!(attributes.text(3), Some("eth0"));
        let link = attributes.inside(18);
        assert_eq!(link.text(1), Some("veth"));
        assert_eq!(Attributes::after(link.get(2).unwrap(), 16).array(28), Some(5_u32.to_ne_bytes()));
        assert!(attributes.inside(99).next().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for received in split(&bytes) {
                let attributes = Attributes::after(received.body, 16);
                let _ = (attributes.text(1), attributes.array::<4>(2), attributes.inside(3).count());
            }
            prop_assert!(Attributes::after(&bytes, 0).count() <= bytes.len() / 4);
        }
    }
}
