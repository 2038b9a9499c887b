//! Reading everything, to hash it or to check that it fits together.

mod indexes;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use idem_crdt::Document;
use idem_kv::{Snapshot as _, Table};
use idem_model::{DecodeError, DocId};

use crate::{
    core::Core,
    error::StoreError,
    evictions::{Eviction, Marks},
    feed,
    groups::{self, GROUPS_MAX, GroupId},
    head::Head,
    row::Row,
    tables::{self, BY_SEQ, DOCUMENTS, GROUPS, SYSTEM, SYSTEM_HEAD, TOMBSTONES},
    work::{View, Work, insert_id, stored_row},
};

/// Findings that are listed; more are of the same cause.
const PROBLEMS_MAX: usize = 100;

/// What [`Store::verify`](crate::Store::verify) read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Stored values whose checksum was checked.
    pub values: u64,
    /// Documents, tombstones included, that were decoded and compared with the rows about them.
    pub documents: u64,
    /// What does not fit together, at most 100 findings. Empty means that the store is sound.
    pub problems: Vec<String>,
}

/// The hash over collection, id and encoded state of every document, in the order of names and ids.
pub(crate) fn digest(core: &Arc<Core>) -> Result<[u8; 32], StoreError> {
    let work = Work::read(Arc::clone(core))?;
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for (name, ordinal) in work.catalog().collections() {
        let (from, to) = (ordinal.to_be_bytes(), (ordinal + 1).to_be_bytes());
        each(
            &work.view,
            DOCUMENTS,
            &from,
            Some(&to),
            &mut |key, value| {
                let (_, id) = tables::split_document(key)?;
                let (_, body) = crate::row::Header::decode(value)?;
                part(name.as_str().as_bytes());
                part(id);
                part(body);
                Ok(())
            },
        )?;
    }
    Ok(*hasher.finalize().as_bytes())
}

pub(crate) fn verify(core: &Arc<Core>) -> Result<VerifyReport, StoreError> {
    // What is in memory belongs to the picture, and the engine's own check reads only its file.
    core.flush()?;
    let values = core.overlay.engine().verify()?.entries;
    let work = Work::read(Arc::clone(core))?;
    let mut check = Check {
        work: &work,
        report: VerifyReport {
            values,
            ..VerifyReport::default()
        },
        expected: Expected::default(),
        entries: BTreeMap::new(),
        groups: BTreeMap::new(),
    };
    check.documents()?;
    check.rows(BY_SEQ)?;
    check.indexes()?;
    check.rows(TOMBSTONES)?;
    check.counts()?;
    check.groups()?;
    check.markers()?;
    check.quarantine()?;
    Ok(check.report)
}

/// The rows that the documents call for.
#[derive(Default)]
struct Expected {
    by_seq: BTreeSet<Vec<u8>>,
    tombstones: BTreeSet<Vec<u8>>,
    counts: BTreeMap<u32, u64>,
    /// Keys of the documents table.
    quarantined: BTreeSet<Vec<u8>>,
}

struct Check<'a> {
    work: &'a Work,
    report: VerifyReport,
    expected: Expected,
    /// Entries that were looked up and found.
    entries: indexes::Counts,
    /// How often documents refer to a group.
    groups: BTreeMap<GroupId, u64>,
}

