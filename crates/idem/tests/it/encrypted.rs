//! Stores that are encrypted at rest, and what a thief makes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use idem::{
    AttachmentMetadata, AttachmentToken, Encryption, Error, ErrorKind, Idem, IdemConfig,
    KeyDerivation, StoreKey, StoreKind,
};
use serde_json::json;

const KEY: [u8; 32] = [0xC5; 32];

fn key() -> StoreKey {
    StoreKey::from_bytes(KEY)
}

fn open(directory: &Path, key: Option<StoreKey>) -> Result<Idem, Error> {
    let config = IdemConfig::local().with_persistence_directory(directory);
    Idem::open_sync(match key {
        Some(key) => config.with_encryption_key(key),
        None => config,
    })
}

fn kind(directory: &Path, key: Option<StoreKey>) -> ErrorKind {
    let error = open(directory, key).expect_err("it must not open");
    let text = format!("{error} {error:?}");
    assert!(
        !text.contains("c5c5") && !text.contains("197, 197"),
        "{text}"
    );
    error.kind()
}

/// Writes documents and an attachment that are easy to find. Gives the content of the attachment.
fn fill(idem: &Idem, documents: usize) -> Vec<u8> {
    let photo: Vec<u8> = b"PHOTOMARKER ".repeat(20_000);
    let metadata = AttachmentMetadata::from([("name".to_owned(), "NAMEMARKER".to_owned())]);
    let made = idem
        .store()
        .new_attachment_from_bytes_blocking(photo.clone(), metadata);
    let insert = "INSERT INTO COLLECTION secretcollection (photo ATTACHMENT) DOCUMENTS (:d)";
    let first = json!({"_id": "IDMARKER", "text": "TEXTMARKER", "photo": made.unwrap().token()});
    idem.store()
        .execute_blocking((insert, json!({ "d": first })))
        .unwrap();
    idem.store()
        .execute_blocking("CREATE INDEX indexname ON secretcollection (text)")
        .unwrap();
    for round in 0..documents / 100 {
        let rows: Vec<_> = (0..100)
            .map(|n| json!({"_id": round * 100 + n, "text": format!("TEXTMARKER {n}").repeat(20)}))
            .collect();
        let insert = "INSERT INTO secretcollection DOCUMENTS (:d)";
        idem.store()
            .execute_blocking((insert, json!({ "d": rows })))
            .unwrap();
    }
    photo
}

fn count(idem: &Idem) -> usize {
    let found = idem
        .store()
        .execute_blocking("SELECT text FROM secretcollection");
    found.unwrap().into_items().len()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// Reads the attachment back.
fn photo(idem: &Idem) -> Vec<u8> {
    let statement = "SELECT photo FROM secretcollection WHERE _id = 'IDMARKER'";
    let found = idem.store().execute_blocking(statement).unwrap();
    let row = found.into_items().remove(0).into_value();
    let token = AttachmentToken::from_value(row.get("photo").unwrap()).unwrap();
    let fetch = idem.store().fetch_attachment(&token, |_| {}).unwrap();
    let attachment = fetch.wait_blocking(Duration::from_secs(20)).unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut attachment.reader().unwrap(), &mut content).unwrap();
    content
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn no_file_of_a_store_tells_anything() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    let content = fill(&idem, 300);
    idem.close_blocking().unwrap();
    let hash = blake3::hash(&content);
    let found = files(directory.path());
    assert!(found.len() >= 7, "{found:?}");
    for path in &found {
        let bytes = fs::read(path).unwrap();
        for marker in [
            &b"MARKER"[..],
            b"secretcollection",
            b"indexname",
            b"photo",
            b"secret ",
            &hash.as_bytes()[..8],
            &KEY[..8],
        ] {
            let is_there = bytes.windows(marker.len()).any(|it| it == marker);
            assert!(
                !is_there,
                "{} holds {:?}",
                path.display(),
                String::from_utf8_lossy(marker)
            );
        }
        let name = path
            .strip_prefix(directory.path())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(
            !name.contains(&hash.to_hex()[..8]) && !name.ends_with("blob"),
            "{name}"
        );
    }
    // The test finds them where nothing is encrypted.
    let plain = tempfile::tempdir().unwrap();
    let idem = open(plain.path(), None).unwrap();
    fill(&idem, 300);
    idem.close_blocking().unwrap();
    let shows = |marker: &[u8]| {
        let files = files(plain.path());
        files.iter().any(|path| {
            fs::read(path)
                .unwrap()
                .windows(marker.len())
                .any(|it| it == marker)
        })
    };
    assert!(shows(b"TEXTMARKER") && shows(b"PHOTOMARKER") && shows(b"secretcollection"));
}

