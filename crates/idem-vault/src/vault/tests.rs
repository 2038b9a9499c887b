//! The keys of stores: who opens what, golden files, and what a changed byte does.

use super::*;
use crate::{FRAME_OVERHEAD_BYTES, FileId, SEALED_SECTOR_BYTES, SECTOR_BYTES};

const FAST: KeyDerivation = KeyDerivation {
    memory_kib: 64,
    rounds: 1,
};

fn sealed(vault: &Vault) -> Vec<u8> {
    let mut out = Vec::new();
    let cipher = vault.cipher(Purpose::Engine).unwrap();
    cipher.seal_sector(FileId([3; 16]), 9, 0, b"content", &mut out);
    out
}

fn opens(vault: &Vault, sealed: &[u8]) -> bool {
    let cipher = vault.cipher(Purpose::Engine).unwrap();
    let mut sealed = sealed.to_vec();
    let opened = cipher.open_sector(FileId([3; 16]), 9, 0, &mut sealed);
    opened.is_ok_and(|content| content == b"content")
}

#[test]
fn only_its_key_opens_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let key = StoreKey::from_bytes([1; 32]);
    assert_eq!(Vault::inspect(path).unwrap(), Presence::Plain);
    assert!(matches!(
        Vault::open(path, &key),
        Err(VaultError::KeyUnexpected)
    ));
    let vault = Vault::create(path, &key).unwrap();
    let bytes = sealed(&vault);
    drop(vault);
    assert!(opens(&Vault::open(path, &key).unwrap(), &bytes));
    let mut almost = [1; 32];
    almost[31] = 0;
    let wrong = [
        StoreKey::from_bytes(almost),
        StoreKey::from_passphrase_with("word", FAST),
    ];
    for wrong in wrong {
        let error = Vault::open(path, &wrong).unwrap_err();
        assert!(matches!(error, VaultError::KeyInvalid { .. }), "{error}");
    }
    assert!(!opens(&Vault::in_memory().unwrap(), &bytes));
}

#[test]
fn only_its_passphrase_opens_a_store_and_each_store_has_its_salt() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let key = StoreKey::from_passphrase_with("six random words", FAST);
    let bytes = directories
        .each_ref()
        .map(|it| sealed(&Vault::create(it.path(), &key).unwrap()));
    let [one, two] = directories.each_ref().map(|it| {
        // The costs are those of the store.
        let key = StoreKey::from_passphrase("six random words");
        Vault::open(it.path(), &key).unwrap()
    });
    assert!(opens(&one, &bytes[0]) && !opens(&two, &bytes[0]));
    for wrong in [
        StoreKey::from_passphrase("six random word"),
        StoreKey::from_bytes([1; 32]),
    ] {
        let error = Vault::open(directories[0].path(), &wrong).unwrap_err();
        assert!(matches!(error, VaultError::KeyInvalid { .. }), "{error}");
    }
    assert_ne!(
        fs::read(directories[0].path().join(SIDE_FILE)).unwrap()[36..52],
        fs::read(directories[1].path().join(SIDE_FILE)).unwrap()[36..52]
    );
}

#[test]
fn no_flipped_or_missing_byte_of_a_side_file_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SIDE_FILE);
    let key = StoreKey::from_passphrase_with("word", FAST);
    let vault = Vault::create(directory.path(), &key).unwrap();
    vault.begin_rotation().unwrap();
    let good = fs::read(&path).unwrap();
    let check = |bytes: &[u8], context: &str| {
        fs::write(&path, bytes).unwrap();
        let error = Vault::open(directory.path(), &key).expect_err(context);
        let is_exact = matches!(
            error,
            VaultError::MetadataCorrupt { .. } | VaultError::UnsupportedScheme { .. }
        );
        assert!(is_exact, "{context}: {error}");
    };
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, &format!("bit {bit}"));
    }
    for cut in 0..good.len() {
        check(&good[..cut], &format!("cut at {cut}"));
    }
    check(&[&good[..], &[0]].concat(), "longer");
    check(&vec![0; 5000], "far too long");
}

