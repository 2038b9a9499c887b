//! A storage that encrypts contents and names.
//!
//! `docs/format/disk.md`, "Encryption", has the layout. Contents and trees are files of sealed sectors, since they
//! are written in any order; a sector that a crash tore reads as damaged, which costs what every damaged part
//! costs: it is found by the hashes and fetched or made again. A journal is a file of sealed pieces, one for each
//! write, chained, so that a crash costs the last one only.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
};

use idem_vault::{
    Cipher, FileId, Names, Purpose, SEAL_BYTES, SEALED_SECTOR_BYTES, SECTOR_BYTES, Seal, Vault,
    VaultError,
};

use crate::{
    storage::{BlobFile, BlobStorage, FileEntry},
    store::end,
};

const MAGIC: &[u8; 8] = b"idemblbs";
const VERSION: u8 = 1;
/// Magic, version, kind, six zeros, file id.
const HEAD_BYTES: usize = 32;
const HEAD: u64 = HEAD_BYTES as u64;

const SECTOR: u64 = SECTOR_BYTES as u64;
const SEALED: u64 = SEALED_SECTOR_BYTES as u64;
const SEAL: u64 = SEAL_BYTES as u64;

/// Before the seal of a piece: its length, and where it belongs in the file.
const PIECE_HEAD_BYTES: usize = 4 + 8;

/// How the files begin that are about to take the place of others.
const DRAFT: &str = "rekey-";

/// Bytes that are sealed anew at once.
const COPY_BYTES: usize = 64 * SECTOR_BYTES;

/// Encrypts what another storage keeps: contents, and the names, which are hashes of contents.
///
/// How many files there are, how long they are and when they were used is told by the other storage all the same.
#[derive(Debug, Clone)]
pub struct SealedStorage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn BlobStorage>,
    cipher: Cipher,
    names: Names,
    /// Files in use, by their names in the clear. Held while names change.
    open: Mutex<HashMap<String, Weak<SealedFile>>>,
}

