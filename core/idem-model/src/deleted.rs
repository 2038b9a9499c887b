//! Which deletions a peer has heard of, in sums by days (docs/format/wire.md, "Deleted meanwhile").
//!
//! A version vector that covers a deletion does not tell that it was heard of: it may cover it by way of
//! a later commit of the same writer. A sum over exactly the deletions of a day tells, as long as two
//! peers heard of the same ones, and in which they differ need not be known.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    codec::{DecodeError, Reader, put_varint},
    limits,
};

/// Milliseconds of a day, as sums are made of it.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A document that was deleted, as it counts in the sum of its day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// The day of the latest commit in the document, from 1970-01-01.
    pub day: u32,
    /// A hash of the document's id and of the version of its tombstone.
    pub hash: u64,
}

/// What a peer tells of the deletions of one day in a collection. Sums are modulo 2^64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeletedDay {
    /// Which day, from 1970-01-01.
    pub day: u32,
    /// The sum of some deletions that it has heard of, all of which it has forgotten but for those in
    /// `kept`.
    pub heard: u64,
    /// The sum of those among them of which it has the tombstones still; 0 if there are none.
    pub kept: u64,
}

/// Sums of tombstones, by their days.
pub type DaySums = BTreeMap<u32, u64>;

/// The deletions in a collection of which a peer has heard and no tombstones.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DeletedDays {
    /// Earlier days are not told apart any more.
    since: u32,
    forgotten: DaySums,
    /// Sums that others told, which may share deletions with those above and with each other.
    told: BTreeSet<(u32, u64)>,
}

impl Deletion {
    /// A deletion at a time in Unix milliseconds.
    pub fn at(unix_ms: u64, hash: u64) -> Self {
        let day = u32::try_from(unix_ms / DAY_MS).unwrap_or(u32::MAX);
        Self { day, hash }
    }

    /// Counts it among others.
    pub fn add_to(self, sums: &mut DaySums) {
        let sum = sums.entry(self.day).or_insert(0);
        *sum = sum.wrapping_add(self.hash);
    }
}

impl DeletedDay {
    /// The sum of what is forgotten of it.
    fn forgotten(self) -> u64 {
        self.heard.wrapping_sub(self.kept)
    }
}

impl DeletedDays {
    /// Whether nothing is forgotten here, nor was told to be elsewhere.
    pub fn is_empty(&self) -> bool {
        self.forgotten.is_empty() && self.told.is_empty()
    }

    /// A tombstone goes.
    pub fn forget(&mut self, deletion: Deletion) {
        if deletion.day >= self.since {
            deletion.add_to(&mut self.forgotten);
            self.trim();
        }
    }

    /// What is told to who asks, given the tombstones that are here: it covers every deletion that was
    /// heard of and of which there is no tombstone here. Strictly rising.
    pub fn tell(&self, kept: &DaySums) -> Vec<DeletedDay> {
        let own = self.forgotten.iter().map(|(&day, forgotten)| {
            let kept = kept.get(&day).copied().unwrap_or(0);
            let heard = forgotten.wrapping_add(kept);
            DeletedDay { day, heard, kept }
        });
        let told = self.told.iter();
        let told = told.map(|&(day, heard)| DeletedDay {
            day,
            heard,
            kept: 0,
        });
        // What was told may be what was heard here by now.
        let days: BTreeSet<_> = own.chain(told).collect();
        days.into_iter().collect()
    }

    /// A peer that was asked about everything here has heard of these deletions. Gives whether it has
    /// forgotten some that were not heard of here, as far as can be told, given the tombstones that are
    /// here.
    pub fn learn(&mut self, kept: &DaySums, days: &[DeletedDay]) -> bool {
        let mut is_news = false;
        for it in days {
            if it.day < self.since || self.has_heard(kept, *it) {
                continue;
            }
            is_news = true;
            if self.is_unheard_of(kept, it.day) {
                // What comes later counts beside it as it does there.
                self.forgotten.insert(it.day, it.forgotten());
            } else {
                self.told.insert((it.day, it.forgotten()));
            }
            self.trim();
        }
        is_news
    }