#[test]
fn a_copied_directory_opens_with_the_key_only() {
    let folder = tempfile::tempdir().unwrap();
    let (home, thief) = (folder.path().join("home"), folder.path().join("thief"));
    let idem = open(&home, Some(key())).unwrap();
    let content = fill(&idem, 200);
    idem.close_blocking().unwrap();
    copy(&home, &thief);
    assert_eq!(kind(&thief, None), ErrorKind::EncryptionKeyRequired);
    assert_eq!(
        kind(&thief, Some(StoreKey::from_bytes([1; 32]))),
        ErrorKind::EncryptionKeyInvalid
    );
    assert_eq!(
        kind(&thief, Some(StoreKey::from_passphrase("word"))),
        ErrorKind::EncryptionKeyInvalid
    );
    // The keys of another store of his do not help, nor does none.
    let his = folder.path().join("his");
    open(&his, Some(StoreKey::from_bytes([1; 32])))
        .unwrap()
        .close_blocking()
        .unwrap();
    let stolen = fs::read(thief.join("idem.keys")).unwrap();
    fs::copy(his.join("idem.keys"), thief.join("idem.keys")).unwrap();
    assert_eq!(
        kind(&thief, Some(StoreKey::from_bytes([1; 32]))),
        ErrorKind::StoreCorrupt
    );
    fs::remove_file(thief.join("idem.keys")).unwrap();
    assert_eq!(kind(&thief, None), ErrorKind::EncryptionMetadataCorrupt);
    assert_eq!(
        kind(&thief, Some(key())),
        ErrorKind::EncryptionMetadataCorrupt
    );

    fs::write(thief.join("idem.keys"), stolen).unwrap();
    let idem = open(&thief, Some(key())).unwrap();
    assert_eq!((count(&idem), photo(&idem)), (201, content));
    idem.close_blocking().unwrap();
}

#[test]
fn a_plain_store_stays_one_and_takes_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path(), None).unwrap();
    assert!(idem.encryption().is_none());
    idem.close_blocking().unwrap();
    assert_eq!(
        kind(directory.path(), Some(key())),
        ErrorKind::EncryptionKeyUnexpected
    );
    assert_eq!(
        Encryption::inspect(directory.path()).unwrap(),
        StoreKind::Plain
    );
    open(directory.path(), None)
        .unwrap()
        .close_blocking()
        .unwrap();
    assert!(!directory.path().join("idem.keys").exists());
}

#[test]
fn damaged_and_later_keys_have_errors_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), Some(key()))
        .unwrap()
        .close_blocking()
        .unwrap();
    let path = directory.path().join("idem.keys");
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    bytes[70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        kind(directory.path(), Some(key())),
        ErrorKind::EncryptionMetadataCorrupt
    );
    bytes[8] = 9;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        kind(directory.path(), Some(key())),
        ErrorKind::EncryptionUnsupportedScheme
    );
    fs::write(&path, &good).unwrap();
    open(directory.path(), Some(key()))
        .unwrap()
        .close_blocking()
        .unwrap();
}