impl SealedStorage {
    /// Wraps `inner` with the keys of `vault`.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn new(inner: Arc<dyn BlobStorage>, vault: &Vault) -> Result<Self, VaultError> {
        Ok(Self {
            shared: Arc::new(Shared {
                inner,
                cipher: vault.cipher(Purpose::Blobs)?,
                names: vault.names()?,
                open: Mutex::default(),
            }),
        })
    }

    fn open_files(&self) -> MutexGuard<'_, HashMap<String, Weak<SealedFile>>> {
        let open = self.shared.open.lock();
        open.unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a file on disk, under whichever key it is.
    fn find<T>(&self, name: &str, mut act: impl FnMut(&str) -> io::Result<T>) -> io::Result<T> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for concealed in self.shared.names.conceal_all(name) {
            result = act(&in_folder(&concealed));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return result,
            }
        }
        result
    }

    /// The files that are under a key that does not seal any more, by their names in the clear.
    ///
    /// # Errors
    /// The storage's error.
    pub fn stale_files(&self) -> io::Result<Vec<String>> {
        let current = self.shared.names.current_key();
        let mut stale = Vec::new();
        for entry in self.shared.inner.list()? {
            if let Some((key, name)) = self.reveal(&entry.name)
                && key != current
            {
                stale.push(name);
            }
        }
        Ok(stale)
    }

    fn reveal(&self, on_disk: &str) -> Option<(u32, String)> {
        let (_, concealed) = on_disk.split_once('/')?;
        let found = self.shared.names.reveal(concealed)?;
        (in_folder(concealed) == on_disk).then_some(found)
    }

    /// Seals a file anew under the key that seals now, as a copy that takes its place. Whoever uses the file
    /// waits meanwhile. A file that is not there any more is none.
    ///
    /// # Errors
    /// The storage's error.
    pub fn rekey(&self, name: &str) -> io::Result<()> {
        let file = match self.open_sealed(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut body = file.body.write().unwrap_or_else(PoisonError::into_inner);
        let draft = format!(
            "{DRAFT}{}",
            self.shared.names.conceal(name).get(..16).unwrap_or("0")
        );
        let copy = self.shared.inner.create(&draft)?;
        let fresh = body.copy_to(copy, &self.shared.cipher)?;
        let mut open = self.open_files();
        let current = in_folder(&self.shared.names.conceal(name));
        let is_there = |it: &Weak<SealedFile>| std::ptr::eq(it.as_ptr(), Arc::as_ptr(&file));
        if !open.get(name).is_some_and(is_there) {
            // Renamed or deleted meanwhile.
            open.retain(|_, file| file.strong_count() > 0);
            drop(open);
            return self.shared.inner.delete(&draft);
        }
        self.shared.inner.rename(&draft, &current)?;
        for older in self.shared.names.conceal_all(name).into_iter().skip(1) {
            match self.shared.inner.delete(&in_folder(&older)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        *body = fresh;
        Ok(())
    }

    fn open_sealed(&self, name: &str) -> io::Result<Arc<SealedFile>> {
        let mut open = self.open_files();
        if let Some(file) = open.get(name).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let inner = self.find(name, |on_disk| self.shared.inner.open(on_disk))?;
        let body = Body::open(inner, &self.shared.cipher)?;
        Ok(self.register(&mut open, name, body))
    }

    fn register(
        &self,
        open: &mut HashMap<String, Weak<SealedFile>>,
        name: &str,
        body: Body,
    ) -> Arc<SealedFile> {
        let file = Arc::new(SealedFile {
            cipher: self.shared.cipher.clone(),
            body: RwLock::new(body),
        });
        if open.len() >= 64 {
            open.retain(|_, file| file.strong_count() > 0);
        }
        open.insert(name.to_owned(), Arc::downgrade(&file));
        file
    }
}

/// In one of 1,024 directories, so that none has too many files.
fn in_folder(concealed: &str) -> String {
    format!("{}/{concealed}", concealed.get(..2).unwrap_or("00"))
}

impl BlobStorage for SealedStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut found: HashMap<String, (u32, FileEntry)> = HashMap::new();
        for entry in self.shared.inner.list()? {
            if entry.name.starts_with(DRAFT) {
                // Nobody needs what a process that ended was making.
                let _ = self.shared.inner.delete(&entry.name);
                continue;
            }
            let Some((key, name)) = self.reveal(&entry.name) else {
                continue;
            };
            // Two of one name are a copy that was made, and what it takes the place of.
            if found.get(&name).is_some_and(|(known, _)| *known > key) {
                continue;
            }
            let entry = FileEntry {
                bytes: content_bytes(entry.bytes),
                name: name.clone(),
                used_ms: entry.used_ms,
            };
            found.insert(name, (key, entry));
        }
        Ok(found.into_values().map(|(_, entry)| entry).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        let mut open = self.open_files();
        for older in self.shared.names.conceal_all(name).into_iter().skip(1) {
            let _ = self.shared.inner.delete(&in_folder(&older));
        }
        let inner = self
            .shared
            .inner
            .create(&in_folder(&self.shared.names.conceal(name)))?;
        let kind = match name.rsplit('.').next() {
            Some(end::JOURNAL) => Kind::Pieces,
            _ => Kind::Sectors,
        };
        let body = Body::begin(inner, kind)?;
        let file = self.register(&mut open, name, body);
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        let file = self.open_sealed(name)?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut open = self.open_files();
        let [sources, targets] = [from, to].map(|name| self.shared.names.conceal_all(name));
        let mut result = Err(io::ErrorKind::NotFound.into());
        for (index, (source, target)) in sources.iter().zip(&targets).enumerate() {
            // The name stays under the key of the content, which tells what is to be sealed anew.
            result = self
                .shared
                .inner
                .rename(&in_folder(source), &in_folder(target));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return result,
                Ok(()) => {}
            }
            for (other, target) in targets.iter().enumerate() {
                if other != index {
                    let _ = self.shared.inner.delete(&in_folder(target));
                }
            }
            break;
        }
        result?;
        open.remove(to);
        if let Some(file) = open.remove(from) {
            open.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let mut open = self.open_files();
        self.find(name, |on_disk| self.shared.inner.delete(on_disk))?;
        open.remove(name);
        Ok(())
    }

    fn touch(&self, name: &str, now_ms: u64) -> io::Result<()> {
        self.find(name, |on_disk| self.shared.inner.touch(on_disk, now_ms))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Rewritten in any place.
    Sectors,
    /// Appended to.
    Pieces,
}

/// One file. It stays usable when it is sealed anew, renamed or deleted.
#[derive(Debug)]
struct SealedFile {
    cipher: Cipher,
    body: RwLock<Body>,
}

#[derive(Debug)]
struct Body {
    inner: Arc<dyn BlobFile>,
    id: FileId,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Sectors,
    Pieces(Pieces),
    /// The head was torn: nothing of the file can be read, and writing begins it anew.
    Headless,
}

/// All of a file of pieces. Journals are short: 16 bytes for each 32 MiB that was fetched.
#[derive(Debug)]
struct Pieces {
    content: Vec<u8>,
    /// Where the next piece goes.
    end: u64,
    /// The seal of the last piece, which the next one is bound to.
    before: Seal,
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "an encrypted part of the file is damaged",
    )
}

/// How much content a file of sectors of so many bytes has.
fn content_bytes(on_disk: u64) -> u64 {
    let sectors = on_disk.saturating_sub(HEAD);
    sectors / SEALED * SECTOR + (sectors % SEALED).saturating_sub(SEAL)
}

fn place(sector: u64) -> u64 {
    HEAD + sector * SEALED
}

fn at(bytes: u64) -> usize {
    usize::try_from(bytes).expect("what is read at once fits into memory")
}

impl Body {
    fn begin(inner: Arc<dyn BlobFile>, kind: Kind) -> io::Result<Self> {
        let id = FileId::random().map_err(io::Error::other)?;
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8] = VERSION;
        head[9] = u8::from(kind == Kind::Pieces);
        head[16..].copy_from_slice(&id.0);
        inner.write_at(0, &head)?;
        let form = match kind {
            Kind::Sectors => Form::Sectors,
            Kind::Pieces => Form::Pieces(Pieces::empty()),
        };
        Ok(Self { inner, id, form })
    }

    fn open(inner: Arc<dyn BlobFile>, cipher: &Cipher) -> io::Result<Self> {
        let bytes = inner.len()?;
        let mut head = [0; HEAD_BYTES];
        let mut body = Self {
            inner,
            id: FileId([0; 16]),
            form: Form::Headless,
        };
        if bytes < HEAD {
            return Ok(body);
        }
        body.inner.read_at(0, &mut head)?;
        if !head.starts_with(MAGIC) || head[8] != VERSION || head[9] > 1 || head[10..16] != [0; 6] {
            return Ok(body);
        }
        body.id = FileId(*head.last_chunk().expect("16 bytes"));
        body.form = match head[9] {
            0 => Form::Sectors,
            _ => Form::Pieces(Pieces::read(&*body.inner, body.id, bytes, cipher)?),
        };
        Ok(body)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(match &self.form {
            Form::Headless => 0,
            Form::Sectors => content_bytes(self.inner.len()?),
            Form::Pieces(pieces) => pieces.content.len() as u64,
        })
    }

    fn read(&self, offset: u64, into: &mut [u8], cipher: &Cipher) -> io::Result<()> {
        let len = self.len()?;
        let end = offset
            .checked_add(into.len() as u64)
            .filter(|end| *end <= len);
        let Some(end) = end else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if into.is_empty() {
            return Ok(());
        }
        match &self.form {
            Form::Headless => Err(io::ErrorKind::UnexpectedEof.into()),
            Form::Pieces(pieces) => {
                into.copy_from_slice(&pieces.content[at(offset)..at(end)]);
                Ok(())
            }
            Form::Sectors => {
                let first = offset / SECTOR;
                let mut content = self.read_sectors(first, (end - 1) / SECTOR, len, cipher)?;
                let start = at(offset - first * SECTOR);
                content.truncate(start + into.len());
                into.copy_from_slice(&content[start..]);
                Ok(())
            }
        }
    }

    /// The content of sectors, the last one included; what was never written is zeros.
    fn read_sectors(
        &self,
        first: u64,
        last: u64,
        len: u64,
        cipher: &Cipher,
    ) -> io::Result<Vec<u8>> {
        let end = len.min((last + 1) * SECTOR);
        let short = end % SECTOR;
        let on_disk_end = place(end / SECTOR) + if short > 0 { SEAL + short } else { 0 };
        let mut bytes = vec![0; at(on_disk_end - place(first))];
        self.inner.read_at(place(first), &mut bytes)?;
        let mut content = Vec::with_capacity(at(end - first * SECTOR));
        for (number, sealed) in (first..).zip(bytes.chunks_mut(SEALED_SECTOR_BYTES)) {
            if Cipher::is_blank(sealed) {
                content.resize(content.len() + sealed.len().saturating_sub(SEAL_BYTES), 0);
                continue;
            }
            let opened = cipher.open_sector(self.id, number, 0, sealed);
            content.extend_from_slice(opened.map_err(|_| damaged())?);
        }
        Ok(content)
    }

    fn write(&mut self, offset: u64, bytes: &[u8], cipher: &Cipher) -> io::Result<()> {
        if let Form::Headless = self.form {
            *self = Self::begin(Arc::clone(&self.inner), Kind::Sectors)?;
        }
        if let Form::Pieces(pieces) = &mut self.form {
            return pieces.append(&*self.inner, self.id, offset, bytes, cipher);
        }
        let Some(end) = offset.checked_add(bytes.len() as u64) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let len = self.len()?;
        let grown = len.max(end);
        let last = (end - 1) / SECTOR;
        let mut first = offset / SECTOR;
        if len % SECTOR > 0 && len / SECTOR < first {
            // The last sector was shorter than it is now.
            self.write_sectors(len / SECTOR, len / SECTOR, len, grown, (len, &[]), cipher)?;
        }
        // A gap is left as it is: blank sectors are zeros.
        first = first.min(offset / SECTOR);
        self.write_sectors(first, last, len, grown, (offset, bytes), cipher)
    }

    /// Writes whole sectors, with `bytes` from `offset` on in place of what they had.
    fn write_sectors(
        &self,
        first: u64,
        last: u64,
        len: u64,
        grown: u64,
        (offset, bytes): (u64, &[u8]),
        cipher: &Cipher,
    ) -> io::Result<()> {
        let mut sealed = Vec::with_capacity(at(last + 1 - first) * SEALED_SECTOR_BYTES);
        let end = offset + bytes.len() as u64;
        for sector in first..=last {
            let start = sector * SECTOR;
            let sector_end = grown.min(start + SECTOR);
            let [from, to] = [offset.max(start), end.min(sector_end)];
            if from == start && to == sector_end {
                let content = &bytes[at(from - offset)..at(to - offset)];
                cipher.seal_sector(self.id, sector, 0, content, &mut sealed);
                continue;
            }
            let mut content = match start < len {
                // What is damaged is lost, whether more is written to it or not.
                true => match self.read_sectors(sector, sector, len, cipher) {
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
                    content => content?,
                },
                false => Vec::new(),
            };
            content.resize(at(sector_end - start), 0);
            if from < to {
                content[at(from - start)..at(to - start)]
                    .copy_from_slice(&bytes[at(from - offset)..at(to - offset)]);
            }
            cipher.seal_sector(self.id, sector, 0, &content, &mut sealed);
        }
        self.inner.write_at(place(first), &sealed)
    }

    /// Copies the content to another file, durably. Blank and damaged sectors stay so.
    fn copy_to(&self, target: Arc<dyn BlobFile>, cipher: &Cipher) -> io::Result<Self> {
        let kind = match self.form {
            Form::Pieces(_) => Kind::Pieces,
            _ => Kind::Sectors,
        };
        let mut copy = Self::begin(target, kind)?;
        if let Form::Pieces(pieces) = &self.form {
            if !pieces.content.is_empty() {
                copy.write(0, &pieces.content, cipher)?;
            }
        } else {
            let len = self.len()?;
            let mut offset = 0;
            while offset < len {
                let last = (offset + COPY_BYTES as u64).min(len).div_ceil(SECTOR) - 1;
                match self.read_sectors(offset / SECTOR, last, len, cipher) {
                    Ok(content) => copy.write(offset, &content, cipher)?,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        for sector in offset / SECTOR..=last {
                            if let Ok(content) = self.read_sectors(sector, sector, len, cipher) {
                                copy.write(sector * SECTOR, &content, cipher)?;
                            }
                        }
                    }
                    Err(error) => return Err(error),
                }
                offset = (last + 1) * SECTOR;
            }
            if len > 0 && copy.len()? < len {
                // The last sector was damaged: of the length, that is all that is left.
                copy.write(len - 1, &[0], cipher)?;
            }
        }
        copy.inner.sync()?;
        Ok(copy)
    }
}

