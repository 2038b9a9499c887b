//! Every bound of Idem in one place, each with the arithmetic behind it.

/// Nesting of a document value, of a DQL expression and of an encoded value. A recursive function
/// uses well under 1 KiB of stack per level, so 64 levels fit the smallest thread stack (256 KiB).
pub const NESTING_LEVELS_MAX: usize = 64;

/// A document above this size carries a warning in the result of the write: at 256 KiB a BLE link
/// of 20 KB/s needs 13 s for it.
pub const DOCUMENT_BYTES_SOFT: usize = 256 * 1024;

/// A local write that would make a document larger is refused. A merge may exceed it: the document
/// is kept, flagged, and can still be shrunk or deleted.
pub const DOCUMENT_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Two legal documents that merge can double the size; the wire and the store accept that much.
pub const DOCUMENT_MERGED_BYTES_MAX: usize = 4 * DOCUMENT_BYTES_MAX;

/// Length of a collection name in bytes. With the id it must fit a key of every engine.
pub const COLLECTION_NAME_BYTES_MAX: usize = 128;

/// Encoded length of a document id. Keys are copied often; 1 KiB is far above any real id.
pub const DOC_ID_BYTES_MAX: usize = 1024;

/// Segments of a field path: as many as a document may nest.
pub const FIELD_PATH_SEGMENTS_MAX: usize = NESTING_LEVELS_MAX;

/// Entries of a version vector. 4096 actors of 26 bytes are 104 KiB, half the soft document limit.
pub const VERSION_VECTOR_ENTRIES_MAX: usize = 4096;

/// Length of a DQL statement. Ten times the longest statement seen in practice (generated IN lists).
pub const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Tokens of a DQL statement: an IN list of 100,000 items has two for each. With about 128 bytes for
/// a token and the node it becomes, parsing takes at most 32 MiB.
pub const STATEMENT_TOKENS_MAX: usize = 256 * 1024;

/// Bytes that the expressions of one row may make: as much as the largest merged document, so any
/// rearrangement of a document fits, and nested collection expressions cannot take all memory.
pub const EXPRESSION_BYTES_MAX: usize = DOCUMENT_MERGED_BYTES_MAX;

/// What one element of a collection expression is counted as in [`EXPRESSION_BYTES_MAX`]: nested
/// ranges over large arrays end after 1.3 million steps, about a tenth of a second.
pub const EXPRESSION_STEP_BYTES: usize = 16;

/// What a copy of a whole document is counted as in [`EXPRESSION_BYTES_MAX`]: at least one page.
pub const EXPRESSION_ROW_BYTES: usize = 4096;

/// Length of a pattern and size of its compiled form: matching takes time proportional to it for
/// each character of the text.
pub const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Fields of one index. An entry repeats all of them, so that 16 short values fill 256 bytes.
pub const INDEX_FIELDS_MAX: usize = 16;

/// Indexes of one collection. Every write keeps all of them: at 5 microseconds each, a third of a
/// millisecond.
pub const INDEXES_PER_COLLECTION_MAX: usize = 64;

/// Entries that one document may have in one index, one for each element of an array. With keys of 2
/// KiB they take 8 MiB. A document with more is noted in the index, which is then not used.
pub const INDEX_ENTRIES_PER_DOCUMENT_MAX: usize = 4096;

/// Rows that CREATE INDEX reads inside its own transaction, while other writers wait: about 10 ms.
/// What has more is built in the background.
pub const INDEX_INLINE_DOCUMENTS_MAX: usize = 2000;

/// Bytes of the rows, and of the entries made of them, that CREATE INDEX reads inside its own
/// transaction: 2,000 documents of 2 KiB.
pub const INDEX_INLINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Rows that one batch of building an index reads while writers wait: about 2 ms.
pub const INDEX_BATCH_DOCUMENTS: usize = 256;

/// Bytes of the rows, and of the entries made of them, in one batch of building an index. A document
/// that is larger is a batch alone.
pub const INDEX_BATCH_BYTES: usize = 512 * 1024;

/// Entries of a dropped index that are deleted in one batch, while writers wait: about 1 ms.
pub const INDEX_PURGE_ENTRIES: usize = 1024;

/// Entries of an index that are counted in one batch. Nobody waits for it; it bounds how long a
/// snapshot is kept.
pub const INDEX_TALLY_ENTRIES: usize = 16 * 1024;

/// Key ranges of one index scan, from IN lists. Beyond, the scan of the collection is as fast.
pub const INDEX_SPANS_MAX: usize = 1024;

/// Joins of one SELECT. Each multiplies the rows to look at; more is rarely meant.
pub const JOINS_MAX: usize = 10;

/// What the directive `#max_joins` may raise [`JOINS_MAX`] to. A row has a slot for each source, also
/// of the 16 queries that may stand inside each other: 1,040 slots of 16 bytes at most.
pub const JOINS_DIRECTIVE_MAX: usize = 64;

/// Index scans whose rows are united or intersected to find the rows of one source: an OR of more
/// alternatives than this looks at all rows.
pub const INDEX_SCANS_MAX: usize = 16;

/// Columns, keys, edits, parameters or aggregates of a DQL statement. They are matched with each
/// other, 16 million steps at most, about 50 ms. Lists of values have no bound of their own.
pub const CLAUSE_ITEMS_MAX: usize = 4096;

