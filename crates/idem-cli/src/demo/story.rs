//! The acts of the demo, in order.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use comfy_table::Table;
use idem::Value;

use super::{
    driven::{ANSWER_WAIT, DrivenPeer},
    figures::Figures,
    offline::CASES,
    stage::Stage,
    wire::Wire,
};
use crate::{
    exit::CliError,
    output::{json_text, plain_table},
};

/// 7,884 airports of the world; source and licence in `data/README.md`.
const AIRPORTS: &str = include_str!("../../data/airports.ndjson");
/// Documents of one commit of the import.
const BATCH_DOCUMENTS: usize = 250;
/// Edits that the live latency is measured over.
const LIVE_EDITS: u64 = 200;
/// Acknowledged writes after which the peer is killed, with more on their way.
const KILL_AFTER: u64 = 400;
/// Writes that are on their way at any time before the kill.
const WRITES_AHEAD: u64 = 32;

const WHAT_BOTH_WANT: [&str; 2] = ["SELECT * FROM airports", "SELECT * FROM journal"];

/// Plays all acts; gives what was measured. Claims that do not hold are in the stage.
pub(super) fn tell(directory: &Path, stage: &Stage) -> Result<Figures, CliError> {
    let start = Instant::now();
    let mut figures = Figures {
        identical: true,
        ..Figures::default()
    };
    let mut pair = Pair::start(directory, stage)?;
    pair.import(stage, &mut figures)?;
    pair.check_identical(stage, &mut figures)?;
    pair.measure_latency(stage, &mut figures)?;
    pair.disagree(stage, &mut figures)?;
    let pair = pair.kill_b(stage, &mut figures)?;
    pair.finish(stage)?;
    figures.seconds = start.elapsed().as_secs_f64();
    stage.check(figures.seconds < 60.0, "all of it took less than a minute");
    figures.ok = stage.broken().is_empty();
    Ok(figures)
}

/// The two peers and the wire between them.
struct Pair<'d> {
    directory: &'d Path,
    key: String,
    a: DrivenPeer,
    b: DrivenPeer,
    wire: Wire,
}

impl<'d> Pair<'d> {
    fn start(directory: &'d Path, stage: &Stage) -> Result<Self, CliError> {
        stage.act("Two peers");
        let key = shared_key();
        let mut a = DrivenPeer::start("A", &directory.join("a"), &key)?;
        let mut b = DrivenPeer::start("B", &directory.join("b"), &key)?;
        let listening = a.request(r#"{"sync":"start","listen":"127.0.0.1:0"}"#)?;
        let address = listening.get("listening").and_then(Value::as_str);
        let address: SocketAddr = address
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| CliError::failed("peer A does not listen"))?;
        let wire = Wire::to(address)
            .map_err(|source| CliError::failed("cannot lay the wire").because(source))?;
        subscribe(&mut a)?;
        subscribe(&mut b)?;
        connect(&mut b, &wire)?;
        stage.say("A and B are processes of their own, each with a store on disk.");
        stage
            .say("They share a secret; the TCP link between them is encrypted, and we can cut it.");
        Ok(Self {
            directory,
            key,
            a,
            b,
            wire,
        })
    }

