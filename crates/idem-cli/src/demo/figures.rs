//! What the demo measures.

use serde::Serialize;

/// The figures; field names are those of `--json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Documents of the data set.
    pub(super) documents: u64,
    /// Mean size of a document as JSON text, in bytes.
    pub(super) document_bytes: f64,
    /// Durable import on peer A, documents a second.
    pub(super) import_documents_per_s: f64,
    /// From the first import on A to the last document shown by B's live query, documents a second.
    pub(super) sync_documents_per_s: f64,
    /// Bytes on the wire in both directions, encrypted, for each document of the first sync.
    pub(super) wire_bytes_per_document: f64,
    /// Statement sent to A until B's live query shows the result, milliseconds, median.
    pub(super) live_latency_p50_ms: f64,
    /// The same, 95th percentile.
    pub(super) live_latency_p95_ms: f64,
    /// How many edits the latency is measured over.
    pub(super) live_edits: u64,
    /// Documents that both sides changed offline.
    pub(super) conflicts: u64,
    /// Of them, those that merged as the rules say, on both peers.
    pub(super) conflicts_as_expected: u64,
    /// From mending the wire to equal stores, milliseconds.
    pub(super) reunion_ms: f64,
    /// Commits that were acknowledged before the kill.
    pub(super) acknowledged_before_kill: u64,
    /// Of them, those found after the restart.
    pub(super) found_after_restart: u64,
    /// From starting the killed peer to its first answer, milliseconds.
    pub(super) restart_ms: f64,
    /// Whether both stores were identical byte for byte at every check.
    pub(super) identical: bool,
    /// How long the demo took, seconds.
    pub(super) seconds: f64,
    /// Whether everything held.
    pub(super) ok: bool,
}

impl Figures {
    /// The figures as rows for people.
    pub(super) fn rows(&self) -> Vec<[String; 2]> {
        let row = |what: &str, value: String| [what.to_owned(), value];
        vec![
            row(
                "documents",
                format!("{} of {:.0} bytes", self.documents, self.document_bytes),
            ),
            row(
                "durable import",
                format!("{:.0} documents/s", self.import_documents_per_s),
            ),
            row(
                "import to live query on B",
                format!("{:.0} documents/s", self.sync_documents_per_s),
            ),
            row(
                "on the wire",
                format!("{:.0} bytes/document", self.wire_bytes_per_document),
            ),
            row(
                "live latency",
                format!(
                    "{:.2} ms median, {:.2} ms 95th percentile, durable on both",
                    self.live_latency_p50_ms, self.live_latency_p95_ms
                ),
            ),
            row(
                "conflicts",
                format!(
                    "{} of {} as the rules say",
                    self.conflicts_as_expected, self.conflicts
                ),
            ),
            row(
                "reunion after the cut",
                format!("{:.0} ms", self.reunion_ms),
            ),
            row(
                "after kill -9",
                format!(
                    "{} of {} acknowledged commits, back in {:.0} ms",
                    self.found_after_restart, self.acknowledged_before_kill, self.restart_ms
                ),
            ),
            row(
                "stores",
                if self.identical {
                    "identical"
                } else {
                    "NOT identical"
                }
                .to_owned(),
            ),
            row("time", format!("{:.1} s", self.seconds)),
        ]
    }
}
