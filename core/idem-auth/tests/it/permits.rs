//! What grants allow, case by case.

use idem_auth::{Access, Certificate, GrantError, Grants, Permit, Reach};
use idem_model::{Object, Value};

use crate::parties::{certificate, collection, object};

fn granting(grants: Grants) -> Certificate {
    Certificate {
        grants,
        ..certificate()
    }
}

fn reading(rules: &[(&str, &[&str])]) -> Result<Permit, GrantError> {
    Permit::compile(&granting(Grants {
        read: Access::of(rules),
        ..Grants::default()
    }))
}

fn may_read(predicate: &str, document: &str) -> bool {
    let permit = reading(&[("c", &[predicate])]).expect("a grant");
    permit.may_read(&collection("c"), &object(document))
}

#[test]
fn a_document_is_read_if_a_predicate_is_true_and_not_otherwise() {
    let check = |predicate: &str, document: &str, expected| {
        assert_eq!(
            may_read(predicate, document),
            expected,
            "{predicate} on {document}"
        );
    };
    check("owner = :user", r#"{"owner": "ada@example.com"}"#, true);
    check("owner = :user", r#"{"owner": "eve@example.com"}"#, false);
    // What is missing, null or of another type is no permission.
    check("owner = :user", r#"{}"#, false);
    check("owner = :user", r#"{"owner": null}"#, false);
    check("owner = :user", r#"{"owner": ["ada@example.com"]}"#, false);
    check("NOT (secret = true)", r#"{}"#, false);
    check("NOT (secret = true)", r#"{"secret": false}"#, true);
    check("level < :claims.level", r#"{"level": 2}"#, true);
    check("level < :claims.level", r#"{"level": "2"}"#, false);
    check("level < :claims.level", r#"{"level": 3}"#, false);
    check("gate IN :claims.gates", r#"{"gate": 7.0}"#, true);
    check("site = :claims.nothing", r#"{"site": "north"}"#, false);
    check("site = :claims.nothing", r#"{}"#, false);
    check("site = :claims.site.deeper", r#"{"site": "north"}"#, false);
    check(
        "address.city = 'Oslo'",
        r#"{"address": {"city": "Oslo"}}"#,
        true,
    );
    check("address.city = 'Oslo'", r#"{"address": "Oslo"}"#, false);
    check("c.owner = :user", r#"{"owner": "ada@example.com"}"#, true);
    check("TRUE", r#"{}"#, true);
    check("false", r#"{}"#, false);
    check("1 = 1", r#"{}"#, true);
    check("owner", r#"{"owner": "yes"}"#, false);
    let peer = crate::parties::holder().peer();
    check("peer = :peer", &format!(r#"{{"peer": "{peer}"}}"#), true);
    let shared = "ANY x IN readers SATISFIES x = :user END";
    check(shared, r#"{"readers": ["eve", "ada@example.com"]}"#, true);
    check(shared, r#"{"readers": ["eve"]}"#, false);
    check(shared, r#"{"readers": "ada@example.com"}"#, false);
}

#[test]
fn one_predicate_of_several_is_enough_and_other_collections_are_not_opened() {
    let permit = reading(&[("c", &["a = 1", "a = 'x'", "b > 3", "a = 2"])]).unwrap();
    let may = |name: &str, document: &str| permit.may_read(&collection(name), &object(document));
    assert!(may("c", r#"{"a": 1}"#));
    assert!(may("c", r#"{"a": 2.0}"#));
    assert!(may("c", r#"{"a": "x"}"#));
    assert!(may("c", r#"{"b": 4}"#));
    assert!(!may("c", r#"{"a": 3, "b": 3}"#));
    assert!(!may("d", r#"{"a": 1}"#));
    assert!(!permit.may_write(&collection("c"), None, Some(&object(r#"{"a": 1}"#))));
}

#[test]
fn a_write_needs_both_what_was_and_what_is() {
    let write = Access::of(&[("c", &["owner = :user"]), ("w", &["true"])]);
    let permit = Permit::compile(&granting(Grants {
        write,
        ..Grants::default()
    }))
    .unwrap();
    let mine = object(r#"{"owner": "ada@example.com"}"#);
    let other = object(r#"{"owner": "eve@example.com"}"#);
    let check = |before: Option<&Object>, after: Option<&Object>, expected| {
        let found = permit.may_write(&collection("c"), before, after);
        assert_eq!(found, expected, "{before:?} to {after:?}");
    };
    check(None, Some(&mine), true);
    check(None, Some(&other), false);
    check(Some(&mine), Some(&mine), true);
    check(Some(&mine), None, true);
    check(Some(&other), None, false);
    // Neither taking what is another's nor giving it away.
    check(Some(&other), Some(&mine), false);
    check(Some(&mine), Some(&other), false);
    check(None, None, false);
    assert!(permit.may_write(&collection("w"), None, None));
    assert!(!permit.may_write(&collection("d"), None, Some(&mine)));
}

#[test]
fn collections_of_the_system_are_read_by_all_and_written_by_admins() {
    let kinds = collection("__collections");
    let document = object(r#"{"a": 1}"#);
    let check = |grants: Grants, may_write| {
        let permit = Permit::compile(&granting(grants)).unwrap();
        assert!(permit.may_read(&kinds, &document));
        assert_eq!(permit.may_write(&kinds, None, Some(&document)), may_write);
        assert_eq!(permit.reading(&kinds), Reach::Whole);
        assert_eq!(permit.writing(&kinds) == Reach::Whole, may_write);
    };
    check(Grants::default(), false);
    check(Grants::everything(), true);
    check(
        Grants {
            write: Access::Everything,
            ..Grants::default()
        },
        false,
    );
}

#[test]
fn what_depends_on_the_id_alone_is_told_from_what_may_change() {
    let check = |predicates: &[&str], expected: Reach| {
        let permit = reading(&[("c", predicates)]).unwrap();
        assert_eq!(permit.reading(&collection("c")), expected, "{predicates:?}");
    };
    let fields = |names: &[&str]| Reach::ByFields(names.iter().map(|&it| it.to_owned()).collect());
    check(&["true"], Reach::Whole);
    check(&["owner = 'x'", "true"], Reach::Whole);
    check(&["_id = 'x'"], Reach::ById);
    check(
        &["_id IN ['x', 'y']", "starts_with(_id, :user)"],
        Reach::ById,
    );
    check(&["_id.site = :claims.site"], Reach::ById);
    check(&["owner = :user"], fields(&["owner"]));
    check(&["a.b = 1", "_id = 'x'", "c > 2"], fields(&["a", "c"]));
    check(&["owner = :claims.nothing"], Reach::Nothing);
    assert_eq!(
        reading(&[("c", &["true"])])
            .unwrap()
            .reading(&collection("d")),
        Reach::Nothing
    );
    assert_eq!(Permit::everything().reading(&collection("d")), Reach::Whole);
}

#[test]
fn permits_narrow_each_other() {
    let a = reading(&[("c", &["a = 1"]), ("d", &["true"])]).unwrap();
    let b = reading(&[("c", &["b = 1"])]).unwrap();
    let both = a.narrow(&b).unwrap();
    let may = |document: &str| both.may_read(&collection("c"), &object(document));
    assert!(may(r#"{"a": 1, "b": 1}"#));
    assert!(!may(r#"{"a": 1}"#));
    assert!(!may(r#"{"b": 1}"#));
    assert!(!both.may_read(&collection("d"), &object("{}")));
    let names = ["a", "b"].map(str::to_owned).into();
    assert_eq!(both.reading(&collection("c")), Reach::ByFields(names));
    assert_eq!(both.reading(&collection("d")), Reach::Nothing);

    let everything = Permit::everything();
    assert!(everything.may_query_remotely() && everything.may_administer());
    let narrowed = everything.narrow(&a).unwrap();
    assert!(!narrowed.may_query_remotely() && !narrowed.may_administer());
    assert!(narrowed.may_read(&collection("d"), &object("{}")));
    // Narrowing by oneself takes no room.
    let mut again = a.clone();
    for _ in 0..10 {
        again = again.narrow(&a).unwrap();
    }
    let layered = reading(&[("e", &["true"])]).unwrap();
    let more = again.narrow(&b).unwrap().narrow(&layered).unwrap();
    let full = more.narrow(&everything).unwrap();
    let error = full
        .narrow(&reading(&[("f", &["true"])]).unwrap())
        .unwrap_err();
    assert_eq!(error, GrantError::TooManyLayers { limit: 4 });
}

fn refusal(predicate: &str) -> GrantError {
    reading(&[("c", &[predicate])]).expect_err(predicate)
}

#[test]
fn predicates_are_one_condition_on_one_document_and_nothing_else() {
    for predicate in [
        "",
        "a = 1 ORDER BY a",
        "a = 1 LIMIT 3",
        "a = 1 GROUP BY a",
        "a = 1 UNION SELECT * FROM d",
        "a = 1) OR (true",
        "a = 1; DELETE FROM c",
        "a IN (SELECT VALUE b FROM d)",
        "EXISTS (SELECT * FROM d)",
        "a = 'unfinished",
        "/* unfinished",
        "COUNT(*) > 1",
    ] {
        let error = refusal(predicate);
        assert!(
            matches!(error, GrantError::Predicate { .. }),
            "{predicate}: {error:?}"
        );
    }
}

#[test]
fn what_peers_would_answer_differently_is_refused() {
    for predicate in [
        "until > clock()",
        "request_info().start_time > 3",
        "conflicts(a) = []",
        "document_version() IS NOT MISSING",
    ] {
        let error = refusal(predicate);
        assert!(
            matches!(error, GrantError::Predicate { .. }),
            "{predicate}: {error:?}"
        );
    }
    let error = refusal("a = :owner");
    assert!(matches!(error, GrantError::Parameter { .. }), "{error:?}");
}

#[test]
fn what_a_document_could_make_run_for_long_is_refused() {
    for predicate in [
        "ANY x IN a SATISFIES (ANY y IN b SATISFIES x = y END) END",
        "ANY x WITHIN a SATISFIES x = 1 END",
        "ANY x IN a SATISFIES x IN b END",
        "a LIKE b",
        "regexp_like(a, b)",
    ] {
        let error = refusal(predicate);
        assert!(
            matches!(error, GrantError::Costly { .. }),
            "{predicate}: {error:?}"
        );
    }
}

#[test]
fn work_beyond_the_bound_denies() {
    let numbers: Vec<i64> = (0..100_000).collect();
    let document = Object::from([("a".to_owned(), Value::from(numbers))]);
    let permit = |last: &str| reading(&[("c", &[last])]).unwrap();
    let early = permit("ANY x IN a SATISFIES x = 5 END");
    assert!(early.may_read(&collection("c"), &document));
    let late = permit("ANY x IN a SATISFIES x = 99999 END");
    assert!(!late.may_read(&collection("c"), &document));
    // Not even where the rest of the predicate holds.
    let either = permit("(ANY x IN a SATISFIES x = 99999 END) OR 1 = 1");
    assert!(!either.may_read(&collection("c"), &document));
}

#[test]
fn grants_out_of_bounds_are_refused() {
    let of = |access: Access| {
        Permit::compile(&granting(Grants {
            read: access,
            ..Grants::default()
        }))
    };
    let long = format!("a = '{}'", "x".repeat(1024));
    let many: Vec<String> = (0..257).map(|number| format!("a = {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(of(Access::of(&[])).unwrap_err(), GrantError::Empty);
    assert_eq!(
        of(Access::of(&[("c", &[])])).unwrap_err(),
        GrantError::Empty
    );
    let is = |access: Access, check: fn(&GrantError) -> bool| {
        let error = of(access).unwrap_err();
        assert!(check(&error), "{error:?}");
    };
    is(Access::of(&[("c", &[&long])]), |it| {
        matches!(it, GrantError::TooLong { .. })
    });
    is(Access::of(&[("c", &many)]), |it| {
        matches!(it, GrantError::TooMany { .. })
    });
    is(Access::of(&[("c` AS x", &["true"])]), |it| {
        matches!(it, GrantError::CollectionName { .. })
    });
    is(Access::of(&[("__collections", &["true"])]), |it| {
        matches!(it, GrantError::SystemCollection { .. })
    });
}

#[test]
fn a_renewed_certificate_reads_like_the_one_before() {
    let rules: &[(&str, &[&str])] = &[("c", &["owner = :user"])];
    let permit = reading(rules).unwrap();
    assert!(permit.reads_like(&reading(rules).unwrap()));
    assert!(!permit.reads_like(&reading(&[("c", &["owner = 'a'"])]).unwrap()));
    assert!(!permit.reads_like(&Permit::everything()));
    let other = Certificate {
        user: "eve@example.com".to_owned(),
        ..granting(Grants {
            read: Access::of(rules),
            ..Grants::default()
        })
    };
    assert!(!permit.reads_like(&Permit::compile(&other).unwrap()));
    let renewed = permit.narrow(&reading(rules).unwrap()).unwrap();
    assert!(permit.reads_like(&renewed));
    assert!(!permit.reads_everything() && Permit::everything().reads_everything());
}