    /// Imports on A while B's live query counts.
    fn import(&mut self, stage: &Stage, figures: &mut Figures) -> Result<(), CliError> {
        let lines: Vec<_> = AIRPORTS.lines().collect();
        let count = lines.len() as u64;
        stage.act(&format!(
            "{count} airports of the world go into A, and fill B live"
        ));
        let observer = self.b.observe("SELECT COUNT(*) AS n FROM airports")?;
        let bytes_before = self.wire.bytes();
        let start = Instant::now();
        let bar = stage.bar("imported on A", count);
        for batch in lines.chunks(BATCH_DOCUMENTS) {
            let documents = batch.join(",");
            self.a.request(&format!(
                r#"{{"statement":"INSERT INTO airports DOCUMENTS (:d)","args":{{"d":[{documents}]}}}}"#
            ))?;
            bar.inc(batch.len() as u64);
        }
        let imported = start.elapsed();
        bar.finish();
        let bar = stage.bar("arrived on B", count);
        let arrived = self.b.wait_observed(
            observer,
            |items| counted(items) == count,
            |items| bar.set_position(counted(items)),
        );
        bar.finish();
        let synced = arrived?.duration_since(start);
        let wire_bytes = self.wire.bytes() - bytes_before;
        let per_second = |time: Duration| count as f64 / time.as_secs_f64();
        figures.documents = count;
        figures.document_bytes = AIRPORTS.len() as f64 / count as f64;
        figures.import_documents_per_s = per_second(imported);
        figures.sync_documents_per_s = per_second(synced);
        figures.wire_bytes_per_document = wire_bytes as f64 / count as f64;
        stage.say(&format!(
            "stored durably on A in {:.2} s, all shown by B's live query after {:.2} s",
            imported.as_secs_f64(),
            synced.as_secs_f64()
        ));
        Ok(())
    }

    /// Measures from a statement sent to A to the result of B's live query.
    fn measure_latency(&mut self, stage: &Stage, figures: &mut Figures) -> Result<(), CliError> {
        stage.act("Live");
        let observer = self
            .b
            .observe("SELECT probe FROM airports WHERE _id = 'ZRH'")?;
        let mut times = Vec::new();
        for number in 1..=LIVE_EDITS {
            let start = Instant::now();
            let args = format!("{{\"n\":{number}}}");
            self.a
                .execute("UPDATE airports SET probe = :n WHERE _id = 'ZRH'", &args)?;
            let shown = |items: &[Value]| field(items, "probe") == i64::try_from(number).ok();
            let at = self.b.wait_observed(observer, shown, |_| {})?;
            times.push(at.duration_since(start).as_secs_f64() * 1e3);
        }
        self.a
            .execute("UPDATE airports UNSET probe WHERE _id = 'ZRH'", "{}")?;
        self.b.request(&format!("{{\"unobserve\":{observer}}}"))?;
        times.sort_by(f64::total_cmp);
        figures.live_edits = LIVE_EDITS;
        figures.live_latency_p50_ms = times[times.len() / 2];
        figures.live_latency_p95_ms = times[times.len() * 95 / 100];
        stage.say(&format!(
            "{LIVE_EDITS} edits on A, each awaited on B: {:.2} ms in the median",
            figures.live_latency_p50_ms
        ));
        Ok(())
    }

    /// Cuts the wire, edits on both sides, mends it, and shows what came out.
    fn disagree(&mut self, stage: &Stage, figures: &mut Figures) -> Result<(), CliError> {
        stage.act("The wire is cut, and both sides edit the same documents");
        for case in &CASES {
            case.prepare(&mut self.a)?;
        }
        self.wait_identical()?;
        self.wire.cut();
        for case in &CASES {
            for statement in case.on_a {
                self.a.execute(statement, "{}")?;
            }
        }
        wait_for_later_clock();
        for case in &CASES {
            for statement in case.on_b {
                self.b.execute(statement, "{}")?;
            }
        }
        let apart = self.digests()?;
        stage.check(apart.0 != apart.1, "A and B differ while the wire is cut");
        self.wire.mend();
        let start = Instant::now();
        connect(&mut self.b, &self.wire)?;
        stage.say("the wire is mended");
        let identical = self.wait_identical()?;
        figures.reunion_ms = start.elapsed().as_secs_f64() * 1e3;
        self.show_cases(stage, figures)?;
        stage.check(identical, "both stores are identical, byte for byte");
        figures.identical &= identical;
        Ok(())
    }