/// Bytes that sorting, grouping, DISTINCT and joins of one statement may hold, unless a system
/// parameter says otherwise: 100,000 rows of 2.5 KiB, a fraction of what a phone gives one app.
pub const STATEMENT_MEMORY_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// Subqueries inside of one another. Each level takes about 4 KiB of stack for each of its joins.
pub const SUBQUERY_LEVELS_MAX: usize = 16;

/// Warnings kept in a query result; more say the same thing again.
pub const QUERY_WARNINGS_MAX: usize = 10;

/// Paths that one collection declares a kind for. Each is a document of about 100 bytes, and a path
/// in memory: 1024 are far more fields than anybody names one by one.
pub const DECLARED_KINDS_MAX: usize = 1024;

/// Declared paths of all collections together, all of which are kept in memory: about 10 MB.
pub const DECLARED_KINDS_TOTAL_MAX: usize = 64 * 1024;

/// Memory, about, that the kept result of one live query may take before it is run again instead:
/// 16 MiB, some 30,000 rows of 500 bytes, so that a few large live queries fit beside an app.
pub const LIVE_RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Changed documents that wait for the live queries of a store. Two images of 1 kB each make 16 MiB;
/// behind a longer queue it is cheaper to run the queries again.
pub const LIVE_CHANGES_QUEUED_MAX: usize = 8192;

/// Encoded bytes of the changed documents that wait for the live queries, as they were and as they are:
/// what [`LIVE_CHANGES_QUEUED_MAX`] of 1 kB take. In memory they are several times as large.
pub const LIVE_CHANGES_QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Documents changed by one transaction. A million by-seq rows of 50 bytes are 50 MB of batch.
pub const TRANSACTION_DOCUMENTS_MAX: usize = 1_000_000;

/// Bytes of one transaction's batch in the log. The frame length is a `u32`, and a reader must be
/// able to hold one frame in memory on a phone.
pub const TRANSACTION_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A wire frame, header included. At 1 Gbit/s a frame holds the link for 2 ms.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one atomic group of frames that a receiver buffers before it applies it.
pub const TX_GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Subscriptions one peer may hold on one session.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 256;

/// Documents that one event of a session names: some 13 KiB with keys of 50 bytes, 300 KiB with the
/// longest.
pub const EVENT_DOCUMENTS_MAX: usize = 256;

/// Bytes that a receiver lets a sender have in flight on one lane before it has applied them.
pub const LANE_CREDIT_BYTES: u32 = 4 * 1024 * 1024;

/// A remote clock ahead by less than this is followed (60 s, in milliseconds).
pub const CLOCK_SKEW_FOLLOW_MS: u64 = 60_000;

/// A remote clock ahead by more than this is not merged but held and reported (24 h).
pub const CLOCK_SKEW_HOLD_MS: u64 = 24 * 60 * 60 * 1000;

/// Evicted documents that a store remembers as held. Of some 60 bytes each they take 63 MB at most;
/// one that is evicted beyond that may be sent again.
pub const EVICT_MARKERS_MAX: u64 = 1 << 20;

/// Documents that a store does not have any more and of which it notes that it wrote to them. Of some 50
/// bytes each they take 13 MB at most; one more, and the store takes a new actor, which wrote to none.
pub const ACTOR_CLAIMS_MAX: u64 = 1 << 18;

/// Subscriptions in which one evicted document counts as held.
pub const EVICT_MARKER_SUBSCRIPTIONS_MAX: usize = SUBSCRIPTIONS_PER_SESSION_MAX;

/// How long a subscription may be away, because the app does not run or does not ask for it, before
/// what was kept for it is forgotten (30 days).
pub const SUBSCRIPTION_REST_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// How often it is noted that a subscription is there (once a day), well below the time above.
pub const SUBSCRIPTION_NOTE_MS: u64 = 24 * 60 * 60 * 1000;

/// Tombstones that one round of a store's upkeep may remove are those that came within a day, so that
/// a clock that is ahead for some hours does not end the life of all.
pub const TOMBSTONE_ROUND_MS: u64 = 24 * 60 * 60 * 1000;

/// Sums of deletions that are kept for a collection, one for each day and set of deletions: eleven years
/// of days in 50 kB. The earliest go first.
pub const DELETED_DAYS_MAX: usize = 4096;

/// Sums of deletions in one message, of 21 bytes at most: 10 kB.
pub const DELETED_DAYS_PER_FRAME_MAX: usize = 512;

/// Collections with a sync scope of their own: as many as an app could name, at 100 bytes each.
pub const SYNC_SCOPES_MAX: usize = 4096;

/// Rows that one transaction of a store's own upkeep changes, while writers wait: some milliseconds.
pub const UPKEEP_ROWS: usize = 1000;

/// Tombstone life on a Small Peer: 7 days, in milliseconds.
pub const TOMBSTONE_TTL_SMALL_PEER_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Tombstone life on a Big Peer: 30 days, in milliseconds.
pub const TOMBSTONE_TTL_BIG_PEER_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Canonical text of a subscription. It travels in one frame, with room for the header.
pub const SUBSCRIPTION_STATEMENT_BYTES_MAX: usize = 64 * 1024;

/// Fields that a subscription may name. Each field of a document is compared with all of them, so that a
/// document of 10,000 fields costs 2.5 million comparisons of names: some milliseconds.
pub const PROJECTED_PATHS_MAX: usize = 256;

