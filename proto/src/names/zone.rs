//! Who is on a network.
//!
//! ```text
//! davit-zone 1
//! network web
//! subnet 172.18.0.0/16
//!
//! a 172.18.0.2 shop
//! c 3f…(64 digits) 172.18.0.2
//! n 3f0d1c2b4a59 172.18.0.2
//! n shop 172.18.0.2
//! ```
//!
//! After the empty line: what an address is called, which addresses a container has, which addresses a name has. A
//! name that several containers share has a line for each.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

use super::{MAX_ADDRESSES, MAX_LINE, NamesError};
use crate::id::{ContainerId, Name};

const MARK: &[u8] = b"davit-zone 1";
/// Bytes of the longest head, its empty line among them.
const MAX_HEAD: usize = 4096;
/// A part of a zone that is read at once and not halved any more.
const SPAN: u64 = 2048;
/// Lines of one key that are looked at.
const MAX_LINES: usize = 4096;

/// An address range: whose addresses are never asked for outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its first address, or any in it.
    pub address: IpAddr,
    /// Bits that its addresses have in common.
    pub prefix: u8,
}

impl Subnet {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (a, b, bits) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let shift = u32::from(u8::saturating_sub(bits, self.prefix));
        (a ^ b).checked_shr(shift).unwrap_or(0) == 0
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = NamesError;

    fn from_str(text: &str) -> Result<Self, NamesError> {
        let bad = || NamesError::line(text.as_bytes(), "must be an address range");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self { address, prefix })
    }
}

/// What a zone says of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, which names of its containers may end with.
    pub network: Name,
    /// Its ranges; at most 32 are written.
    pub subnets: Vec<Subnet>,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The container.
    pub container: ContainerId,
    /// Its addresses there; those above [`MAX_ADDRESSES`] are left out.
    pub addresses: Vec<IpAddr>,
    /// Its names; the first is what its addresses are called. Its short id is one more, always.
    pub names: Vec<Name>,
}

impl Entry {
    /// Its lines, to be sorted among those of the others. None without an address.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Some(addresses) = self.addresses.get(..self.addresses.len().min(MAX_ADDRESSES)) else {
            return Vec::new();
        };
        if addresses.is_empty() {
            return Vec::new();
        }
        let short = self.container.short();
        let small = |name: &Name| name.as_str().to_ascii_lowercase();
        let mut names: Vec<String> = self.names.iter().map(small).collect();
        let called = names.first().map_or(short, String::as_str).to_owned();
        names.push(short.to_owned());
        names.sort_unstable();
        names.dedup();
        let with = |key: char, what: &str| {
            addresses.iter().fold(format!("{key} {what}"), |mut line, address| {
                write!(line, " {address}").expect("writing to a string cannot fail");
                line
            })
        };
        let mut lines: Vec<String> =
            addresses.iter().map(|address| format!("a {address} {called}")).collect();
        lines.push(with('c', self.container.as_str()));
        lines.extend(names.iter().map(|name| with('n', name)));
        lines
    }
}

/// A zone as a file; `lines` are those of its entries, sorted by their bytes.
pub fn render<'a>(header: &Header, lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = format!("{}\nnetwork {}\n", String::from_utf8_lossy(MARK), header.network);
    for subnet in header.subnets.iter().take(32) {
        writeln!(text, "subnet {subnet}").expect("writing to a string cannot fail");
    }
    text.push('\n');
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// A line of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What an address is called.
    Address(IpAddr, Name),
    /// Where a container is.
    Container(ContainerId, Vec<IpAddr>),
    /// Where a name is.
    Name(Name, Vec<IpAddr>),
}

impl FromStr for Line {
    type Err = NamesError;