    fn show_cases(&mut self, stage: &Stage, figures: &mut Figures) -> Result<(), CliError> {
        let mut table = plain_table();
        table.set_header(["", "A did", "B did", "merged", "why"]);
        let mut wrong = Vec::new();
        for case in &CASES {
            let on_a = case.look(&mut self.a)?;
            let on_b = case.look(&mut self.b)?;
            figures.conflicts += 1;
            if case.is_expected(&on_a) && case.is_expected(&on_b) {
                figures.conflicts_as_expected += 1;
            } else {
                wrong.push(format!(
                    "{} shows {} on A and {} on B",
                    case.id,
                    json_text(&Value::Array(on_a.clone())),
                    json_text(&Value::Array(on_b))
                ));
            }
            add_case(&mut table, case.id, [case.on_a, case.on_b], &on_a, case.why);
        }
        stage.table(table);
        let claim = if wrong.is_empty() {
            "every document merged as the rules say, on both peers".to_owned()
        } else {
            format!(
                "every document merged as the rules say: {}",
                wrong.join("; ")
            )
        };
        stage.check(wrong.is_empty(), &claim);
        self.show_kept(stage)
    }

    /// The value that lost is not gone: an app can read it on either peer.
    fn show_kept(&mut self, stage: &Stage) -> Result<(), CliError> {
        let request = r#"{"conflicts":{"collection":"airports","_id":"LHR","path":["name"]}}"#;
        let on_a = self.a.request(request)?.remove("conflicts");
        let on_b = self.b.request(request)?.remove("conflicts");
        let both = Value::from(vec!["Heathrow, says B", "Heathrow, says A"]);
        stage.check(
            on_a.as_ref() == Some(&both) && on_b == on_a,
            &format!("LHR keeps both names: {}", json_text(&both)),
        );
        Ok(())
    }

    /// Kills B in the middle of writes, starts it again and looks for what it had acknowledged.
    fn kill_b(mut self, stage: &Stage, figures: &mut Figures) -> Result<Self, CliError> {
        stage.act("B is killed (kill -9) in the middle of writes, and started again");
        self.wire.cut();
        let acknowledged = write_and_kill(self.b)?;
        let start = Instant::now();
        let mut b = DrivenPeer::start("B", &self.directory.join("b"), &self.key)?;
        figures.restart_ms = start.elapsed().as_secs_f64() * 1e3;
        let found: BTreeSet<i64> = b
            .execute("SELECT _id FROM journal", "{}")?
            .iter()
            .filter_map(|item| item.as_object()?.get("_id")?.as_int())
            .collect();
        figures.acknowledged_before_kill = acknowledged.len() as u64;
        figures.found_after_restart = acknowledged.intersection(&found).count() as u64;
        stage.say(&format!(
            "{} writes were acknowledged; B is back after {:.0} ms with {}",
            acknowledged.len(),
            figures.restart_ms,
            found.len()
        ));
        stage.check(
            !acknowledged.is_empty() && acknowledged.is_subset(&found),
            "every acknowledged write is there",
        );
        self.wire.mend();
        subscribe(&mut b)?;
        connect(&mut b, &self.wire)?;
        self.b = b;
        self.check_identical(stage, figures)?;
        Ok(self)
    }

    fn check_identical(&mut self, stage: &Stage, figures: &mut Figures) -> Result<(), CliError> {
        let identical = self.wait_identical()?;
        figures.identical &= identical;
        stage.check(identical, "both stores are identical, byte for byte");
        Ok(())
    }

    /// Waits until both stores have the same digest; false if that does not happen.
    fn wait_identical(&mut self) -> Result<bool, CliError> {
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let (a, b) = self.digests()?;
            if a == b {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
        }
    }

