//! From command line arguments to an open peer, and from its errors to exit codes.

use std::{fs, path::Path};

use idem::{
    AuthorityConfig, AuthorityKey, ConnectMode, DatabaseId, Durability, Error, ErrorKind, Idem,
    IdemConfig, SharedKey, SignedText, StoreKey,
};

use crate::{
    args::{DatabaseArgs, DurabilityChoice, StoreArgs},
    exit::{CliError, ExitStatus},
};

/// Separates the ids of databases that are given by name from every other use of the hash.
const DATABASE_NAME_CONTEXT: &str = "idem 2026 database id from name";

/// Opens the store without an identity: it works, and does not sync.
pub(crate) fn open_offline(
    store: &StoreArgs,
    durability: DurabilityChoice,
) -> Result<Idem, CliError> {
    open(store, &DatabaseArgs::default(), durability)
}

/// Opens the store as a peer of the database that `database` names; without a name or a key it
/// cannot sync.
pub(crate) fn open(
    store: &StoreArgs,
    database: &DatabaseArgs,
    durability: DurabilityChoice,
) -> Result<Idem, CliError> {
    let mode = match &database.database {
        Some(_) => connect_mode(database)?,
        None => ConnectMode::Offline,
    };
    let config = match &database.database {
        Some(name) => IdemConfig::new(database_id(name), mode),
        None => IdemConfig::local(),
    };
    let mut config = config
        .with_device_name(device_name())
        .with_durability(match durability {
            DurabilityChoice::Durable => Durability::Durable,
            DurabilityChoice::Relaxed => Durability::Relaxed,
        });
    if !store.memory {
        config = config.with_persistence_directory(&store.store);
    }
    if let Some(file) = &store.key.store_key_file
        && !store.memory
    {
        config = config.with_encryption_key(read_key(file)?);
    }
    let idem = Idem::open_sync(config).map_err(|error| {
        let place = if store.memory {
            "a store in memory".to_owned()
        } else {
            format!("the store {}", store.store.display())
        };
        peer_error(format!("cannot open {place}"), error)
    })?;
    for file in &database.trust {
        take_signed(&idem, file)?;
    }
    Ok(idem)
}

/// What other peers are asked for.
fn connect_mode(database: &DatabaseArgs) -> Result<ConnectMode, CliError> {
    let key = shared_key(database)?;
    if let Some(token) = &database.development_token {
        return Ok(ConnectMode::Development {
            token: SharedKey::from_secret(token),
        });
    }
    if database.authority.is_empty() {
        return Ok(key.map_or(ConnectMode::Offline, |key| ConnectMode::SharedKey { key }));
    }
    let keys = database.authority.iter().map(|text| {
        text.parse::<AuthorityKey>().map_err(|error| {
            let what = format!("{text:?} is not the key of an authority");
            CliError::new(ExitStatus::Environment, what)
                .because(error)
                .hint("`idem authority show FILE` prints it")
        })
    });
    let mut config = AuthorityConfig::new(keys.collect::<Result<Vec<_>, _>>()?);
    if let Some(file) = &database.certificate {
        config = config.with_certificate_file(file);
    }
    if let Some(key) = key {
        config = config.with_shared_key(key);
    }
    Ok(ConnectMode::Authority(config))
}

/// Takes what an authority signed from a file.
fn take_signed(idem: &Idem, file: &Path) -> Result<(), CliError> {
    let failed = || format!("cannot take what is in {}", file.display());
    let text = fs::read_to_string(file);
    let text = text.map_err(|source| CliError::failed(failed()).because(source))?;
    let signed = SignedText::parse(&text).map_err(|error| peer_error(failed(), error))?;
    let Some(auth) = idem.auth() else {
        return Err(CliError::new(ExitStatus::Environment, failed())
            .hint("the database is to be named with --database"));
    };
    for signed in signed {
        auth.apply(signed)
            .map_err(|error| peer_error(failed(), error))?;
    }
    Ok(())
}

/// The key in a file that `idem keys new` made.
pub(crate) fn read_key(file: &Path) -> Result<StoreKey, CliError> {
    StoreKey::from_file(file).map_err(|error| {
        let what = "cannot use the key of the store".to_owned();
        CliError::new(ExitStatus::Environment, what)
            .because(Error::from(error))
            .hint("`idem keys new FILE` makes a key file; a store opens with the one it was made with")
    })
}

