//! The entries of a tar stream, read strictly: an archive that two readers would list differently is refused.
//!
//! ustar, GNU (long names, base-256 numbers) and PAX headers are read. Global headers with an effect, entries with data
//! that may have none, and anything after the end of the archive are errors, because there is more than one way to read
//! them. So are sparse entries, unless somebody wants them read ([`crate::sparse`]).

use std::collections::VecDeque;
use std::io::{self, BufRead};

use davit_sys::file::Times;

use super::pax::Records;
use super::sparse::{self, Segment, Sparse};

/// Archives are made of blocks.
pub(crate) const BLOCK: usize = 512;
/// What 11 octal digits hold; only a larger size may differ from what a PAX header says.
pub(crate) const OCTAL_SIZE_MAX: u64 = 0o777_7777_7777;
/// Longest name that a GNU long-name entry may carry.
const LONG_NAME_MAX: u64 = 8192;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The stream broke.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// The stream ended within an entry.
    #[error("archive ends in the middle of an entry")]
    Truncated,
    /// The header's sum is wrong: not a tar archive, or a damaged one.
    #[error("wrong header checksum")]
    Checksum,
    /// The header is of no known format.
    #[error("unknown header format")]
    Format,
    /// A field that should be a number is none, or is out of range.
    #[error("invalid number in the header field {0}")]
    Number(&'static str),
    /// A PAX record is malformed.
    #[error("invalid extended header record {0:?}")]
    Pax(String),
    /// A PAX record comes twice.
    #[error("extended header record {0:?} comes twice")]
    Doubled(String),
    /// A PAX header for all entries sets something.
    #[error("global extended header sets {0:?}")]
    GlobalHeader(String),
    /// Two headers claim to describe one entry.
    #[error("more than one header for the entry's {0}")]
    TwoHeaders(&'static str),
    /// PAX and plain header contradict each other.
    #[error("header says {header} bytes and extended header {extended}")]
    SizeConflict {
        /// The plain header's size.
        header: u64,
        /// The extended header's size.
        extended: u64,
    },
    /// Sparse entries are not read.
    #[error("sparse entries are not supported")]
    Sparse,
    /// The type flag is unknown.
    #[error("unknown entry type {:?}", char::from(*.0))]
    Type(u8),
    /// An entry that is no file has data.
    #[error("entry has {0} bytes of data and is no regular file")]
    Data(u64),
    /// The extended headers are too large.
    #[error("extended headers of more than {0} bytes")]
    HeaderLimit(u64),
    /// Something follows the end.
    #[error("data after the end of the archive")]
    Trailing,
}

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose data follows.
    File,
    /// Another name for an earlier entry.
    Hardlink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry, with what its extended headers said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it makes.
    pub kind: Kind,
    /// Name as the archive has it.
    pub path: Vec<u8>,
    /// Target of a link as the archive has it.
    pub link: Vec<u8>,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data.
    pub size: u64,
    /// Time of last modification.
    pub modified: (i64, u32),
    /// Time of last access, if it is told.
    pub accessed: Option<(i64, u32)>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Xattrs,
}

impl Entry {
    /// The times that its file gets: of one that does not tell when it was read, that of its last modification.
    #[must_use]
    pub fn times(&self) -> Times {
        Times { accessed: self.accessed.unwrap_or(self.modified), modified: self.modified }
    }
}

/// Extended attributes: names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header_limit: u64,
    /// Data of the current entry not yet read.
    data: u64,
    /// Zero bytes that fill the current entry's last block.
    padding: u64,
    /// The name of the entry that is being read, for errors.
    name: Vec<u8>,
    /// Whether sparse entries are read.
    sparse: bool,
    /// Where the current entry is sparse: its holes and what is between them, not yet read.
    segments: VecDeque<Segment>,
}