    fn digests(&mut self) -> Result<(Option<Value>, Option<Value>), CliError> {
        let a = self.a.request(r#"{"digest":true}"#)?.remove("digest");
        let b = self.b.request(r#"{"digest":true}"#)?.remove("digest");
        Ok((a, b))
    }

    fn finish(self, stage: &Stage) -> Result<(), CliError> {
        stage.act("What was measured");
        self.b.finish()?;
        self.a.finish()
    }
}

/// Writes to B one commit after the other until enough are acknowledged, kills it with more on their
/// way, and gives the numbers of all that were acknowledged.
fn write_and_kill(mut b: DrivenPeer) -> Result<BTreeSet<i64>, CliError> {
    let mut acknowledged = BTreeSet::new();
    let mut sent = 0;
    let note = |answer: &idem::Object, acknowledged: &mut BTreeSet<i64>| {
        if let (Some(id), None) = (
            answer.get("id").and_then(Value::as_int),
            answer.get("error"),
        ) {
            acknowledged.insert(id);
        }
    };
    while (acknowledged.len() as u64) < KILL_AFTER {
        while sent < acknowledged.len() as u64 + WRITES_AHEAD {
            b.send(&format!(
                r#"{{"id":{sent},"statement":"INSERT INTO journal DOCUMENTS ({{'_id': :n, 'text': 'entry'}})","args":{{"n":{sent}}}}}"#
            ))?;
            sent += 1;
        }
        let before = acknowledged.len();
        note(&b.answer()?, &mut acknowledged);
        if acknowledged.len() == before {
            return Err(CliError::failed("peer B refused a write of the journal"));
        }
        while let Some(answer) = b.answer_now() {
            note(&answer, &mut acknowledged);
        }
    }
    wait_an_odd_while();
    for answer in b.kill()? {
        note(&answer, &mut acknowledged);
    }
    Ok(acknowledged)
}

fn add_case(table: &mut Table, id: &str, statements: [&[&str]; 2], merged: &[Value], why: &str) {
    let [a, b] = statements.map(|list| {
        let short: Vec<_> = list.iter().map(|text| edit(text, id)).collect();
        short.join("; ")
    });
    let merged = match merged {
        [] => "gone".to_owned(),
        [row] => json_text(row),
        rows => json_text(&Value::Array(rows.to_vec())),
    };
    table.add_row([id, &a, &b, &merged, why]);
}

/// The part of a statement that differs from case to case.
fn edit(statement: &str, id: &str) -> String {
    let text = statement.replace(" airports", "");
    let text = text.replace(&format!(" WHERE _id = '{id}'"), "");
    let text = text
        .trim_start_matches("UPDATE ")
        .trim_start_matches("APPLY ");
    let text = text
        .replace("DELETE FROM", "DELETE")
        .replace("INSERT INTO DOCUMENTS", "INSERT");
    text.to_owned()
}

fn subscribe(peer: &mut DrivenPeer) -> Result<(), CliError> {
    for query in WHAT_BOTH_WANT {
        peer.request(&format!(r#"{{"subscribe":"{query}"}}"#))?;
    }
    Ok(())
}

/// Links B over the wire now, whatever pause it is in after a failed attempt.
fn connect(b: &mut DrivenPeer, wire: &Wire) -> Result<(), CliError> {
    b.request(r#"{"sync":"stop"}"#)?;
    let address = wire.address();
    b.request(&format!(r#"{{"sync":"start","connect":["{address}"]}}"#))?;
    Ok(())
}

fn counted(items: &[Value]) -> u64 {
    field(items, "n")
        .and_then(|n| u64::try_from(n).ok())
        .unwrap_or(0)
}

fn field(items: &[Value], name: &str) -> Option<i64> {
    items.first()?.as_object()?.get(name)?.as_int()
}

/// Both peers read this machine's clock; B's edits are to be the later ones in every case.
fn wait_for_later_clock() {
    let start = SystemTime::now();
    while start.elapsed().unwrap_or_default() < Duration::from_millis(3) {
        std::thread::yield_now();
    }
}

/// Up to a millisecond, so that the kill does not always meet the same step of a write.
fn wait_an_odd_while() {
    let start = Instant::now();
    let while_ns = random() % 1_000_000;
    while start.elapsed() < Duration::from_nanos(while_ns) {
        std::hint::spin_loop();
    }
}

/// Good enough to be different each time: a hasher with the seed that the system gives the process.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}

/// A secret for this run: nobody else's peers are to join.
fn shared_key() -> String {
    format!("demo-{:016x}{:016x}", random(), random())
}
