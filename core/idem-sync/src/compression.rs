//! Compression of the pieces of one lane, each of which may repeat what the pieces before it said.
//!
//! Documents of one collection look alike: the same field names, actors and words. A live change is
//! often one document in one frame, in which nothing repeats; with what went before as a dictionary it
//! shrinks as much as in the company of a batch. The blocks are plain LZ4
//! (docs/format/wire.md, "Compression"), so that any decoder with an external dictionary reads them.
//! They are made here because the table that finds repetitions must live on with the dictionary:
//! filling it anew for each frame costs ten times as much as a document.

use std::mem;

use idem_model::limits;

/// How far back a piece may repeat what went before it.
const WINDOW_BYTES: usize = limits::COMPRESSION_WINDOW_BYTES;

/// A window grows by so much beyond what may be repeated before its beginning is dropped, which moves
/// all of it.
const SLACK_BYTES: usize = 4 * 1024;

/// Places of the table, of four bytes each. The smallest that has one for every byte of the window
/// is used, since most sessions say little; the largest has one for every four bytes of a full window.
const TABLE_PLACES: [usize; 3] = [256, 1024, 4096];

/// A repetition takes three bytes, so shorter ones gain nothing.
const REPEAT_BYTES_MIN: usize = 4;

/// The last repetition of a block begins at least so many bytes before its end, and ends before the
/// last five, as the format demands.
const TAIL_BYTES: usize = 12;
const LITERAL_TAIL_BYTES: usize = 5;

/// The furthest that two bytes of an offset reach.
const OFFSET_MAX: usize = 0xffff;

/// After two to this power places without a repetition, the search goes on in larger steps.
const PATIENCE_BITS: usize = 6;

/// What a compressed piece needs beside its block: the number of bytes that it stands for.
const LENGTH_BYTES: usize = 3;

/// The sending end.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    /// The last of what was sent, and the piece at hand.
    window: Vec<u8>,
    /// What the place of the first byte of the window is in the table; at least 1.
    base: u32,
    /// Where some texts were seen last: one of [`TABLE_PLACES`]. Empty until there is a piece.
    table: Box<[u32]>,
}

impl Compressor {
    /// Makes a block of a piece, if that is shorter. The piece counts as sent in any case.
    pub(crate) fn compress(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let start = self.window.len();
        append(&mut self.window, piece);
        let [least, more, _] = TABLE_PLACES;
        let mut block = Vec::with_capacity(piece.len() / 2);
        match self.window.len().max(self.table.len()) {
            len if len <= least => self.compress_with::<{ TABLE_PLACES[0] }>(start, &mut block),
            len if len <= more => self.compress_with::<{ TABLE_PLACES[1] }>(start, &mut block),
            _ => self.compress_with::<{ TABLE_PLACES[2] }>(start, &mut block),
        }
        if self.window.len() > WINDOW_BYTES + SLACK_BYTES {
            self.slide();
        }
        (block.len() + LENGTH_BYTES < piece.len()).then_some(block)
    }

    /// The next piece repeats nothing of those before.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Gives back what can be made again, which costs as much as some 50 documents when there is a piece
    /// again, and no bytes on the link.
    pub(crate) fn rest(&mut self) {
        self.table = Box::default();
        keep_end(&mut self.window);
    }

    /// Keeps the end of the window only.
    fn slide(&mut self) {
        let gone = self.window.len() - WINDOW_BYTES;
        self.window.drain(..gone);
        self.window.shrink_to(WINDOW_BYTES + SLACK_BYTES);
        let gone = u32::try_from(gone).expect("a window is a few frames long");
        self.base += gone;
        if self.base > u32::MAX / 2 {
            self.base = 1;
            self.table.fill(0);
        }
    }

    /// Writes what is in the window from `start` on, with a table of so many places.
    fn compress_with<const PLACES: usize>(&mut self, start: usize, block: &mut Vec<u8>) {
        if self.table.len() != PLACES {
            self.fill_table::<PLACES>(start);
        }
        self.write_block::<PLACES>(start, block);
    }

