//! Verifying signatures of commits, one or many, with one answer.
//!
//! A signature holds if `8 s B = 8 R + 8 h A`: the *cofactored* equation, the only one that sums over many signatures
//! prove for each of them (Chalkias, Garillot and Nikolaenko, "Taming the many EdDSAs", 2020, algorithm 2). The equation
//! without the 8, which `verify_strict` checks, and sums of it, which `ed25519_dalek::verify_batch` checks, disagree on
//! signatures with a part of small order, and on which ones depends on what else is in the batch. An author could make
//! a commit that some peers take and others do not. Here both are sums of the same equation.
//!
//! Before that, keys and points of small order, and second forms of points and numbers, are refused. So a signature
//! binds one key and one message, and has one form.

use std::collections::BTreeMap;

use curve25519_dalek::{
    edwards::{CompressedEdwardsY, EdwardsPoint},
    scalar::Scalar,
    traits::{IsIdentity, VartimeMultiscalarMul},
};
use sha2::{Digest, Sha512};

/// That `key` signed `message`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) key: &'a [u8; 32],
    pub(super) message: &'a [u8],
    pub(super) signature: &'a [u8; 64],
}

/// `s B = R + h A`, up to a part of small order.
struct Equation {
    /// The place of the claim.
    at: usize,
    key: [u8; 32],
    minus_key: EdwardsPoint,
    r: EdwardsPoint,
    s: Scalar,
    h: Scalar,
    /// What its coefficient in a sum follows from.
    seed: [u8; 64],
}

/// The places of the claims that do not hold, rising.
pub(super) fn failing(claims: &[Claim<'_>]) -> Vec<usize> {
    // Many commits of one author are the rule, and reading a key costs as much as reading a signature.
    let mut keys = BTreeMap::new();
    let mut bad = Vec::new();
    let mut equations = Vec::with_capacity(claims.len());
    for (at, claim) in claims.iter().enumerate() {
        match equation(at, claim, &mut keys) {
            Some(equation) => equations.push(equation),
            None => bad.push(at),
        }
    }
    find_bad(&equations, &mut bad);
    bad.sort_unstable();
    bad
}

/// Below so many a sum costs about as much as one after the other.
const ONE_BY_ONE: usize = 8;

/// Halves what does not hold until the bad ones are found. Who sends many of those is cut off: all bad, each costs
/// several times what it would alone.
fn find_bad(equations: &[Equation], bad: &mut Vec<usize>) {
    if equations.len() <= ONE_BY_ONE {
        let alone = equations.iter().filter(|one| !one.holds());
        bad.extend(alone.map(|one| one.at));
    } else if !all_hold(equations) {
        let (left, right) = equations.split_at(equations.len() / 2);
        find_bad(left, bad);
        find_bad(right, bad);
    }
}

fn equation(
    at: usize,
    claim: &Claim<'_>,
    keys: &mut BTreeMap<[u8; 32], Option<EdwardsPoint>>,
) -> Option<Equation> {
    let minus_key = keys
        .entry(*claim.key)
        .or_insert_with(|| point(claim.key).map(|key| -key));
    let minus_key = (*minus_key)?;
    let (r_bytes, s_bytes) = claim.signature.split_first_chunk::<32>()?;
    let s_bytes: [u8; 32] = s_bytes.try_into().ok()?;
    let s = Option::from(Scalar::from_canonical_bytes(s_bytes))?;
    let r = point(r_bytes)?;
    let hash = Sha512::new()
        .chain_update(r_bytes)
        .chain_update(claim.key)
        .chain_update(claim.message)
        .finalize();
    let hash: [u8; 64] = hash.into();
    let mut seed = [0; 64];
    // The hash commits to R, the key and the message.
    seed[..32].copy_from_slice(&hash[..32]);
    seed[32..].copy_from_slice(&s_bytes);
    Some(Equation {
        at,
        key: *claim.key,
        minus_key,
        r,
        s,
        h: Scalar::from_bytes_mod_order_wide(&hash),
        seed,
    })
}

/// A point in its only form, and not of small order.
fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    let point = is_reduced(bytes)
        .then(|| CompressedEdwardsY(*bytes).decompress())
        .flatten()?;
    (!point.is_small_order()).then_some(point)
}

/// Whether the coordinate is below 2^255 - 19. The other second form, a sign on zero, is of small order.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|byte| *byte != 0xff) || bytes[0] < 0xed
}

impl Equation {
    fn holds(&self) -> bool {
        let expected =
            EdwardsPoint::vartime_double_scalar_mul_basepoint(&self.h, &self.minus_key, &self.s);
        (expected - self.r).mul_by_cofactor().is_identity()
    }
}

/// Whether all hold: a sum of them with coefficients that nobody can choose does only then, but for a chance of
/// 2^-128. They follow from all signatures together, so that no entropy is needed and every run is the same.
fn all_hold(equations: &[Equation]) -> bool {
    let mut transcript = blake3::Hasher::new_keyed(b"idem auth commit batch version 1");
    for equation in equations {
        transcript.update(&equation.seed);
    }
    let mut coefficients = transcript.finalize_xof();
    let mut base = Scalar::ZERO;
    let mut of_keys: BTreeMap<[u8; 32], (Scalar, EdwardsPoint)> = BTreeMap::new();
    let mut scalars = Vec::with_capacity(equations.len() + 2);
    let mut points = Vec::with_capacity(equations.len() + 2);
    for equation in equations {
        let mut bytes = [0; 32];
        coefficients.fill(&mut bytes[..16]);
        let z = Scalar::from_bytes_mod_order(bytes);
        base += z * equation.s;
        let of_key = of_keys
            .entry(equation.key)
            .or_insert((Scalar::ZERO, equation.minus_key));
        of_key.0 += z * equation.h;
        scalars.push(-z);
        points.push(equation.r);
    }
    for (scalar, point) in of_keys.into_values() {
        scalars.push(scalar);
        points.push(point);
    }
    scalars.push(base);
    points.push(curve25519_dalek::constants::ED25519_BASEPOINT_POINT);
    EdwardsPoint::vartime_multiscalar_mul(&scalars, &points)
        .mul_by_cofactor()
        .is_identity()
}

#[cfg(test)]
mod tests;
