//! Certificates: what decodes encodes to the same bytes, and its permit answers.

use idem_auth::{
    Access, Authorities, Authority, AuthorityKey, Certificate, CertificateSerial, Grants, Permit,
    SignedCertificate, Trust,
};
use idem_model::{CollectionName, DatabaseId, Object, PeerId, Value};

use super::samples::Unsigned;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "certificate_decode",
    run,
    seeds,
};

const DATABASE: DatabaseId = DatabaseId([7; 16]);

fn seeds() -> Vec<Vec<u8>> {
    let certificate = |grants| Certificate {
        database: DATABASE,
        serial: CertificateSerial([1; 16]),
        subject: PeerId([2; 32]),
        user: "ada".to_owned(),
        issued_at_ms: 1000,
        not_before_ms: 1000,
        not_after_ms: 2000,
        claims: Object::from([("site".to_owned(), Value::from("north"))]),
        grants,
    };
    let some = Grants {
        read: Access::of(&[
            ("a", &["owner = :user", "x > 3"]),
            (
                "b",
                &[
                    "site IN [:claims.site]",
                    "ANY x IN y SATISFIES x = :peer END",
                ],
            ),
        ]),
        write: Access::of(&[("a", &["true"])]),
        remote_query: true,
        admin: false,
    };
    let signed = [Grants::everything(), Grants::default(), some]
        .map(|grants| certificate(grants).sign(&Unsigned).expect("a certificate"));
    signed.iter().map(SignedCertificate::to_bytes).collect()
}

fn run(data: &[u8]) -> Verdict {
    let Ok(signed) = SignedCertificate::decode(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(signed.to_bytes(), data, "one certificate has one form");
    let keys = vec![Authority::always(AuthorityKey([3; 32]))];
    let trust = Trust::new(Authorities::new(DATABASE, keys).expect("one key"));
    let verdict = trust.judge(&signed, &signed.certificate().subject, 1500);
    assert!(!verdict.holds(), "nobody signs in here: {verdict}");
    let Ok(permit) = Permit::compile(signed.certificate()) else {
        return Verdict::Rejected;
    };
    let document = Object::from([
        ("_id".to_owned(), Value::from("a")),
        ("owner".to_owned(), Value::from("ada")),
        ("y".to_owned(), Value::from(vec![1, 2])),
    ]);
    for name in ["a", "b", "__collections"] {
        let name = CollectionName::new(name).expect("a name");
        let _either = permit.may_read(&name, &document);
        let may = permit.may_write(&name, Some(&document), None);
        assert!(!may || permit.may_write(&name, Some(&document), Some(&document)));
        let _any = (permit.reading(&name), permit.writing(&name));
    }
    Verdict::Accepted
}
