//! States to bytes.

use idem_model::{
    ActorId, Declared, Stamp, Timestamp, Value, VersionVector,
    codec::{put_bytes, put_varint, put_varint_signed},
};

use super::{edited::Listed, *};
use crate::{
    delta::Delta,
    document::Document,
    show::{Shown, show_map},
    state::{Counter, Life, MapPart},
};

pub(crate) fn encode_document(document: &Document) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(&[DOCUMENT_VERSION, 0, 0, 0, 0]);
    if let Some(stamp) = plain_stamp(document) {
        put_default_map(&mut out, &document.lives[0].fields);
        put_values_len(&mut out);
        put_plain(&mut out, stamp);
        return out;
    }
    let joined = document.joined_lives();
    let shown = show_map(&joined, Declared::NONE);
    if document.is_present() {
        put_shown(&mut out, &shown);
    }
    put_values_len(&mut out);
    out.push(FORM_GENERAL);
    put_version(&mut out, &document.version);
    let nothing = VersionVector::new();
    let mut encoder = Encoder::new(&mut out, &document.version, &nothing);
    encoder.put_head(document.time, &document.lives);
    for life in &document.lives {
        encoder.put_stamp(life.stamp);
        // With several lives an entry may be visible through any of them: each is written whole.
        let shown = (document.lives.len() == 1).then_some(&shown[..]);
        encoder.put_map(&life.fields, life.stamp, shown);
    }
    out
}

pub(crate) fn encode_delta(delta: &Delta) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(DELTA_VERSION);
    put_varint(&mut out, delta.version.len() as u64);
    for dot in delta.version.iter() {
        out.extend_from_slice(&dot.actor.0);
        put_varint(&mut out, dot.n);
        put_varint(&mut out, dot.n - delta.since.get(dot.actor));
    }
    let mut encoder = Encoder::new(&mut out, &delta.version, &delta.since);
    encoder.put_head(delta.time, &delta.lives);
    for life in &delta.lives {
        encoder.put_stamp(life.stamp);
        encoder.put_map(&life.fields, life.stamp, None);
    }
    out
}

/// The one stamp of a document that needs no other metadata.
fn plain_stamp(document: &Document) -> Option<Stamp> {
    let [life] = &document.lives[..] else {
        return None;
    };
    let stamp = life.stamp;
    let is_plain = document.time == stamp.time
        && document.version.len() == 1
        && document.version.get(stamp.dot.actor) == stamp.dot.n
        && is_default_map(&life.fields, stamp);
    is_plain.then_some(stamp)
}

/// The metadata of a document that needs no other.
pub(super) fn put_plain(out: &mut Vec<u8>, stamp: Stamp) {
    out.push(FORM_PLAIN);
    out.extend_from_slice(&stamp.dot.actor.0);
    put_varint(out, stamp.dot.n);
    out.extend_from_slice(&stamp.time.0.to_le_bytes());
}

pub(super) fn put_version(out: &mut Vec<u8>, version: &VersionVector) {
    put_varint(out, version.len() as u64);
    for dot in version.iter() {
        out.extend_from_slice(&dot.actor.0);
        put_varint(out, dot.n);
    }
}

/// Fills in how long the values are that stand behind the version byte and their length.
pub(super) fn put_values_len(out: &mut [u8]) {
    let len = u32::try_from(out.len() - 5).expect("documents are far under 4 GiB");
    out[1..5].copy_from_slice(&len.to_le_bytes());
}

/// The values of a map that [`is_default_map`].
fn put_default_map(out: &mut Vec<u8>, map: &Map) {
    put_varint(out, map.entries.len() as u64);
    for (name, node) in &map.entries {
        put_bytes(out, name.as_bytes());
        match node.map.as_deref() {
            Some(part) => {
                out.push(Value::TAG_OBJECT);
                put_default_map(out, &part.map);
            }
            None => node.register[0].value.encode(out),
        }
    }
}

