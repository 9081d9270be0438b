//! `Import`: a tar archive becomes files of a volume.

use std::io::{self, BufRead, BufReader};

use davit_archive::extract::{ExtractError, Limits, Problem};
use davit_archive::{Extracted, Owners, extract, extract_with_top};

use crate::error::Error;
use crate::volume::{Volume, Wanted};
use crate::volumes::Volumes;

/// How compressed archives begin.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Bytes that are read of a compressed archive at once.
const BUFFER: usize = 128 << 10;
/// How far a compressed archive may look back: 2 to this.
const WINDOW: u32 = 27;

impl Volumes {
    /// Extracts an archive into a volume. One that is there gets the files beside its own, over those of the same
    /// name; one that is not is made, and is there when all of the archive is in it.
    pub fn import(&self, wanted: Wanted, input: impl BufRead + Send) -> Result<(Volume, Extracted), Error> {
        let name = wanted.name.clone();
        let known = self.state().records.get(&name).cloned();
        let unpack = |folder, is_new| {
            let failed = |source| Error::Import { name: name.to_string(), source: Box::new(source) };
            let input = plain(input)
                .map_err(|error| failed(ExtractError::Archive(Problem::Io("read its beginning", error))))?;
            let (owners, limits) = (Owners::Kept(None), Limits::default());
            // Whose a new volume is, its archive says; one that is there is somebody's already.
            let extracted = match is_new {
                true => extract_with_top(input, folder, owners, &limits),
                false => extract(input, folder, owners, &limits),
            };
            extracted.map_err(failed)
        };
        let Some(known) = known else { return self.make_filled(wanted, |to| unpack(to, true)) };
        wanted.agrees(&known)?;
        let visit = self.visit(&name)?;
        let folder = davit_sys::file::open_dir(visit.path()).map_err(Error::file("open", visit.path()))?;
        let extracted = unpack(folder, false)?;
        Ok((self.state().volume(&name)?, extracted))
    }
}

/// The archive itself, whatever it is packed in.
fn plain<'a>(mut input: impl BufRead + Send + 'a) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    let begin = input.fill_buf()?;
    if begin.starts_with(GZIP) {
        let inflated = flate2::bufread::MultiGzDecoder::new(input);
        return Ok(Box::new(BufReader::with_capacity(BUFFER, inflated)));
    }
    if begin.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(Box::new(input))
}
