//! The first sync: a peer that holds nothing fills from one that has everything.

use crate::{
    engines::Failure,
    report::{Better, Row, median},
    sync::{Class, DURABLE, Effort, pair::Pair},
};

/// What the names of its rows begin with.
pub(super) const WORKLOAD: &str = "first-sync";

/// PouchDB over HTTP: 0.7 to 2.0 thousand documents a second, the range of published measurements of
/// replication into PouchDB. Its upper end stands in the row.
const POUCHDB_DOCUMENTS_PER_S: f64 = 2_000.0;
const POUCHDB: &str = "PouchDB over HTTP, published 0.7-2.0k";
const DOCUMENTS_PER_S_MIN: f64 = 60_000.0;
const CPU_US_MAX: f64 = 20.0;
const FLATNESS_MIN: f64 = 0.8;

/// Fewer documents have no goal: dialling and greeting take as long as they do.
const GOAL_DOCUMENTS_MIN: u64 = 100_000;

/// A number of documents, with the names of its rows.
struct Size {
    documents: u64,
    rate: &'static str,
    sender_cpu: &'static str,
    receiver_cpu: &'static str,
}

const SIZES: [Size; 4] = [
    Size {
        documents: 1_000,
        rate: "first-sync-1000",
        sender_cpu: "first-sync-1000-sender-cpu",
        receiver_cpu: "first-sync-1000-receiver-cpu",
    },
    Size {
        documents: 10_000,
        rate: "first-sync-10000",
        sender_cpu: "first-sync-10000-sender-cpu",
        receiver_cpu: "first-sync-10000-receiver-cpu",
    },
    Size {
        documents: 100_000,
        rate: "first-sync-100000",
        sender_cpu: "first-sync-100000-sender-cpu",
        receiver_cpu: "first-sync-100000-receiver-cpu",
    },
    Size {
        documents: 1_000_000,
        rate: "first-sync-1000000",
        sender_cpu: "first-sync-1000000-sender-cpu",
        receiver_cpu: "first-sync-1000000-receiver-cpu",
    },
];

/// What the rounds of one size gave.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    sender_cpu_us: Vec<f64>,
    receiver_cpu_us: Vec<f64>,
    is_wrong: bool,
}

/// Runs all sizes in turn, as often as there are rounds.
pub(super) fn run(effort: Effort, only: &str, tell: &impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let sizes: Vec<&Size> = SIZES
        .iter()
        .filter(|size| size.documents <= effort.documents_max)
        .filter(|size| only.len() <= WORKLOAD.len() || size.rate == only)
        .collect();
    let mut figures: Vec<Figures> = sizes.iter().map(|_| Figures::default()).collect();
    for round in 1..=effort.rounds {
        for (size, figures) in sizes.iter().zip(&mut figures) {
            play(size.documents, figures)?;
            let last = |figures: &[f64]| figures.last().copied().unwrap_or_default();
            tell(&format!(
                "{} round {round}/{}: {:.0} documents/s, {:.1} us of CPU on the sender, {:.1} on the receiver",
                size.rate,
                effort.rounds,
                last(&figures.per_second),
                last(&figures.sender_cpu_us),
                last(&figures.receiver_cpu_us),
            ));
        }
    }
    let mut rows = Vec::new();
    for (size, figures) in sizes.iter().zip(&figures) {
        rows.extend(rows_of(size, figures));
    }
    let rate_of = |documents: u64| {
        let found = sizes.iter().zip(&figures);
        let mut found = found.filter(|(size, _)| size.documents == documents);
        found.next().map(|(_, figures)| median(&figures.per_second))
    };
    if let (Some(few), Some(many)) = (rate_of(10_000), rate_of(1_000_000)) {
        let flatness = Better::More.ratio(many, few);
        rows.push(Row {
            workload: "first-sync-flatness",
            unit: "rate of 1,000,000 documents as a part of that of 10,000",
            idem: Some(flatness),
            other: None,
            other_name: "",
            ratio: 0.0,
            durability: DURABLE,
            errors: 0,
            verified: figures.iter().all(|figures| !figures.is_wrong),
            goal: "0.8 or more",
            reached: flatness >= FLATNESS_MIN,
        });
    }
    Ok(rows)
}

fn play(documents: u64, figures: &mut Figures) -> Result<(), Failure> {
    let mut pair = Pair::start(Class::Durable)?;
    pair.sender.ask(&format!("fill {documents}"))?;
    let address = pair.sender.ask("listen")?;
    let before = (pair.sender.cpu_nanos()?, pair.receiver.cpu_nanos()?);
    let nanos = pair.receiver.ask_numbers(&format!("first {address}"))?;
    let nanos = *nanos.first().ok_or("no figure")?;
    let after = (pair.sender.cpu_nanos()?, pair.receiver.cpu_nanos()?);
    let per_document_us = |nanos: u64| nanos as f64 / 1e3 / documents as f64;
    figures
        .per_second
        .push(documents as f64 / (nanos as f64 / 1e9));
    figures
        .sender_cpu_us
        .push(per_document_us(after.0 - before.0));
    figures
        .receiver_cpu_us
        .push(per_document_us(after.1 - before.1));
    figures.is_wrong |= !pair.is_equal(documents)?;
    pair.end()
}

fn rows_of(size: &Size, figures: &Figures) -> [Row; 3] {
    let rate = median(&figures.per_second);
    let verified = !figures.is_wrong;
    let has_goal = size.documents >= GOAL_DOCUMENTS_MIN;
    let goal = |text: &'static str| if has_goal { text } else { "" };
    let cpu = |workload, figures: &[f64]| {
        let cpu_us = median(figures);
        Row {
            workload,
            unit: "us of CPU a document, background work included",
            idem: Some(cpu_us),
            other: None,
            other_name: "",
            ratio: 0.0,
            durability: DURABLE,
            errors: 0,
            verified,
            goal: goal("under 20 us"),
            reached: !has_goal || cpu_us < CPU_US_MAX,
        }
    };
    [
        Row {
            workload: size.rate,
            unit: "documents/s, from dialling to durable",
            idem: Some(rate),
            other: Some(POUCHDB_DOCUMENTS_PER_S),
            other_name: POUCHDB,
            ratio: Better::More.ratio(rate, POUCHDB_DOCUMENTS_PER_S),
            durability: DURABLE,
            errors: 0,
            verified,
            goal: goal("60,000 documents/s"),
            reached: !has_goal || rate >= DOCUMENTS_PER_S_MIN,
        },
        cpu(size.sender_cpu, &figures.sender_cpu_us),
        cpu(size.receiver_cpu, &figures.receiver_cpu_us),
    ]
}
