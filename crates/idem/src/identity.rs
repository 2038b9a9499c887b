//! Who a peer is and which database its directory belongs to, in one small file.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use idem_model::DatabaseId;
use idem_transport::LinkIdentity;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

const FILE: &str = "peer";
const HEAD: &str = "idem peer 1";

/// The id that stands for no database yet.
pub(crate) const NO_DATABASE: DatabaseId = DatabaseId([0; 16]);

/// Reads the identity in `directory`, or makes and stores one, and gives it with the database that
/// the directory belongs to. The caller holds the store's lock.
///
/// A directory that belongs to no database yet becomes one of `database`; [`NO_DATABASE`] opens any.
pub(crate) fn open_identity(
    directory: &Path,
    database: DatabaseId,
) -> Result<(LinkIdentity, DatabaseId), Error> {
    let path = directory.join(FILE);
    let store = |identity: &LinkIdentity| {
        write(directory, &path, database, identity).map_err(|source| {
            Error::new(
                ErrorKind::StorePersistenceDirectoryDenied,
                format!("cannot write {}", path.display()),
            )
            .with_source(source)
        })
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let (identity, found) = read(&Zeroizing::new(text), &path)?;
            if found == database || database == NO_DATABASE {
                return Ok((identity, found));
            }
            if found != NO_DATABASE {
                return Err(Error::new(
                    ErrorKind::StoreDatabaseMismatch,
                    format!("the directory belongs to database {found}, not to {database}"),
                ));
            }
            store(&identity)?;
            Ok((identity, database))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = fresh_identity()?;
            store(&identity)?;
            Ok((identity, database))
        }
        Err(source) => Err(Error::new(
            ErrorKind::StorePersistenceDirectoryDenied,
            format!("cannot read {}", path.display()),
        )
        .with_source(source)),
    }
}

/// An identity that nothing keeps.
pub(crate) fn fresh_identity() -> Result<LinkIdentity, Error> {
    LinkIdentity::generate().map_err(|source| {
        Error::new(ErrorKind::Io, "the system has no randomness to give")
            .with_source(io::Error::other(source.to_string()))
    })
}

fn read(text: &str, path: &Path) -> Result<(LinkIdentity, DatabaseId), Error> {
    let corrupt = || {
        Error::new(
            ErrorKind::StoreCorrupt,
            format!("{} is not the identity of a peer", path.display()),
        )
    };
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(corrupt());
    }
    let mut field = |name: &str| {
        let (found, content) = lines.next()?.split_once(' ')?;
        (found == name).then_some(content)
    };
    let found: DatabaseId = field("database")
        .and_then(|text| text.parse().ok())
        .ok_or_else(corrupt)?;
    let secret = field("secret").and_then(parse_secret).ok_or_else(corrupt)?;
    Ok((LinkIdentity::from_secret(&secret), found))
}

fn parse_secret(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (slot, at) in secret.iter_mut().zip((0..64).step_by(2)) {
        *slot = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(secret)
}

fn write(
    directory: &Path,
    path: &Path,
    database: DatabaseId,
    identity: &LinkIdentity,
) -> io::Result<()> {
    let mut text = Zeroizing::new(format!("{HEAD}\ndatabase {database}\nsecret "));
    for byte in identity.to_secret().iter() {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    // Written beside and renamed: a crash leaves a whole file or none.
    let beside = path.with_extension("part");
    let mut file = private_file(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_directory(directory)
}

#[cfg(unix)]
fn private_file(path: &PathBuf) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = fs::remove_file(path);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn private_file(path: &PathBuf) -> io::Result<fs::File> {
    fs::File::create(path)
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: DatabaseId = DatabaseId([1; 16]);

    #[test]
    fn an_identity_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = open_identity(directory.path(), DATABASE).unwrap().0;
        let second = open_identity(directory.path(), DATABASE).unwrap().0;
        assert_eq!(first.peer_id(), second.peer_id());
        let error = open_identity(directory.path(), DatabaseId([2; 16])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreDatabaseMismatch);
    }

    #[test]
    fn the_first_database_takes_a_directory_of_none() {
        let directory = tempfile::tempdir().unwrap();
        let (first, database) = open_identity(directory.path(), NO_DATABASE).unwrap();
        assert_eq!(database, NO_DATABASE);
        let (second, database) = open_identity(directory.path(), DATABASE).unwrap();
        assert_eq!((second.peer_id(), database), (first.peer_id(), DATABASE));
        let (_, database) = open_identity(directory.path(), NO_DATABASE).unwrap();
        assert_eq!(database, DATABASE);
        let error = open_identity(directory.path(), DatabaseId([2; 16])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreDatabaseMismatch);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        open_identity(directory.path(), DATABASE).unwrap();
        let mode = fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn damage_is_named_and_prints_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        open_identity(directory.path(), DATABASE).unwrap();
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        for cut in [0, 5, HEAD.len() + 3, text.len() - 4] {
            fs::write(&path, &text[..cut]).unwrap();
            let error = open_identity(directory.path(), DATABASE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreCorrupt, "cut at {cut}");
            assert!(!format!("{error:?}").contains(&text[text.len() - 20..text.len() - 10]));
        }
    }
}
