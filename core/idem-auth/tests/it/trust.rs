//! Expiry on clocks that are wrong, grace, and revocations over time.

use idem_auth::{
    AuthorityChange, Certificate, Refused, Revocation, RevocationError, RevocationList, RevokedBy,
    RevokedId, SignedCertificate, TimeBeacon, Trust, Verdict,
};
use idem_model::limits;

use crate::parties::{DAY, HOUR, ISSUED, Key, certificate, database, holder, issuer, trust};

const MINUTE: u64 = 60_000;

fn signed() -> SignedCertificate {
    certificate().sign(&issuer()).expect("well-formed")
}

fn said(trust: &Trust, now_ms: u64) -> String {
    trust.judge(&signed(), &holder().peer(), now_ms).to_string()
}

#[test]
fn clocks_may_differ_by_the_grace() {
    let trust = trust();
    let judge = |now_ms| trust.judge(&signed(), &holder().peer(), now_ms);
    assert!(judge(ISSUED - 10 * MINUTE).holds());
    assert!(!judge(ISSUED - 10 * MINUTE - 1).holds());
    let (until_ms, in_grace_ms) = (ISSUED + DAY, None);
    assert_eq!(
        judge(until_ms),
        Verdict::Holds {
            until_ms,
            in_grace_ms
        }
    );
    let in_grace_ms = Some(10 * MINUTE);
    assert_eq!(
        judge(until_ms + 10 * MINUTE),
        Verdict::Holds {
            until_ms,
            in_grace_ms
        }
    );
    assert!(!judge(until_ms + 10 * MINUTE + 1).holds());
    let none = trust.clone().with_grace_ms(0);
    assert!(
        !none
            .judge(&signed(), &holder().peer(), until_ms + 1)
            .holds()
    );
}

#[test]
fn reasons_say_what_is_known_of_the_clock() {
    let mut trust = trust();
    let late = ISSUED + DAY + 3 * HOUR;
    assert_eq!(
        said(&trust, late),
        "its certificate expired 3 h ago; no signed time is known here to compare this clock with"
    );
    trust.remember(issuer().authority(), ISSUED);
    assert_eq!(
        said(&trust, ISSUED + 400 * DAY),
        "its certificate expired 399 days ago; this clock is 400 days ahead of the latest signed time"
    );
    assert_eq!(
        said(&trust, ISSUED + DAY + MINUTE),
        "its certificate expired 1 min ago and still counts, since clocks differ"
    );
    assert_eq!(said(&trust, ISSUED), "its certificate holds");
}

#[test]
fn a_clock_without_a_battery_is_no_reason_to_refuse() {
    let mut trust = trust();
    assert!(!trust.judge(&signed(), &holder().peer(), 0).holds());
    // A fresh certificate, or any signed time, says how late it is at least.
    let verdict = trust.handle_certificate(&signed(), &holder().peer(), 0);
    assert!(verdict.holds());
    let beacon = TimeBeacon::sign(database(), ISSUED + DAY + HOUR, &issuer());
    assert_eq!(trust.handle_beacon(&beacon), Ok(true));
    assert_eq!(trust.handle_beacon(&beacon), Ok(false));
    let verdict = trust.judge(&signed(), &holder().peer(), 0);
    assert!(matches!(verdict, Verdict::Refused(Refused::Expired { .. })));
    let earlier = TimeBeacon::sign(database(), ISSUED, &issuer());
    assert_eq!(trust.handle_beacon(&earlier), Ok(false));
    assert_eq!(trust.latest_signed_ms(), ISSUED + DAY + HOUR);
}

fn list(epoch: u64, entries: &[Revocation], signer: &Key) -> RevocationList {
    let list = RevocationList::sign(database(), epoch, ISSUED + HOUR, entries, signer)
        .expect("well-formed");
    RevocationList::decode(&list.to_bytes()).expect("well-formed")
}