impl Pieces {
    fn empty() -> Self {
        Self {
            content: Vec::new(),
            end: HEAD,
            before: [0; SEAL_BYTES],
        }
    }

    /// Reads all whole pieces from the first on; one that is torn ends them.
    fn read(inner: &dyn BlobFile, id: FileId, bytes: u64, cipher: &Cipher) -> io::Result<Self> {
        let mut raw = vec![0; at(bytes - HEAD)];
        inner.read_at(HEAD, &mut raw)?;
        let mut pieces = Self::empty();
        let mut rest = &raw[..];
        while let Some((head, behind)) = rest.split_first_chunk::<PIECE_HEAD_BYTES>() {
            let (count, offset) = head.split_first_chunk().expect("longer");
            let count = u32::from_be_bytes(*count);
            let offset = u64::from_be_bytes(*offset.first_chunk().expect("eight bytes"));
            let Some((seal, behind)) = behind.split_first_chunk::<SEAL_BYTES>() else {
                break;
            };
            let Some(sealed) = behind.get(..count as usize) else {
                break;
            };
            let mut content = sealed.to_vec();
            let place = pieces.place(id, head);
            if offset > pieces.content.len() as u64
                || cipher.open(&place, seal, &mut content).is_err()
            {
                break;
            }
            pieces.take(offset, &content, *seal);
            rest = &behind[content.len()..];
        }
        Ok(pieces)
    }

