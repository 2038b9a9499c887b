//! Segments as files of one directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{LogStorage, Segment};

/// Zeros written at a time. Large enough that the call costs nothing beside the copy.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A directory on a file system. Whoever opens it must hold a lock against other processes.
#[derive(Debug)]
pub struct DirectoryStorage {
    path: PathBuf,
}

impl DirectoryStorage {
    /// Uses the directory at `path`, and creates it (not its parents) if there is none.
    ///
    /// # Errors
    ///
    /// The file system's error.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        // One that is empty may have been made by a process that ended before it came to the sync.
        let is_new = match fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::read_dir(&path)?.next().is_none()
            }
            Err(error) => return Err(error),
        };
        if is_new && let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
        Ok(Self { path })
    }
}

impl LogStorage for DirectoryStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        sync_directory(&self.path)?;
        Ok(Arc::new(FileSegment { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(FileSegment { file }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        // Not synced: a file that comes back after a power loss is a spare segment again.
        fs::remove_file(self.path.join(name))
    }
}

#[derive(Debug)]
struct FileSegment {
    file: File,
}

impl Segment for FileSegment {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut at = self.file.metadata()?.len();
        while at < len {
            let step = (len - at).min(ZEROS.len() as u64);
            self.write_at(at, &ZEROS[..usize::try_from(step).expect("at most 64 KiB")])?;
            at += step;
        }
        // Not `sync_data` by name, but it syncs the size as well, for without it the data cannot
        // be read back.
        self.file.sync_data()
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, into, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_read(&self.file, into, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            into = &mut into[count..];
            offset += count as u64;
        }
        Ok(())
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
            offset += count as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    // `Path::parent` of a bare name is the empty path, which means the working directory.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    // Windows journals directory changes with the file's own metadata and opens no directories.
    Ok(())
}