    /// The stored row: a day, the sums of what is forgotten, and those that were told.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.since.into());
        put_varint(out, self.forgotten.len() as u64);
        for (day, sum) in &self.forgotten {
            put_entry(out, (*day, *sum));
        }
        put_varint(out, self.told.len() as u64);
        for entry in &self.told {
            put_entry(out, *entry);
        }
    }

    /// The reverse of [`DeletedDays::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not of that form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let since = read_day(reader)?;
        let forgotten = read_entries(reader)?;
        let told = read_entries(reader)?;
        let days = forgotten.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let rising = told.windows(2).all(|pair| pair[0] < pair[1]);
        if !days || !rising {
            let (what, at) = ("order of days", reader.position());
            return Err(DecodeError::Invalid { what, at });
        }
        Ok(Self {
            since,
            forgotten: forgotten.into_iter().collect(),
            told: told.into_iter().collect(),
        })
    }

    /// Whether all that is forgotten there of this was heard of here.
    fn has_heard(&self, kept: &DaySums, told: DeletedDay) -> bool {
        let DeletedDay { day, heard, .. } = told;
        [heard, told.forgotten()].into_iter().any(|sum| {
            let forgotten = self.forgotten.get(&day).copied();
            let own = forgotten
                .unwrap_or(0)
                .wrapping_add(kept.get(&day).copied().unwrap_or(0));
            let is_own = !self.is_unheard_of(kept, day) && own == sum;
            is_own || forgotten == Some(sum) || self.told.contains(&(day, sum))
        })
    }

    /// Whether no deletion of a day was heard of, but for what was told in a sum.
    fn is_unheard_of(&self, kept: &DaySums, day: u32) -> bool {
        !self.forgotten.contains_key(&day) && !kept.contains_key(&day)
    }

    /// Forgets the earliest days if there are too many sums.
    fn trim(&mut self) {
        while self.forgotten.len() + self.told.len() > limits::DELETED_DAYS_MAX {
            let own = self.forgotten.first_key_value().map(|(day, _)| *day);
            let told = self.told.first().map(|(day, _)| *day);
            let Some(first) = own.into_iter().chain(told).min() else {
                return;
            };
            // What was dropped is not learned again, or two peers would have each other ask for ever.
            self.since = self.since.max(first.saturating_add(1));
            self.forgotten.remove(&first);
            self.told.retain(|(day, _)| *day > first);
        }
    }
}

fn put_entry(out: &mut Vec<u8>, (day, sum): (u32, u64)) {
    put_varint(out, day.into());
    out.extend_from_slice(&sum.to_le_bytes());
}

fn read_day(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = reader.position();
    let what = "number of a day";
    u32::try_from(reader.varint()?).map_err(|_| DecodeError::Invalid { what, at })
}

