//! A multi-version table in memory in front of an engine.
//!
//! A snapshot is a *view* and a position. A view names the layers, newest first: the *active* table
//! that takes commits, the *frozen* one that a flush is moving to the engine, and the engine's
//! snapshot of before that flush. A flush replaces the view twice, when it freezes the active table
//! and when the engine has it; whoever holds an older view goes on reading the older layers.
//!
//! The engine's snapshot is taken once for each view that a flush makes, not for each reader. It
//! costs the engine nothing while it is kept, for nothing is committed between flushes.
//!
//! Between memory and the engine there may be a cache of rows, for the engine's present state and for
//! what has not changed since earlier ones.

mod memtable;
mod rows;
mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use self::snapshot::OverlaySnapshot;

use self::memtable::Memtable;
use self::rows::RowCache;
use crate::{Batch, Durability, Engine, KvError, RekeyProgress, Snapshot, Table, VerifyReport};

/// Where the engine keeps the position it has reached, as a big-endian `u64`.
const POSITION_KEY: &[u8] = b"position";

/// Commits in memory over an engine. All methods can be called from any thread.
#[derive(Debug)]
pub struct Overlay {
    engine: Arc<dyn Engine>,
    rows: Option<Arc<RowCache>>,
    view: RwLock<Arc<View>>,
    /// Position of the last batch that snapshots see.
    applied: AtomicU64,
    flushed: AtomicU64,
    applying: Mutex<()>,
    flushing: Mutex<()>,
}

/// Layers that belong together.
#[derive(Debug)]
struct View {
    active: Arc<Memtable>,
    frozen: Option<Frozen>,
    engine: Arc<EngineLayer>,
}

#[derive(Debug, Clone)]
struct Frozen {
    table: Arc<Memtable>,
    /// Position of its last batch.
    position: u64,
}

/// The engine as it was between two flushes. The snapshot is taken when it is first needed, and by a
/// flush at the latest just before it commits.
#[derive(Default)]
struct EngineLayer {
    snapshot: OnceLock<Box<dyn Snapshot>>,
    /// The row cache, and which generation of the engine this is.
    rows: Option<(Arc<RowCache>, u64)>,
}

impl std::fmt::Debug for EngineLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineLayer")
            .field("taken", &self.snapshot.get().is_some())
            .finish()
    }
}

impl EngineLayer {
    /// The engine as it is now, while nothing is committed to it.
    fn present(rows: Option<&Arc<RowCache>>) -> Arc<Self> {
        Arc::new(Self {
            snapshot: OnceLock::new(),
            rows: rows.map(|rows| (Arc::clone(rows), rows.generation())),
        })
    }

    fn take(&self, engine: &dyn Engine) -> Result<&dyn Snapshot, KvError> {
        if let Some(snapshot) = self.snapshot.get() {
            return Ok(&**snapshot);
        }
        // Two readers may both come here: the second one's snapshot is dropped again. It cannot be
        // one of after a flush, for the flush has filled the cell before.
        let snapshot = engine.snapshot()?;
        Ok(&**self.snapshot.get_or_init(|| snapshot))
    }
}

