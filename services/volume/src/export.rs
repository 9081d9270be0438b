//! `Export`: all files of a volume become one tar archive.

use std::io::Write;

use davit_archive::write::Writer;
use davit_archive::{PackError, Source, pack};
use davit_proto::id::Name;

use crate::error::Error;
use crate::volumes::Volumes;

impl Volumes {
    /// Writes a volume's files as an archive. Who changes them meanwhile changes what is in it, and no more.
    pub fn export(&self, name: &Name, output: impl Write) -> Result<(), Error> {
        let visit = self.visit(name)?;
        let failed = |source| Error::Export { name: name.to_string(), source: Box::new(source) };
        let handle = davit_sys::file::open_dir(visit.path()).map_err(Error::file("open", visit.path()))?;
        let mut writer = Writer::new(output);
        pack(Source { handle, name: b".".to_vec(), skipped_dev: None }, None, &mut writer).map_err(failed)?;
        writer.end().map_err(|error| failed(PackError::Write(error)))
    }
}