/// Whoever changes the file and makes its checksum fit is found by the key.
#[test]
fn a_side_file_that_somebody_else_wrote_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SIDE_FILE);
    let key = StoreKey::from_bytes([1; 32]);
    let vault = Vault::create(directory.path(), &key).unwrap();
    vault.begin_rotation().unwrap();
    let good = fs::read(&path).unwrap();
    for byte in 0..good.len() - 8 {
        let mut bytes = good[..good.len() - 8].to_vec();
        bytes[byte] ^= 1;
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..8]);
        fs::write(&path, &bytes).unwrap();
        Vault::open(directory.path(), &key).expect_err("a changed byte");
    }
    // The newer key taken out.
    let mut bytes = good[..52 + 8 + 76].to_vec();
    bytes[52..60].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    bytes.extend_from_slice(&good[good.len() - 40..good.len() - 8]);
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(&check.as_bytes()[..8]);
    fs::write(&path, &bytes).unwrap();
    let error = Vault::open(directory.path(), &key).unwrap_err();
    assert!(
        error.to_string().contains("changed by somebody else"),
        "{error}"
    );
}

#[test]
fn a_rotation_reads_both_and_ends_with_one() {
    let directory = tempfile::tempdir().unwrap();
    let key = StoreKey::from_bytes([1; 32]);
    let vault = Vault::create(directory.path(), &key).unwrap();
    let cipher = vault.cipher(Purpose::Engine).unwrap();
    let before = sealed(&vault);
    assert!(cipher.is_current(&before));
    assert_eq!(vault.begin_rotation().unwrap(), 2);
    assert!(vault.is_rotating() && !cipher.is_current(&before));
    let after = sealed(&vault);
    drop(vault);
    let vault = Vault::open(directory.path(), &key).unwrap();
    assert!(vault.is_rotating());
    assert!(opens(&vault, &before) && opens(&vault, &after));
    assert!(!vault.retire(1).unwrap(), "a rotation has begun since");
    assert!(vault.retire(2).unwrap());
    assert!(opens(&vault, &before), "what is open goes on");
    let vault = Vault::open(directory.path(), &key).unwrap();
    assert!(!vault.is_rotating());
    assert!(!opens(&vault, &before) && opens(&vault, &after));
}

#[test]
fn another_key_takes_the_place_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let first = StoreKey::from_bytes([1; 32]);
    let second = StoreKey::from_passphrase_with("word", FAST);
    let vault = Vault::create(directory.path(), &first).unwrap();
    let bytes = sealed(&vault);
    vault.change_key(&second).unwrap();
    let error = Vault::open(directory.path(), &first).unwrap_err();
    assert!(matches!(error, VaultError::KeyInvalid { .. }), "{error}");
    assert!(opens(
        &Vault::open(directory.path(), &second).unwrap(),
        &bytes
    ));
}

