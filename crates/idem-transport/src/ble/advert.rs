//! What a peer says of itself to everybody near.

use idem_model::DatabaseId;

/// The characteristic that the side that connected writes to, without response.
pub const BLE_CHARACTERISTIC_WRITE: [u8; 16] =
    *b"\x1d\xeb\x1e\x01\x9a\x52\x4c\x1f\x8e\x4b\x73\x1c\x66\x0d\x21\x01";

/// The characteristic that notifies it.
pub const BLE_CHARACTERISTIC_READ: [u8; 16] =
    *b"\x1d\xeb\x1e\x02\x9a\x52\x4c\x1f\x8e\x4b\x73\x1c\x66\x0d\x21\x01";

const VERSION: u8 = 1;

/// The smallest PSM that a system gives to anybody, and the largest of Bluetooth LE that there is.
const PSMS: std::ops::RangeInclusive<u8> = 0x80..=0xff;

/// The UUID of the service of a database, of its service data and in GATT: a random one for whoever does
/// not know the database id.
pub fn ble_service(database: DatabaseId) -> [u8; 16] {
    let hash = blake3::derive_key("idem 2026 bluetooth service", &database.0);
    let mut uuid: [u8; 16] = *hash.first_chunk().expect("a hash has 32 bytes");
    // Version 8, made by an application; the variant of RFC 9562.
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    uuid
}

/// The service of a peer, and its service data: 10 bytes. With the UUID and what every advertisement must
/// have it takes the 31 bytes that all controllers can send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BleAdvert {
    /// See [`ble_service`].
    pub service: [u8; 16],
    /// Where it takes L2CAP channels, if it does: 0x80 to 0xff.
    pub psm: Option<u8>,
    /// The hash of the peer.
    pub peer: [u8; 8],
}

impl BleAdvert {
    /// The service data.
    pub fn to_data(&self) -> [u8; 10] {
        let mut data = [0; 10];
        data[0] = VERSION;
        data[1] = self.psm.unwrap_or(0);
        data[2..].copy_from_slice(&self.peer);
        data
    }

    /// What somebody says of itself, if it is a peer and says so in a way that is known.
    pub fn decode(service: [u8; 16], data: &[u8]) -> Option<Self> {
        let [VERSION, psm, peer @ ..] = data else {
            return None;
        };
        if *psm != 0 && !PSMS.contains(psm) {
            return None;
        }
        Some(Self {
            service,
            psm: (*psm != 0).then_some(*psm),
            peer: peer.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adverts_are_made_as_they_were() {
        let vectors = include_str!("../../../../vectors/wire/ble.txt");
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let database = DatabaseId(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let advert = BleAdvert {
            service: ble_service(database),
            psm: Some(0x85),
            peer: std::array::from_fn(|at| u8::try_from(0x30 + at).unwrap()),
        };
        let lines = [
            format!(
                "service | database {} | {}\n",
                hex(&database.0),
                hex(&advert.service)
            ),
            format!(
                "service data | psm 85 peer {} | {}\n",
                hex(&advert.peer),
                hex(&advert.to_data())
            ),
        ];
        for line in lines {
            assert!(vectors.contains(&line), "{line}");
        }
    }

    #[test]
    fn what_is_no_advert_is_none() {
        let service = ble_service(DatabaseId([1; 16]));
        for psm in [None, Some(0x80), Some(0xff)] {
            let peer = [7; 8];
            let advert = BleAdvert { service, psm, peer };
            assert_eq!(BleAdvert::decode(service, &advert.to_data()), Some(advert));
        }
        for data in [
            &b""[..],
            &[1],
            &[1, 0, 1, 2, 3, 4, 5, 6, 7],
            &[1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            &[2, 0, 1, 2, 3, 4, 5, 6, 7, 8],
            &[1, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            assert_eq!(BleAdvert::decode(service, data), None, "{data:?}");
        }
        assert_ne!(service, ble_service(DatabaseId([2; 16])));
    }
}