    /// Makes a table of what is in the window before `start`.
    fn fill_table<const PLACES: usize>(&mut self, start: usize) {
        self.base = 1;
        let mut table = vec![0; PLACES];
        let text = &self.window[..];
        // The last eight bytes before `start` are found only if the piece goes on behind them.
        for at in start.saturating_sub(WINDOW_BYTES)..start.min(text.len().saturating_sub(7)) {
            table[place_of::<PLACES>(text, at)] =
                self.base + u32::try_from(at).expect("a few frames at most");
        }
        self.table = table.into_boxed_slice();
    }

    fn write_block<const PLACES: usize>(&mut self, start: usize, block: &mut Vec<u8>) {
        let text = &self.window[..];
        let table = self.table.first_chunk_mut::<PLACES>();
        let table = table.expect("it was made with this length");
        let oldest = start.saturating_sub(WINDOW_BYTES);
        let number = |at: usize| self.base + u32::try_from(at).expect("a few frames at most");
        let mut literals = start;
        let mut at = start;
        let mut misses = 1 << PATIENCE_BITS;
        while at + TAIL_BYTES <= text.len() {
            let place = &mut table[place_of::<PLACES>(text, at)];
            let found = mem::replace(place, number(at)).wrapping_sub(self.base) as usize;
            let is_near = found >= oldest && found < at && at - found <= OFFSET_MAX;
            if !is_near || word(text, found) != word(text, at) {
                at += misses >> PATIENCE_BITS;
                misses += 1;
                continue;
            }
            misses = 1 << PATIENCE_BITS;
            let mut from = found;
            while at > literals && from > oldest && text[at - 1] == text[from - 1] {
                at -= 1;
                from -= 1;
            }
            let rest = &text[at..text.len() - LITERAL_TAIL_BYTES];
            let len = common_bytes(rest, &text[from..]);
            put_sequence(block, &text[literals..at], Some((at - from, len)));
            at += len;
            literals = at;
            if at + TAIL_BYTES <= text.len() {
                table[place_of::<PLACES>(text, at - 2)] = number(at - 2);
            }
        }
        put_sequence(block, &text[literals..], None);
    }
}

/// The receiving end.
#[derive(Debug, Default)]
pub(crate) struct Decompressor {
    /// The last of what came.
    window: Vec<u8>,
}

/// A block that does not stand for as many bytes as were claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokenBlock;

impl Decompressor {
    /// Appends the `len` bytes that a block stands for.
    pub(crate) fn decompress(
        &mut self,
        block: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BrokenBlock> {
        let start = out.len();
        out.resize(start + len, 0);
        let dictionary = &self.window[self.window.len().saturating_sub(WINDOW_BYTES)..];
        let room = &mut out[start..];
        let written = lz4_flex::block::decompress_into_with_dict(block, room, dictionary);
        if !matches!(written, Ok(bytes) if bytes == len) {
            return Err(BrokenBlock);
        }
        self.keep(&out[start..]);
        Ok(())
    }

    /// A piece that came as it is, or was made of a block, may be repeated from now on.
    pub(crate) fn keep(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(WINDOW_BYTES)..];
        if self.window.len() + piece.len() > WINDOW_BYTES + SLACK_BYTES {
            let kept = (WINDOW_BYTES - piece.len()).min(self.window.len());
            self.window.drain(..self.window.len() - kept);
        }
        append(&mut self.window, piece);
    }

    /// Gives back memory that is not needed while nothing comes.
    pub(crate) fn rest(&mut self) {
        keep_end(&mut self.window);
    }

