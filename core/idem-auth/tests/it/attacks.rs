//! Attacks that must fail, each with a name that says it.

use idem_auth::{
    Access, Authority, AuthorityChange, Blinding, Certificate, CommitOperation, CommitRoot,
    CommitStatement, CommitTree, InclusionProof, OperationKind, Permit, Refused, Revocation,
    RevocationError, RevocationList, RevokedBy, RevokedId, SignedCertificate, SignedCommit,
    TimeBeacon, TrustError, ValueHash, Verdict,
};
use idem_model::{ActorId, DatabaseId, Dot, Object, Timestamp, Value, limits};

use crate::parties::{
    DAY, HOUR, ISSUED, Key, certificate, collection, database, holder, issuer, object, trust,
};

fn refused(verdict: Verdict) -> Refused {
    match verdict {
        Verdict::Refused(reason) => reason,
        Verdict::Holds { .. } => panic!("it was taken"),
    }
}

fn judged(certificate: Certificate, signer: &Key, now_ms: u64) -> Verdict {
    let signed = certificate.sign(signer).expect("well-formed");
    let signed = SignedCertificate::decode(&signed.to_bytes()).expect("its own bytes");
    trust().judge(&signed, &holder().peer(), now_ms)
}

#[test]
fn an_honest_certificate_holds() {
    let verdict = judged(certificate(), &issuer(), ISSUED + HOUR);
    let until_ms = ISSUED + DAY;
    let in_grace_ms = None;
    assert_eq!(
        verdict,
        Verdict::Holds {
            until_ms,
            in_grace_ms
        }
    );
}

#[test]
fn a_certificate_for_another_database() {
    let theirs = DatabaseId([9; 16]);
    let other = Certificate {
        database: theirs,
        ..certificate()
    };
    let reason = refused(judged(other, &issuer(), ISSUED));
    let ours = database();
    assert_eq!(reason, Refused::OtherDatabase { ours, theirs });
    assert!(reason.to_string().contains(&theirs.to_string()), "{reason}");
}

#[test]
fn an_expired_certificate() {
    let now = ISSUED + DAY + 3 * HOUR;
    let reason = refused(judged(certificate(), &issuer(), now));
    assert!(matches!(reason, Refused::Expired { ago_ms, .. } if ago_ms == 3 * HOUR));
    assert!(
        reason
            .to_string()
            .starts_with("its certificate expired 3 h ago")
    );
}

#[test]
fn an_expired_certificate_shown_to_a_clock_that_was_set_back() {
    let mut trust = trust();
    let late = ISSUED + DAY + 3 * HOUR;
    let beacon = TimeBeacon::sign(database(), late, &issuer());
    trust.handle_beacon(&beacon).expect("an authority's time");
    let signed = certificate().sign(&issuer()).unwrap();
    let now = late - 2 * DAY;
    let reason = refused(trust.judge(&signed, &holder().peer(), now));
    assert_eq!(
        reason.to_string(),
        "its certificate expired 3 h ago; this clock is 2 days behind the latest signed time"
    );
}

#[test]
fn a_certificate_that_is_not_valid_yet() {
    let later = Certificate {
        not_before_ms: ISSUED + 5 * HOUR,
        ..certificate()
    };
    let reason = refused(judged(later, &issuer(), ISSUED + HOUR));
    assert!(matches!(reason, Refused::NotYetValid { in_ms, .. } if in_ms == 4 * HOUR));
}

#[test]
fn a_certificate_that_its_holder_made_itself() {
    let reason = refused(judged(certificate(), &holder(), ISSUED));
    assert!(matches!(reason, Refused::UnknownAuthority { .. }));
}

#[test]
fn a_certificate_signed_by_a_removed_authority() {
    let mut trust = trust();
    let second = Key::new(0x43);
    let keys = vec![Authority::always(second.authority())];
    let change = AuthorityChange::sign(trust.authorities(), keys, ISSUED, &issuer()).unwrap();
    let signed = certificate().sign(&issuer()).unwrap();
    assert!(trust.judge(&signed, &holder().peer(), ISSUED).holds());
    trust
        .handle_change(change)
        .expect("the old key names the new one");
    let reason = refused(trust.judge(&signed, &holder().peer(), ISSUED));
    let issuer = issuer().authority();
    assert_eq!(reason, Refused::RemovedAuthority { issuer });
    assert!(trust.judge_again(&signed, ISSUED) == Verdict::Refused(reason));
}

#[test]
fn any_bit_of_a_certificate_flipped() {
    let trust = trust();
    let bytes = certificate().sign(&issuer()).unwrap().to_bytes();
    for bit in 0..8 * bytes.len() {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(signed) = SignedCertificate::decode(&forged) {
            let verdict = trust.judge(&signed, &holder().peer(), ISSUED);
            assert!(!verdict.holds(), "bit {bit}");
        }
    }
}

