//! Changes of authority: rotation, thieves, and agreement of peers that saw them in another order.

use idem_auth::{
    Authorities, AuthoritiesError, Authority, AuthorityChange, ChangeTaken, Refused, Trust, Verdict,
};
use idem_model::limits;
use proptest::prelude::*;

use crate::parties::{DAY, HOUR, ISSUED, Key, certificate, database, holder};

fn always(keys: &[&Key]) -> Vec<Authority> {
    keys.iter()
        .map(|key| Authority::always(key.authority()))
        .collect()
}

fn begin(keys: &[&Key]) -> Authorities {
    Authorities::new(database(), always(keys)).expect("well-formed")
}

fn change(authorities: &Authorities, keys: &[&Key], by: &Key) -> AuthorityChange {
    let change = AuthorityChange::sign(authorities, always(keys), ISSUED, by).expect("well-formed");
    AuthorityChange::decode(&change.to_bytes()).expect("well-formed")
}

#[test]
fn a_key_is_exchanged_without_a_day_on_which_nothing_works() {
    let (root, old, fresh) = (Key::new(1), Key::new(2), Key::new(3));
    let mut trust = Trust::new(begin(&[&root, &old]));
    let of_old = certificate().sign(&old).unwrap();
    let of_fresh = certificate().sign(&fresh).unwrap();
    let mut both = always(&[&root, &fresh, &old]);
    both[2].until_ms = ISSUED + 2 * HOUR;
    let rotation = AuthorityChange::sign(trust.authorities(), both, ISSUED, &old).unwrap();
    assert_eq!(
        trust.handle_change(rotation.clone()),
        Ok(ChangeTaken::Added)
    );
    assert_eq!(trust.handle_change(rotation), Ok(ChangeTaken::Known));
    let peer = holder().peer();
    for signed in [&of_old, &of_fresh] {
        assert!(trust.judge(signed, &peer, ISSUED + HOUR).holds());
    }
    let late = ISSUED + 3 * HOUR;
    assert!(trust.judge(&of_fresh, &peer, late).holds());
    let Verdict::Refused(reason) = trust.judge(&of_old, &peer, late) else {
        panic!("the trust in the old key is over");
    };
    let text = "the trust in the authority of its certificate ended 1 h ago";
    assert!(reason.to_string().starts_with(text), "{reason}");
    // What the old key signs from then on counts for nobody, whatever their clocks say.
    let mut afterwards = certificate();
    afterwards.issued_at_ms = ISSUED + 3 * HOUR;
    afterwards.not_after_ms = ISSUED + 9 * DAY;
    let afterwards = afterwards.sign(&old).unwrap();
    let verdict = trust.judge(&afterwards, &peer, ISSUED);
    let issuer = old.authority();
    assert_eq!(
        verdict,
        Verdict::Refused(Refused::IssuedOutsideTrust { issuer })
    );
}

#[test]
fn a_stolen_key_cannot_push_out_those_before_it() {
    let (root, online, thief) = (Key::new(1), Key::new(2), Key::new(9));
    let mut authorities = begin(&[&root, &online]);
    let takeover = AuthorityChange::sign(&authorities, always(&[&thief]), ISSUED, &online);
    let issuer = online.authority();
    assert_eq!(
        takeover.unwrap_err(),
        AuthoritiesError::AboveItself { issuer }
    );
    // The thief adds a key behind; the root, in the same place of the chain, removes both.
    let stolen = change(&authorities, &[&root, &online, &thief], &online);
    let rescue = change(&authorities, &[&root], &root);
    assert_eq!(authorities.accept(stolen.clone()), Ok(ChangeTaken::Added));
    assert_eq!(
        authorities.accept(rescue),
        Ok(ChangeTaken::Replaced { dropped: 1 })
    );
    assert_eq!(authorities.keys(), always(&[&root]));
    assert!(authorities.accept(stolen).is_err());
    assert!(authorities.was_removed(&online.authority()));
}

#[test]
fn a_key_stolen_after_its_removal_rewrites_nothing() {
    let (old, fresh, thief) = (Key::new(1), Key::new(2), Key::new(9));
    let before = begin(&[&old]);
    let mut authorities = before.clone();
    authorities
        .accept(change(&before, &[&fresh], &old))
        .unwrap();
    let rewritten = change(&before, &[&thief], &old);
    let issuer = old.authority();
    assert_eq!(
        authorities.accept(rewritten),
        Err(AuthoritiesError::NotTrusted { issuer })
    );
    let behind = AuthorityChange::sign(&authorities, always(&[&thief]), ISSUED, &old);
    assert_eq!(behind.unwrap_err(), AuthoritiesError::NotTrusted { issuer });
}