    /// The next piece repeats nothing of those before.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The place in the table of the text at `at`, which has eight bytes. The first five count: with four,
/// long runs of digits find each other all the time.
fn place_of<const PLACES: usize>(text: &[u8], at: usize) -> usize {
    const { assert!(PLACES.is_power_of_two() && PLACES > 1) };
    let bytes = text[at..].first_chunk().expect("the end is not so near");
    let hash = (u64::from_le_bytes(*bytes) << 24).wrapping_mul(0xcf_1bbc_dcbb);
    usize::try_from(hash >> (u64::BITS - PLACES.ilog2())).expect("12 bits")
}

/// Appends to a window, which takes no more memory than it needs in the end.
fn append(window: &mut Vec<u8>, piece: &[u8]) {
    let needed = window.len() + piece.len();
    if needed > window.capacity() {
        let ample = (2 * needed).min(WINDOW_BYTES + SLACK_BYTES).max(needed);
        window.reserve_exact(ample - window.len());
    }
    window.extend_from_slice(piece);
}

/// Keeps of a window only what may be repeated, in no more memory than that.
fn keep_end(window: &mut Vec<u8>) {
    let gone = window.len().saturating_sub(WINDOW_BYTES);
    window.drain(..gone);
    window.shrink_to_fit();
}

fn word(text: &[u8], at: usize) -> u32 {
    let bytes = text[at..].first_chunk().expect("the end is not so near");
    u32::from_le_bytes(*bytes)
}

/// How many bytes at the start of both are equal.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, _) = b[..a.len()].as_chunks::<8>();
    for (index, (a_word, b_word)) in a_words.iter().zip(b_words).enumerate() {
        let different = u64::from_le_bytes(*a_word) ^ u64::from_le_bytes(*b_word);
        if different != 0 {
            return 8 * index + different.trailing_zeros() as usize / 8;
        }
    }
    let b_rest = &b[8 * a_words.len()..];
    let equal = a_rest.iter().zip(b_rest).take_while(|(a, b)| a == b);
    8 * a_words.len() + equal.count()
}

/// Literal bytes, and the distance and length of what is repeated after them.
fn put_sequence(block: &mut Vec<u8>, literals: &[u8], repeat: Option<(usize, usize)>) {
    let (offset, len) = repeat.unwrap_or((0, REPEAT_BYTES_MIN));
    let len = len - REPEAT_BYTES_MIN;
    let token = literals.len().min(15) << 4 | len.min(15);
    block.push(u8::try_from(token).expect("eight bits"));
    put_length(block, literals.len());
    block.extend_from_slice(literals);
    if repeat.is_some() {
        let offset = u16::try_from(offset).expect("no repetition is further away");
        block.extend_from_slice(&offset.to_le_bytes());
        put_length(block, len);
    }
}

