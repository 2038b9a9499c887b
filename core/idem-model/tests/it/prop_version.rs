//! Version vectors are a lattice.

use idem_model::{VersionVector, codec::Reader};
use proptest::prelude::*;

use crate::strategy::{dots, versions};

fn joined(a: &VersionVector, b: &VersionVector) -> VersionVector {
    let mut result = a.clone();
    result.join(b);
    result
}

proptest! {
    #[test]
    fn joining_is_a_join(a in versions(), b in versions(), c in versions()) {
        let ab = joined(&a, &b);
        prop_assert_eq!(&ab, &joined(&b, &a));
        prop_assert_eq!(joined(&ab, &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(&joined(&a, &a), &a);
        // The least vector above both.
        prop_assert!(ab.covers_all(&a) && ab.covers_all(&b));
        if c.covers_all(&a) && c.covers_all(&b) {
            prop_assert!(c.covers_all(&ab));
        }
        prop_assert_eq!(a.covers_all(&b), ab == a);
        prop_assert_eq!(a.covers_all(&b) && b.covers_all(&a), a == b);
    }

    #[test]
    fn covering_is_of_dots(a in versions(), b in versions(), dot in dots()) {
        prop_assert_eq!(joined(&a, &b).covers(dot), a.covers(dot) || b.covers(dot));
        prop_assert_eq!(a.covers_all(&b), b.iter().all(|dot| a.covers(dot)));
        let mut with = a.clone();
        with.include(dot);
        prop_assert!(with.covers(dot) && with.covers_all(&a));
        prop_assert_eq!(with == a, a.covers(dot));
        prop_assert_eq!(a.iter().collect::<VersionVector>(), a.clone());
        prop_assert_eq!((a.len(), a.is_empty()), (a.iter().count(), a.iter().next().is_none()));
    }

    #[test]
    fn bytes_read_back(a in versions(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        a.encode(&mut bytes);
        prop_assert_eq!(&VersionVector::decode(&mut Reader::new(&bytes)).unwrap(), &a);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut reader = Reader::new(&bytes);
        if let Ok(read) = VersionVector::decode(&mut reader) {
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(&again, &bytes[..reader.position()]);
        }
    }
}