/// Words for people in a refusal or goodbye on the wire.
pub const WIRE_DETAIL_BYTES_MAX: usize = 1024;

/// Document versions in one HAVE or WANT frame: at 60 bytes each, 30 KB.
pub const VERSIONS_PER_FRAME_MAX: usize = 512;

/// Collection names that a transfer batch refers to by number. More are written out each time.
/// A name costs a reader about 60 bytes besides its text, so hostile bytes get 240 KiB at most.
pub const BATCH_COLLECTIONS_MAX: usize = 4096;

/// Cursors in one transfer batch: one for each subscription of the session.
pub const BATCH_CURSORS_MAX: usize = SUBSCRIPTIONS_PER_SESSION_MAX;

/// A record of a link: one Noise message, whose length field has 16 bits.
pub const LINK_RECORD_BYTES_MAX: usize = 65_535;

/// Frames queued on one lane of one link. At 10 MB/s this drains in 100 ms; four lanes on 16 links
/// are 64 MiB at worst.
pub const LINK_LANE_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Frames queued on one lane of one link, by number: small frames cost about 64 bytes each beside
/// their content.
pub const LINK_LANE_QUEUE_FRAMES_MAX: usize = 16 * 1024;

/// A stranger that connects must prove itself within this time (milliseconds). BLE needs 2 s.
pub const LINK_HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// An app has this long to say whether it wants a peer.
pub const LINK_APPROVAL_TIMEOUT_MS: u64 = 10_000;

/// A link that sent nothing for this long sends a sign of life (milliseconds).
pub const LINK_KEEP_ALIVE_MS: u64 = 10_000;

/// A link that received nothing for this long is dead: three signs of life were lost (milliseconds).
pub const LINK_IDLE_TIMEOUT_MS: u64 = 30_000;

/// A link on which nothing came for this long after something was sent is dead, while another link to
/// the same peer stands by (milliseconds): 3 s, and the 2 s that a frame of [`FRAME_BYTES_MAX`] takes at
/// 1 Mbit/s. The other side is asked for a sign of life when half of it has passed. It doubles with each
/// link that ends while it holds, up to [`LINK_IDLE_TIMEOUT_MS`], for [`LINK_DOUBT_MS`], so that links
/// which are only slow come to rest.
pub const LINK_SILENCE_MS: u64 = 5_000;

/// For so long it is remembered that a link ended while another one stood by (milliseconds).
pub const LINK_DOUBT_MS: u64 = 10 * 60 * 1000;

/// Records under one cipher key and direction: 65,536 of 64 KiB are 4 GiB, far below any bound of
/// the cipher, and a key that leaks opens no more than that.
pub const LINK_REKEY_RECORDS: u64 = 65_536;

/// Connections that have not proved themselves yet, on one listener. Each holds about 2 KiB.
pub const LINK_HANDSHAKES_PENDING_MAX: usize = 32;

/// A message of a WebSocket link. A record is not split, and proxies that hold whole messages hold little.
/// What comes in may be four of them, which is also what memory may be reserved for.
pub const WEBSOCKET_MESSAGE_BYTES_MAX: usize = LINK_RECORD_BYTES_MAX + 2;

/// A file with a key or with certificates: those of all authorities that a system trusts are 0.3 MB.
pub const TLS_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The head of an HTTP request: browsers and proxies send 1 to 4 KiB.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Peers that a discovery keeps in mind: four times as many as a network of 255 hosts has.
pub const DISCOVERED_PEERS_MAX: usize = 1024;

/// Addresses of one discovered peer: wired, wireless and virtual networks with two or three each. With
/// 1,024 peers they take about 0.5 MB.
pub const DISCOVERED_ADDRESSES_MAX: usize = 8;

/// Records that the responder of mDNS may hold, with whatever others told it: 1,024 peers need about
/// 8,192. Above, or when it does not keep up with what comes in, it ends and another one begins. It takes
/// in the slower the more it holds, so that a flood of six million names for 80 seconds left it with 9 MB.
pub const MDNS_RECORDS_MAX: u64 = 16 * 1024;

/// Links of one peer, unless its app wants it otherwise. A LAN mesh keeps 6; the rest is room for many peers
/// behind one hub.
pub const LINKS_MAX: usize = 64;

/// Links that an app may allow a peer. An idle one takes some 27 KB and a file descriptor, of which many
/// systems give a process 1,024. All lanes of all of them full would be 4 GiB, see
/// [`LINK_LANE_QUEUE_BYTES_MAX`].
pub const LINKS_SETTABLE_MAX: usize = 1000;

/// A link that was idle for so long keeps no memory for what it carried (milliseconds): up to 0.8 MB, which it
/// takes again in some microseconds. The sending direction may take [`LINK_KEEP_ALIVE_MS`] longer.
pub const LINK_REST_MS: u64 = 2_000;

/// The name of a device as other peers see it, in bytes.
pub const DEVICE_NAME_BYTES_MAX: usize = 24;

/// Items that a SUBSCRIBE lists itself: up to here a list is shorter than the first symbols of a sketch.
pub const SUBSCRIBE_ITEMS_MAX: usize = 64;