#[test]
fn a_passphrase_opens_what_it_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut cheap = KeyDerivation::default();
    (cheap.memory_kib, cheap.rounds) = (64, 1);
    let key = StoreKey::from_passphrase_with("six random words of a passphrase", cheap);
    open(directory.path(), Some(key))
        .unwrap()
        .close_blocking()
        .unwrap();
    assert_eq!(
        kind(
            directory.path(),
            Some(StoreKey::from_passphrase("six random words"))
        ),
        ErrorKind::EncryptionKeyInvalid
    );
    let key = StoreKey::from_passphrase("six random words of a passphrase");
    open(directory.path(), Some(key))
        .unwrap()
        .close_blocking()
        .unwrap();
}

/// Bits flip in every file: what opens afterwards has everything or says what is wrong.
#[test]
fn a_flipped_bit_in_any_file_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let idem = open(&home, Some(key())).unwrap();
    let content = fill(&idem, 200);
    idem.close_blocking().unwrap();
    let mut state = 7_u64;
    let (mut refused, mut harmless) = (0, 0);
    for path in files(&home) {
        let name = path.strip_prefix(&home).unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        for _ in 0..4 {
            if bytes.is_empty() {
                continue;
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = usize::try_from(state >> 33).unwrap() % bytes.len();
            let copied = folder.path().join("copy");
            copy(&home, &copied);
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (state % 8);
            fs::write(copied.join(&name), &damaged).unwrap();
            match open(&copied, Some(key())) {
                Err(_) => refused += 1,
                Ok(idem) => {
                    let statement = "SELECT text FROM secretcollection";
                    match idem.store().execute_blocking(statement) {
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::StoreCorrupt, "{name:?} {at}");
                            refused += 1;
                        }
                        Ok(found) => {
                            assert_eq!(found.into_items().len(), 201, "{name:?} {at}");
                            harmless += 1;
                        }
                    }
                    drop(idem);
                }
            }
            fs::remove_dir_all(&copied).unwrap();
        }
    }
    assert!(
        refused > 3 && harmless > 3,
        "{refused} refused, {harmless} harmless"
    );
    assert!(!content.is_empty());
}

#[test]
fn a_rotation_runs_while_the_store_is_used_and_forgets_the_older_key() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    let content = fill(&idem, 2_000);
    let encryption = idem.encryption().unwrap();
    assert_eq!(encryption.status().data_keys, [1]);
    encryption.rotate_data_key().unwrap();
    idem.store()
        .execute_blocking(
            "INSERT INTO secretcollection DOCUMENTS ({'_id': 'meanwhile', 'text': 'x'})",
        )
        .unwrap();
    let mut last = encryption.rotation();
    encryption
        .wait_for_rotation(|progress| last = progress)
        .unwrap();
    assert!(!last.is_running && last.sectors_done == last.sectors_total && last.files_done == 2);
    assert_eq!(
        (encryption.status().data_keys, count(&idem)),
        (vec![2], 2_002)
    );
    idem.close_blocking().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    assert_eq!((count(&idem), photo(&idem)), (2_002, content));
    idem.store().verify_blocking().unwrap();
    idem.close_blocking().unwrap();
}

#[test]
fn a_rotation_that_was_broken_off_goes_on_with_the_next_opening() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    let content = fill(&idem, 2_000);
    idem.encryption().unwrap().rotate_data_key().unwrap();
    idem.close_blocking().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    let encryption = idem.encryption().unwrap();
    encryption.wait_for_rotation(|_| {}).unwrap();
    assert_eq!(encryption.status().data_keys, [2]);
    assert_eq!((count(&idem), photo(&idem)), (2_001, content));
    idem.close_blocking().unwrap();
}

#[test]
fn the_key_is_changed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path(), Some(key())).unwrap();
    fill(&idem, 100);
    let other = StoreKey::from_bytes([9; 32]);
    idem.encryption().unwrap().change_key(&other).unwrap();
    idem.close_blocking().unwrap();
    assert_eq!(
        kind(directory.path(), Some(key())),
        ErrorKind::EncryptionKeyInvalid
    );
    let idem = open(directory.path(), Some(other)).unwrap();
    assert_eq!(count(&idem), 101);
    idem.close_blocking().unwrap();
}