    fn from_str(text: &str) -> Result<Self, NamesError> {
        let bad = |rule| NamesError::line(text.as_bytes(), rule);
        let mut words = text.split(' ');
        let (key, what) = (words.next(), words.next().ok_or_else(|| bad("must have a key"))?);
        if key == Some("a") {
            let address = what.parse().map_err(|_| bad("must begin with an address"))?;
            let name = words.next().and_then(|name| name.parse().ok());
            return match (name, words.next()) {
                (Some(name), None) => Ok(Self::Address(address, name)),
                _ => Err(bad("must end with a name")),
            };
        }
        let mut addresses = Vec::new();
        for word in words {
            if addresses.len() >= MAX_ADDRESSES {
                return Err(bad("has too many addresses"));
            }
            addresses.push(word.parse().map_err(|_| bad("must end with addresses"))?);
        }
        match key {
            Some("c") => {
                Ok(Self::Container(what.parse().map_err(|_| bad("must name a container"))?, addresses))
            }
            Some("n") => Ok(Self::Name(what.parse().map_err(|_| bad("must have a name"))?, addresses)),
            _ => Err(bad("is not known")),
        }
    }
}

/// A whole zone, from its file.
///
/// # Errors
/// When it is no zone of this version.
pub fn parse(text: &str) -> Result<(Header, Vec<Line>), NamesError> {
    let (header, body) = read_header(text.as_bytes())?;
    let body = text.get(body..).unwrap_or_default();
    let lines = body.lines().map(str::parse).collect::<Result<_, _>>()?;
    Ok((header, lines))
}

/// The header at the beginning of some bytes, and where it ends.
fn read_header(bytes: &[u8]) -> Result<(Header, usize), NamesError> {
    let (mut network, mut subnets) = (None, Vec::new());
    let mut at = 0;
    let mut marked = false;
    while let Some(length) =
        bytes.get(at..).and_then(|rest| rest.iter().take(MAX_HEAD).position(|b| *b == b'\n'))
    {
        let line = bytes.get(at..at + length).unwrap_or_default();
        at += length + 1;
        if at > MAX_HEAD {
            break;
        }
        if !marked {
            if line != MARK {
                return Err(NamesError::Mark("zone"));
            }
            marked = true;
            continue;
        }
        let bad = |rule| NamesError::line(line, rule);
        let text = std::str::from_utf8(line).map_err(|_| bad("must be text"))?;
        match text.split_once(' ') {
            None if text.is_empty() => {
                let network = network.ok_or_else(|| bad("comes before the network's name"))?;
                return Ok((Header { network, subnets }, at));
            }
            Some(("network", name)) => {
                network = Some(name.parse().map_err(|_| bad("must name the network"))?);
            }
            Some(("subnet", subnet)) => subnets.push(subnet.parse()?),
            _ => return Err(bad("is not known")),
        }
    }
    Err(NamesError::Mark("zone"))
}

/// What a zone is read from.
pub trait Source {
    /// Bytes of it.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn length(&self) -> io::Result<u64>;
    /// Reads from a place on, as much as there is room for; less only at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while let Some(room) = into.get_mut(read..).filter(|room| !room.is_empty()) {
            match std::os::unix::fs::FileExt::read_at(self, room, at.saturating_add(read as u64))? {
                0 => break,
                n => read += n,
            }
        }
        Ok(read)
    }
}

impl Source for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let length = from.len().min(into.len());
        into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(length)
    }
}

/// A zone that is asked, and not read as a whole.
#[derive(Debug)]
pub struct Reader<'a, S: ?Sized> {
    source: &'a S,
    header: Header,
    body: u64,
    end: u64,
}

impl<'a, S: Source + ?Sized> Reader<'a, S> {
    /// Reads the head.
    ///
    /// # Errors
    /// When it cannot be read, or is no zone.
    pub fn open(source: &'a S) -> Result<Self, NamesError> {
        let mut head = [0; MAX_HEAD];
        let read = source.read_at(0, &mut head)?;
        let (header, body) = read_header(head.get(..read).unwrap_or_default())?;
        Ok(Self { source, header, body: body as u64, end: source.length()? })
    }

    /// What it says of its network.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The addresses of a name, in small letters; none when nobody has that name.
    ///
    /// # Errors
    /// When it cannot be read, or its lines are none.
    pub fn name(&self, name: &str) -> Result<Option<Vec<IpAddr>>, NamesError> {
        self.addresses(&format!("n {name} "))
    }

    /// The addresses of a container; none when it is not here.
    ///
    /// # Errors
    /// As [`Reader::name`].
    pub fn container(&self, container: &ContainerId) -> Result<Option<Vec<IpAddr>>, NamesError> {
        self.addresses(&format!("c {container} "))
    }