/// What of a length does not fit the four bits of the token.
fn put_length(block: &mut Vec<u8>, len: usize) {
    let Some(mut rest) = len.checked_sub(15) else {
        return;
    };
    while rest >= 255 {
        block.push(255);
        rest -= 255;
    }
    block.push(u8::try_from(rest).expect("below 255"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends pieces from one end to the other; returns how many bytes went.
    fn send(pieces: &[Vec<u8>], forget_before: Option<usize>) -> usize {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let mut sent = 0;
        for (number, piece) in pieces.iter().enumerate() {
            if forget_before == Some(number) {
                compressor.forget();
                decompressor.forget();
            }
            let mut out = b"what came before in the batch".to_vec();
            let start = out.len();
            match compressor.compress(piece) {
                Some(block) => {
                    sent += block.len();
                    let made = decompressor.decompress(&block, piece.len(), &mut out);
                    assert_eq!(made, Ok(()), "piece {number}");
                }
                None => {
                    sent += piece.len();
                    decompressor.keep(piece);
                    out.extend_from_slice(piece);
                }
            }
            assert!(out[start..] == piece[..], "piece {number} arrives");
            assert!(compressor.window.len() <= WINDOW_BYTES + SLACK_BYTES);
            assert!(decompressor.window.len() <= WINDOW_BYTES + SLACK_BYTES);
        }
        sent
    }

    /// What looks like a document, and like its neighbours.
    fn document(number: u64) -> Vec<u8> {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "orders/{mixed:016x} customer: Anna Schmidt, city: Frankfurt, status: shipped, amount: {}, \
             reference: {:016x}, note: delivery to the back door, floor {}",
            mixed % 100_000,
            mixed.rotate_left(21),
            mixed % 9
        )
        .into_bytes()
    }

    #[test]
    fn a_document_alone_shrinks_by_what_those_before_it_said() {
        let documents: Vec<_> = (0..1000).map(document).collect();
        let raw: usize = documents.iter().map(Vec::len).sum();
        let sent = send(&documents, None);
        assert!(sent * 5 < raw * 2, "{sent} of {raw} bytes");
        // Forgetting costs the words of one document, and nothing breaks.
        let again = send(&documents, Some(500));
        assert!(again > sent && again < sent + 300, "{again} after {sent}");
    }

    /// Pieces as docs/format/wire.md has them: `as-is` or `block`, what is sent, and what it stands for.
    const VECTORS: &str = include_str!("../../../vectors/wire/compression.txt");

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    #[test]
    fn pieces_are_read_as_they_were_written() {
        let mut decompressor = Decompressor::default();
        let mut kinds = Vec::new();
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let [kind, sent, piece] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line} has three parts");
            };
            let (sent, piece) = (hex(sent), hex(piece));
            let mut out = Vec::new();
            match kind {
                "as-is" => {
                    decompressor.keep(&sent);
                    out.extend_from_slice(&sent);
                }
                "block" => {
                    let made = decompressor.decompress(&sent, piece.len(), &mut out);
                    assert_eq!(made, Ok(()), "{line}");
                }
                other => panic!("{other} is no kind of piece"),
            }
            assert_eq!(out, piece);
            kinds.push(kind.to_owned());
        }
        assert_eq!(kinds, ["as-is", "as-is", "block", "as-is", "block"]);
    }

    #[test]
    fn what_the_table_knows_of_an_earlier_round_is_not_repeated() {
        let mut compressor = Compressor {
            window: Vec::new(),
            base: u32::MAX / 2 - 100,
            table: vec![0; TABLE_PLACES[2]].into_boxed_slice(),
        };
        let mut decompressor = Decompressor::default();
        for number in 0..200 {
            let piece = document(number % 3).repeat(40);
            let block = compressor.compress(&piece).expect("it repeats itself");
            let mut out = Vec::new();
            let made = decompressor.decompress(&block, piece.len(), &mut out);
            assert_eq!((made, out), (Ok(()), piece), "piece {number}");
        }
        assert!(compressor.base < u32::MAX / 2);
    }

    #[test]
    fn a_repetition_of_what_is_forgotten_is_refused() {
        let piece = document(1);
        let mut compressor = Compressor::default();
        compressor.compress(&piece);
        let block = compressor.compress(&piece).expect("it was just sent");
        assert!(block.len() < 20, "{} bytes", block.len());
        let mut out = Vec::new();
        let made = Decompressor::default().decompress(&block, piece.len(), &mut out);
        assert_eq!(made, Err(BrokenBlock));
    }

    proptest! {
        #[test]
        fn any_pieces_arrive(
            pieces in prop::collection::vec((any::<u64>(), 1_usize..5, 0_usize..40_000, 0_u8..3), 1..12),
            forget_before in prop::option::of(0_usize..12),
        ) {
            let pieces: Vec<Vec<u8>> = pieces
                .into_iter()
                .map(|(seed, letters, len, kind)| {
                    let mut state = seed | 1;
                    let mut next = || {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        state
                    };
                    match kind {
                        0 => (0..len % 64).map(|_| next().to_le_bytes()[0]).collect(),
                        1 => (0..len).map(|_| next().to_le_bytes()[1] % (1 << letters)).collect(),
                        _ => document(seed % 7).repeat(len / 200),
                    }
                })
                .collect();
            send(&pieces, forget_before);
        }

        #[test]
        fn any_block_is_read_or_refused(
            blocks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 0_usize..3000), 1..8),
        ) {
            let mut decompressor = Decompressor::default();
            decompressor.keep(&document(1));
            for (block, len) in blocks {
                let mut out = Vec::new();
                let _ = decompressor.decompress(&block, len, &mut out);
                prop_assert!(out.len() == len);
            }
        }
    }
}
