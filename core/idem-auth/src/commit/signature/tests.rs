//! Signatures that other rules disagree on: made with a part of small order, by authors who know their keys.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use proptest::prelude::*;

use super::*;

/// An author who does as it likes: adds points of small order to its key and to R.
struct Forger {
    secret: Scalar,
    key: [u8; 32],
}

impl Forger {
    fn new(byte: u8, torsion: usize) -> Self {
        let secret = Scalar::from_bytes_mod_order([byte; 32]);
        let key = secret * ED25519_BASEPOINT_POINT + EIGHT_TORSION[torsion];
        Self {
            secret,
            key: key.compress().0,
        }
    }

    fn sign(&self, message: &[u8], nonce: u8, torsion: usize) -> [u8; 64] {
        let nonce = Scalar::from_bytes_mod_order([nonce; 32]);
        let r = nonce * ED25519_BASEPOINT_POINT + EIGHT_TORSION[torsion];
        let r = r.compress().0;
        let hash = Sha512::new()
            .chain_update(r)
            .chain_update(self.key)
            .chain_update(message);
        let h = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = nonce + h * self.secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(s.as_bytes());
        signature
    }
}

struct Made {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn alone(made: &Made) -> bool {
    all_of(std::slice::from_ref(made)).is_empty()
}

fn all_of(made: &[Made]) -> Vec<usize> {
    let claims = made.iter().map(|made| Claim {
        key: &made.key,
        message: &made.message,
        signature: &made.signature,
    });
    failing(&claims.collect::<Vec<_>>())
}

/// What the library's batch says of it.
fn library_batch(made: &[Made]) -> bool {
    let messages: Vec<&[u8]> = made.iter().map(|made| &made.message[..]).collect();
    let signatures: Vec<_> = made
        .iter()
        .map(|made| Signature::from_bytes(&made.signature))
        .collect();
    let keys: Vec<_> = made
        .iter()
        .map(|made| VerifyingKey::from_bytes(&made.key).unwrap())
        .collect();
    ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok()
}

fn honest(byte: u8) -> Made {
    let key = SigningKey::from_bytes(&[byte; 32]);
    let message = vec![byte; 40];
    Made {
        key: key.verifying_key().to_bytes(),
        signature: key.sign(&message).to_bytes(),
        message,
    }
}

fn mixed(number: u8, of_key: usize, of_r: usize) -> Made {
    let forger = Forger::new(3, of_key);
    let message = vec![number; 8];
    Made {
        key: forger.key,
        signature: forger.sign(&message, 9, of_r),
        message,
    }
}

/// The reason for all of this file: the library's batch takes the same commit from one peer and not from another.
#[test]
fn a_signature_that_splits_the_batches_of_the_library_has_one_answer_here() {
    let with = |number, others: u8| {
        let mut made: Vec<Made> = (0..others).map(|byte| honest(50 + byte)).collect();
        made.push(mixed(number, 0, 4));
        made
    };
    let answers: Vec<bool> = (0..32)
        .map(|number| library_batch(&with(number, 3)))
        .collect();
    assert!(answers.contains(&true) && answers.contains(&false));
    let split = (0..32).find(|number| {
        let by_company: Vec<bool> = (0..8)
            .map(|others| library_batch(&with(*number, others)))
            .collect();
        by_company.contains(&true) && by_company.contains(&false)
    });
    let number = split.expect("some signature that depends on its company");
    for others in 0..3 * u8::try_from(ONE_BY_ONE).unwrap() {
        assert_eq!(all_of(&with(number, others)), Vec::<usize>::new());
    }
}

/// In a sum without coefficients one error would make up for the other.
#[test]
fn errors_that_cancel_out_are_found() {
    let mut made: Vec<Made> = (1..=20).map(honest).collect();
    for (at, error) in [(4, Scalar::ONE), (13, -Scalar::ONE)] {
        let s: &mut [u8] = &mut made[at].signature[32..];
        let bytes: [u8; 32] = (&*s).try_into().unwrap();
        let wrong = Scalar::from_canonical_bytes(bytes).unwrap() + error;
        s.copy_from_slice(wrong.as_bytes());
    }
    assert_eq!(all_of(&made), [4, 13]);
}

#[test]
fn keys_and_points_of_small_order_sign_nothing() {
    for torsion in EIGHT_TORSION {
        let small = torsion.compress().0;
        let mut made = honest(1);
        made.key = small;
        made.signature = [0; 64];
        made.signature[..32].copy_from_slice(&small);
        assert!(!alone(&made));
        let mut made = honest(1);
        made.signature[..32].copy_from_slice(&small);
        assert!(!alone(&made));
    }
}

#[test]
fn second_forms_are_refused() {
    let good = honest(1);
    assert!(alone(&good));
    // s + l is the same number.
    let mut second = honest(1);
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    for (byte, more) in second.signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + more + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert!(!alone(&second));
    // y + p is the same coordinate, where y is below 19.
    for low in 0..19u8 {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xed + low;
        bytes[31] = 0x7f;
        assert!(point(&bytes).is_none());
        bytes[31] = 0xff;
        assert!(point(&bytes).is_none());
    }
    assert!(is_reduced(&[0; 32]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in a batch, each claim has the answer that it has alone.
    #[test]
    fn one_and_many_agree(
        picks in prop::collection::vec((0..5u8, any::<u8>(), 0..8usize, 0..8usize), 0..24),
    ) {
        let made: Vec<Made> = picks
            .into_iter()
            .map(|(kind, number, of_key, of_r)| match kind {
                0 | 1 => honest(number),
                2 => mixed(number, of_key, of_r),
                3 => {
                    let mut made = honest(number);
                    made.signature[usize::from(number) % 64] ^= 1 << of_r;
                    made
                }
                _ => {
                    let mut made = honest(number);
                    made.message.push(of_r as u8);
                    made
                }
            })
            .collect();
        let expected: Vec<usize> = (0..made.len()).filter(|at| !alone(&made[*at])).collect();
        prop_assert_eq!(all_of(&made), expected);
    }
}