/// Symbols of a sketch in a SUBSCRIBE, beside the summary: 816 bytes show 10 changed documents, which are
/// 20 differences, 19 times out of 20.
pub const SUBSCRIBE_SYMBOLS: u32 = 48;

/// Items in one frame of a list: 12 bytes each, together below the smallest frame limit of 16 KiB.
pub const ITEMS_PER_FRAME_MAX: usize = 1300;

/// Tags, and versions, in one frame about a comparison: 4 bytes each, or 12 and about 5 for each actor.
/// Frames are cut by bytes before.
pub const COMPARED_PER_FRAME_MAX: usize = 4096;

/// Actors of a version that is told to the other side of a comparison. A document of more actors is
/// sent in both directions instead, which costs little more than naming them.
pub const COMPARED_ACTORS_MAX: usize = 16;

/// Versions that one comparison tells the other side, at most 300 bytes each here and there. Beyond,
/// documents that both sides changed are sent in both directions.
pub const COMPARED_VERSIONS_MAX: usize = 4096;

/// Items of a list. Who holds more of one subscription gets all of it sent: 12 MB is what a list of so
/// many takes on the wire, and in the memory of who compares it.
pub const LISTED_ITEMS_MAX: usize = 1_000_000;

/// Documents found to be lacking that are sent one by one; their keys take about 100 bytes each. Beyond,
/// the whole subscription is sent in the order of the feed.
pub const LACKING_DOCUMENTS_MAX: usize = 128 * 1024;

/// Documents that a remote may have scanned in ten seconds to find out what it lacks: two to four
/// seconds of work. Beyond, its subscriptions are sent whole, which credit bounds.
pub const SCANNED_DOCUMENTS_PER_TEN_SECONDS_MAX: u64 = 20_000_000;

/// Symbols of sketches that a remote may have solved in ten seconds: those of 128 sketches of
/// [`SKETCH_SYMBOLS_MAX`], a third of a second of work if all of them are crafted. Beyond, its
/// subscriptions are sent whole.
pub const SYMBOLS_PER_TEN_SECONDS_MAX: u64 = 128 * SKETCH_SYMBOLS_MAX as u64;

/// Sessions without a link that are kept, so that a peer which comes back goes on in one round trip.
/// At most 6.5 MB each, see [`KNOWN_VERSIONS_MAX`]; the one that has been alone the longest goes first.
pub const SESSIONS_SUSPENDED_MAX: usize = 16;

/// Links that one session holds: a pair of peers shares two or three media in practice. One is in use,
/// and while there are more, what was sent over it and not confirmed is kept for the next one, at most
/// [`LANE_CREDIT_BYTES`] on each of three lanes.
pub const LINKS_PER_SESSION_MAX: usize = 4;

/// Documents whose version at the remote peer a session remembers: two generations of 32,768
/// entries of about 100 bytes are 6.5 MB.
pub const KNOWN_VERSIONS_MAX: usize = 65_536;

/// Bytes of documents that a session reads from the change feed at once: about 600 documents of 300
/// bytes, which one local transaction of the receiver takes in about 5 ms.
pub const TRANSFER_BATCH_BYTES: usize = 192 * 1024;

/// Changes announced in one batch: 4 KiB of items.
pub const ANNOUNCED_PER_BATCH_MAX: usize = 512;

/// Changes announced to one remote that it does not hold yet. A source sends at once beyond half of them;
/// a remote that announces more loses its link. 16,384 of some 40 bytes each are 640 KiB.
pub const ANNOUNCED_OPEN_MAX: usize = 16 * 1024;

/// Changes that came in lately, by which announcements of others are recognised: two generations of
/// half as many. 8,192 of some 16 bytes each are 128 KiB for all sessions of a peer.
pub const ARRIVALS_MAX: usize = 8192;

/// Changes that a remote announced lately and that were not seen here yet: two generations of half as
/// many, 8 KiB for each session at most.
pub const HEARD_MAX: usize = 512;

/// How far back the pieces of a lane may repeat what earlier ones said: about 60 documents of 300 bytes.
/// A window of 64 KiB makes them 2% smaller. With both directions of two lanes, and the tables of the
/// sending ends, a link needs at most 112 KiB, and at rest ([`LANE_REST_MS`]) 64 KiB. One that carried
/// little needs little more than what it carried.
pub const COMPRESSION_WINDOW_BYTES: usize = 16 * 1024;

/// After so many milliseconds without documents, a lane keeps no memory but the windows of its
/// compression. Making the rest again takes some 50 microseconds.
pub const LANE_REST_MS: u64 = 30_000;

/// Documents of which a session remembers that the remote holds an outdated copy. With keys of 60 bytes
/// 8 MiB, which takes a remote that brings so many outdated documents and does not read the answers.
pub const STALE_DOCUMENTS_MAX: usize = 65_536;

/// Documents of a remote that were not taken in and of which a session notes when they are: at 16 bytes
/// each, some 100 KiB. What is more is told of by collection.
pub const UNTAKEN_DOCUMENTS_MAX: usize = 4096;

/// A document below this size is sent whole when it is not known what the remote holds of it:
/// asking would cost more time than it saves. In simulated meshes of 15 peers, announcing the small
/// changes that other peers wrote (to all neighbours but one) sent 35 to 50% fewer documents, and yet
/// 1.5 to 2 times the bytes; half of the changes took twice as long on a LAN, and four times on BLE.
pub const ASK_FIRST_BYTES_MIN: usize = 1024;

