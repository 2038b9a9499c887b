//! Who a peer is and which database its directory belongs to, in one small file.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use idem_model::DatabaseId;
use idem_transport::LinkIdentity;
use idem_vault::{Purpose, SEAL_BYTES, Vault};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};

const FILE: &str = "peer";
const HEAD: &str = "idem peer 1";

/// How an encrypted file begins; its seal and the sealed text follow.
const SEALED_MAGIC: &[u8; 8] = b"idempeer";

/// The id that stands for no database yet.
pub(crate) const NO_DATABASE: DatabaseId = DatabaseId([0; 16]);

/// Reads the identity in `directory`, or makes and stores one, and gives it with the database that
/// the directory belongs to. The caller holds the store's lock.
///
/// A directory that belongs to no database yet becomes one of `database`; [`NO_DATABASE`] opens any.
pub(crate) fn open_identity(
    directory: &Path,
    database: DatabaseId,
    vault: Option<&Vault>,
) -> Result<(LinkIdentity, DatabaseId), Error> {
    let path = directory.join(FILE);
    let store = |identity: &LinkIdentity| {
        let bytes = encode(database, identity, vault)?;
        write(directory, &path, &bytes).map_err(|source| {
            Error::new(
                ErrorKind::StorePersistenceDirectoryDenied,
                format!("cannot write {}", path.display()),
            )
            .with_source(source)
        })
    };
    match fs::read(&path) {
        Ok(bytes) => {
            let (identity, found) = read(Zeroizing::new(bytes), &path, vault)?;
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

/// Seals the identity in `directory` anew, under the key that seals now.
pub(crate) fn rekey_identity(directory: &Path, vault: &Vault) -> Result<(), Error> {
    reseal(directory, &directory.join(FILE), SEALED_MAGIC, vault)
}

/// Seals a file anew, under the key that seals now. One that is not there stays so.
pub(crate) fn reseal(
    directory: &Path,
    path: &Path,
    magic: &[u8; 8],
    vault: &Vault,
) -> Result<(), Error> {
    let failed = |source: io::Error| {
        let message = format!("cannot rewrite {}", path.display());
        Error::new(ErrorKind::StorePersistenceDirectoryDenied, message).with_source(source)
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let text = unseal(magic, bytes, Some(vault)).ok_or_else(|| {
        let message = format!("{} is not sealed with a key of the store", path.display());
        Error::new(ErrorKind::StoreCorrupt, message)
    })?;
    let bytes = seal(magic, &text, Some(vault))?;
    write(directory, path, &bytes).map_err(failed)
}

/// The text of a file that is encrypted if there is a vault, and is not if there is none.
pub(crate) fn unseal(
    magic: &[u8; 8],
    bytes: Zeroizing<Vec<u8>>,
    vault: Option<&Vault>,
) -> Option<Zeroizing<Vec<u8>>> {
    let Some(vault) = vault else {
        return Some(bytes);
    };
    let sealed = bytes.strip_prefix(magic)?;
    let (seal, sealed) = sealed.split_first_chunk::<SEAL_BYTES>()?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let cipher = vault.cipher(Purpose::Identity).ok()?;
    cipher.open(magic, seal, &mut text).ok()?;
    Some(text)
}

/// The bytes of such a file.
pub(crate) fn seal(
    magic: &[u8; 8],
    text: &[u8],
    vault: Option<&Vault>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut sealed = Zeroizing::new(text.to_vec());
    let Some(vault) = vault else {
        return Ok(sealed);
    };
    let cipher = vault.cipher(Purpose::Identity).map_err(Error::vault)?;
    let seal = cipher.seal(magic, &mut sealed);
    Ok(Zeroizing::new([&magic[..], &seal, &sealed].concat()))
}

fn read(
    bytes: Zeroizing<Vec<u8>>,
    path: &Path,
    vault: Option<&Vault>,
) -> Result<(LinkIdentity, DatabaseId), Error> {
    let corrupt = || {
        Error::new(
            ErrorKind::StoreCorrupt,
            format!("{} is not the identity of a peer", path.display()),
        )
    };
    let bytes = unseal(SEALED_MAGIC, bytes, vault).ok_or_else(corrupt)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| corrupt())?;
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

/// The bytes of the file.
fn encode(
    database: DatabaseId,
    identity: &LinkIdentity,
    vault: Option<&Vault>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut text = Zeroizing::new(format!("{HEAD}\ndatabase {database}\nsecret "));
    for byte in identity.to_secret().iter() {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    seal(SEALED_MAGIC, text.as_bytes(), vault)
}

pub(crate) fn write(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Written beside and renamed: a crash leaves a whole file or none.
    let beside = path.with_extension("part");
    let mut file = private_file(&beside)?;
    file.write_all(bytes)?;
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
        let first = open_identity(directory.path(), DATABASE, None).unwrap().0;
        let second = open_identity(directory.path(), DATABASE, None).unwrap().0;
        assert_eq!(first.peer_id(), second.peer_id());
        let error = open_identity(directory.path(), DatabaseId([2; 16]), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreDatabaseMismatch);
    }

    #[test]
    fn the_first_database_takes_a_directory_of_none() {
        let directory = tempfile::tempdir().unwrap();
        let (first, database) = open_identity(directory.path(), NO_DATABASE, None).unwrap();
        assert_eq!(database, NO_DATABASE);
        let (second, database) = open_identity(directory.path(), DATABASE, None).unwrap();
        assert_eq!((second.peer_id(), database), (first.peer_id(), DATABASE));
        let (_, database) = open_identity(directory.path(), NO_DATABASE, None).unwrap();
        assert_eq!(database, DATABASE);
        let error = open_identity(directory.path(), DatabaseId([2; 16]), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreDatabaseMismatch);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        open_identity(directory.path(), DATABASE, None).unwrap();
        let mode = fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn damage_is_named_and_prints_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        open_identity(directory.path(), DATABASE, None).unwrap();
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        for cut in [0, 5, HEAD.len() + 3, text.len() - 4] {
            fs::write(&path, &text[..cut]).unwrap();
            let error = open_identity(directory.path(), DATABASE, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreCorrupt, "cut at {cut}");
            assert!(!format!("{error:?}").contains(&text[text.len() - 20..text.len() - 10]));
        }
    }

    #[test]
    fn an_encrypted_one_opens_with_its_key_only_and_no_flip_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::in_memory().unwrap();
        let open = |vault: Option<&Vault>| open_identity(directory.path(), DATABASE, vault);
        let (first, _) = open(Some(&vault)).unwrap();
        let path = directory.path().join(FILE);
        let bytes = fs::read(&path).unwrap();
        for part in [&b"secret"[..], b"database", &first.peer_id().0[..8]] {
            assert!(!bytes.windows(part.len()).any(|it| it == part));
        }
        let other = Vault::in_memory().unwrap();
        for wrong in [Some(&other), None] {
            assert_eq!(open(wrong).unwrap_err().kind(), ErrorKind::StoreCorrupt);
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            assert_eq!(
                open(Some(&vault)).unwrap_err().kind(),
                ErrorKind::StoreCorrupt,
                "{bit}"
            );
        }
        fs::write(&path, &bytes).unwrap();
        vault.begin_rotation().unwrap();
        rekey_identity(directory.path(), &vault).unwrap();
        assert_ne!(
            fs::read(&path).unwrap()[8..12],
            bytes[8..12],
            "the id of the key"
        );
        assert_eq!(open(Some(&vault)).unwrap().0.peer_id(), first.peer_id());
    }
}