/// Headers that describe the entry that follows them.
#[derive(Default)]
struct Pending {
    pax: Option<Records>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: u64,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.path.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`, with at most `header_limit` bytes of extended headers for each entry.
    pub fn new(input: R, header_limit: u64) -> Self {
        let name = Vec::new();
        Self { input, header_limit, data: 0, padding: 0, name, sparse: false, segments: VecDeque::new() }
    }

    /// Reads sparse entries too: their holes come as zeros.
    #[must_use]
    pub fn with_sparse(self) -> Self {
        Self { sparse: true, ..self }
    }

    /// Whether what is read begins with the header of an entry.
    pub fn is_header(mut self) -> bool {
        matches!(self.header(), Ok(Some(_)))
    }

    /// The name of the entry that was read last, or the part of it known when reading failed.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The next entry, or `None` at the end, after which the stream has been read to its own end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Problem> {
        self.segments.clear();
        self.skip_rest()?;
        let mut pending = Pending::default();
        loop {
            let Some(header) = self.header()? else {
                return if pending.is_empty() { Ok(None) } else { Err(Problem::Truncated) };
            };
            let size = number(&header[124..136]).ok_or(Problem::Number("size"))?;
            match header[156] {
                b'x' => {
                    let body = self.extension(size, &mut pending)?;
                    if pending.pax.replace(Records::parse(&body)?).is_some() {
                        return Err(Problem::TwoHeaders("attributes"));
                    }
                }
                b'g' => {
                    let body = self.extension(size, &mut pending)?;
                    Records::check_global(&body)?;
                }
                b'L' => {
                    let body = self.long_name(size, &mut pending)?;
                    if pending.path.replace(body).is_some() {
                        return Err(Problem::TwoHeaders("name"));
                    }
                }
                b'K' => {
                    let body = self.long_name(size, &mut pending)?;
                    if pending.link.replace(body).is_some() {
                        return Err(Problem::TwoHeaders("link target"));
                    }
                }
                _ => return self.entry(&header, size, pending).map(Some),
            }
        }
    }

    /// Some of the data of the current entry that was not consumed yet; empty at its end.
    pub fn data(&mut self) -> Result<&[u8], Problem> {
        let mut most = usize::try_from(self.data).unwrap_or(usize::MAX);
        if let Some(segment) = self.segments.front() {
            if segment.hole > 0 {
                return Ok(sparse::zeros(segment.hole));
            }
            most = most.min(usize::try_from(segment.data).unwrap_or(usize::MAX));
        }
        if self.data == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf().map_err(Problem::Read)?;
        if available.is_empty() {
            return Err(Problem::Truncated);
        }
        Ok(&available[..available.len().min(most)])
    }

    /// Marks bytes that [`Reader::data`] gave as read.
    pub fn consume(&mut self, bytes: usize) {
        if let Some(segment) = self.segments.front_mut() {
            let zeros = segment.hole > 0;
            let part = if zeros { &mut segment.hole } else { &mut segment.data };
            *part = part.saturating_sub(bytes as u64);
            while self.segments.front().is_some_and(Segment::is_empty) {
                self.segments.pop_front();
            }
            if zeros {
                return;
            }
        }
        let bytes = bytes.min(usize::try_from(self.data).unwrap_or(usize::MAX));
        self.input.consume(bytes);
        self.data -= bytes as u64;
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, pending: Pending) -> Result<Entry, Problem> {
        let mut pax = pending.pax.unwrap_or_default();
        let mut sparse = std::mem::take(&mut pax.sparse);
        if !self.sparse && (sparse.is_some() || header[156] == b'S') {
            return Err(Problem::Sparse);
        }
        // The plain name of such an entry is one that its writer made up.
        if let Some(name) = sparse.as_mut().and_then(|sparse| sparse.name.take()) {
            pax.path = Some(name);
        }
        self.name = one_name("name", pending.path, pax.path, || header_name(header))?;
        let link = one_name("link target", pending.link, pax.link, || Ok(field(&header[157..257]).to_vec()))?;
        let kind = kind(header[156], &self.name)?;
        let size = match pax.size {
            Some(extended) if extended != size && extended <= OCTAL_SIZE_MAX => {
                return Err(Problem::SizeConflict { header: size, extended });
            }
            Some(extended) => extended,
            None => size,
        };
        if kind != Kind::File && size > 0 {
            return Err(Problem::Data(size));
        }
        let device = |range: std::ops::Range<usize>, what| {
            if !matches!(kind, Kind::Character | Kind::Block) {
                return Ok(0);
            }
            number(&header[range]).and_then(|n| u32::try_from(n).ok()).ok_or(Problem::Number(what))
        };
        let modified = signed(&header[136..148]).ok_or(Problem::Number("mtime"))?;
        let mode = number(&header[100..108]).ok_or(Problem::Number("mode"))?;
        self.set_data(size);
        let map = match (sparse, header[156]) {
            (Some(_), b'S') => return Err(Problem::TwoHeaders("holes")),
            (Some(sparse), _) => Some(self.sparse_body(sparse)?),
            (None, b'S') => Some(self.sparse_header(header, size)?),
            (None, _) => None,
        };
        if map.is_some() && kind != Kind::File {
            return Err(Problem::Sparse);
        }
        let logical = map.as_ref().map_or(size, |map| map.size);
        if let Some(map) = map {
            self.segments = map.segments(self.data)?;
        }
        let entry = Entry {
            kind,
            path: self.name.clone(),
            link,
            mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
            uid: owner(pax.uid, &header[108..116], "uid")?,
            gid: owner(pax.gid, &header[116..124], "gid")?,
            size: logical,
            modified: pax.modified.unwrap_or((modified, 0)),
            accessed: pax.accessed,
            device: (device(329..337, "devmajor")?, device(337..345, "devminor")?),
            xattrs: pax.xattrs,
        };
        Ok(entry)
    }

    /// The map of an entry whose extended header says that it is sparse; the newest form has it before the data.
    fn sparse_body(&mut self, mut sparse: Sparse) -> Result<Sparse, Problem> {
        if !sparse.is_in_data() {
            return Ok(sparse);
        }
        let mut map = sparse::InData::default();
        loop {
            let mut block = [0; BLOCK];
            if self.data < BLOCK as u64 || !self.block(&mut block)? {
                return Err(Problem::Truncated);
            }
            self.data -= BLOCK as u64;
            if map.block(&block)? {
                break;
            }
        }
        sparse.map = map.finish();
        Ok(sparse)
    }

    /// The map of an entry of GNU's own old form: in its header, and in blocks that follow it.
    fn sparse_header(&mut self, header: &[u8; BLOCK], size: u64) -> Result<Sparse, Problem> {
        let mut sparse = Sparse::of(number(&header[483..495]).ok_or(Problem::Number("realsize"))?);
        let mut more = sparse.table(&header[386..482], number)? && header[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(Problem::Truncated);
            }
            more = sparse.table(&block[..504], number)? && block[504] != 0;
        }
        self.set_data(size);
        Ok(sparse)
    }

    /// The next header, or `None` when the archive ended here and nothing follows.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Problem> {
        let mut block = [0u8; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|&b| b == 0) {
            self.read_to_end()?;
            return Ok(None);
        }
        self.name = field(&block[..100]).to_vec();
        check_sum(&block)?;
        check_format(&block)?;
        Ok(Some(block))
    }

    /// Fills one block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Problem> {
        let mut filled = 0;
        while filled < BLOCK {
            let available = self.input.fill_buf().map_err(Problem::Read)?;
            if available.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(Problem::Truncated) };
            }
            let n = available.len().min(BLOCK - filled);
            block[filled..filled + n].copy_from_slice(&available[..n]);
            self.input.consume(n);
            filled += n;
        }
        Ok(true)
    }

    fn extension(&mut self, size: u64, pending: &mut Pending) -> Result<Vec<u8>, Problem> {
        pending.bytes = pending.bytes.saturating_add(size);
        if pending.bytes > self.header_limit {
            return Err(Problem::HeaderLimit(self.header_limit));
        }
        self.set_data(size);
        let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        loop {
            let part = self.data()?;
            if part.is_empty() {
                break;
            }
            let n = part.len();
            body.extend_from_slice(part);
            self.consume(n);
        }
        self.skip_rest()?;
        Ok(body)
    }

    fn long_name(&mut self, size: u64, pending: &mut Pending) -> Result<Vec<u8>, Problem> {
        if size > LONG_NAME_MAX {
            return Err(Problem::HeaderLimit(LONG_NAME_MAX));
        }
        let mut body = self.extension(size, pending)?;
        while body.last() == Some(&0) {
            body.pop();
        }
        if body.is_empty() || body.contains(&0) {
            return Err(Problem::Pax("long name".to_owned()));
        }
        Ok(body)
    }

    fn set_data(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Passes over what is left of the current entry and over its padding.
    fn skip_rest(&mut self) -> Result<(), Problem> {
        loop {
            let n = self.data()?.len();
            if n == 0 {
                break;
            }
            self.consume(n);
        }
        self.data = std::mem::take(&mut self.padding);
        loop {
            let n = self.data()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }

    /// After the first zero block only zeros may come.
    fn read_to_end(&mut self) -> Result<(), Problem> {
        loop {
            let available = self.input.fill_buf().map_err(Problem::Read)?;
            if available.is_empty() {
                return Ok(());
            }
            if available.iter().any(|&b| b != 0) {
                return Err(Problem::Trailing);
            }
            let n = available.len();
            self.input.consume(n);
        }
    }
}

/// A name from one of the three places that may hold it; two at once contradict each other for some reader.
fn one_name(
    what: &'static str,
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    header: impl FnOnce() -> Result<Vec<u8>, Problem>,
) -> Result<Vec<u8>, Problem> {
    match (gnu, pax) {
        (Some(_), Some(_)) => Err(Problem::TwoHeaders(what)),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => header(),
    }
}

fn header_name(header: &[u8; BLOCK]) -> Result<Vec<u8>, Problem> {
    let name = field(&header[..100]);
    // Only POSIX headers have a prefix; GNU and old ones have other things there.
    if &header[257..263] != b"ustar\0" || header[345] == 0 {
        return Ok(name.to_vec());
    }
    // star keeps times in the last bytes of the prefix.
    if &header[508..512] == b"tar\0" && !header[345..476].contains(&0) {
        return Err(Problem::Format);
    }
    let mut whole = field(&header[345..500]).to_vec();
    whole.push(b'/');
    whole.extend_from_slice(name);
    Ok(whole)
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, Problem> {
    match flag {
        // Archives older than POSIX mark a directory by its name only.
        0 if name.ends_with(b"/") => Ok(Kind::Directory),
        b'0' | b'7' if name.ends_with(b"/") => Err(Problem::Type(flag)),
        0 | b'0' | b'7' => Ok(Kind::File),
        b'1' => Ok(Kind::Hardlink),
        b'2' => Ok(Kind::Symlink),
        b'3' => Ok(Kind::Character),
        b'4' => Ok(Kind::Block),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        b'S' => Ok(Kind::File),
        other => Err(Problem::Type(other)),
    }
}

/// `u32::MAX` is no owner: it means "leave as it is" to the kernel.
fn owner(extended: Option<u64>, header: &[u8], what: &'static str) -> Result<u32, Problem> {
    let id = match extended {
        Some(id) => id,
        None => number(header).ok_or(Problem::Number(what))?,
    };
    u32::try_from(id).ok().filter(|&id| id != u32::MAX).ok_or(Problem::Number(what))
}

/// The bytes of a field up to its first NUL.
fn field(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// A number that is not negative.
fn number(bytes: &[u8]) -> Option<u64> {
    u64::try_from(signed(bytes)?).ok()
}

/// A number in octal digits, or in base 256 where the first bit says so.
fn signed(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first()?;
    if first & 0x80 == 0 {
        return octal(bytes);
    }
    let negative = first & 0x40 != 0;
    // Sign-extends the first seven bits.
    let mut value = if negative { i128::from(first) - 0x100 } else { i128::from(first & 0x3f) };
    for &byte in &bytes[1..] {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
    }
    i64::try_from(value).ok()
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let start = bytes.iter().position(|&b| b != b' ').unwrap_or(bytes.len());
    let mut value = 0i64;
    let mut rest = bytes[start..].iter();
    for &byte in rest.by_ref() {
        match byte {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(byte - b'0'))?,
            0 | b' ' => break,
            _ => return None,
        }
    }
    rest.all(|&b| b == 0 || b == b' ').then_some(value)
}

/// The sum is of unsigned bytes; some old writers summed signed ones.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), Problem> {
    let told = octal(&block[148..156]).ok_or(Problem::Checksum)?;
    let blanked = |(i, &b): (usize, &u8)| if (148..156).contains(&i) { b' ' } else { b };
    let unsigned: i64 = block.iter().enumerate().map(|b| i64::from(blanked(b))).sum();
    let signed: i64 = block.iter().enumerate().map(|b| i64::from(blanked(b).cast_signed())).sum();
    if told == unsigned || told == signed { Ok(()) } else { Err(Problem::Checksum) }
}

/// POSIX, GNU, or the headers from before both, which have nothing where the mark is.
fn check_format(block: &[u8; BLOCK]) -> Result<(), Problem> {
    match &block[257..265] {
        b"ustar\x0000" | b"ustar  \0" | b"\0\0\0\0\0\0\0\0" => Ok(()),
        _ => Err(Problem::Format),
    }
}

#[cfg(test)]
mod tests;
