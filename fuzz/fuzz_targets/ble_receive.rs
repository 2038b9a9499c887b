//! What arrives by Bluetooth: datagrams become bytes or an error, and no more is kept than was let come.

use idem_model::DatabaseId;
use idem_transport::{BleAdvert, BleFraming, DATAGRAM_BYTES_MIN, ble_service};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "ble_receive",
    run,
    seeds,
};

/// What a receiver may have to keep.
const INCOMING_BYTES_MAX: usize = 16 * 1024;

fn sized(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let sized = datagrams.iter().flat_map(|datagram| {
        let len = u8::try_from(datagram.len()).expect("a short datagram");
        [&[len], &datagram[..]].concat()
    });
    [165].into_iter().chain(sized).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut end = BleFraming::new(185).expect("185 is enough");
    let opening = end.poll_datagram().expect("an opening");
    end.handle_datagram(&opening).expect("what it would get");
    end.write(&[7; 300]);
    let mut sent = vec![opening];
    sent.extend(std::iter::from_fn(|| end.poll_datagram()));
    let advert = BleAdvert {
        service: ble_service(DatabaseId([1; 16])),
        psm: Some(0x80),
        peer: [7; 8],
    };
    vec![sized(&sent), advert.to_data().to_vec()]
}

fn run(data: &[u8]) -> Verdict {
    if let Some(advert) = BleAdvert::decode([0; 16], data) {
        assert_eq!(advert.to_data(), data, "an advert has another form");
        return Verdict::Accepted;
    }
    let Some((size, mut data)) = data.split_first() else {
        return Verdict::Rejected;
    };
    let size = DATAGRAM_BYTES_MIN + usize::from(*size);
    let mut end = BleFraming::new(size).expect("20 is enough");
    let mut come = 0;
    while let Some((len, rest)) = data.split_first() {
        let (datagram, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        if end.handle_datagram(datagram).is_err() {
            return Verdict::Rejected;
        }
        come += datagram.len();
        assert!(end.incoming_bytes() <= INCOMING_BYTES_MAX.min(come));
        end.write(datagram);
        while let Some(sent) = end.poll_datagram() {
            assert!(sent.len() <= size, "a datagram of {} bytes", sent.len());
        }
        // A slow reader.
        end.read(&mut [0; 16]);
    }
    Verdict::Accepted
}