/// Events that wait for the owner of a session. An owner polls after every call, which makes at most
/// a handful; who never polls loses the oldest.
pub const SESSION_EVENTS_MAX: usize = 1024;

/// Control frames that wait to be sent. A remote that asks without reading is cut off here.
pub const CONTROL_FRAMES_QUEUED_MAX: usize = 4096;

/// Bytes of control frames that wait to be sent: for every subscription its statement, 16 MiB in all,
/// and its whole sketch, 17 MiB, and as much as two lanes carry at a time for answers about documents,
/// 8 MiB. A remote that asks without reading is cut off here.
pub const CONTROL_BYTES_QUEUED_MAX: usize = SUBSCRIPTIONS_PER_SESSION_MAX
    * (SUBSCRIPTION_STATEMENT_BYTES_MAX + 17 * SKETCH_SYMBOLS_MAX as usize)
    + 2 * LANE_CREDIT_BYTES as usize;

/// Bytes that tell what is held of documents of batches that were not merged, or not whole: about 80,000
/// documents. After a delta that did not fit the batch comes again, and what was left out then is told
/// the next time; otherwise this is for all that waits to be sent, and of the rest it is told in which
/// batches it came.
pub const TOLD_VERSIONS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests that a remote may make in ten seconds, over all links of a session: all frames that neither
/// its credit nor what it was asked bounds. 768 for all its subscriptions with their statements, and
/// WANT for a million documents, of which a frame has some 140.
pub const REQUESTS_PER_TEN_SECONDS_MAX: u32 = 8192;

/// The least that a piece of a batch stands for, unless it is the last: a quarter of the smallest frame.
/// So a batch has 16,640 pieces at most.
pub const PIECE_BYTES_MIN: usize = 4096;

/// Bytes of an unfinished batch that may wait for their rest as long as the link lives: five times
/// [`TRANSFER_BATCH_BYTES`], since live changes may hold a catch-up up. A larger one must go on.
pub const BATCH_BYTES_RESTING_MAX: usize = 1024 * 1024;

/// How often a receiver may ask for a stream again because of a delta that did not fit: on one link,
/// where the count has six bits, and over all links to a peer within ten minutes. Each time teaches the
/// sender what it had wrong, so a few suffice.
pub const REWINDS_MAX: u8 = 63;

/// Documents of one window, a subscription with ORDER BY and LIMIT. The peer that has it keeps the places of
/// some ten times as many in memory, of about 200 bytes each: 20 MB.
pub const WINDOW_DOCUMENTS_MAX: u32 = 10_000;

/// Documents that a peer counts for a window of another one: what the largest window has, and as much again
/// three times, for documents that count there and not at the subscriber.
pub const WINDOW_COUNT_MAX: u32 = 4 * WINDOW_DOCUMENTS_MAX;

/// Windows of one peer, and so the questions of another one about windows that can wait at a time. With the
/// text of each they take 128 KiB.
pub const WINDOWS_PER_SESSION_MAX: u8 = 16;

/// Canonical text of a window. It travels in the smallest frame that a link may carry, with room for the
/// header.
pub const WINDOW_STATEMENT_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a place in the order of a window. What is longer is cut, and then the window reaches to the
/// last place that begins so, which is more than was meant and never less.
pub const WINDOW_PLACE_BYTES_MAX: usize = 1024;

/// Expressions in ORDER BY of a window.
pub const WINDOW_ORDER_MAX: usize = 16;

/// How often a remote may say, within one link, that a subscription can be asked for again which its sync
/// scope had closed: all [`SUBSCRIPTIONS_PER_SESSION_MAX`] twice. Each time this side may have to look
/// through all that it holds.
pub const INVITATIONS_PER_LINK_MAX: usize = 2 * SUBSCRIPTIONS_PER_SESSION_MAX;

/// Symbols of a sketch, the summary included. About 1.4 symbols of 17 bytes find one difference, and a
/// changed document is two, so that 1,300 changed documents are found with 64 KB, a quarter of a
/// frame. In memory a sketch of this size takes 68 KiB. Larger differences are listed.
pub const SKETCH_SYMBOLS_MAX: u32 = 4096;

/// Symbols of a sketch that is kept up to date while its set changes: 17 KiB for 350 changed
/// documents. A change of the set costs 13 of them; all [`SKETCH_SYMBOLS_MAX`] would cost 16.
pub const SKETCH_SYMBOLS_CACHED: u32 = 1024;

/// Symbols that a decoder asks for first, beside the summary: 68 bytes show one or two differences.
pub const SKETCH_SYMBOLS_FIRST: u32 = 4;

/// Symbols that a decoder may ask for however small the sets are. For larger sets it asks for no more
/// than the larger set has items: a list of the items, 12 bytes each, is shorter then.
pub const SKETCH_SYMBOLS_ASKED_MIN: u32 = 64;

/// Sets whose sizes differ by one part in this many, that is 20%, are not compared by sketch: most of
/// the difference is missing documents, which a stream carries anyway.
pub const SKETCH_SIZE_GAP_PARTS: u64 = 5;

/// Sizes may always differ by this much: such a difference is found with about 2 KB.
pub const SKETCH_SIZE_GAP_MIN: u64 = 64;

