//! Portable files by name: written so that a whole one is there or none, opened with a passphrase that fits.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{
    Kind, PortableError, Progress, Sealing, Step, Summary, Watch,
    header::{HEADER_LEN, Header},
    item::{Item, ItemReader, ItemWriter},
    sealed::{SealedReader, SealedWriter},
};
use crate::sled_store::{DataKey, files};

/// Progress is told after so many items.
const TELL_EVERY: u64 = 256;

/// Writes a portable file to `output`; `fill` puts the items.
pub(super) fn write_to<W: Write>(
    mut output: W,
    kind: Kind,
    sealing: &Sealing<'_>,
    fill: impl FnOnce(&mut ItemWriter<W>) -> Result<(), PortableError>,
) -> Result<(W, Summary), PortableError> {
    let (header, key) = Header::make(kind, sealing.passphrase, sealing.cost)?;
    output.write_all(&header.encode()).map_err(PortableError::io("write it"))?;
    let mut items = ItemWriter::new(SealedWriter::new(output, &key, &header.prefix));
    fill(&mut items)?;
    items.finish()
}

/// The file has its whole contents, synced and read back, or it is as it was. Readable by its owner only. Of what stands
/// there already only a regular file is replaced: renaming over a device or a link would take its place, not fill it.
pub(super) fn write_file(
    path: &Path,
    replace: bool,
    kind: Kind,
    sealing: &Sealing<'_>,
    watch: &mut Watch<'_>,
    fill: impl FnOnce(&mut ItemWriter<File>, &mut Watch<'_>) -> Result<(), PortableError>,
) -> Result<Summary, PortableError> {
    let exists = || PortableError::Exists { path: path.to_owned() };
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() => return Err(PortableError::NotAFile { path: path.to_owned() }),
        Ok(_) if !replace => return Err(exists()),
        _ => {}
    }
    let io_fault = |source| PortableError::Io { action: format!("write {}", path.display()), source };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // In the same folder, so that it can be renamed; mode 0600; removed unless it comes so far.
    let (file, name) = tempfile::Builder::new()
        .prefix(".veilcast-")
        .suffix(".part")
        .tempfile_in(folder)
        .map_err(io_fault)?
        .into_parts();
    let (file, written) = write_to(file, kind, sealing, |items| fill(items, watch))?;
    file.sync_all().map_err(io_fault)?;
    drop(file);
    let mut check = PortableFile::open(&name, sealing.passphrase)?;
    if check.verify(watch)? != written {
        return Err(PortableError::Unverified);
    }
    let placed = if replace { name.persist(path) } else { name.persist_noclobber(path) };
    match placed {
        Err(fault) if fault.error.kind() == io::ErrorKind::AlreadyExists => return Err(exists()),
        placed => placed.map_err(|fault| io_fault(fault.error))?,
    }
    files::sync_dir(folder).map_err(io_fault)?;
    Ok(written)
}

/// An open portable file whose head is whole and whose passphrase fits.
pub struct PortableFile<R = File> {
    input: R,
    len: u64,
    kind: Kind,
    prefix: [u8; super::header::PREFIX_LEN],
    key: DataKey,
}

impl PortableFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`PortableError::Io`], otherwise as [`from_reader`](Self::from_reader).
    pub fn open(path: &Path, passphrase: &str) -> Result<Self, PortableError> {
        Self::from_reader(File::open(path).map_err(PortableError::io("open it"))?, passphrase)
    }
}

impl<R: Read + Seek> PortableFile<R> {
    /// Reads the head of `input`, which begins where it stands at zero, and tries the passphrase: takes as long as the file's
    /// cost says, a few seconds and 1 GiB at most.
    ///
    /// # Errors
    /// [`PortableError::NotPortable`], [`PortableError::Damaged`], [`PortableError::Truncated`],
    /// [`PortableError::NewerVersion`], [`PortableError::Cost`], [`PortableError::WrongPassphrase`] or [`PortableError::Io`].
    pub fn from_reader(mut input: R, passphrase: &str) -> Result<Self, PortableError> {
        let mut seek = |to| input.seek(to).map_err(PortableError::io("read it"));
        let len = seek(SeekFrom::End(0))?;
        seek(SeekFrom::Start(0))?;
        let header = Header::read(&mut input)?;
        let key = header.unwrap_with(passphrase)?;
        Ok(Self { input, len, kind: header.kind, prefix: header.prefix, key })
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads it to its end and says what is in it; changes nothing.
    ///
    /// # Errors
    /// [`PortableError::Damaged`], [`PortableError::Truncated`] or [`PortableError::Io`].
    pub fn verify(&mut self, watch: &mut Watch<'_>) -> Result<Summary, PortableError> {
        self.each(Step::Verifying, watch, |_| Ok(()))
    }

    pub(super) fn expect(&self, wanted: Kind) -> Result<(), PortableError> {
        if self.kind == wanted { Ok(()) } else { Err(PortableError::OtherKind { found: self.kind, wanted }) }
    }

    /// Shows every item, from the first. What was shown is what was written, but not all of it until this returns.
    pub(super) fn each(
        &mut self,
        step: Step,
        watch: &mut Watch<'_>,
        mut visit: impl FnMut(Item) -> Result<(), PortableError>,
    ) -> Result<Summary, PortableError> {
        self.input.seek(SeekFrom::Start(HEADER_LEN as u64)).map_err(PortableError::io("read it"))?;
        let mut items = ItemReader::new(SealedReader::new(&mut self.input, &self.key, &self.prefix)?);
        let mut shown = 0;
        while let Some(item) = items.next()? {
            visit(item)?;
            shown += 1;
            if shown % TELL_EVERY == 0 {
                watch(Progress { step, done: HEADER_LEN as u64 + items.opened(), total: self.len });
            }
        }
        let (_, summary) = items.finish()?;
        watch(Progress { step, done: self.len, total: self.len });
        Ok(summary)
    }
}

impl<R> fmt::Debug for PortableFile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortableFile").field("kind", &self.kind).field("len", &self.len).finish_non_exhaustive()
    }
}
