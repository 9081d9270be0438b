//! What one layer may cost. Each limit has a name that its error tells.

/// Limits while a layer is read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the archive after decompression.
    pub bytes: u64,
    /// Decompressed bytes for each compressed one, once `ratio_from` bytes came out.
    pub ratio: u64,
    /// Bytes of output below which no ratio is looked at.
    pub ratio_from: u64,
    /// Bytes of the extended headers of one entry.
    pub header_bytes: u64,
    /// Bytes of the names of directories, which are kept until the end to set their times.
    pub directory_bytes: usize,
    /// Bytes of the names of directories that the archive implies and has no entry for.
    pub implied_bytes: usize,
    /// Base-2 logarithm of the largest window a zstd stream may ask for.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            bytes: 256 << 30,
            ratio: 200,
            ratio_from: 256 << 20,
            header_bytes: 1 << 20,
            directory_bytes: 64 << 20,
            implied_bytes: 1 << 20,
            zstd_window_log: 26,
        }
    }
}