/// The id of the database called `name`: a UUID stands for itself, any other name for its hash.
pub(crate) fn database_id(name: &str) -> DatabaseId {
    name.parse().unwrap_or_else(|_| {
        let hash = blake3::derive_key(DATABASE_NAME_CONTEXT, name.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        // Version 8 of RFC 9562: a UUID of the maker's own kind.
        id[6] = (id[6] & 0x0f) | 0x80;
        id[8] = (id[8] & 0x3f) | 0x80;
        DatabaseId(id)
    })
}

fn shared_key(database: &DatabaseArgs) -> Result<Option<SharedKey>, CliError> {
    let configuration = |message: String| CliError::new(ExitStatus::Environment, message);
    let secret = match (&database.shared_key, &database.shared_key_file) {
        // Clap lets the variable in the environment and the file through together; the file is
        // the one that was asked for by hand.
        (_, Some(file)) => first_line(file)?,
        (Some(secret), None) => secret.clone(),
        (None, None) => return Ok(None),
    };
    if secret.is_empty() {
        return Err(configuration("the shared key is empty".to_owned())
            .hint("choose at least four random words, the same on every peer"));
    }
    Ok(Some(SharedKey::from_secret(&secret)))
}

fn first_line(file: &Path) -> Result<String, CliError> {
    let text = fs::read_to_string(file).map_err(|source| {
        CliError::new(
            ExitStatus::Environment,
            format!("cannot read the shared key from {}", file.display()),
        )
        .because(source)
    })?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn device_name() -> String {
    // /etc/hostname is enough for a name that only people read.
    fs::read_to_string("/etc/hostname")
        .ok()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "idem".to_owned())
}

/// The failure `error` of the peer while doing `what`, with its exit code and a hint.
pub(crate) fn peer_error(what: impl Into<String>, error: Error) -> CliError {
    let (status, hint) = advice(error.kind());
    let hint = hint.map(str::to_owned);
    let mut failed = CliError::new(status, what);
    if let Some(rendered) = error.rendered() {
        failed = failed.show(rendered);
    }
    let hint = error.hint().map(str::to_owned).or(hint);
    failed = failed.because(error);
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

/// The failure of a statement. `how` says how a parameter of a name gets its value here.
pub(crate) fn statement_error(error: Error, how: impl FnOnce(&str) -> String) -> CliError {
    let missing = |message: &str| {
        let name = message.strip_prefix("Parameter ")?;
        Some(name.strip_suffix(" was not provided")?.to_owned())
    };
    let missing = match (error.kind(), error.hint(), error.rendered()) {
        (ErrorKind::QueryArgumentsInvalid, None, Some(shown)) => {
            missing(&error.to_string()).map(|name| format!("{shown}\nhint: {}", how(&name)))
        }
        _ => None,
    };
    let failed = peer_error("the statement failed", error);
    match missing {
        Some(shown) => failed.show(shown),
        None => failed,
    }
}

fn advice(kind: ErrorKind) -> (ExitStatus, Option<&'static str>) {
    use ExitStatus::{Environment, Failed, Locked};
    match kind {
        ErrorKind::StorePersistenceDirectoryLocked => (
            Locked,
            Some(
                "one process at a time may have a store open: end the other one, or give another --store",
            ),
        ),
        ErrorKind::StorePersistenceDirectoryDenied => (
            Environment,
            Some("give a --store directory that this user may create, read and write"),
        ),
        ErrorKind::StoreDatabaseMismatch => (
            Environment,
            Some("give the --database that the store was made for, or another --store"),
        ),
        ErrorKind::EncryptionKeyRequired => (
            Environment,
            Some("give --store-key-file, or set IDEM_STORE_KEY_FILE"),
        ),
        ErrorKind::EncryptionKeyUnexpected => (
            Environment,
            Some(
                "leave the key file away; or `idem export` the store and `idem import` into a new one with \
                 --store-key-file",
            ),
        ),
        ErrorKind::EncryptionKeyInvalid => (
            Environment,
            Some("a store opens with the key file it was made with, or was last locked with"),
        ),
        ErrorKind::EncryptionUnsupportedScheme => (Environment, Some("update Idem")),
        ErrorKind::EncryptionMetadataCorrupt => (
            Failed,
            Some("restore `idem.keys` from a backup: without it nobody can read the store"),
        ),
        ErrorKind::SyncUnavailable => (
            Environment,
            Some(
                "sync needs a database and a shared key, or a certificate: set IDEM_DATABASE and IDEM_SHARED_KEY, or \
                 IDEM_AUTHORITY and IDEM_CERTIFICATE",
            ),
        ),
        ErrorKind::AuthCertificateInvalid
        | ErrorKind::AuthAuthorityInvalid
        | ErrorKind::AuthTrustRefused => auth_advice(kind),
        ErrorKind::SyncListen => (
            Environment,
            Some("the address may be in use: port 0 takes a free port"),
        ),
        ErrorKind::ValidationConfiguration => (Environment, None),
        ErrorKind::StoreCorrupt => (
            Failed,
            Some(
                "run `idem doctor` on the store; restore a copy, or let a fresh store fill from another peer",
            ),
        ),
        ErrorKind::StoreDiskFull => (
            Failed,
            Some("what was committed before is intact: free some space and try again"),
        ),
        ErrorKind::StoreDocumentExists => (
            Failed,
            Some("use ON ID CONFLICT DO NOTHING or DO UPDATE, or --on-conflict of an import"),
        ),
        ErrorKind::Internal => (Failed, Some("this is a bug in Idem: please report it")),
        _ => (Failed, None),
    }
}

/// Advice on certificates and who signs them.
fn auth_advice(kind: ErrorKind) -> (ExitStatus, Option<&'static str>) {
    let hint = match kind {
        ErrorKind::AuthCertificateInvalid => {
            "`idem authority issue` makes a certificate for the key that `idem keys peer` prints; give it with \
             --certificate"
        }
        ErrorKind::AuthTrustRefused => {
            "only what an authority of the database signed is taken, and nothing older than what is known"
        }
        _ => return (ExitStatus::Environment, None),
    };
    (ExitStatus::Environment, Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_the_same_database_everywhere() {
        assert_eq!(database_id("shop"), database_id("shop"));
        assert_ne!(database_id("shop"), database_id("Shop"));
        let uuid = "0123456789ab4def8123456789abcdef";
        let dashed = "01234567-89ab-4def-8123-456789abcdef";
        assert_eq!(database_id(dashed).to_string(), dashed);
        // Text that is no UUID in its usual form is a name like any other.
        let _ = database_id(uuid);
    }
}