/// Items that a decoder takes out of the symbols, for each symbol. An honest sketch gives at most one,
/// since a symbol that gave its item stays empty. Who claims more has crafted a circle.
pub const SKETCH_PEELS_PER_SYMBOL: u32 = 2;

/// Symbols below [`SKETCH_SYMBOLS_MAX`] that one item maps to. The mean is 15.8, and an item with more
/// than this has a probability below 10^-60: it was crafted. Bounds the work for one item.
pub const SKETCH_INDICES_PER_ITEM_MAX: usize = 128;

/// Length of a blob: 256 GiB are 2^24 groups of 16 KiB, whose set takes 2 MiB of memory while the blob is
/// fetched, and whose tree takes 1 GiB of disk.
pub const BLOB_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;

/// Blobs up to this length are kept without a tree beside them: hashing four groups again takes some 30
/// microseconds, less than opening a second file.
pub const BLOB_WITHOUT_TREE_BYTES_MAX: u64 = 64 * 1024;

/// Level of the largest piece in which a blob travels: 2^4 groups of 16 KiB are 256 KiB.
pub const BLOB_PIECE_LEVEL_MAX: u8 = 4;

/// Links that a mesh keeps on a LAN. With 6, 1,000 peers are at most some 6 hops apart, and a change of
/// 300 bytes costs each of them 450 bytes; every link more adds the announcements of one link.
pub const MESH_LAN_LINKS_TARGET: usize = 6;

/// Links on a LAN that a mesh accepts: room for islands to be joined and for peers that just came. At
/// 20 KB each they take a third of a megabyte.
pub const MESH_LAN_LINKS_MAX: usize = 16;

/// Links that a mesh keeps over Bluetooth. All share one radio of 400 kbit/s: above one write a second,
/// 1,000 peers with 4 links are twice as fast as with 7.
pub const MESH_BLE_LINKS_TARGET: usize = 3;

/// Links over Bluetooth that a mesh accepts: as many as controllers carry.
pub const MESH_BLE_LINKS_MAX: usize = 7;

/// Links over the internet that a mesh keeps. They lead to a Big Peer, of which one is enough.
pub const MESH_INTERNET_LINKS_TARGET: usize = 1;

/// Links over the internet that a mesh accepts, while one Big Peer is exchanged for another.
pub const MESH_INTERNET_LINKS_MAX: usize = 4;

/// Addresses that a mesh keeps in mind: 1,000 peers of one LAN with two each. At about 150 bytes they
/// take 300 KB.
pub const MESH_ADDRESSES_MAX: usize = 2048;

/// Addresses of one medium that are dialled at the same time. A handshake takes a LAN milliseconds and
/// Bluetooth seconds; more at once would be links beyond the target when all succeed.
pub const MESH_DIALS_AT_ONCE: usize = 4;

/// Peers that a mesh remembers not to link with because they broke a rule: 64 KB.
pub const MESH_SHUNNED_PEERS_MAX: usize = 1024;

/// What a mesh asks of its owner, and tells it, that waits for it. An owner polls after every call, which
/// makes at most a handful; who never polls loses the oldest events.
pub const MESH_EVENTS_MAX: usize = 256;

/// Peers over which a question for a blob is passed on, and so peers between who fetches and who has. With 6
/// links each, 1,000 peers are some 6 links apart; 12 phones in a row reach 360 m. Every peer passes a question on once:
/// one that nobody can answer costs each link 100 bytes in each direction, whatever the number of hops.
pub const BLOB_HOPS_MAX: u8 = 12;

/// Questions for blobs that a peer remembers to know them again when they come another way: 64 KB. A question
/// that is forgotten too soon is passed on again, with fewer hops each time.
pub const BLOB_QUESTIONS_REMEMBERED_MAX: usize = 2048;

/// Ranges in one message that says what is there of a blob: 16 KiB at most, and as much again in memory.
pub const BLOB_RUNS_PER_FRAME_MAX: usize = 1024;

/// Blobs that a neighbour has asked for and may be told of: 50 bytes each, and the set of what it was told.
pub const BLOB_INTERESTS_PER_PEER_MAX: usize = 256;

/// Blobs that are being looked for or fetched for neighbours at one time. Small ones are kept in memory until
/// they are whole: 8 MB.
pub const BLOB_RELAYS_MAX: usize = 128;

/// Blobs that are being looked for or fetched for one neighbour at one time.
pub const BLOB_RELAYS_PER_PEER_MAX: usize = 32;

/// Blobs of which a neighbour may send what is no part of them before its link is closed: a disk that went bad
/// shows in a few, and honest peers check what they read.
pub const BLOB_DAMAGED_PER_PEER_MAX: usize = 16;

/// Pieces that a neighbour may have asked for and not got. An honest one asks for [`BLOB_WINDOW_BYTES_MAX`],
/// which are 128 pieces of a group, and twice that when it starts anew.
pub const BLOB_GETS_PER_PEER_MAX: usize = 512;

/// Questions of a neighbour that are passed on in ten seconds. Beyond, the answer is that there are too many. A
/// flood of them takes 1.3 KB/s of every link in each direction, however many peers take part in it.
pub const BLOB_ASKS_PER_TEN_SECONDS_MAX: u32 = 128;

/// Messages about blobs that a neighbour may have waiting here because it does not read: 16 KiB each at most.
pub const BLOB_MESSAGES_QUEUED_MAX: usize = 2048;

