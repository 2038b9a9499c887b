//! What a peer says of itself to a network.

use idem_model::DatabaseId;

/// Characters of the name of an instance: 16 random bytes.
pub(super) const INSTANCE_LEN: usize = 32;

const VERSION: &str = "1";

/// The texts that a peer gives with its address. Without the database id they mean nothing, and two
/// starts of one peer have nothing in common.
#[derive(Debug)]
pub(super) struct Advert {
    instance: String,
    database: String,
    peer: String,
}

/// The texts of somebody else, each if it is there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Texts<'a> {
    pub(super) version: Option<&'a str>,
    pub(super) database: Option<&'a str>,
    pub(super) peer: Option<&'a str>,
}

impl Advert {
    pub(super) fn new(database: DatabaseId, peer: [u8; 8], random: [u8; 16]) -> Self {
        let instance = to_hex(&random);
        let (tag, mask) = tag_and_mask(database, &instance);
        Self {
            database: to_hex(&tag),
            peer: to_hex(&xor(peer, mask)),
            instance,
        }
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn texts(&self) -> [(&'static str, &str); 3] {
        [("v", VERSION), ("d", &self.database), ("p", &self.peer)]
    }
}

impl Texts<'_> {
    /// Who says so, if it is a peer of `database` and the texts are of a version that is known.
    pub(super) fn peer_of(&self, database: DatabaseId, instance: &str) -> Option<[u8; 8]> {
        let (tag, mask) = tag_and_mask(database, instance);
        let is_ours = self.version == Some(VERSION) && from_hex(self.database?) == Some(tag);
        let masked = from_hex(self.peer?)?;
        is_ours.then(|| xor(masked, mask))
    }
}

/// What a peer of `database` writes under the name `instance` to be known as one, and what hides who
/// it is.
fn tag_and_mask(database: DatabaseId, instance: &str) -> ([u8; 8], [u8; 8]) {
    let key = blake3::derive_key("idem 2026 discovery on local networks", &database.0);
    let hash = *blake3::keyed_hash(&key, instance.as_bytes()).as_bytes();
    let (tag, rest) = hash.split_first_chunk().expect("a hash has 32 bytes");
    let mask = rest.first_chunk().expect("24 bytes are left");
    (*tag, *mask)
}

fn xor(a: [u8; 8], b: [u8; 8]) -> [u8; 8] {
    std::array::from_fn(|at| a[at] ^ b[at])
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 8]> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u64::from_str_radix(text, 16))?;
    Some(number.ok()?.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: DatabaseId = DatabaseId([1; 16]);

    fn read(advert: &Advert, database: DatabaseId) -> Option<[u8; 8]> {
        let texts = Texts {
            version: Some(VERSION),
            database: Some(&advert.database),
            peer: Some(&advert.peer),
        };
        texts.peer_of(database, advert.instance())
    }

    #[test]
    fn only_peers_of_the_database_can_read_who_it_is() {
        let advert = Advert::new(OURS, [7; 8], [9; 16]);
        assert_eq!(advert.instance().len(), INSTANCE_LEN);
        assert_eq!(read(&advert, OURS), Some([7; 8]));
        assert_eq!(read(&advert, DatabaseId([2; 16])), None);
        let next = Advert::new(OURS, [7; 8], [8; 16]);
        assert_ne!(next.texts()[1], advert.texts()[1]);
        assert_ne!(next.texts()[2], advert.texts()[2]);
        // Under another name the texts are worth nothing.
        let moved = Advert {
            instance: next.instance,
            ..advert
        };
        assert_eq!(read(&moved, OURS), None);
    }

    #[test]
    fn texts_that_are_none_are_passed_over() {
        let advert = Advert::new(OURS, [7; 8], [9; 16]);
        let good = Texts {
            version: Some(VERSION),
            database: Some(&advert.database),
            peer: Some(&advert.peer),
        };
        let check = |texts: Texts<'_>| {
            assert_eq!(texts.peer_of(OURS, advert.instance()), None, "{texts:?}");
        };
        check(Texts::default());
        check(Texts {
            version: Some("2"),
            ..good
        });
        check(Texts {
            version: None,
            ..good
        });
        check(Texts {
            database: None,
            ..good
        });
        check(Texts { peer: None, ..good });
        for peer in [
            "",
            "0",
            "+000000000000000",
            "00000000000000000",
            "000000000000000g",
        ] {
            check(Texts {
                peer: Some(peer),
                ..good
            });
            check(Texts {
                database: Some(peer),
                ..good
            });
        }
    }

    #[test]
    fn texts_are_made_as_they_were() {
        let hashes = include_str!("../../../../vectors/wire/hashes.txt");
        let database: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let random: [u8; 16] = std::array::from_fn(|at| u8::try_from(0x20 + at).unwrap());
        let advert = Advert::new(DatabaseId(database), [0xab; 8], random);
        let line = format!(
            "texts of a discovery | database {} instance {} peer abababababababab | {} {}\n",
            to_hex(&database),
            advert.instance(),
            advert.database,
            advert.peer,
        );
        assert!(hashes.contains(&line), "{line}");
    }
}
