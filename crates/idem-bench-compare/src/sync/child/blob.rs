//! Attachments of one of the two peers.

use std::{
    io::Read,
    thread::{self, JoinHandle},
    time::Instant,
};

use idem::{Attachment, AttachmentMetadata, AttachmentToken, Object, Store, Value};

use crate::{engines::Failure, sync::WAIT_MAX};

/// Makes an attachment of so many bytes, which differ by seed. Gives what names it, as two words.
pub(super) fn attach(
    store: &Store,
    seed: u64,
    bytes: u64,
) -> Result<(Attachment, String), Failure> {
    let content = Noise(seed).take(bytes);
    let made = store.new_attachment_from_reader_blocking(content, AttachmentMetadata::new())?;
    let name = format!("{} {bytes}", made.token().id());
    Ok((made, name))
}

/// Fetches attachments one after the other, each named by two words.
pub(super) struct Fetch(JoinHandle<Result<u64, String>>);

impl Fetch {
    pub(super) fn start(store: &Store, words: &[&str]) -> Result<Self, Failure> {
        let mut tokens = Vec::new();
        for name in words.chunks_exact(2) {
            let fields = Object::from([
                ("id".to_owned(), Value::String(name[0].to_owned())),
                ("len".to_owned(), Value::Int(name[1].parse()?)),
            ]);
            tokens.push(AttachmentToken::from_value(&Value::Object(fields))?);
        }
        let store = store.clone();
        let fetch = move || {
            let start = Instant::now();
            for token in tokens {
                let fetch = store.fetch_attachment(&token, |_| {});
                let fetch = fetch.map_err(|e| e.to_string())?;
                fetch.wait_blocking(WAIT_MAX).map_err(|e| e.to_string())?;
            }
            u64::try_from(start.elapsed().as_nanos()).map_err(|e| e.to_string())
        };
        Ok(Self(thread::spawn(fetch)))
    }

    pub(super) fn is_running(&self) -> bool {
        !self.0.is_finished()
    }

    /// Waits for the end. Gives the nanoseconds that all of it took.
    pub(super) fn end(self) -> Result<u64, Failure> {
        let nanos = self.0.join().map_err(|_| "the fetch panicked")?;
        Ok(nanos?)
    }
}

/// The splitmix64 generator as bytes: what no compression makes shorter.
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        for chunk in into.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            let len = chunk.len();
            chunk.copy_from_slice(&z.to_le_bytes()[..len]);
        }
        Ok(into.len())
    }
}
