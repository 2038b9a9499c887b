//! Frames about trust: what decodes, encodes to the same frame, and what nobody signed is neither believed nor echoed.

use std::time::Duration;

use idem_auth::{
    Authorities, Authority, AuthorityKey, ListName, RevocationList, TimeBeacon, TrustExchange,
    TrustFrame,
};
use idem_model::{DatabaseId, PeerId};

use super::samples::Unsigned;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "trust_receive",
    run,
    seeds: || frames().iter().map(TrustFrame::to_bytes).collect(),
};

const DATABASE: DatabaseId = DatabaseId([7; 16]);
const NEIGHBOUR: PeerId = PeerId([2; 32]);
const KEY: AuthorityKey = AuthorityKey([3; 32]);

fn exchange() -> TrustExchange {
    let configured = Authorities::new(DATABASE, vec![Authority::always(KEY)]);
    let mut exchange = TrustExchange::new(configured.expect("one key"));
    exchange.handle_neighbour_up(Duration::ZERO, NEIGHBOUR);
    while exchange.poll_frame().is_some() {}
    exchange
}

fn frames() -> Vec<TrustFrame> {
    let list = RevocationList::sign(DATABASE, 300, 1000, &[], &Unsigned).expect("a list");
    let list = list.to_bytes();
    let time = TimeBeacon::sign(DATABASE, 1000, &Unsigned);
    vec![
        TrustFrame::Summary {
            is_answer: false,
            last_number: 3,
            head: [9; 32],
            lists: vec![ListName {
                issuer: KEY,
                epoch: 3,
                hash: [5; 32],
            }],
            times: vec![(KEY, 1_790_000_000_000)],
        },
        TrustFrame::Change(vec![1; 200]),
        TrustFrame::Revocations {
            issuer: KEY,
            epoch: 300,
            bytes_total: list.len(),
            offset: 0,
            part: list,
        },
        TrustFrame::WantRevocations {
            issuer: KEY,
            epoch: 1,
            offset: 70,
        },
        TrustFrame::Time(time.to_bytes()),
        TrustFrame::Certificate(vec![8; 300]),
    ]
}

fn run(data: &[u8]) -> Verdict {
    let mut exchange = exchange();
    let before = exchange.to_bytes();
    // The same again: what is put together may be complete only then.
    for _ in 0..2 {
        let _ = exchange.handle_frame(Duration::ZERO, NEIGHBOUR, data);
    }
    assert_eq!(exchange.to_bytes(), before, "nobody signs in here");
    let echoed = std::iter::from_fn(|| exchange.poll_frame()).map(|(_, frame)| frame.len());
    assert!(echoed.sum::<usize>() < 1024, "there is nothing to tell");
    match TrustFrame::decode(data) {
        Ok(frame) => {
            assert_eq!(frame.to_bytes(), data, "one thing has one form");
            assert!(TrustFrame::is_in(data));
            Verdict::Accepted
        }
        Err(_) => Verdict::Rejected,
    }
}
