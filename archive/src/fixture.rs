//! Archives for tests, written block by block so that they can be wrong.

/// A tar stream that grows entry by entry.
#[derive(Debug, Default, Clone)]
pub struct Archive {
    bytes: Vec<u8>,
}

/// One header with everything that tests vary.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    /// Name.
    pub name: &'a str,
    /// Type flag.
    pub flag: u8,
    /// Link's target.
    pub link: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Bytes of data that are told.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: u64,
    /// Major and minor number.
    pub device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            name: "f",
            flag: b'0',
            link: "",
            mode: 0o644,
            owner: (0, 0),
            size: 0,
            modified: 1_600_000_000,
            device: (0, 0),
        }
    }
}

impl Header<'_> {
    /// The header as it is in an archive.
    #[must_use]
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.name.as_bytes());
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, format!("{:07o}\0", self.owner.0).as_bytes());
        put(116, format!("{:07o}\0", self.owner.1).as_bytes());
        put(124, format!("{:011o}\0", self.size).as_bytes());
        put(136, format!("{:011o}\0", self.modified).as_bytes());
        put(156, &[self.flag]);
        put(157, self.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Writes the checksum.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Archive {
    /// Bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An entry whose size is that of its data.
    #[must_use]
    pub fn entry(self, header: &Header<'_>, data: &[u8]) -> Self {
        let header = Header { size: data.len() as u64, ..header.clone() };
        let padding = vec![0; (512 - data.len() % 512) % 512];
        self.raw(&header.block()).raw(data).raw(&padding)
    }

    /// A regular file.
    #[must_use]
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(&Header { name, ..Header::default() }, data)
    }

    /// A directory.
    #[must_use]
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.entry(&Header { name, flag: b'5', mode, ..Header::default() }, b"")
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, link: &str) -> Self {
        self.entry(&Header { name, flag: b'2', link, ..Header::default() }, b"")
    }

    /// Another name for an entry.
    #[must_use]
    pub fn hardlink(self, name: &str, link: &str) -> Self {
        self.entry(&Header { name, flag: b'1', link, ..Header::default() }, b"")
    }

    /// Extended headers for the next entry.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let tail = key.len() + value.len() + 3;
            let mut length = tail + 1;
            while length != tail + length.to_string().len() {
                length = tail + length.to_string().len();
            }
            body.extend(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(&Header { name: "pax", flag: b'x', ..Header::default() }, &body)
    }

    /// The whole archive with its end.
    #[must_use]
    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }

    /// What is there so far, without an end.
    #[must_use]
    pub fn cut(self) -> Vec<u8> {
        self.bytes
    }
}