    /// What an address is called.
    ///
    /// # Errors
    /// As [`Reader::name`].
    pub fn called(&self, address: IpAddr) -> Result<Option<Name>, NamesError> {
        let mut called = None;
        self.find(&format!("a {address} "), |line| {
            if let (Line::Address(_, name), None) = (line, &called) {
                called = Some(name);
            }
        })?;
        Ok(called)
    }

    fn addresses(&self, prefix: &str) -> Result<Option<Vec<IpAddr>>, NamesError> {
        let mut all: Option<Vec<IpAddr>> = None;
        self.find(prefix, |line| {
            if let Line::Name(_, addresses) | Line::Container(_, addresses) = line {
                all.get_or_insert_default().extend(addresses);
            }
        })?;
        Ok(all)
    }

    /// Shows the lines that begin with a text to `visit`.
    fn find(&self, prefix: &str, mut visit: impl FnMut(Line)) -> Result<(), NamesError> {
        let mut at = self.near(prefix.as_bytes())?;
        let mut room = [0; SPAN as usize];
        let mut visited = 0;
        while at < self.end {
            let read = self.source.read_at(at, &mut room)?;
            let part = room.get(..read).unwrap_or_default();
            let Some(whole) = part.iter().rposition(|b| *b == b'\n') else {
                return Err(NamesError::line(part, "has no end"));
            };
            for line in part.get(..whole).unwrap_or_default().split(|b| *b == b'\n') {
                if line.starts_with(prefix.as_bytes()) {
                    let text = std::str::from_utf8(line);
                    visit(text.map_err(|_| NamesError::line(line, "must be text"))?.parse()?);
                    visited += 1;
                } else if line > prefix.as_bytes() || visited >= MAX_LINES {
                    return Ok(());
                }
            }
            at += whole as u64 + 1;
        }
        Ok(())
    }