/// Bytes of pieces that are asked of one neighbour at one time: 10 ms at 200 MB/s, half of what a link lets
/// wait at the receiver, so that other frames have room beside them.
pub const BLOB_WINDOW_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Blobs that one peer fetches for its app at one time. More are refused.
pub const BLOB_FETCHES_MAX: usize = 1024;

/// Peers of whom a mesh knows a record. At about 500 bytes, and metadata, they take 2 MB.
pub const PRESENCE_RECORDS_MAX: usize = 4096;

/// What an app adds to its presence, in bytes. All peers of the mesh get it, whenever a record changes.
pub const PRESENCE_METADATA_BYTES_MAX: usize = 4096;

/// Links that a presence record names, of 9 bytes each. More can be linked with one peer, and are not in the
/// picture of others.
pub const PRESENCE_LINKS_MAX: usize = 256;

/// What is signed of a presence record: 4 KiB of metadata, 2.3 KB of links, and room for what later versions
/// add.
pub const PRESENCE_BODY_BYTES_MAX: usize = 8192;

/// Interests that a presence record names, in four bytes each: enough to see who shares some.
pub const PRESENCE_INTERESTS_MAX: usize = 8;

/// For how long a presence record counts at most, in seconds: three intervals of a mesh of 4,096 peers are
/// 4,914.
pub const PRESENCE_LIFETIME_S_MAX: u16 = 7200;

/// A frame of gossip, as small as the smallest frame limit of a link.
pub const GOSSIP_BYTES_MAX: usize = 16 * 1024;

/// Peers named in one frame of gossip: at 16 bytes each, as many as fit.
pub const GOSSIP_ENTRIES_MAX: usize = 1000;

/// Records that are asked for and not there yet, for each neighbour: 30 KB on their way, which a LAN
/// carries in milliseconds and Bluetooth in two seconds.
pub const GOSSIP_WANTS_OPEN_MAX: usize = 128;

/// Records of which one neighbour said that it has them, and that nobody brought yet: a whole table. At
/// some 100 bytes each, 16 neighbours can make it take 6.5 MB.
pub const GOSSIP_WANTS_PER_NEIGHBOUR_MAX: usize = PRESENCE_RECORDS_MAX;

/// Peers that one neighbour may introduce at once, and then in each minute. A mesh of 1,000 is known as
/// soon as its records are there; one of 4,096 over six links too. Of thousands of identities that one
/// neighbour makes up, the rest have to wait.
pub const GOSSIP_INTRODUCED_PER_MINUTE_MAX: u64 = 1024;

/// Bytes of announcements and questions that a neighbour may send at once: four lists of 4,096 peers.
pub const GOSSIP_INBOUND_BYTES_MAX: u64 = 256 * 1024;

/// So many of those bytes come back each second: 512 announcements, whose records take 3% of a core to
/// verify. An honest mesh of 4,096 peers makes 4.
pub const GOSSIP_INBOUND_BYTES_PER_SECOND: u64 = 8 * 1024;

/// What of that an honest sender uses: three quarters, so that no difference of clocks makes it a flood.
pub const GOSSIP_ANNOUNCED_BYTES_MAX: u64 = GOSSIP_INBOUND_BYTES_MAX / 4 * 3;

/// Bytes of records that one neighbour gets at once, after which it waits: a mesh of 4,096 without
/// metadata.
pub const GOSSIP_RECORD_BYTES_MAX: u64 = 1024 * 1024;

/// So many of those bytes come back each second: 350 records, a hundred times what an honest mesh needs.
pub const GOSSIP_RECORD_BYTES_PER_SECOND: u64 = 64 * 1024;

/// The same over Bluetooth, where all links share 50 KB/s.
pub const GOSSIP_RECORD_BYTES_PER_SECOND_BLE: u64 = 4 * 1024;

/// A canonical statement that is relayed, in bytes. Few are longer than 200; one that is goes to direct
/// neighbours only.
pub const INTEREST_STATEMENT_BYTES_MAX: usize = 4 * 1024;

/// Subscriptions of its own that a peer tells its neighbours, which relay them.
pub const INTERESTS_OWN_MAX: usize = 64;

/// Subscriptions that a peer relays, for all its neighbours together. Each is one subscription at each
/// neighbour, where a session may have [`SUBSCRIPTIONS_PER_SESSION_MAX`].
pub const INTERESTS_CARRIED_MAX: usize = 64;

/// What a neighbour may say: its own, and what it relays.
pub const INTERESTS_PER_NEIGHBOUR_MAX: usize = INTERESTS_OWN_MAX + INTERESTS_CARRIED_MAX;

/// Bytes of the statements of a neighbour, half of them its own: 128 of 500 bytes. With 64 neighbours, 4 MiB.
pub const INTEREST_BYTES_PER_NEIGHBOUR_MAX: usize = 64 * 1024;

/// Subscriptions that a neighbour may have relayed at once, after which each waits
/// [`INTERESTS_FRESH_PAUSE_MS`]: every change costs a message to each other neighbour, and a scan there.
pub const INTERESTS_FRESH_MAX: u64 = INTERESTS_PER_NEIGHBOUR_MAX as u64;

