//! Names of files that tell nothing.

use crate::{Cipher, Purpose, Vault, VaultError};

/// Digits of the names: five bits each, and no file system that ignores case takes two for one.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Turns names of files into others that only the store can read. Equal names give equal names: whoever
/// copies a directory twice sees which files are the same, and nothing of what they are called.
#[derive(Debug, Clone)]
pub struct Names {
    cipher: Cipher,
}

impl Vault {
    /// Encrypts names of files.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn names(&self) -> Result<Names, VaultError> {
        let cipher = self.cipher(Purpose::Names)?;
        Ok(Names { cipher })
    }
}

impl Names {
    /// The name on disk under the key that seals now.
    pub fn conceal(&self, name: &str) -> String {
        self.conceal_under(self.cipher.current_key(), name)
    }

    /// The name on disk under every key that there is, the present one first.
    pub fn conceal_all(&self, name: &str) -> Vec<String> {
        let ring = self.cipher.ring();
        let mut ids: Vec<u32> = ring.keys.iter().map(|key| key.id).collect();
        ids.sort_by_key(|id| *id != ring.current);
        let names = ids.into_iter().map(|id| self.conceal_under(id, name));
        names.collect()
    }

    fn conceal_under(&self, id: u32, name: &str) -> String {
        let mut bytes = name.as_bytes().to_vec();
        let head = self.cipher.seal_named(id, &mut bytes);
        let head = head.expect("the key is in the ring");
        encode(&[&head, &bytes[..]].concat())
    }

    /// Reads a name on disk. Gives the key that it is under, and nothing if it is not one of the store's.
    pub fn reveal(&self, concealed: &str) -> Option<(u32, String)> {
        let bytes = decode(concealed)?;
        let (head, sealed) = bytes.split_first_chunk::<40>()?;
        let ring = self.cipher.ring();
        ring.keys.iter().find_map(|key| {
            let mut name = sealed.to_vec();
            self.cipher.open_named(key.id, head, &mut name).ok()?;
            Some((key.id, String::from_utf8(name).ok()?))
        })
    }

    /// The key that seals now.
    pub fn current_key(&self) -> u32 {
        self.cipher.current_key()
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(DIGITS[(held >> bits) as usize & 31]));
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        text.push(char::from(DIGITS[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        held = held << 5 | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_tell_nothing() {
        let names = Vault::in_memory().unwrap().names().unwrap();
        for name in ["", "a", "ab/abcd.blob", &"ab".repeat(40)] {
            let concealed = names.conceal(name);
            assert_eq!(names.reveal(&concealed).unwrap().1, name);
            assert_eq!(concealed, names.conceal(name));
            assert!(
                concealed.len() < 255 && concealed.bytes().all(|it| it.is_ascii_alphanumeric())
            );
        }
        let other = Vault::in_memory().unwrap().names().unwrap();
        assert_eq!(other.reveal(&names.conceal("a")), None);
        let concealed = names.conceal("ab/abcd.blob");
        for at in 0..concealed.len() {
            let mut changed = concealed.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(
                names.reveal(std::str::from_utf8(&changed).unwrap()),
                None,
                "digit {at}"
            );
        }
        for foreign in ["", "0", "zz", "idem", "new-1.blob", "\u{fc}"] {
            assert_eq!(names.reveal(foreign), None);
        }
    }
}