#[test]
fn a_grant_widened_by_one_byte() {
    let narrow = Certificate {
        grants: idem_auth::Grants {
            read: Access::of(&[("c", &["a > 11"])]),
            ..idem_auth::Grants::default()
        },
        ..certificate()
    };
    let signed = narrow.sign(&issuer()).unwrap();
    let mut bytes = signed.to_bytes();
    let at = bytes.windows(6).position(|it| it == b"a > 11").unwrap();
    bytes[at + 4] = b'0';
    let wide = SignedCertificate::decode(&bytes).expect("it is still well-formed");
    let permit = Permit::compile(wide.certificate()).expect("and still a grant");
    assert!(permit.may_read(&collection("c"), &object(r#"{"a": 2}"#)));
    let reason = refused(trust().judge(&wide, &holder().peer(), ISSUED));
    assert_eq!(reason, Refused::Signature);
}

#[test]
fn a_certificate_shown_by_somebody_else() {
    let thief = Key::new(0x66).peer();
    let signed = certificate().sign(&issuer()).unwrap();
    let reason = refused(trust().judge(&signed, &thief, ISSUED));
    assert!(matches!(reason, Refused::OtherSubject { shown_by, .. } if shown_by == thief));
    // With the subject swapped the signature is not that of the issuer.
    let mut bytes = signed.to_bytes();
    let at = bytes
        .windows(32)
        .position(|it| it == holder().peer().0)
        .unwrap();
    bytes[at..at + 32].copy_from_slice(&thief.0);
    let swapped = SignedCertificate::decode(&bytes).unwrap();
    assert_eq!(
        refused(trust().judge(&swapped, &thief, ISSUED)),
        Refused::Signature
    );
}

#[test]
fn a_key_of_small_order_as_an_authority_signs_nothing() {
    // The neutral element: with it any message has a signature in the looser rules.
    let mut key = [0; 32];
    key[0] = 1;
    let signed = certificate().sign(&issuer()).unwrap();
    let mut bytes = signed.to_bytes();
    bytes[17..49].copy_from_slice(&key);
    let end = bytes.len();
    bytes[end - 64..].fill(0);
    bytes[end - 64] = 1;
    let forged = SignedCertificate::decode(&bytes).unwrap();
    assert!(!forged.signature_holds());
}

#[test]
fn claims_that_look_like_a_predicate() {
    let sly = "x' OR '1' = '1";
    let certificate = Certificate {
        user: sly.to_owned(),
        claims: Object::from([("site".to_owned(), Value::from("') OR true OR (a = '"))]),
        grants: idem_auth::Grants {
            read: Access::of(&[(
                "c",
                &["owner = :user", "site = :claims.site", "a LIKE :user"],
            )]),
            ..idem_auth::Grants::default()
        },
        ..certificate()
    };
    let permit = Permit::compile(&certificate).expect("values cannot break a predicate");
    let may = |owner: &str| {
        let document = Object::from([("owner".to_owned(), Value::from(owner))]);
        permit.may_read(&collection("c"), &document)
    };
    assert!(may(sly));
    assert!(!may("x"));
    assert!(!may("1"));
    assert!(!permit.may_read(&collection("c"), &object("{}")));
}

#[test]
fn a_user_with_a_line_break_for_the_log() {
    for user in ["ada\nroot logged in", "ada\u{1b}[2K", "", &"a".repeat(257)] {
        let certificate = Certificate {
            user: user.to_owned(),
            ..certificate()
        };
        assert!(certificate.sign(&issuer()).is_err(), "{user:?}");
    }
}

fn revoking(epoch: u64, ids: &[RevokedId], signer: &Key) -> RevocationList {
    let entries: Vec<_> = ids
        .iter()
        .map(|id| Revocation {
            id: *id,
            issued_before_ms: limits::SIGNED_TIME_MS_MAX,
            until_ms: ISSUED + 7 * DAY,
        })
        .collect();
    RevocationList::sign(database(), epoch, ISSUED, &entries, signer).expect("a list")
}

#[test]
fn a_revoked_peer_user_or_certificate() {
    let signed = certificate().sign(&issuer()).unwrap();
    let peer = holder().peer();
    let (user, serial) = (&certificate().user, certificate().serial);
    for (id, by) in [
        (RevokedId::peer(database(), &peer), RevokedBy::Peer),
        (RevokedId::user(database(), user), RevokedBy::User),
        (
            RevokedId::certificate(database(), &serial),
            RevokedBy::Serial,
        ),
    ] {
        let mut trust = trust();
        assert!(trust.judge(&signed, &peer, ISSUED).holds());
        trust
            .handle_revocations(revoking(1, &[id], &issuer()))
            .unwrap();
        assert_eq!(
            refused(trust.judge(&signed, &peer, ISSUED)),
            Refused::Revoked(by)
        );
        assert_eq!(
            refused(trust.judge_again(&signed, ISSUED)),
            Refused::Revoked(by)
        );
    }
}

#[test]
fn a_revocation_list_of_an_older_epoch_replayed() {
    let mut trust = trust();
    let peer = holder().peer();
    let id = RevokedId::peer(database(), &peer);
    let older = revoking(1, &[], &issuer());
    assert_eq!(trust.handle_revocations(older.clone()), Ok(true));
    let newer = revoking(2, &[id], &issuer());
    assert_eq!(trust.handle_revocations(newer.clone()), Ok(true));
    assert_eq!(trust.handle_revocations(newer), Ok(false));
    let (epoch, known) = (1, 2);
    let error = trust.handle_revocations(older).unwrap_err();
    assert_eq!(error, RevocationError::Older { epoch, known });
    let signed = certificate().sign(&issuer()).unwrap();
    assert!(!trust.judge(&signed, &peer, ISSUED).holds());
}

#[test]
fn a_forged_revocation_list() {
    let mut trust = trust();
    let peer = holder().peer();
    let id = RevokedId::peer(database(), &peer);
    let by_nobody = revoking(9, &[id], &holder());
    assert!(matches!(
        trust.handle_revocations(by_nobody),
        Err(RevocationError::NotTrusted { .. })
    ));
    let bytes = revoking(9, &[id], &issuer()).to_bytes();
    for bit in 0..8 * bytes.len() {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(list) = RevocationList::decode(&forged) {
            assert!(trust.handle_revocations(list).is_err(), "bit {bit}");
        }
    }
    let elsewhere = RevocationList::sign(DatabaseId([9; 16]), 1, ISSUED, &[], &issuer()).unwrap();
    assert!(matches!(
        trust.handle_revocations(elsewhere),
        Err(RevocationError::OtherDatabase { .. })
    ));
    assert_eq!(trust.latest_signed_ms(), 0, "nothing of them was believed");
}

#[test]
fn a_time_from_the_future_by_somebody_who_is_no_authority() {
    let mut trust = trust();
    let future = ISSUED + 3650 * DAY;
    let beacon = TimeBeacon::sign(database(), future, &holder());
    assert!(matches!(
        trust.handle_beacon(&beacon),
        Err(TrustError::NotTrusted { .. })
    ));
    let bytes = TimeBeacon::sign(database(), future, &issuer()).to_bytes();
    for bit in 0..8 * bytes.len() {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(beacon) = TimeBeacon::decode(&forged) {
            assert!(trust.handle_beacon(&beacon).is_err(), "bit {bit}");
        }
    }
    assert_eq!(trust.latest_signed_ms(), 0);
}

#[test]
fn time_from_a_certificate_that_nobody_signed() {
    let mut trust = trust();
    let future = Certificate {
        issued_at_ms: ISSUED + DAY,
        ..certificate()
    };
    let forged = future.clone().sign(&holder()).unwrap();
    let verdict = trust.handle_certificate(&forged, &holder().peer(), ISSUED);
    assert!(!verdict.holds());
    assert_eq!(trust.latest_signed_ms(), 0);
    let honest = future.sign(&issuer()).unwrap();
    trust.handle_certificate(&honest, &holder().peer(), ISSUED);
    assert_eq!(trust.latest_signed_ms(), ISSUED + DAY);
}

#[test]
fn a_time_from_the_future_signed_with_a_stolen_key() {
    let root = Key::new(1);
    let keys = [root.authority(), issuer().authority()].map(Authority::always);
    let authorities = idem_auth::Authorities::new(database(), keys.to_vec()).unwrap();
    let mut trust = idem_auth::Trust::new(authorities);
    let peer = holder().peer();
    let signed = certificate().sign(&root).unwrap();
    let future = TimeBeacon::sign(database(), ISSUED + 3650 * DAY, &issuer());
    assert_eq!(trust.handle_beacon(&future), Ok(true));
    assert!(
        !trust.judge(&signed, &peer, ISSUED).holds(),
        "until the key is removed"
    );
    let rescue = AuthorityChange::sign(trust.authorities(), keys[..1].to_vec(), ISSUED, &root);
    trust.handle_change(rescue.unwrap()).unwrap();
    assert!(trust.judge(&signed, &peer, ISSUED).holds());
    assert!(trust.handle_beacon(&future).is_err());
    trust.remember(issuer().authority(), ISSUED + 3650 * DAY);
    assert_eq!(trust.latest_signed_ms(), ISSUED);
}

#[test]
fn one_signature_passed_off_as_another_kind() {
    // The same bytes cannot be two things, since every kind begins with words of its own.
    let list = RevocationList::sign(database(), 0, ISSUED, &[], &issuer()).unwrap();
    let beacon = TimeBeacon::sign(database(), ISSUED, &issuer());
    let mut trust = trust();
    let mut swapped = beacon.to_bytes();
    let end = swapped.len();
    let signature = list.to_bytes();
    swapped[end - 64..].copy_from_slice(&signature[signature.len() - 64..]);
    let beacon = TimeBeacon::decode(&swapped).unwrap();
    assert_eq!(trust.handle_beacon(&beacon), Err(TrustError::Signature));
}

fn operation(id: &str, value: i64) -> CommitOperation {
    CommitOperation {
        collection: collection("seats"),
        id: id.into(),
        path: Some(idem_model::FieldPath::field("taken")),
        kind: OperationKind::Set,
        value: ValueHash::of(&Value::from(value)),
    }
}

fn commit_of(signer: &Key, root: CommitRoot) -> SignedCommit {
    CommitStatement {
        author: signer.peer(),
        certificate: certificate().serial,
        dot: Dot {
            actor: ActorId([7; 16]),
            n: 12,
        },
        time: Timestamp::new(ISSUED, 3),
        root,
    }
    .sign(database(), signer)
}

#[test]
fn a_commit_resigned_by_a_relay() {
    let relay = Key::new(0x66);
    let tree = CommitTree::new(&[operation("a", 1)], Blinding::new([1; 32])).unwrap();
    let honest = commit_of(&holder(), tree.root());
    assert!(honest.holds(database()));
    assert!(!honest.holds(DatabaseId([9; 16])), "a database for itself");
    // In its own name the relay may sign what it likes; that is a commit of the relay.
    let resigned = commit_of(&relay, tree.root());
    assert_eq!(resigned.statement().author, relay.peer());
    // In the name of the author it cannot.
    let mut bytes = resigned.to_bytes();
    bytes[1..33].copy_from_slice(&holder().peer().0);
    let forged = SignedCommit::decode(&bytes).unwrap();
    assert_eq!(forged.statement().author, holder().peer());
    assert!(!forged.holds(database()));
}

#[test]
fn any_bit_of_a_signed_commit_flipped() {
    let tree = CommitTree::new(&[operation("a", 1)], Blinding::new([1; 32])).unwrap();
    let bytes = commit_of(&holder(), tree.root()).to_bytes();
    let mut forged = Vec::new();
    for bit in 0..8 * bytes.len() {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        forged.extend(SignedCommit::decode(&bytes));
    }
    let failing = idem_auth::failing(database(), &forged);
    assert_eq!(failing.len(), forged.len());
    assert!(forged.iter().all(|one| !one.holds(database())));
}

#[test]
fn a_proof_for_another_operation() {
    let operations: Vec<_> = (0..7)
        .map(|at| operation(&format!("seat {at}"), at))
        .collect();
    let tree = CommitTree::new(&operations, Blinding::new([1; 32])).unwrap();
    let root = tree.root();
    for (at, own) in (0..).zip(&operations) {
        let proof = tree.proof(at).unwrap();
        assert!(proof.holds(own, &root));
        for other in operations.iter().filter(|it| it != &own) {
            assert!(!proof.holds(other, &root));
        }
        let mut lie = own.clone();
        lie.value = ValueHash::of(&Value::from(99));
        assert!(!proof.holds(&lie, &root));
        let bytes = proof.to_bytes();
        for bit in 0..8 * bytes.len() {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(forged) = InclusionProof::decode(&forged) {
                assert!(!forged.holds(own, &root), "bit {bit} of {at}");
            }
        }
    }
}

#[test]
fn the_last_operation_doubled_under_the_same_root() {
    // Trees that pair a leaf without a neighbour with itself have one root for both.
    let three: Vec<_> = (0..3).map(|at| operation("x", at)).collect();
    let mut four = three.clone();
    four.push(three[2].clone());
    let root = |operations: &[CommitOperation]| {
        CommitTree::new(operations, Blinding::new([1; 32]))
            .unwrap()
            .root()
    };
    assert_ne!(root(&three), root(&four));
    assert_ne!(root(&three[..1]), root(&three[..2]));
}

#[test]
fn a_value_guessed_from_the_proof_of_its_neighbour() {
    // Whoever sees the proof of `a` sees a hash over `b`, of which there are two possible values.
    let operations = [operation("a", 1), operation("b", 0)];
    let tree = |blinding| CommitTree::new(&operations, Blinding::new(blinding)).unwrap();
    let (one, other) = (tree([1; 32]), tree([2; 32]));
    let sibling = |tree: &CommitTree| {
        let bytes = tree.proof(0).unwrap().to_bytes();
        bytes[bytes.len() - 32..].to_vec()
    };
    assert_ne!(
        sibling(&one),
        sibling(&other),
        "the hash depends on what nobody was told"
    );
    assert_eq!(format!("{:?}", Blinding::new([0xab; 32])), "Blinding(..)");
}
