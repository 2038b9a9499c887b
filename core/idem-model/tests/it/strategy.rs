//! Random values, with the numbers and texts at which encodings break.

use idem_model::{ActorId, Dot, Value, VersionVector};
use proptest::{collection, prelude::*};

/// Numbers around every boundary of the two number kinds.
fn integers() -> impl Strategy<Value = i64> {
    let bit = (0u32..64, -2i64..=2).prop_map(|(bit, by)| (1i64 << bit).wrapping_add(by));
    let negative = bit.clone().prop_map(i64::wrapping_neg);
    prop_oneof![any::<i64>(), -3i64..=3, bit, negative]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "floats near integers are wanted"
)]
pub(crate) fn floats() -> impl Strategy<Value = f64> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        5e-324,
        0.1,
        -1.5,
        9_223_372_036_854_775_808.0,
    ]);
    let near = (integers(), -1i64..=1).prop_map(|(number, ulps)| {
        let bits = (number as f64).to_bits().cast_signed().wrapping_add(ulps);
        f64::from_bits(bits.cast_unsigned())
    });
    prop_oneof![any::<f64>(), special, near].prop_filter("finite", |float| float.is_finite())
}

/// Short texts of few characters, so that they often share a beginning.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[\\x00a\u{ff}\u{10ffff}]{0,4}", ".{0,12}"]
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        integers().prop_map(Value::Int),
        floats().prop_map(Value::Float),
        texts().prop_map(Value::String),
        collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..5)
            .prop_map(Value::Binary),
    ]
}

pub(crate) fn values() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            collection::btree_map(texts(), inner, 0..4).prop_map(Value::Object),
        ]
    })
}

pub(crate) fn numbers() -> impl Strategy<Value = Value> {
    prop_oneof![
        integers().prop_map(Value::Int),
        floats().prop_map(Value::Float),
    ]
}

/// Versions of few actors, so that they often meet.
pub(crate) fn versions() -> impl Strategy<Value = VersionVector> {
    collection::vec(dots(), 0..6).prop_map(|dots| dots.into_iter().collect())
}

pub(crate) fn dots() -> impl Strategy<Value = Dot> {
    (0u8..4, 1u64..6).prop_map(|(actor, n)| Dot {
        actor: ActorId([actor; 16]),
        n,
    })
}
