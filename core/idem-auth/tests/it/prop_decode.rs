//! What is written is read again, and in no other form.

use std::collections::{BTreeMap, BTreeSet};

use idem_auth::{
    Access, Certificate, CertificateSerial, Grants, Revocation, RevocationList, RevokedId,
    SignedCertificate,
};
use idem_model::{CollectionName, Object, PeerId, Value, limits};
use proptest::prelude::*;

use crate::parties::{database, issuer};

fn claim() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(|it| Value::float(it).expect("finite")),
        "[a-z'\" ]{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(Value::Binary),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(Value::Object),
        ]
    })
}

fn access() -> impl Strategy<Value = Access> {
    let predicate = prop::sample::select(vec![
        "true",
        "a = 1",
        "owner = :user",
        "site = :claims.site",
        "ANY x IN a SATISFIES x = :user END",
        "a.b > 3 AND NOT (c IS MISSING)",
    ]);
    let predicates = prop::collection::btree_set(predicate.prop_map(str::to_owned), 1..4);
    let name = "[a-z][a-z ]{0,5}".prop_map(|it| CollectionName::new(&it).expect("a name"));
    let rules = prop::collection::btree_map(name, predicates, 1..5);
    prop_oneof![
        Just(Access::Nothing),
        Just(Access::Everything),
        rules.prop_map(|rules: BTreeMap<CollectionName, BTreeSet<String>>| {
            Access::Collections(rules)
        }),
    ]
}

prop_compose! {
    fn certificates()(
        serial in any::<[u8; 16]>(),
        subject in any::<[u8; 32]>(),
        user in "\\PC{1,20}",
        issued_at_ms in 0..1u64 << 40,
        not_before_ms in 0..1u64 << 40,
        lasts in 0..1u64 << 47,
        claims in prop::collection::btree_map("[a-z]{1,4}", claim(), 0..4),
        read in access(),
        write in access(),
        remote_query in any::<bool>(),
        admin in any::<bool>(),
    ) -> Certificate {
        Certificate {
            database: database(),
            serial: CertificateSerial(serial),
            subject: PeerId(subject),
            user,
            issued_at_ms,
            not_before_ms,
            not_after_ms: issued_at_ms.max(not_before_ms) + lasts,
            claims: Object::from_iter(claims),
            grants: Grants { read, write, remote_query, admin },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn certificates_are_read_as_written(certificate in certificates()) {
        let signed = certificate.clone().sign(&issuer()).expect("within bounds");
        let bytes = signed.to_bytes();
        let again = SignedCertificate::decode(&bytes).expect("its own bytes");
        prop_assert_eq!(again.certificate(), &certificate);
        prop_assert!(again.signature_holds());
        prop_assert_eq!(again.to_bytes(), bytes);
        prop_assert_eq!(again, signed);
    }

    #[test]
    fn broken_certificates_have_no_second_form(
        certificate in certificates(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kind in 0..3,
    ) {
        let mut bytes = certificate.sign(&issuer()).expect("within bounds").to_bytes();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => {
                bytes.remove(at);
            }
        }
        if let Ok(signed) = SignedCertificate::decode(&bytes) {
            prop_assert_eq!(signed.to_bytes(), bytes);
        }
    }

    #[test]
    fn revocation_lists_are_read_as_written(
        epoch in any::<u64>(),
        users in prop::collection::vec(("[a-c]{1,2}", 0..1u64 << 48, 0..1u64 << 48), 0..20),
    ) {
        let entries: Vec<_> = users
            .into_iter()
            .map(|(user, issued_before_ms, until_ms)| Revocation {
                id: RevokedId::user(database(), &user),
                issued_before_ms,
                until_ms,
            })
            .collect();
        let list = RevocationList::sign(database(), epoch, 1, &entries, &issuer()).unwrap();
        prop_assert_eq!(RevocationList::decode(&list.to_bytes()), Ok(list));
    }
}

#[test]
fn the_largest_certificate_is_signed_and_a_larger_one_is_not() {
    let predicates = |count: usize| {
        let texts = (0..count).map(|number| format!("a = '{number:0>1000}'"));
        let name = CollectionName::new("c").expect("a name");
        Access::Collections(BTreeMap::from([(name, texts.collect())]))
    };
    let with = |count| Certificate {
        grants: Grants {
            read: predicates(count),
            ..Grants::default()
        },
        ..crate::parties::certificate()
    };
    let largest = with(7).sign(&issuer()).expect("7 KB of rules");
    assert!(largest.to_bytes().len() <= limits::CERTIFICATE_BYTES_MAX);
    assert!(with(9).sign(&issuer()).is_err());
}

#[test]
fn claims_out_of_bounds_are_refused() {
    let check = |claim: Value| {
        let certificate = Certificate {
            claims: Object::from([("a".to_owned(), claim)]),
            ..crate::parties::certificate()
        };
        assert!(certificate.sign(&issuer()).is_err());
    };
    check(Value::from(
        "x".repeat(limits::CERTIFICATE_CLAIMS_BYTES_MAX),
    ));
    let mut deep = Value::from(1);
    for _ in 0..limits::CERTIFICATE_CLAIM_LEVELS_MAX {
        deep = Value::Array(vec![deep]);
    }
    check(deep);
    check(Value::Float(f64::NAN));
}