#[test]
fn a_change_of_grants_revokes_what_was_issued_before() {
    let mut trust = trust();
    let entry = Revocation {
        id: RevokedId::user(database(), &certificate().user),
        issued_before_ms: ISSUED + HOUR,
        until_ms: ISSUED + DAY,
    };
    trust
        .handle_revocations(list(1, &[entry], &issuer()))
        .unwrap();
    let peer = holder().peer();
    let now = ISSUED + HOUR;
    let verdict = trust.judge(&signed(), &peer, now);
    assert_eq!(verdict, Verdict::Refused(Refused::Revoked(RevokedBy::User)));
    let renewed = Certificate {
        issued_at_ms: ISSUED + HOUR,
        ..certificate()
    };
    let renewed = renewed.sign(&issuer()).unwrap();
    assert!(trust.judge(&renewed, &peer, now).holds());
    // The line ends with the certificate, and grace for one is grace for the other.
    for late in [0, 1, 10 * MINUTE] {
        let verdict = trust.judge(&signed(), &peer, ISSUED + DAY + late);
        assert!(
            matches!(verdict, Verdict::Refused(Refused::Revoked(_))),
            "{verdict}"
        );
    }
    let verdict = trust.judge(&signed(), &peer, ISSUED + DAY + 10 * MINUTE + 1);
    assert!(
        matches!(verdict, Verdict::Refused(Refused::Expired { .. })),
        "{verdict}"
    );
}

#[test]
fn lists_of_several_authorities_add_up_and_go_with_their_authority() {
    let second = Key::new(0x43);
    let keys = [issuer().authority(), second.authority()];
    let both = keys.map(idem_auth::Authority::always).to_vec();
    let mut trust = trust();
    let change = AuthorityChange::sign(trust.authorities(), both, ISSUED, &issuer()).unwrap();
    trust.handle_change(change).unwrap();
    let line = |id| Revocation {
        id,
        issued_before_ms: limits::SIGNED_TIME_MS_MAX,
        until_ms: limits::SIGNED_TIME_MS_MAX,
    };
    let peer = holder().peer();
    let by_peer = line(RevokedId::peer(database(), &peer));
    let of_another = line(RevokedId::user(database(), "eve@example.com"));
    trust
        .handle_revocations(list(4, &[of_another], &issuer()))
        .unwrap();
    trust
        .handle_revocations(list(1, &[by_peer], &second))
        .unwrap();
    assert_eq!(trust.revocations().lists().count(), 2);
    assert!(!trust.judge(&signed(), &peer, ISSUED).holds());
    let alone = keys[..1].iter().copied().map(idem_auth::Authority::always);
    let change = AuthorityChange::sign(trust.authorities(), alone.collect(), ISSUED, &issuer());
    trust.handle_change(change.unwrap()).unwrap();
    assert!(trust.judge(&signed(), &peer, ISSUED).holds());
    let replayed = trust.handle_revocations(list(2, &[by_peer], &second));
    assert!(matches!(replayed, Err(RevocationError::NotTrusted { .. })));
}

#[test]
fn a_number_used_twice_ends_with_one_list_everywhere() {
    let line = |user| Revocation {
        id: RevokedId::user(database(), user),
        issued_before_ms: limits::SIGNED_TIME_MS_MAX,
        until_ms: limits::SIGNED_TIME_MS_MAX,
    };
    let one = list(3, &[line("a")], &issuer());
    let other = list(3, &[line("b")], &issuer());
    let settle = |lists: [&RevocationList; 2]| {
        let mut trust = trust();
        for list in lists {
            let _refused = trust.handle_revocations(list.clone());
        }
        let kept = trust.revocations().lists().next().cloned();
        kept.expect("one of them")
    };
    assert_eq!(settle([&one, &other]), settle([&other, &one]));
}

#[test]
fn lines_about_one_id_are_joined_and_lists_are_bounded() {
    let line = |issued_before_ms, until_ms| Revocation {
        id: RevokedId::user(database(), "a"),
        issued_before_ms,
        until_ms,
    };
    let joined = list(1, &[line(5, 9), line(7, 8)], &issuer());
    assert_eq!(joined.entries(), [line(7, 9)]);
    let lines: Vec<_> = (0..=limits::REVOCATIONS_MAX)
        .map(|number| Revocation {
            id: RevokedId::user(database(), &number.to_string()),
            issued_before_ms: limits::SIGNED_TIME_MS_MAX,
            until_ms: limits::SIGNED_TIME_MS_MAX,
        })
        .collect();
    let most = list(u64::MAX, &lines[1..], &issuer());
    assert!(most.to_bytes().len() <= limits::REVOCATION_LIST_BYTES_MAX);
    let error = RevocationList::sign(database(), 1, 1, &lines, &issuer()).unwrap_err();
    assert!(matches!(error, RevocationError::TooMany { .. }));
    let beyond = line(0, limits::SIGNED_TIME_MS_MAX + 1);
    let error = RevocationList::sign(database(), 1, 1, &[beyond], &issuer()).unwrap_err();
    assert_eq!(error, RevocationError::Time);
}