#[test]
fn sectors_and_frames_open_only_where_they_were_sealed() {
    let vault = Vault::in_memory().unwrap();
    let cipher = vault.cipher(Purpose::Engine).unwrap();
    let mut out = Vec::new();
    cipher.seal_sector(FileId([3; 16]), 9, 1, &[5; SECTOR_BYTES], &mut out);
    assert_eq!(out.len(), SEALED_SECTOR_BYTES);
    for (file, number, version) in [(4, 9, 1), (3, 8, 1), (3, 9, 2)] {
        let mut copy = out.clone();
        let opened = cipher.open_sector(FileId([file; 16]), number, version, &mut copy);
        assert!(opened.is_err(), "{file} {number} {version}");
    }
    let log = vault.cipher(Purpose::Log).unwrap();
    assert!(
        log.open_sector(FileId([3; 16]), 9, 1, &mut out.clone())
            .is_err(),
        "purpose"
    );
    assert!(cipher.open_sector(FileId([3; 16]), 9, 1, &mut out).is_ok());

    let mut frame = log.seal_frame(7, &[b"some ", b"payload"]);
    let place = log.place_frame(7, 100, &frame);
    frame.extend_from_slice(&place);
    assert_eq!(frame.len(), 12 + FRAME_OVERHEAD_BYTES);
    assert_eq!(log.open_frame(7, 100, &frame).unwrap(), b"some payload");
    assert!(log.open_frame(7, 101, &frame).is_err() && log.open_frame(8, 100, &frame).is_err());
    for bit in 0..frame.len() * 8 {
        frame[bit / 8] ^= 1 << (bit % 8);
        assert!(log.open_frame(7, 100, &frame).is_err(), "bit {bit}");
        frame[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in 0..frame.len() {
        assert!(
            log.open_frame(7, 100, &frame[..cut]).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn no_nonce_comes_twice() {
    let vault = Vault::in_memory().unwrap();
    let ciphers = [(); 3].map(|()| vault.cipher(Purpose::Log).unwrap());
    let mut seen = std::collections::BTreeSet::new();
    for cipher in ciphers.iter().chain(&[ciphers[0].clone()]) {
        for _ in 0..1000 {
            let seal = cipher.seal(b"", &mut [1]);
            assert!(seen.insert(seal[..28].to_vec()));
        }
    }
}

#[test]
fn a_draft_that_a_crash_left_is_no_side_file() {
    let directory = tempfile::tempdir().unwrap();
    let key = StoreKey::from_bytes([1; 32]);
    fs::write(directory.path().join("idem.keys.part"), b"half of it").unwrap();
    assert_eq!(Vault::inspect(directory.path()).unwrap(), Presence::Plain);
    Vault::create(directory.path(), &key).unwrap();
    Vault::open(directory.path(), &key).unwrap();
}

#[test]
fn nothing_prints_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let key = StoreKey::from_bytes([0xAB; 32]);
    let vault = Vault::create(directory.path(), &key).unwrap();
    let cipher = vault.cipher(Purpose::Log).unwrap();
    let names = vault.names().unwrap();
    let text = format!("{vault:?} {cipher:?} {names:?} {:?}", vault.facts());
    let secret = vault.held().keys[0].1.clone();
    for secret in [&[0xAB; 32], &*secret] {
        let (hex, list) = (
            secret
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
            format!("{secret:?}"),
        );
        assert!(
            !text.contains(&hex[..8]) && !text.contains(&list[1..12]),
            "{text}"
        );
    }
}

/// Written once with fixed secrets and nonces (`vectors/disk/`): every version of Idem reads them.
mod golden {
    use super::*;

    fn vector(name: &str) -> Vec<u8> {
        let path = format!(
            "{}/../../vectors/disk/{name}.hex",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn hex(bytes: &[u8]) -> String {
        let lines = bytes.chunks(40);
        lines
            .map(|line| {
                line.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
                    + "\n"
            })
            .collect()
    }

    fn check(name: &str, bytes: &[u8]) {
        assert!(vector(name) == bytes, "{name} is now\n{}", hex(bytes));
    }

    fn held(key: &StoreKey, derivation: Option<(KeyDerivation, [u8; 16])>) -> Held {
        Held {
            path: None,
            store_id: [0x51; 16],
            derivation,
            wrapping: key.wrapping_key(&[0x51; 16], derivation).unwrap(),
            current: 2,
            keys: vec![
                (1, Zeroizing::new([0xD1; 32])),
                (2, Zeroizing::new([0xD2; 32])),
            ],
        }
    }

    fn side_bytes(held: &Held) -> Vec<u8> {
        let mut count = 0;
        let nonces = || {
            count += 1;
            Ok([count; NONCE_BYTES])
        };
        side::encode(
            &held.store_id,
            held.derivation,
            held.current,
            &held.keys,
            &held.wrapping,
            nonces,
        )
        .unwrap()
    }

    #[test]
    fn side_files() {
        let passphrase = StoreKey::from_passphrase_with("open sesame", FAST);
        for (name, key, derivation) in [
            ("keys-bytes", StoreKey::from_bytes([7; 32]), None),
            ("keys-passphrase", passphrase, Some((FAST, [0x5A; 16]))),
        ] {
            check(name, &side_bytes(&held(&key, derivation)));
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(SIDE_FILE), vector(name)).unwrap();
            let vault = Vault::open(directory.path(), &key).unwrap();
            assert_eq!(vault.facts().keys, [1, 2]);
            assert_eq!(*vault.held().keys[1].1, [0xD2; 32]);
        }
    }

    #[test]
    fn sectors_frames_and_names() {
        let vault = Vault::of(held(&StoreKey::from_bytes([7; 32]), None));
        let cipher =
            |purpose| Cipher::with_nonces(Arc::clone(&vault.shared.ring), purpose, [0x0E; 16]);
        let mut sector = Vec::new();
        let engine = cipher(Purpose::Engine);
        engine.seal_sector(FileId([0xF1; 16]), 3, 0, b"a short sector", &mut sector);
        check("sealed-sector", &sector);
        let log = cipher(Purpose::Log);
        let mut frame = log.seal_frame(11, &[b"a payload"]);
        let place = log.place_frame(11, 4096, &frame);
        frame.extend_from_slice(&place);
        check("sealed-frame", &frame);
        let name = vault.names().unwrap().conceal("ab/abcd.blob");
        check("sealed-name", name.as_bytes());
    }
}
