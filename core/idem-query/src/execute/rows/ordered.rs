//! Rows in the order of an index.
//!
//! Rows that are equal in the order come by their ids, as a sort of all rows would give them. Keys
//! tell `1` from `1.0` in the last byte of a number, so keys that are equal up to such a byte are
//! ordered by what follows it. Entries are read in batches and put right within a batch; only the
//! entries that are equal up to the first such byte have to be in one batch for that.

use std::{cmp::Ordering, collections::VecDeque, ops::ControlFlow};

use idem_model::{DocId, Object, Value, key};

use super::{
    FETCH_ENTRIES_MAX, FETCH_ENTRIES_MIN, Seen, Visit, Walk,
    entry::{self, no_key},
    is_new,
};
use crate::{
    error::ExecuteError,
    eval::weight,
    plan::{self, FieldTest, IndexOrder, IndexPath, SpanGroup},
    source::{KeySpan, Source},
};

/// Calls `visit` with every row that passes, in the order of the path.
pub(super) fn each<S: Source>(
    walk: &Walk<'_, S>,
    tests: &[FieldTest],
    path: &IndexPath,
    order: IndexOrder,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
    let found = plan::index_spans(tests, path, walk.outer, walk.env);
    if !found.is_grouped || found.groups.len() > STREAMS_MAX {
        return sorted(walk, tests, path, order, visit);
    }
    let batch = (FETCH_ENTRIES_MIN / found.groups.len().max(1)).max(BATCH_MIN);
    let mut streams: Vec<Stream<'_, '_, S>> = found
        .groups
        .into_iter()
        .map(|group| Stream::new(walk, path, order, group, batch))
        .collect();
    let mut seen = Seen::new(walk.env);
    let mut seen = entry::repeats(&path.index).then_some(&mut seen);
    loop {
        let mut first: Option<usize> = None;
        for at in 0..streams.len() {
            if !streams[at].fill()? {
                continue;
            }
            let is_first = first.is_none_or(|first| {
                let ready = |at: usize| streams[at].ready.front();
                match (ready(at), ready(first)) {
                    (Some(a), Some(b)) => order.compare(a, b).is_lt(),
                    _ => false,
                }
            });
            if is_first {
                first = Some(at);
            }
        }
        let Some(next) = first.and_then(|first| streams[first].ready.pop_front()) else {
            return Ok(ControlFlow::Continue(()));
        };
        if !is_new(&mut seen, &next.id) {
            if walk.env.interrupted() {
                return Ok(ControlFlow::Break(()));
            }
            continue;
        }
        if let Some(mut row) = walk.row(path, &next.key, &next.id, found.covered)?
            && walk.give(found.covered, &mut row, visit).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Streams that are merged: every row is looked for in all of them.
const STREAMS_MAX: usize = 64;
/// Entries that one of many streams reads at once in the beginning.
const BATCH_MIN: usize = 4;

struct Ready {
    /// The part of the key that the order is about, the same for equal values.
    place: Vec<u8>,
    key: Vec<u8>,
    id: DocId,
}

impl IndexOrder {
    fn compare(&self, a: &Ready, b: &Ready) -> Ordering {
        let places = match self.is_reverse {
            true => b.place.cmp(&a.place),
            false => a.place.cmp(&b.place),
        };
        places.then_with(|| match self.ids_descend {
            true => b.id.cmp(&a.id),
            false => a.id.cmp(&b.id),
        })
    }
}

/// A span, and whether it is read backwards.
type Part = (KeySpan, bool);

/// The entries of one group of spans, in order.
struct Stream<'s, 'w, S: Source> {
    walk: &'s Walk<'w, S>,
    path: &'s IndexPath,
    order: IndexOrder,
    prefix_len: usize,
    rest: VecDeque<Part>,
    ready: VecDeque<Ready>,
    batch: usize,
    /// What keys start with of which it is known that the number at its end has no twin, the float of
    /// an integer or the other way round.
    clean: Vec<u8>,
    held: usize,
}

impl<'s, 'w, S: Source> Stream<'s, 'w, S> {
    fn new(
        walk: &'s Walk<'w, S>,
        path: &'s IndexPath,
        order: IndexOrder,
        group: SpanGroup,
        batch: usize,
    ) -> Self {
        let mut rest: VecDeque<Part> = group
            .spans
            .into_iter()
            .map(|span| (span, order.is_reverse))
            .collect();
        if order.is_reverse {
            rest.make_contiguous().reverse();
        }
        Self {
            walk,
            path,
            order,
            prefix_len: group.prefix.len(),
            rest,
            ready: VecDeque::new(),
            batch,
            clean: Vec::new(),
            held: 0,
        }
    }

    /// Reads on until an entry is ready; `false` if there is none any more.
    fn fill(&mut self) -> Result<bool, ExecuteError<S::Error>> {
        while self.ready.is_empty() {
            self.walk.env.release(std::mem::take(&mut self.held));
            let Some((span, reverse)) = self.rest.pop_front() else {
                return Ok(false);
            };
            if self.walk.env.interrupted() {
                return Ok(false);
            }
            self.read(span, reverse)?;
        }
        Ok(true)
    }

    /// Reads a batch from the front of a span, and puts the rest of the span back.
    fn read(&mut self, span: KeySpan, reverse: bool) -> Result<(), ExecuteError<S::Error>> {
        let index = &self.path.index;
        let (mut entries, goes_on) = self.walk.batch(index, &span, reverse, self.batch)?;
        let Some((last, last_id)) = entries.last().filter(|_| goes_on) else {
            return self.put(entries);
        };
        let shape = self.shape(last)?;
        if shape.is_whole && reverse == self.order.ids_descend {
            // Entries of one key come by id, so it does not matter where the batch ends.
            let rest = match reverse {
                true => KeySpan {
                    from: span.from,
                    to: Some(entry::at((last, last_id))),
                },
                false => KeySpan {
                    from: entry::behind((last, last_id)),
                    to: span.to,
                },
            };
            self.rest.push_front((rest, reverse));
            self.grow();
            return self.put(entries);
        }
        let open = last[..shape.open].to_vec();
        let complete = entries.partition_point(|(key, _)| !key.starts_with(&open));
        if complete > 0 {
            let (key, id) = &entries[complete];
            let rest = match reverse {
                true => KeySpan {
                    from: span.from,
                    to: Some(entry::behind((key, id))),
                },
                false => KeySpan {
                    from: entry::at((key, id)),
                    to: span.to,
                },
            };
            self.rest.push_front((rest, reverse));
            self.grow();
            entries.truncate(complete);
            return self.put(entries);
        }
        if self.batch < FETCH_ENTRIES_MAX {
            self.grow();
            self.rest.push_front((span, reverse));
            return Ok(());
        }
        self.read_open(open, &shape, span, reverse)
    }

    /// Deals with more entries than fit a batch that all start with `open`.
    fn read_open(
        &mut self,
        open: Vec<u8>,
        shape: &Shape,
        span: KeySpan,
        reverse: bool,
    ) -> Result<(), ExecuteError<S::Error>> {
        if let Some(twin) = shape.twin {
            let other = [&open[..], &[twin]].concat();
            let to = key::prefix_end(&other);
            let twins = KeySpan { from: other, to };
            let (found, _) = self.walk.batch(&self.path.index, &twins, false, 1)?;
            if found.is_empty() {
                self.clean = open;
                // The last byte of the number is the other one of the two.
                self.clean.push(shape.own);
                self.rest.push_front((span, reverse));
                return Ok(());
            }
        }
        // The span ends where the entries that start with `open` end, and the rest follows.
        let behind = key::prefix_end(&open);
        let inside = KeySpan {
            from: span.from.clone().max(open.clone()),
            to: match (&span.to, &behind) {
                (Some(to), Some(behind)) => Some(to.min(behind).clone()),
                (to, behind) => to.clone().or_else(|| behind.clone()),
            },
        };
        let rest = match reverse {
            true => KeySpan {
                from: span.from,
                to: Some(inside.from.clone()),
            },
            false => KeySpan {
                from: inside.to.clone().unwrap_or_default(),
                to: span.to,
            },
        };
        let is_empty = match reverse {
            true => rest.to.as_ref().is_some_and(|to| rest.from >= *to),
            false => inside.to.is_none() || rest.to.as_ref().is_some_and(|to| rest.from >= *to),
        };
        if !is_empty {
            self.rest.push_front((rest, reverse));
        }
        if shape.is_whole {
            // One key: in the other direction its entries come as the ids are wanted.
            self.rest.push_front((inside, !reverse));
            return Ok(());
        }
        let mut all = Vec::new();
        let (walk, path) = (self.walk, self.path);
        let mut held = 0;
        let _all = walk.entries(path, [inside], &mut |key, id| {
            let bytes = 2 * key.len() + super::ID_BYTES;
            held += bytes;
            all.push((key, id));
            Ok(match walk.env.charge("ORDER BY", bytes) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })?;
        self.held += held;
        self.put(all)
    }

    fn grow(&mut self) {
        self.batch = (self.batch * 2).min(FETCH_ENTRIES_MAX);
    }

    /// Makes entries ready, in order.
    fn put(&mut self, entries: Vec<(Vec<u8>, DocId)>) -> Result<(), ExecuteError<S::Error>> {
        let mut ready = Vec::with_capacity(entries.len());
        for (key, id) in entries {
            let place = self.place(&key)?;
            ready.push(Ready { place, key, id });
        }
        ready.sort_by(|a, b| self.order.compare(a, b));
        self.ready.extend(ready);
        Ok(())
    }

    /// The part of a key that the order is about, without what tells `1` from `1.0`.
    fn place(&self, key: &[u8]) -> Result<Vec<u8>, ExecuteError<S::Error>> {
        let mut ends = Vec::new();
        let end = self.numbers(key, &mut |at| ends.push(at))?;
        let mut place = key[self.prefix_len..end].to_vec();
        for at in ends {
            place[at - self.prefix_len] = 0;
        }
        Ok(place)
    }

    /// Calls `visit` with the place of the last byte of every number in the part that the order is
    /// about, and returns where that part ends.
    fn numbers(
        &self,
        key: &[u8],
        visit: &mut dyn FnMut(usize),
    ) -> Result<usize, ExecuteError<S::Error>> {
        let index = &self.path.index;
        let fields = index.fields().iter().skip(self.order.fixed_fields);
        let mut at = self.prefix_len;
        for field in fields.take(self.order.ordered_fields) {
            let start = at;
            let rest = key.get(at..).unwrap_or_default();
            at += key::number_ends(rest, field.descending, &mut |end| visit(start + end))
                .map_err(|error| no_key(index, &error))?;
        }
        Ok(at)
    }

    fn shape(&self, key: &[u8]) -> Result<Shape, ExecuteError<S::Error>> {
        let clean = match key.starts_with(&self.clean) {
            true => self.clean.len(),
            false => 0,
        };
        let mut first = None;
        let end = self.numbers(key, &mut |at| {
            if at >= clean && first.is_none() {
                first = Some(at);
            }
        })?;
        Ok(Shape {
            open: first.unwrap_or(end),
            is_whole: first.is_none() && end == key.len(),
            own: first.map_or(0, |at| key[at]),
            // Integer is 0 and float 1, or both inverted.
            twin: first.map(|at| key[at] ^ 1),
        })
    }
}

/// How far the bytes of a key are in the order of the values.
struct Shape {
    /// Keys that are equal up to here have to be ordered by what they hold, the rest by their bytes.
    open: usize,
    /// Whether that is the whole key.
    is_whole: bool,
    /// The byte there, and what it would be for the other kind of number.
    own: u8,
    twin: Option<u8>,
}

/// As [`each`], for values that have no single key: finds all rows first.
fn sorted<S: Source>(
    walk: &Walk<'_, S>,
    tests: &[FieldTest],
    path: &IndexPath,
    order: IndexOrder,
    visit: &mut Visit<'_>,
) -> Result<ControlFlow<()>, ExecuteError<S::Error>> {
    let unordered = IndexPath {
        order: None,
        ..path.clone()
    };
    let fields = path.index.fields().iter().skip(order.fixed_fields);
    let fields: Vec<_> = fields.take(order.ordered_fields).collect();
    let mut rows: Vec<(Vec<Option<Value>>, Object)> = Vec::new();
    let mut held = 0;
    let _all = walk.by_index(tests, &unordered, None, &mut |row| {
        let row = std::mem::take(row);
        let keys: Vec<Option<Value>> = fields.iter().map(|field| field.key.value(&row)).collect();
        let bytes = row.values().map(weight).sum::<usize>()
            + keys.iter().flatten().map(weight).sum::<usize>();
        held += bytes;
        rows.push((keys, row));
        match walk.env.charge("ORDER BY", bytes) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    rows.sort_by(|(a, row_a), (b, row_b)| {
        let keys = a.iter().zip(b).zip(&fields);
        let keys = keys.map(|((a, b), field)| {
            let ordering = match (a, b) {
                (Some(a), Some(b)) => a.compare(b),
                // MISSING comes after every value.
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            match field.descending != order.is_reverse {
                true => ordering.reverse(),
                false => ordering,
            }
        });
        let by_id = || {
            let id = |row: &Object| row.get("_id").cloned().unwrap_or(Value::Null);
            let ordering = id(row_a).compare(&id(row_b));
            match order.ids_descend {
                true => ordering.reverse(),
                false => ordering,
            }
        };
        keys.fold(Ordering::Equal, Ordering::then).then_with(by_id)
    });
    walk.env.release(held);
    Ok(rows
        .into_iter()
        .try_for_each(|(_, mut row)| visit(&mut row)))
}