impl Check<'_> {
    fn documents(&mut self) -> Result<(), StoreError> {
        let view = &self.work.view;
        each(view, DOCUMENTS, &[], None, &mut |key, value| {
            self.report.documents += 1;
            if let Err(problem) = self.document(key, value) {
                self.problem(problem);
            }
            Ok(())
        })
    }

    fn document(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let bad = |error: &dyn std::fmt::Display| format!("document {key:02x?}: {error}");
        let (collection, id) = tables::split_document(key).map_err(|error| bad(&error))?;
        let row = Row::decode(value.to_vec()).map_err(|error| bad(&error))?;
        let doc_id = DocId::from_key(id).map_err(|error| bad(&error))?;
        let document = Document::decode(row.body()).map_err(|error| bad(&error))?;
        if document.to_bytes() != row.body() {
            return Err(bad(&"is not in its canonical form"));
        }
        let visible = idem_crdt::visible_fields(row.body()).map_err(|error| bad(&error))?;
        if visible != document.fields() || visible.is_some() == row.is_tombstone() {
            return Err(bad(&"its visible fields differ from its state"));
        }
        let header = row.header;
        let by_seq = tables::by_seq(collection, header.commit, id);
        self.expected.by_seq.insert(by_seq);
        if let Some(expiry_ms) = header.expiry_ms {
            let tombstone = tables::tombstone(expiry_ms, collection, id);
            self.expected.tombstones.insert(tombstone);
        }
        if header.is_quarantined {
            self.expected.quarantined.insert(key.to_vec());
        }
        if let Some(number) = header.group {
            *self.groups.entry((header.commit, number)).or_default() += 1;
        }
        let kinds = self.work.catalog().kinds(collection);
        if let Some(fields) = document.fields_declared(kinds) {
            *self.expected.counts.entry(collection).or_default() += 1;
            let fields = insert_id(fields, doc_id.as_value().clone());
            self.entries_of(collection, id, &fields)
                .map_err(|error| bad(&error))?;
        }
        Ok(())
    }

    /// Compares a table with what the documents call for.
    fn rows(&mut self, table: Table) -> Result<(), StoreError> {
        let mut expected = std::mem::take(match table {
            BY_SEQ => &mut self.expected.by_seq,
            _ => &mut self.expected.tombstones,
        });
        each(&self.work.view, table, &[], None, &mut |key, _| {
            if !expected.remove(key) {
                self.problem(format!(
                    "a row without its document: {}",
                    tables::name(table, key)
                ));
            }
            Ok(())
        })?;
        for key in expected {
            self.problem(format!("a row is missing: {}", tables::name(table, &key)));
        }
        Ok(())
    }

    fn counts(&mut self) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.work.view.catalog);
        for (name, ordinal) in catalog.collections() {
            let stored = self.work.stored_count(ordinal)?;
            let counted = self.expected.counts.get(&ordinal).copied().unwrap_or(0);
            if stored != counted {
                self.problem(format!(
                    "collection {name} counts {stored} documents and has {counted}"
                ));
            }
        }
        Ok(())
    }

    /// Checks that every group has the members that it counts, and that documents are in theirs.
    fn groups(&mut self) -> Result<(), StoreError> {
        let snapshot = &self.work.view.snapshot;
        let mut ids = Vec::new();
        each(&self.work.view, GROUPS, &[], None, &mut |key, _| {
            ids.extend(tables::split_group_head(key)?);
            Ok(())
        })?;
        let counted = ids.len() as u64;
        let expected = feed::view_head(&self.work.view)?.groups;
        if counted != expected {
            self.problem(format!("{expected} groups are counted, and {counted} kept"));
        }
        let mut inside = std::mem::take(&mut self.groups);
        for id in ids {
            let head = groups::stored_head(snapshot, id)?.unwrap_or_default();
            let members = groups::members_of(snapshot, id, &head)?;
            let here = inside.remove(&id).unwrap_or(0);
            let is_whole = head.is_listed || members.len() as u64 == here;
            if members.len() as u64 != head.count || !is_whole {
                self.problem(format!(
                    "group {}.{} counts {} members, has {}, and {here} are in it now",
                    id.0,
                    id.1,
                    head.count,
                    members.len()
                ));
            }
        }
        // Only with so many may a group be missing.
        if expected < GROUPS_MAX {
            for id in inside.into_keys() {
                self.problem(format!("group {}.{} is missing", id.0, id.1));
            }
        }
        Ok(())
    }

    /// Checks that what is evicted is not here, and the counts of notes.
    fn markers(&mut self) -> Result<(), StoreError> {
        let view = &self.work.view;
        let (mut markers, mut claims) = (0, 0);
        let head = view.snapshot.get(SYSTEM, SYSTEM_HEAD)?;
        let head = head.map(|row| Head::decode(&row)).transpose();
        let head = head.map_err(|error| StoreError::corrupt("head", &error))?;
        let actor = head.map(|head| head.actor);
        let mut present = Vec::new();
        let [from, to] = tables::EVICTED_RANGE;
        each(view, SYSTEM, &[from], Some(&[to]), &mut |key, value| {
            let eviction = Eviction::decode(value)?;
            markers += u64::from(eviction.is_marker());
            claims += u64::from(eviction.n > 0 && Some(eviction.actor) == actor);
            present.push(key[1..].to_vec());
            Ok(())
        })?;
        for key in present {
            if stored_row(&view.snapshot, &key)?.is_some() {
                self.problem(format!("document {key:02x?} is here and counts as evicted"));
            }
        }
        let counted = Marks::stored(&view.snapshot)?;
        if counted.markers != markers {
            let counted = counted.markers;
            self.problem(format!("{counted} markers are counted, and {markers} kept"));
        }
        let counted = actor.map_or(0, |actor| counted.claims_of(actor));
        if counted != claims {
            self.problem(format!(
                "{counted} documents are counted that are not here and have commits of this actor, \
                 and {claims} kept"
            ));
        }
        Ok(())
    }

    /// Compares the notes of quarantine with what the documents say.
    fn quarantine(&mut self) -> Result<(), StoreError> {
        let mut expected = std::mem::take(&mut self.expected.quarantined);
        let [from, to] = tables::QUARANTINE_RANGE;
        each(
            &self.work.view,
            SYSTEM,
            &[from],
            Some(&[to]),
            &mut |key, _| {
                if !expected.remove(&key[1..]) {
                    self.problem(format!("document {:02x?} is not in quarantine", &key[1..]));
                }
                Ok(())
            },
        )?;
        for key in expected {
            self.problem(format!(
                "document {key:02x?} is in quarantine without a note"
            ));
        }
        Ok(())
    }

    fn problem(&mut self, problem: String) {
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(problem);
        }
    }
}

type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), DecodeError> + 'a;

/// Visits the rows of a range; what `visit` cannot read is named as damage.
fn each(
    view: &View,
    table: Table,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut VisitRow<'_>,
) -> Result<(), StoreError> {
    let mut failure = None;
    view.snapshot.scan(
        table,
        from,
        to,
        false,
        &mut |key, value| match visit(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(StoreError::corrupt(&tables::name(table, key), &error));
                ControlFlow::Break(())
            }
        },
    )?;
    failure.map_or(Ok(()), Err)
}

/// Documents of all collections, tombstones not counted.
pub(crate) fn documents(core: &Arc<Core>) -> Result<u64, StoreError> {
    let work = Work::read(Arc::clone(core))?;
    let mut documents = 0;
    for (_, ordinal) in work.catalog().collections() {
        documents += work.stored_count(ordinal)?;
    }
    Ok(documents)
}
