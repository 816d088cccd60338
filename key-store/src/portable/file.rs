//! Portable files by name: written so that a whole one is there or none, opened with a passphrase that fits.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

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

/// The file has its whole contents, synced and read back, or it is as it was.
pub(super) fn write_file(
    path: &Path,
    replace: bool,
    kind: Kind,
    sealing: &Sealing<'_>,
    watch: &mut Watch<'_>,
    fill: impl FnOnce(&mut ItemWriter<&mut Incoming>, &mut Watch<'_>) -> Result<(), PortableError>,
) -> Result<Summary, PortableError> {
    let mut incoming = Incoming::begin(path, replace)?;
    let (_, written) = write_to(&mut incoming, kind, sealing, |items| fill(items, watch))?;
    let found = incoming.finish(kind, sealing.passphrase, watch)?;
    if found == written { Ok(written) } else { Err(PortableError::Unverified) }
}

/// A portable file on its way to its place, from wherever its bytes come: under another name in the same folder until it is
/// [finished](Self::finish), and then whole. Readable by its owner only. Dropped before, nothing of it is left; a process that dies
/// leaves at most that other file, whose name begins with `.veilcast-`, and the next one begun in that folder removes it.
pub struct Incoming {
    file: File,
    name: tempfile::TempPath,
    path: PathBuf,
    replace: bool,
}

impl Incoming {
    /// Begins a file that is to be at `path`; with `replace` an existing file gives way to it. Of what stands there already only a
    /// regular file is replaced: renaming over a device or a link would take its place, not fill it.
    ///
    /// # Errors
    /// [`PortableError::Exists`], [`PortableError::NotAFile`], [`PortableError::Io`].
    pub fn begin(path: &Path, replace: bool) -> Result<Self, PortableError> {
        match path.symlink_metadata() {
            Ok(there) if !there.is_file() => return Err(PortableError::NotAFile { path: path.to_owned() }),
            Ok(_) if !replace => return Err(PortableError::Exists { path: path.to_owned() }),
            _ => {}
        }
        // In the same folder, so that it can be renamed; mode 0600; removed unless it comes so far.
        let (file, name) = begin_part(folder_of(path)).map_err(|source| io_fault(path, source))?.into_parts();
        Ok(Self { file, name, path: path.to_owned(), replace })
    }

    /// Syncs it, reads it back to its end with the passphrase, and puts it in its place; says what is in it.
    ///
    /// # Errors
    /// [`PortableError::OtherKind`], [`PortableError::Io`], and the errors of [`PortableFile::open`] and [`PortableFile::verify`]; then
    /// what is at the path is as it was.
    pub fn finish(self, kind: Kind, passphrase: &str, watch: &mut Watch<'_>) -> Result<Summary, PortableError> {
        let Self { file, name, path, replace } = self;
        file.sync_all().map_err(|source| io_fault(&path, source))?;
        let mut check = PortableFile::open(&name, passphrase)?;
        check.expect(kind)?;
        let summary = check.verify(watch)?;
        let placed = if replace { name.persist(&path) } else { name.persist_noclobber(&path) };
        match placed {
            Err(fault) if fault.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(PortableError::Exists { path });
            }
            placed => placed.map_err(|fault| io_fault(&path, fault.error))?,
        }
        // Locked until it has its name.
        drop(file);
        files::sync_dir(folder_of(&path)).map_err(|source| io_fault(&path, source))?;
        Ok(summary)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("path", &self.path).finish_non_exhaustive()
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn io_fault(path: &Path, source: io::Error) -> PortableError {
    PortableError::Io { action: format!("write {}", path.display()), source }
}

const PART: (&str, &str) = (".veilcast-", ".part");

/// A file to be renamed once it is whole, locked as long as somebody writes it. Those that nobody does any more go.
fn begin_part(folder: &Path) -> io::Result<NamedTempFile> {
    remove_parts(folder);
    loop {
        let part = tempfile::Builder::new().prefix(PART.0).suffix(PART.1).tempfile_in(folder)?;
        part.as_file().try_lock()?;
        // Between the two somebody else may have taken it for one that is left.
        if part.path().exists() {
            return Ok(part);
        }
    }
}

/// Removes what was left by whoever was interrupted. A part that cannot be removed is in nobody's way.
fn remove_parts(folder: &Path) {
    let is_part = |name: &str| name.starts_with(PART.0) && name.ends_with(PART.1);
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !entry.file_name().to_str().is_some_and(is_part) {
            continue;
        }
        let is_left = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_left {
            let _ = fs::remove_file(entry.path());
        }
    }
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