fn read_entries(reader: &mut Reader<'_>) -> Result<Vec<(u32, u64)>, DecodeError> {
    let at = reader.position();
    let count = reader.varint()?;
    if count > limits::DELETED_DAYS_MAX as u64 {
        let what = "number of days";
        return Err(DecodeError::Invalid { what, at });
    }
    let entries = (0..count).map(|_| {
        let day = read_day(reader)?;
        Ok((day, u64::from_le_bytes(reader.array()?)))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Deletions of two days.
    fn deletion(number: u8) -> Deletion {
        let mut hash = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Deletion {
            day: u32::from(number / 4),
            hash: hash ^ (hash >> 27),
        }
    }

    /// What a sum of a day stands for.
    type Meanings = BTreeMap<(u32, u64), BTreeSet<u8>>;

    /// A peer, with what nothing but a list of all can tell.
    #[derive(Clone, Default, Debug)]
    struct Peer {
        days: DeletedDays,
        kept: BTreeSet<u8>,
        /// What it has forgotten, and what counts with that.
        forgotten: BTreeSet<u8>,
        /// All deletions that it has heard of.
        heard: BTreeSet<u8>,
    }

    impl Peer {
        fn sums(&self) -> DaySums {
            let mut sums = DaySums::new();
            for number in &self.kept {
                deletion(*number).add_to(&mut sums);
            }
            sums
        }

        fn tell(&self, meanings: &mut Meanings) -> Vec<DeletedDay> {
            let days = self.days.tell(&self.sums());
            for (&day, &sum) in &self.days.forgotten {
                let of_day = |number: &&u8| deletion(**number).day == day;
                let forgotten: BTreeSet<u8> =
                    self.forgotten.iter().filter(of_day).copied().collect();
                meanings.insert((day, sum), forgotten);
            }
            days
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A tombstone comes.
        Hear(usize, u8),
        Forget(usize, u8),
        Ask(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..4usize, 0..8u8).prop_map(|(peer, it)| Step::Hear(peer, it)),
            2 => (0..4usize, 0..8u8).prop_map(|(peer, it)| Step::Forget(peer, it)),
            2 => (0..4usize, 0..4usize).prop_map(|(peer, other)| Step::Ask(peer, other)),
        ]
    }

    proptest! {
        /// What is no news was heard of, and all that was heard of is told.
        #[test]
        fn nothing_is_taken_for_heard_of_that_was_not(steps in prop::collection::vec(step(), 1..60)) {
            let mut peers: [Peer; 4] = Default::default();
            let mut meanings = Meanings::new();
            for step in steps {
                match step {
                    Step::Hear(peer, it) => {
                        peers[peer].heard.insert(it);
                        peers[peer].kept.insert(it);
                    }
                    Step::Forget(peer, it) => forget(&mut peers[peer], it),
                    Step::Ask(peer, other) => {
                        let days = peers[other].tell(&mut meanings);
                        prop_assert!(days.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", days);
                        for told in days {
                            let asking = &mut peers[peer];
                            let kept = asking.sums();
                            let is_first = asking.days.is_unheard_of(&kept, told.day);
                            let meaning = &meanings[&(told.day, told.forgotten())];
                            if asking.days.learn(&kept, &[told]) {
                                asking.heard.extend(meaning);
                                if is_first {
                                    asking.forgotten.extend(meaning);
                                }
                            }
                            prop_assert!(meaning.is_subset(&asking.heard));
                            prop_assert!(!asking.days.learn(&kept, &[told]), "it is no news again");
                        }
                    }
                }
                for peer in &peers {
                    let told = peer.days.told.iter().flat_map(|sum| &meanings[sum]);
                    let known: BTreeSet<u8> = told.chain(&peer.forgotten).chain(&peer.kept).copied().collect();
                    prop_assert_eq!(&known, &peer.heard);
                    let mut out = Vec::new();
                    peer.days.encode(&mut out);
                    let mut reader = Reader::new(&out);
                    prop_assert_eq!(DeletedDays::decode(&mut reader).unwrap(), peer.days.clone());
                    prop_assert!(reader.finish().is_ok());
                }
            }
        }
    }

    fn hear(peer: &mut Peer, numbers: std::ops::Range<u8>) {
        for number in numbers {
            peer.heard.insert(number);
            peer.kept.insert(number);
        }
    }

    fn forget(peer: &mut Peer, number: u8) {
        if peer.kept.remove(&number) {
            peer.days.forget(deletion(number));
            peer.forgotten.insert(number);
        }
    }

    fn ask(asking: &mut Peer, other: &Peer) -> bool {
        let told = other.days.tell(&other.sums());
        let kept = asking.sums();
        asking.days.learn(&kept, &told)
    }

    #[test]
    fn who_heard_of_the_same_deletions_hears_nothing_new() {
        let mut first = Peer::default();
        hear(&mut first, 0..8);
        let mut second = first.clone();
        // Whoever has forgotten more, or less.
        for number in [0, 1, 5] {
            forget(&mut first, number);
            assert!(!ask(&mut second, &first));
        }
        for number in [5, 6, 7, 4] {
            forget(&mut second, number);
            assert!(!ask(&mut first, &second) && !ask(&mut second, &first));
        }
        // Who comes new is told once, and then has heard of the same as soon as it has the rest.
        let mut third = Peer::default();
        assert!(ask(&mut third, &first));
        assert!(!ask(&mut first, &third), "it was told by this one");
        hear(&mut third, 2..5);
        hear(&mut third, 6..8);
        assert!(!ask(&mut third, &first) && !ask(&mut first, &third));
        forget(&mut third, 2);
        assert!(!ask(&mut first, &third) && !ask(&mut third, &first));
    }

    #[test]
    fn the_earliest_days_go_when_there_are_too_many() {
        let mut days = DeletedDays::default();
        let count = u32::try_from(limits::DELETED_DAYS_MAX).unwrap();
        for day in 0..count + 10 {
            let (told, hash) = (day % 2 == 0, 7);
            let heard = DeletedDay {
                day,
                heard: hash,
                kept: 0,
            };
            match told {
                true => assert!(days.learn(&DaySums::new(), &[heard])),
                false => days.forget(Deletion { day, hash }),
            }
        }
        let told = days.tell(&DaySums::new());
        assert_eq!(told.len(), limits::DELETED_DAYS_MAX);
        assert_eq!(told[0].day, 10);
        let before = DeletedDay {
            day: 9,
            heard: 1,
            kept: 0,
        };
        assert!(!days.learn(&DaySums::new(), &[before]), "it is not learned");
        days.forget(Deletion { day: 9, hash: 1 });
        assert_eq!(days.tell(&DaySums::new()), told);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for bytes in [
            &[0, 0][..],
            &[
                0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            &[0, 0, 0xff, 0xff, 0x7f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0],
        ] {
            assert!(DeletedDays::decode(&mut Reader::new(bytes)).is_err());
        }
    }
}