#[test]
fn two_changes_of_one_key_in_one_place_stay_as_they_came() {
    let (root, a, b) = (Key::new(1), Key::new(2), Key::new(3));
    let before = begin(&[&root]);
    let (one, other) = (
        change(&before, &[&root, &a], &root),
        change(&before, &[&root, &b], &root),
    );
    let mut authorities = before.clone();
    authorities.accept(one).unwrap();
    let (number, by) = (1, root.authority());
    let error = authorities.accept(other).unwrap_err();
    assert_eq!(error, AuthoritiesError::Outranked { number, by });
}

#[test]
fn a_change_forged_by_a_bit() {
    let root = Key::new(1);
    let before = begin(&[&root]);
    let bytes = change(&before, &[&root, &Key::new(2)], &root).to_bytes();
    for bit in 0..8 * bytes.len() {
        let mut forged = bytes.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(forged) = AuthorityChange::decode(&forged) {
            assert!(before.clone().accept(forged).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_chain_is_bounded_and_goes_on() {
    let root = Key::new(1);
    let mut authorities = begin(&[&root]);
    let first = authorities.clone();
    let mut changes = Vec::new();
    for number in 0..limits::AUTHORITY_CHANGES_MAX + 10 {
        let other = Key::new(u8::try_from(number % 200).unwrap() + 2);
        changes.push(change(&authorities, &[&root, &other], &root));
        authorities.accept(changes[number].clone()).unwrap();
        assert!(authorities.changes().len() <= limits::AUTHORITY_CHANGES_MAX);
    }
    assert_eq!(authorities.last_number(), changes.len() as u64);
    // Who has nothing takes all of them, and who lacks some is told so.
    let mut late = first.clone();
    let error = late.accept(changes[1].clone()).unwrap_err();
    let (number, last) = (2, 0);
    assert_eq!(error, AuthoritiesError::Unconnected { number, last });
    for change in &changes {
        late.accept(change.clone()).unwrap();
    }
    assert_eq!(late.head(), authorities.head());
    assert!(
        late.accept(changes[0].clone()).is_err(),
        "too old to be judged"
    );
}

#[test]
fn keys_out_of_bounds_are_refused() {
    let root = Key::new(1);
    let check = |keys: Vec<Authority>| {
        assert!(Authorities::new(database(), keys).is_err());
    };
    check(vec![]);
    check(always(&[&root, &root]));
    let many: Vec<Key> = (1..=9).map(Key::new).collect();
    check(always(&many.iter().collect::<Vec<_>>()));
    let mut ended = always(&[&root]);
    ended[0].from_ms = 5;
    ended[0].until_ms = 4;
    check(ended);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Keys of different places sign changes without knowing of each other; whoever sees all of them trusts
    /// the same in the end, whatever came first.
    #[test]
    fn peers_agree_whatever_the_order(
        makers in prop::collection::vec((0..3usize, 0..6usize), 1..8),
        shuffles in prop::collection::vec(any::<prop::sample::Index>(), 16),
    ) {
        let keys: Vec<Key> = (1..=3).map(Key::new).collect();
        let trusted: Vec<&Key> = keys.iter().collect();
        let start = begin(&trusted);
        // Each key has a view of its own and sees what others made now and then.
        let mut views = [start.clone(), start.clone(), start.clone()];
        let mut all: Vec<AuthorityChange> = Vec::new();
        for (at, (maker, seen)) in makers.into_iter().enumerate() {
            for change in &all[..seen.min(all.len())] {
                let _refused = views[maker].accept(change.clone());
            }
            let extra = Key::new(u8::try_from(10 + at).unwrap());
            let mut set = trusted.clone();
            set.push(&extra);
            let made = change(&views[maker], &set, &keys[maker]);
            views[maker].accept(made.clone()).unwrap();
            all.push(made);
        }
        let settle = |order: &[usize]| {
            let mut view = start.clone();
            // As often as it takes for the last one to find what it follows.
            for _ in 0..=all.len() {
                for at in order {
                    let _refused = view.accept(all[*at].clone());
                }
            }
            view.head()
        };
        let mut order: Vec<usize> = (0..all.len()).collect();
        let expected = settle(&order);
        for shuffle in shuffles {
            let (from, to) = (shuffle.index(order.len()), order.len() - 1);
            order.swap(from, to);
            prop_assert_eq!(settle(&order), expected);
        }
    }
}
