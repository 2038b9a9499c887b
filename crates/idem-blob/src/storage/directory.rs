//! Files in the directories of a file system.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::storage::{BlobFile, BlobStorage, FileEntry};

/// A directory on a file system. Whoever opens it must hold a lock against other processes.
#[derive(Debug)]
pub struct DirectoryStorage {
    path: PathBuf,
}

impl DirectoryStorage {
    /// Uses the directory at `path`, which is created with the first file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of a file, in a directory that exists.
    fn prepare(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
            if let Some(above) = self.path.parent() {
                sync_directory(above)?;
            }
            sync_directory(&self.path)?;
        }
        Ok(path)
    }
}

impl BlobStorage for DirectoryStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        let folders = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            // A name that is not UTF-8 is not one of ours.
            let Ok(prefix) = folder.file_name().into_string() else {
                continue;
            };
            if !folder.file_type()?.is_dir() {
                entries.extend(entry(prefix, &folder.metadata()?));
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                if let Ok(name) = file.file_name().into_string() {
                    entries.extend(entry(format!("{prefix}/{name}"), &file.metadata()?));
                }
            }
        }
        Ok(entries)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.prepare(name)?)?;
        Ok(Arc::new(SystemFile { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(SystemFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let to = self.prepare(to)?;
        fs::rename(self.path.join(from), &to)?;
        sync_directory(to.parent().unwrap_or(&self.path))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn touch(&self, name: &str, now_ms: u64) -> io::Result<()> {
        let file = File::options().write(true).open(self.path.join(name))?;
        file.set_modified(UNIX_EPOCH + Duration::from_millis(now_ms))
    }
}

fn entry(name: String, metadata: &fs::Metadata) -> Option<FileEntry> {
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let used_ms = used.duration_since(UNIX_EPOCH).unwrap_or_default();
    metadata.is_file().then(|| FileEntry {
        name,
        bytes: metadata.len(),
        used_ms: u64::try_from(used_ms.as_millis()).unwrap_or(u64::MAX),
    })
}

#[derive(Debug)]
struct SystemFile {
    file: File,
}

impl BlobFile for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
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

    fn sync(&self) -> io::Result<()> {
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