    /// The beginning of a line that is not after the first one with a prefix, and near it.
    fn near(&self, prefix: &[u8]) -> Result<u64, NamesError> {
        let (mut low, mut high) = (self.body, self.end);
        let mut room = [0; 2 * MAX_LINE];
        while high.saturating_sub(low) > SPAN {
            let middle = low + (high - low) / 2;
            // From the byte before, for a line may begin right here.
            let from = middle - 1;
            let read = self.source.read_at(from, &mut room)?;
            let part = room.get(..read).unwrap_or_default();
            let mut ends = part.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(n, _)| n);
            let (Some(before), end) = (ends.next(), ends.next()) else {
                return Err(NamesError::line(part, "is too long"));
            };
            let start = from + before as u64 + 1;
            let Some(end) = end else {
                if start < high && read == room.len() {
                    return Err(NamesError::line(part, "is too long"));
                }
                high = middle;
                continue;
            };
            let line = part.get(before + 1..end).unwrap_or_default();
            if start < high && line < prefix {
                low = from + end as u64 + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn header() -> Header {
        Header {
            network: "web".parse().unwrap(),
            subnets: vec!["172.18.0.0/16".parse().unwrap(), "fd00:18::/64".parse().unwrap()],
        }
    }

    fn entry(n: u16, names: &[&str]) -> Entry {
        let [high, low] = n.to_be_bytes();
        Entry {
            container: format!("{n:04x}").repeat(16).parse().unwrap(),
            addresses: vec![[172, 18, high, low].into(), format!("fd00:18::{n:x}").parse().unwrap()],
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
        }
    }

    fn zone(entries: &[Entry]) -> String {
        let lines: BTreeSet<String> = entries.iter().flat_map(Entry::lines).collect();
        render(&header(), lines.iter().map(String::as_str))
    }

    #[test]
    fn the_text_is_a_promise() {
        let text = zone(&[entry(2, &["Shop", "all"]), entry(3, &["all"])]);
        let (two, three) = ("0002".repeat(16), "0003".repeat(16));
        let expected = format!(
            "davit-zone 1\nnetwork web\nsubnet 172.18.0.0/16\nsubnet fd00:18::/64\n\n\
             a 172.18.0.2 shop\na 172.18.0.3 all\na fd00:18::2 shop\na fd00:18::3 all\n\
             c {two} 172.18.0.2 fd00:18::2\nc {three} 172.18.0.3 fd00:18::3\n\
             n 000200020002 172.18.0.2 fd00:18::2\nn 000300030003 172.18.0.3 fd00:18::3\n\
             n all 172.18.0.2 fd00:18::2\nn all 172.18.0.3 fd00:18::3\nn shop 172.18.0.2 fd00:18::2\n"
        );
        assert_eq!(text, expected);
        let (head, lines) = parse(&text).unwrap();
        assert_eq!((head, lines.len()), (header(), 11));
        assert!(entry(1, &["x"]).lines().iter().all(|line| line.len() < MAX_LINE));
        assert_eq!(Entry { addresses: vec![], ..entry(1, &["x"]) }.lines(), [""; 0]);
    }

    #[test]
    fn every_name_is_found_in_a_large_zone_and_no_other() {
        let names: Vec<String> = (0..2000).map(|n| format!("box-{n}")).collect();
        let entries: Vec<Entry> =
            names.iter().zip(2..).map(|(name, n)| entry(n, &[name, "everybody"])).collect();
        let text = zone(&entries);
        let reader = Reader::open(text.as_bytes()).unwrap();
        assert_eq!(reader.header(), &header());
        for (entry, name) in entries.iter().zip(&names) {
            assert_eq!(reader.name(name).unwrap().as_ref(), Some(&entry.addresses), "{name}");
            assert_eq!(reader.name(entry.container.short()).unwrap().as_ref(), Some(&entry.addresses));
            assert_eq!(reader.container(&entry.container).unwrap().as_ref(), Some(&entry.addresses));
            assert_eq!(reader.called(entry.addresses[0]).unwrap().unwrap().as_str(), name);
            assert_eq!(reader.called(entry.addresses[1]).unwrap().unwrap().as_str(), name);
        }
        assert_eq!(reader.name("everybody").unwrap().unwrap().len(), 4000);
        for absent in ["", "a", "box-", "box-2000", "zzz", "box-1 172.18.0.1", "box-1\n"] {
            assert_eq!(reader.name(absent).unwrap(), None, "{absent:?}");
        }
        assert_eq!(reader.called("10.0.0.1".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn an_empty_zone_has_no_names() {
        let text = zone(&[]);
        let reader = Reader::open(text.as_bytes()).unwrap();
        assert_eq!(reader.name("web").unwrap(), None);
        for bad in
            ["", "davit-zone 2\n\n", "davit-zone 1\n\n", "davit-zone 1\nnetwork web\n", "davit-zone 1\nx\n\n"]
        {
            assert!(Reader::open(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ranges_contain_their_own() {
        let within = |range: &str, ip: &str| range.parse::<Subnet>().unwrap().contains(ip.parse().unwrap());
        assert!(within("172.18.0.0/16", "172.18.255.1") && !within("172.18.0.0/16", "172.19.0.1"));
        assert!(within("0.0.0.0/0", "1.2.3.4") && !within("0.0.0.0/0", "::1"));
        assert!(within("fd00::/64", "fd00::7") && !within("fd00::/64", "fd00:0:0:1::7"));
        assert!(within("10.0.0.1/32", "10.0.0.1") && !within("10.0.0.1/32", "10.0.0.2"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_found(names in prop::collection::btree_set("[a-z0-9][a-z0-9_.-]{0,30}", 1..60)) {
            let entries: Vec<Entry> = names.iter().zip(2..).map(|(name, n)| entry(n, &[name])).collect();
            let text = zone(&entries);
            let reader = Reader::open(text.as_bytes()).unwrap();
            for (entry, name) in entries.iter().zip(&names) {
                // A name may be another one's short id.
                prop_assert!(reader.name(name).unwrap().unwrap().contains(&entry.addresses[0]));
            }
            prop_assert_eq!(parse(&text).unwrap().1.len(), text.lines().count() - 5);
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_hang(tail in prop::collection::vec(any::<u8>(), 0..6000), name in "[a-z]{0,9}") {
            let mut bytes = b"davit-zone 1\nnetwork web\n\n".to_vec();
            bytes.extend(&tail);
            for bytes in [bytes.as_slice(), tail.as_slice()] {
                let Ok(reader) = Reader::open(bytes) else { continue };
                let _ = (reader.name(&name), reader.called([10, 0, 0, 1].into()));
            }
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