/// How long one of [`INTERESTS_FRESH_MAX`] takes to come back, in milliseconds. Whoever changes its mind all the time makes 30 scans a
/// minute at each neighbour.
pub const INTERESTS_FRESH_PAUSE_MS: u64 = 2_000;

/// What a relay holds unless an app wants it otherwise: 80,000 documents of 400 bytes with what it
/// costs to hold them, or what a LAN of 100 Mbit/s carries in five seconds.
pub const RELAY_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The least that a relay holds: a quarter is room for some batches of [`TRANSFER_BATCH_BYTES`] and what it costs to hold
/// them. With less it would begin anew all the time.
pub const RELAY_CACHE_BYTES_MIN: usize = 4 * 1024 * 1024;

/// A certificate, all of it. Beside a proof of a handshake (4,233 bytes) it makes 12.4 KB, so that both fit in
/// one record of a link (65,535) and in one frame of gossip (16 KiB); Bluetooth at 20 KB/s carries it in 0.4 s.
/// Twenty rules of 100 bytes, a user of 256 and 2 KiB of claims leave more than a third of it free.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;

/// The name of a user in a certificate: an e-mail address has 254 at most.
pub const CERTIFICATE_USER_BYTES_MAX: usize = 256;

/// What an identity service says of a user in a certificate, encoded: a quarter of the certificate.
pub const CERTIFICATE_CLAIMS_BYTES_MAX: usize = 2 * 1024;

/// How deep claims nest: far fewer levels than documents, since rules name them by their paths.
pub const CERTIFICATE_CLAIM_LEVELS_MAX: usize = 8;

/// By how much the clocks of an authority and a peer may differ before a certificate is taken for expired, or for
/// not valid yet: phones without a network drift by seconds a day.
pub const CERTIFICATE_GRACE_MS: u64 = 10 * 60 * 1000;

/// The greatest time in a certificate, a list or a beacon: what a timestamp holds, in the year 10889.
pub const SIGNED_TIME_MS_MAX: u64 = (1 << 48) - 1;

/// Bytes of one predicate of a grant.
pub const GRANT_PREDICATE_BYTES_MAX: usize = 1024;

/// Predicates of a grant, of all collections, reading and writing each. With the most work that each may do a check takes
/// some 50 ms at worst, on a document made for it; with equality predicates 256 cost as much as one.
pub const GRANT_PREDICATES_MAX: usize = 256;

/// Work of one predicate on one document, in the measure of `EXPRESSION_BYTES_MAX`: 16,384 elements of an
/// array, or 256 KiB of text. What needs more denies.
pub const GRANT_WORK_BYTES_MAX: usize = 256 * 1024;

/// Grants that narrow each other in one permit: a certificate, a device, a session and one more.
pub const PERMIT_LAYERS_MAX: usize = 4;

/// Keys that one database trusts at one time: a root in a safe, two in use, two that take over.
pub const AUTHORITIES_MAX: usize = 8;

/// Changes of authority that a peer keeps to show to others. At ten a year they cover six years; older ones are
/// final. 64 of 490 bytes are 31 KB.
pub const AUTHORITY_CHANGES_MAX: usize = 64;

/// Entries of one revocation list. Each lasts as long as the certificates that it is about, so that with certificates of
/// a week 4,096 are 585 revocations a day.
pub const REVOCATIONS_MAX: usize = 4096;

/// One revocation list: 4,096 entries of 30 bytes, head and signature; half a frame.
pub const REVOCATION_LIST_BYTES_MAX: usize = 128 * 1024;

/// A part of a revocation list on the way between neighbours: fits into [`GOSSIP_BYTES_MAX`] with what stands before it, and
/// nine make the longest list.
pub const TRUST_PART_BYTES_MAX: usize = 15 * 1024;

/// Frames about trust that a neighbour may send at once. All that there can be is 64 changes, 8 lists of 9 parts each and 8 times,
/// with what asks for them below 250.
pub const TRUST_FRAMES_AT_ONCE_MAX: u64 = 256;

/// Frames about trust that a neighbour may send each second from then on.
pub const TRUST_FRAMES_PER_SECOND_MAX: u64 = 8;

/// A signed time is passed on if it is so much later than the last one that was: once a minute, whoever signs more often.
pub const SIGNED_TIME_STEP_MS: u64 = 60 * 1000;

/// Operations of one signed commit: as many documents as a transaction may change, with 4 edits each.
pub const COMMIT_OPERATIONS_MAX: usize = 4 * TRANSACTION_DOCUMENTS_MAX;

/// Hashes of a proof that an operation is part of a commit: 2 to the 22nd is more than 4 million.
pub const COMMIT_PROOF_HASHES_MAX: usize = 22;

/// Gateways that a peer knows ways to; those further away are as if they were not there. Each costs 17 bytes to each neighbour
/// whenever its distance changes.
pub const GATEWAYS_MAX: usize = 4;

/// Bytes of all statements that a gateway wants, so that they fit into one frame of [`GOSSIP_BYTES_MAX`]. With those of
/// [`GATEWAYS_MAX`] from 64 neighbours, 3 MiB.
pub const GATEWAY_DEMAND_BYTES_MAX: usize = 12 * 1024;

/// How long a peer that has lost the way to a gateway keeps what it carries for it, and takes in more, in milliseconds: an hour.
pub const GATEWAY_HOLD_MS: u64 = 60 * 60 * 1000;
