//! What authorities sign beside certificates: revocation lists, changes of authority and times. Behind the first byte,
//! which says what the rest is, what decodes encodes to the same bytes, and is not believed.

use idem_auth::{
    Authorities, Authority, AuthorityChange, AuthorityKey, Revocation, RevocationList, RevokedId,
    TimeBeacon, Trust,
};
use idem_model::DatabaseId;

use super::samples::Unsigned;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "revocations_decode",
    run,
    seeds,
};

const DATABASE: DatabaseId = DatabaseId([7; 16]);

fn authorities() -> Authorities {
    let keys = vec![Authority::always(AuthorityKey([3; 32]))];
    Authorities::new(DATABASE, keys).expect("one key")
}

fn seeds() -> Vec<Vec<u8>> {
    let entries = ["ada", "eve"].map(|user| Revocation {
        id: RevokedId::user(DATABASE, user),
        issued_before_ms: 1000,
        until_ms: 2000,
    });
    let list = RevocationList::sign(DATABASE, 300, 1000, &entries, &Unsigned).expect("a list");
    let time = TimeBeacon::sign(DATABASE, 1000, &Unsigned);
    vec![
        [&[0], &list.to_bytes()[..]].concat(),
        [&[1], &time.to_bytes()[..]].concat(),
        [&[2], &change()[..]].concat(),
    ]
}

/// A change as it is written; none can be signed without a key.
fn change() -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(DATABASE.0);
    bytes.extend([3; 32]);
    bytes.push(1);
    bytes.extend(authorities().head());
    bytes.extend([100, 2]);
    for key in [3, 5] {
        bytes.extend([key; 32]);
        bytes.extend([0, 100]);
    }
    bytes.extend([4; 64]);
    bytes
}

fn run(data: &[u8]) -> Verdict {
    let Some((kind, data)) = data.split_first() else {
        return Verdict::Rejected;
    };
    let mut trust = Trust::new(authorities());
    let (bytes, is_believed) = match kind % 3 {
        0 => match RevocationList::decode(data) {
            Ok(list) => (list.to_bytes(), trust.handle_revocations(list).is_ok()),
            Err(_) => return Verdict::Rejected,
        },
        1 => match TimeBeacon::decode(data) {
            Ok(beacon) => (beacon.to_bytes(), trust.handle_beacon(&beacon).is_ok()),
            Err(_) => return Verdict::Rejected,
        },
        _ => match AuthorityChange::decode(data) {
            Ok(change) => (change.to_bytes(), trust.handle_change(change).is_ok()),
            Err(_) => return Verdict::Rejected,
        },
    };
    assert_eq!(bytes, data, "one thing has one form");
    assert!(!is_believed, "nobody signs in here");
    assert_eq!(trust.latest_signed_ms(), 0);
    Verdict::Accepted
}