impl Overlay {
    /// Puts an empty overlay in front of `engine` and reads the position it has reached.
    ///
    /// # Errors
    ///
    /// The engine's error; [`KvError::Corrupt`] if the position is not one.
    pub fn open(engine: Box<dyn Engine>) -> Result<Self, KvError> {
        let stored = engine.snapshot()?.get(Table::OVERLAY, POSITION_KEY)?;
        let position = match stored {
            None => 0,
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| KvError::Corrupt {
                table: Table::OVERLAY,
                key: POSITION_KEY.to_vec(),
            })?),
        };
        let view = View {
            active: Arc::default(),
            frozen: None,
            engine: Arc::new(EngineLayer::default()),
        };
        Ok(Self {
            engine: engine.into(),
            rows: None,
            view: RwLock::new(Arc::new(view)),
            applied: AtomicU64::new(position),
            flushed: AtomicU64::new(position),
            applying: Mutex::new(()),
            flushing: Mutex::new(()),
        })
    }

    /// Keeps rows of `table` in up to `bytes` of memory, beside the engine's own cache and with all
    /// that the rows take there, so that they need not be looked for in the engine: those that
    /// [`Snapshot::read`] finds and those that a flush moves, of up to
    /// [`ROW_CACHE_ROW_BYTES_MAX`](crate::limits::ROW_CACHE_ROW_BYTES_MAX). What is read again and
    /// again stays longest. [`Snapshot::get`] uses it and adds nothing; scans do neither. Default: 0,
    /// which is none.
    ///
    /// A value that is found here is not compared with its checksum again; damage of what is on disk
    /// is found when it is read there, or by [`verify`](Self::verify).
    #[must_use]
    pub fn with_row_cache(mut self, table: Table, bytes: usize) -> Self {
        self.rows = (bytes > 0).then(|| Arc::new(RowCache::new(table, bytes)));
        self.release();
        self
    }

    /// Makes `batch` visible to snapshots taken from now on. `position` is that of its log frame.
    ///
    /// # Panics
    ///
    /// If `position` is not above all positions before it.
    pub fn apply(&self, batch: &Batch, position: u64) {
        let _applying = lock(&self.applying);
        let applied = self.applied.load(Ordering::Acquire);
        assert!(
            position > applied,
            "position {position} is not after {applied}"
        );
        // The active table cannot be frozen meanwhile: that takes the same lock.
        self.view().active.insert(batch, position);
        self.applied.store(position, Ordering::Release);
    }

    /// A view of everything applied so far. Takes a fraction of a microsecond, but for the first one
    /// after a flush, which takes the engine's. It keeps what it sees from being freed: drop it soon.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn snapshot(&self) -> Result<OverlaySnapshot, KvError> {
        let guard = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let view = Arc::clone(&guard);
        // Read under the lock: a position of after the next freeze would not be in this view.
        let position = self.applied.load(Ordering::Acquire);
        // Under the lock too: once `release` has replaced the view, a flush no longer sees to it that
        // this layer is taken before it commits.
        view.engine.take(&*self.engine)?;
        drop(guard);
        Ok(OverlaySnapshot::new(view, position))
    }

    /// Moves everything applied so far to the engine, in one durable commit with its position, and
    /// frees it here. Blocks neither readers nor writers. Returns the position reached, which is
    /// where a replay of the log has to begin; the log can be trimmed there.
    ///
    /// `barrier` is called before each commit with the position that is about to be flushed: it must
    /// make the log durable up to there, or the engine would be ahead of the log after a loss of
    /// power.
    ///
    /// # Errors
    ///
    /// The error of `barrier` or of the engine. Nothing is lost from memory, and snapshots see what
    /// they saw; the next flush tries again.
    pub fn flush(
        &self,
        mut barrier: impl FnMut(u64) -> Result<(), KvError>,
    ) -> Result<u64, KvError> {
        let _flushing = lock(&self.flushing);
        // What a failed flush left frozen goes first.
        if let Some(frozen) = self.view().frozen.clone() {
            self.flush_frozen(&frozen, &mut barrier)?;
        }
        if let Some(frozen) = self.freeze() {
            self.flush_frozen(&frozen, &mut barrier)?;
        }
        Ok(self.flushed_position())
    }

    /// Position up to which the engine holds everything, durably. 0 for an empty engine.
    #[must_use]
    pub fn flushed_position(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    /// Position of the last batch applied.
    #[must_use]
    pub fn applied_position(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Memory taken by what was not flushed yet, in bytes: flush above 4 MiB, hold writers back
    /// above a multiple of it.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let view = self.view();
        let frozen = view
            .frozen
            .as_ref()
            .map_or(0, |frozen| frozen.table.bytes());
        view.active.bytes() + frozen
    }

    /// The engine, for `sync` and `stats`. Committing to it behind the overlay's back breaks the
    /// overlay's snapshots.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// [`Engine::compact`], after the engine's snapshot was let go. Does nothing while one of ours
    /// is alive, and holds up flushes while it runs.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn compact(&self) -> Result<bool, KvError> {
        let _flushing = lock(&self.flushing);
        self.release();
        self.engine.compact()
    }

    /// [`Engine::verify`], after the engine's snapshot was let go. Does not look at what was not
    /// flushed yet, and holds up flushes while it runs.
    ///
    /// # Errors
    ///
    /// The first damage.
    pub fn verify(&self) -> Result<VerifyReport, KvError> {
        let _flushing = lock(&self.flushing);
        self.release();
        self.engine.verify()
    }

    /// [`Engine::rekey`]. What was not flushed yet is not in the engine.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn rekey(&self, from: u64) -> Result<RekeyProgress, KvError> {
        self.engine.rekey(from)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the view by what `change` makes of it.
    fn replace_view(&self, change: impl FnOnce(&View) -> View) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(change(&view));
        let before = std::mem::replace(&mut *view, next);
        drop(view);
        // Freeing a table of some megabytes must not hold the lock.
        drop(before);
    }

    /// Lets go of the engine's snapshot; the next reader takes another of the same state.
    fn release(&self) {
        self.replace_view(|view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.clone(),
            engine: EngineLayer::present(self.rows.as_ref()),
        });
    }

    /// Begins another active table, if there is anything in this one.
    fn freeze(&self) -> Option<Frozen> {
        let _applying = lock(&self.applying);
        let view = self.view();
        assert!(view.frozen.is_none(), "one flush at a time");
        if self.applied_position() == self.flushed_position() {
            return None;
        }
        let frozen = Frozen {
            table: Arc::clone(&view.active),
            position: self.applied_position(),
        };
        self.replace_view(|view| View {
            active: Arc::default(),
            frozen: Some(frozen.clone()),
            engine: Arc::clone(&view.engine),
        });
        Some(frozen)
    }

    fn flush_frozen(
        &self,
        frozen: &Frozen,
        barrier: &mut dyn FnMut(u64) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        barrier(frozen.position)?;
        // Those who read the frozen table from now on must not find it in the engine's snapshot too.
        self.view().engine.take(&*self.engine)?;
        let mut batch = frozen.table.newest();
        batch.push(
            Table::OVERLAY,
            POSITION_KEY,
            Some(&frozen.position.to_be_bytes()),
        );
        let committed = self.engine.commit(&batch, Durability::Durable);
        // Of a commit that failed nobody knows whether the engine has it: that is another state too.
        if let Some(rows) = &self.rows {
            rows.advance(&batch, committed.is_ok());
        }
        committed?;
        self.replace_view(|view| View {
            active: Arc::clone(&view.active),
            frozen: None,
            engine: EngineLayer::present(self.rows.as_ref()),
        });
        self.flushed.store(frozen.position, Ordering::Release);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The mutexes hold nothing; what they guard changes in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