fn put_shown(out: &mut Vec<u8>, entries: &[(&str, Shown<'_>)]) {
    put_varint(out, entries.len() as u64);
    for (name, shown) in entries {
        put_bytes(out, name.as_bytes());
        match shown {
            Shown::Register(version) => version.value.encode(out),
            Shown::Counter(value) => Value::Int(*value).encode(out),
            Shown::Map(entries) => {
                out.push(Value::TAG_OBJECT);
                put_shown(out, entries);
            }
        }
    }
}

/// Writes metadata that names actors and stamps by their place in a table.
pub(super) struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    /// Versions covered by it stand without their values.
    since: &'a VersionVector,
    version: &'a VersionVector,
    actors: Vec<ActorId>,
    stamps: Vec<Stamp>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        version: &'a VersionVector,
        since: &'a VersionVector,
    ) -> Self {
        Self {
            out,
            since,
            version,
            actors: version.iter().map(|dot| dot.actor).collect(),
            stamps: Vec::new(),
        }
    }

    /// The time, the table of stamps and the number of lives.
    fn put_head(&mut self, time: Timestamp, lives: &[Life]) {
        let mut stamps = Vec::new();
        for life in lives {
            stamps.push(life.stamp);
            collect_stamps(&life.fields, &mut stamps);
        }
        self.put_table(time, stamps);
        put_varint(self.out, lives.len() as u64);
    }

    /// The time and the table of stamps.
    pub(super) fn put_table(&mut self, time: Timestamp, stamps: Vec<Stamp>) {
        self.stamps = stamps;
        self.stamps
            .sort_unstable_by_key(|stamp| (stamp.dot, stamp.time));
        self.stamps.dedup();
        self.out.extend_from_slice(&time.0.to_le_bytes());
        put_varint(self.out, self.stamps.len() as u64);
        for stamp in &self.stamps {
            let actor = self.actors.binary_search(&stamp.dot.actor);
            let actor = actor.expect("the version covers all dots of a state");
            put_varint(self.out, actor as u64);
            put_varint(self.out, self.version.get(stamp.dot.actor) - stamp.dot.n);
            put_time(self.out, stamp.time, time);
        }
    }

    /// The only life of a document that holds nothing but registers and maps as INSERT made them.
    pub(super) fn put_simple_life(&mut self, life: Stamp, listed: &[Listed]) {
        put_varint(self.out, 1);
        self.put_stamp(life);
        self.put_stamps(&[]);
        put_varint(self.out, listed.len() as u64);
        let mut next = 0;
        for (at, stamp) in listed {
            put_varint(self.out, (at - next) as u64);
            next = at + 1;
            put_varint(self.out, 1 + self.place(*stamp));
        }
        put_varint(self.out, 0);
    }

    fn place(&self, stamp: Stamp) -> u64 {
        let key = (stamp.dot, stamp.time);
        let place = self
            .stamps
            .binary_search_by_key(&key, |stamp| (stamp.dot, stamp.time));
        place.expect("all stamps of a state are in the table") as u64
    }

    fn put_stamp(&mut self, stamp: Stamp) {
        put_varint(self.out, self.place(stamp));
    }

    fn put_stamps(&mut self, stamps: &[Stamp]) {
        put_varint(self.out, stamps.len() as u64);
        for &stamp in stamps {
            self.put_stamp(stamp);
        }
    }

    fn put_actor(&mut self, actor: ActorId) {
        let place = self.actors.binary_search(&actor);
        put_varint(
            self.out,
            place.expect("the version names all actors of a state") as u64,
        );
    }

    /// `shown` are the entries whose values stand in the visible part of the document; of those only
    /// what differs from `default` is written.
    fn put_map(&mut self, map: &Map, default: Stamp, shown: Option<&[(&str, Shown<'_>)]>) {
        self.put_stamps(&map.removals);
        let mut hidden = Vec::new();
        if let Some(shown) = shown {
            let mut listed = Vec::new();
            let mut rest = shown.iter().enumerate().peekable();
            for (name, node) in &map.entries {
                match rest.next_if(|(_, (shown, _))| shown == name) {
                    Some((at, (_, shown))) if !is_default_node(node, default) => {
                        listed.push((at, node, shown));
                    }
                    Some(_) => {}
                    None => hidden.push((name, node)),
                }
            }
            put_varint(self.out, listed.len() as u64);
            let mut next = 0;
            for (at, node, shown) in listed {
                put_varint(self.out, (at - next) as u64);
                next = at + 1;
                self.put_listed(node, default, shown);
            }
        } else {
            hidden.extend(map.entries.iter().map(|(name, node)| (name, node)));
        }
        put_varint(self.out, hidden.len() as u64);
        for (name, node) in hidden {
            put_bytes(self.out, name.as_bytes());
            self.put_node(node, default, None);
        }
    }

    fn put_listed(&mut self, node: &Node, default: Stamp, shown: &Shown<'_>) {
        match (&node.register[..], &node.map, &node.counter) {
            ([version], None, None) => put_varint(self.out, 1 + self.place(version.stamp)),
            _ => {
                put_varint(self.out, CODE_GENERAL);
                self.put_node(node, default, Some(shown));
            }
        }
    }

    fn put_node(&mut self, node: &Node, default: Stamp, shown: Option<&Shown<'_>>) {
        let kind = match shown {
            None => SHOWN_NONE,
            Some(Shown::Register(_)) => SHOWN_REGISTER,
            Some(Shown::Map(_)) => SHOWN_MAP,
            Some(Shown::Counter(_)) => SHOWN_COUNTER,
        };
        let has = |part, bit| if part { bit } else { 0 };
        self.out.push(
            has(!node.register.is_empty(), HAS_REGISTER)
                | has(node.map.is_some(), HAS_MAP)
                | has(node.counter.is_some(), HAS_COUNTER)
                | kind << SHOWN_SHIFT,
        );
        if !node.register.is_empty() {
            put_varint(self.out, node.register.len() as u64);
            for version in &node.register {
                let visible = matches!(shown, Some(Shown::Register(v)) if v.stamp == version.stamp);
                if self.put_carried(version.stamp, visible) {
                    version.value.encode(self.out);
                }
            }
        }
        if let Some(part) = node.map.as_deref() {
            let entries = match shown {
                Some(Shown::Map(entries)) => Some(&entries[..]),
                _ => None,
            };
            self.put_part(part, default, entries);
        }
        if let Some(counter) = node.counter.as_deref() {
            self.put_counter(counter);
        }
    }

    fn put_part(&mut self, part: &MapPart, default: Stamp, shown: Option<&[(&str, Shown<'_>)]>) {
        self.put_stamps(&part.stamps);
        self.put_map(&part.map, default, shown);
    }

    /// Writes a stamp and whether its value follows, which it returns.
    fn put_carried(&mut self, stamp: Stamp, elsewhere: bool) -> bool {
        let carried = !elsewhere && !self.since.covers(stamp.dot);
        put_varint(self.out, self.place(stamp) << 1 | u64::from(carried));
        carried
    }

    fn put_counter(&mut self, counter: &Counter) {
        self.put_stamps(&counter.stamps);
        put_varint(self.out, counter.bases.len() as u64);
        for base in &counter.bases {
            if self.put_carried(base.stamp, false) {
                put_varint_signed(self.out, base.value);
                put_varint(self.out, base.seen.len() as u64);
                for (&actor, &total) in &base.seen {
                    self.put_actor(actor);
                    put_varint_signed(self.out, total);
                }
            }
        }
        put_varint(self.out, counter.sums.len() as u64);
        for (&actor, sum) in &counter.sums {
            self.put_actor(actor);
            put_varint(self.out, self.version.get(actor) - sum.n);
            put_varint_signed(self.out, sum.total);
        }
    }
}

/// A time, as how long it was before the latest one of the document.
fn put_time(out: &mut Vec<u8>, time: Timestamp, latest: Timestamp) {
    if time == Timestamp::ZERO {
        put_varint(out, 0);
        return;
    }
    let ms = latest.unix_ms() - time.unix_ms();
    put_varint(out, 1 + (ms << 1 | u64::from(time.counter() != 0)));
    if time.counter() != 0 {
        put_varint(out, time.counter().into());
    }
}

fn collect_stamps(map: &Map, stamps: &mut Vec<Stamp>) {
    stamps.extend_from_slice(&map.removals);
    for (_, node) in &map.entries {
        stamps.extend(node.register.iter().map(|version| version.stamp));
        if let Some(part) = node.map.as_deref() {
            stamps.extend_from_slice(&part.stamps);
            collect_stamps(&part.map, stamps);
        }
        if let Some(counter) = node.counter.as_deref() {
            stamps.extend_from_slice(&counter.stamps);
            stamps.extend(counter.bases.iter().map(|base| base.stamp));
        }
    }
}