    fn place(&self, id: FileId, head: &[u8; PIECE_HEAD_BYTES]) -> Vec<u8> {
        [&id.0[..], &self.before, head].concat()
    }

    fn take(&mut self, offset: u64, content: &[u8], seal: Seal) {
        self.content.truncate(at(offset));
        self.content.extend_from_slice(content);
        self.end += (PIECE_HEAD_BYTES + SEAL_BYTES + content.len()) as u64;
        self.before = seal;
    }

    fn append(
        &mut self,
        inner: &dyn BlobFile,
        id: FileId,
        offset: u64,
        bytes: &[u8],
        cipher: &Cipher,
    ) -> io::Result<()> {
        if offset > self.content.len() as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut head = [0; PIECE_HEAD_BYTES];
        head[..4].copy_from_slice(&count.to_be_bytes());
        head[4..].copy_from_slice(&offset.to_be_bytes());
        let mut content = bytes.to_vec();
        let seal = cipher.seal(&self.place(id, &head), &mut content);
        inner.write_at(self.end, &[&head[..], &seal, &content].concat())?;
        self.take(offset, bytes, seal);
        Ok(())
    }
}

impl BlobFile for SealedFile {
    fn len(&self) -> io::Result<u64> {
        self.body
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let body = self.body.read().unwrap_or_else(PoisonError::into_inner);
        body.read(offset, into, &self.cipher)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut body = self.body.write().unwrap_or_else(PoisonError::into_inner);
        body.write(offset, bytes, &self.cipher)
    }

    fn sync(&self) -> io::Result<()> {
        let body = self.body.read().unwrap_or_else(PoisonError::into_inner);
        body.inner.sync()
    }
}
