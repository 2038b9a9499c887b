//! Datagrams between two ends, sound and harmed.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Two ends, and what is on its way between them.
struct Wire {
    ends: [BleFraming; 2],
    way: [VecDeque<Vec<u8>>; 2],
}

impl Wire {
    fn new(sizes: [usize; 2]) -> Self {
        Self {
            ends: sizes.map(|size| BleFraming::new(size).unwrap()),
            way: Default::default(),
        }
    }

    /// Carries one datagram from `from`, if there is one. Gives whether there was.
    fn carry(&mut self, from: usize) -> bool {
        while let Some(datagram) = self.ends[from].poll_datagram() {
            self.way[from].push_back(datagram);
        }
        let Some(datagram) = self.way[from].pop_front() else {
            return false;
        };
        let to = &mut self.ends[1 - from];
        assert!(datagram.len() <= to.announced_bytes);
        to.handle_datagram(&datagram).unwrap();
        assert!(to.incoming_bytes() <= WINDOW_BYTES);
        true
    }

    fn open(sizes: [usize; 2]) -> Self {
        let mut wire = Self::new(sizes);
        assert!(wire.carry(0) && wire.carry(1));
        wire
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<u8>),
    Read(usize, usize),
    Carry(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let end = 0..2usize;
    prop_oneof![
        (end.clone(), vec(any::<u8>(), 0..900)).prop_map(|(end, bytes)| Step::Write(end, bytes)),
        (end.clone(), 0..4000usize).prop_map(|(end, len)| Step::Read(end, len)),
        end.prop_map(Step::Carry),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written at one end is read at the other, once and in order, however both go about it.
    #[test]
    fn bytes_arrive_as_they_were_written(
        sizes in [DATAGRAM_BYTES_MIN..3000, DATAGRAM_BYTES_MIN..3000],
        steps in vec(step(), 0..300),
    ) {
        let mut wire = Wire::new(sizes);
        let (mut written, mut read) = ([vec![], vec![]], [vec![], vec![]]);
        let mut take = |wire: &mut Wire, end: usize, len: usize| {
            let mut into = vec![0; len];
            let len = wire.ends[end].read(&mut into);
            read[end].extend_from_slice(&into[..len]);
            len
        };
        for step in steps {
            match step {
                Step::Write(end, bytes) => {
                    let len = wire.ends[end].write(&bytes);
                    written[end].extend_from_slice(&bytes[..len]);
                    prop_assert!(wire.ends[end].outgoing_bytes() <= OUTGOING_BYTES_MAX);
                }
                Step::Read(end, len) => {
                    take(&mut wire, end, len);
                }
                Step::Carry(end) => {
                    wire.carry(end);
                }
            }
        }
        // Nothing is stuck: with readers, all of it arrives.
        loop {
            let carried = [0, 1].map(|end| wire.carry(end));
            let taken = [0, 1].map(|end| take(&mut wire, end, 5000));
            if carried == [false; 2] && taken == [0; 2] {
                break;
            }
        }
        prop_assert_eq!(&read[1], &written[0]);
        prop_assert_eq!(&read[0], &written[1]);
    }

    /// Nothing that arrives breaks an end or has it keep more than its window.
    #[test]
    fn hostile_datagrams_are_errors(
        size in DATAGRAM_BYTES_MIN..2100,
        is_opened in any::<bool>(),
        datagrams in vec((any::<u8>(), 0..4u8, any::<bool>(), vec(any::<u8>(), 0..60)), 0..200),
    ) {
        let mut wire = if is_opened { Wire::open([size; 2]) } else { Wire::new([size; 2]) };
        let end = &mut wire.ends[0];
        for (number, credits, is_sound, content) in datagrams {
            let number = if is_sound { end.next_received } else { number };
            let length = u8::try_from(content.len()).unwrap();
            let datagram = [&[number, credits, length], &content[..]].concat();
            if end.handle_datagram(&datagram).is_err() {
                break;
            }
            prop_assert!(end.incoming_bytes() <= WINDOW_BYTES);
            while let Some(datagram) = end.poll_datagram() {
                prop_assert!(datagram.len() <= size);
            }
        }
    }
}

#[test]
fn a_datagram_that_is_lost_doubled_or_cut_ends_the_link() {
    for harm in 0..4 {
        let mut wire = Wire::open([100; 2]);
        wire.ends[0].write(&[7; 300]);
        let mut sent: Vec<_> = std::iter::from_fn(|| wire.ends[0].poll_datagram()).collect();
        assert_eq!(sent.len(), 4);
        let words = match harm {
            0 => {
                sent.remove(1);
                "lost"
            }
            1 => {
                sent.insert(1, sent[0].clone());
                "lost"
            }
            2 => {
                sent[2].pop();
                "cut"
            }
            _ => {
                sent[2].extend([0; 10]);
                "over the size"
            }
        };
        let handled: Result<(), _> = sent
            .iter()
            .try_for_each(|datagram| wire.ends[1].handle_datagram(datagram));
        let error = handled.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_sender_waits_for_a_reader() {
    let mut wire = Wire::open([20; 2]);
    let mut written = 0;
    loop {
        let len = wire.ends[0].write(&[1; 17]);
        written += len;
        if !wire.carry(0) && len == 0 {
            break;
        }
        while wire.carry(0) {}
    }
    let waiting = wire.ends[1].incoming_bytes();
    assert_eq!(waiting, 255 * 17, "a credit for each datagram");
    assert_eq!(written, waiting + OUTGOING_BYTES_MAX);
    assert!(!wire.carry(1), "credits before anything was read");
    wire.ends[1].read(&mut vec![0; waiting]);
    assert!(wire.carry(1) && wire.carry(0), "it does not go on");
}

#[test]
fn who_sends_without_credits_or_says_nothing_is_refused() {
    let mut wire = Wire::open([20; 2]);
    let mut number = 1;
    let mut send = |credits, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        let datagram = [&[number, credits, length], content].concat();
        number = number.wrapping_add(1);
        wire.ends[1].handle_datagram(&datagram)
    };
    for _ in 0..255 {
        send(0, b"x").unwrap();
    }
    let error = send(0, b"x").unwrap_err().to_string();
    assert!(error.contains("without a credit"), "{error}");
    let mut wire = Wire::open([20; 2]);
    let error = wire.ends[1].handle_datagram(&[1, 0, 0]).unwrap_err();
    assert!(error.to_string().contains("says nothing"), "{error}");
    let mut wire = Wire::open([20; 2]);
    let error = wire.ends[1].handle_datagram(&[1, 1, 0]).unwrap_err();
    assert!(error.to_string().contains("too many credits"), "{error}");
}

#[test]
fn both_keep_to_the_smaller_datagram() {
    let mut wire = Wire::open([512, 20]);
    for (from, len) in [(0, 17), (1, 17)] {
        wire.ends[from].write(&[1; 100]);
        let datagram = wire.ends[from].poll_datagram().unwrap();
        assert_eq!(datagram.len(), len + HEADER_BYTES);
    }
    assert!(BleFraming::new(19).is_err());
}

#[test]
fn who_opens_otherwise_is_no_peer() {
    for content in [&b""[..], b"ID\x02\x14\x00", b"ID\x01\x14", b"GET / HTTP"] {
        let mut end = BleFraming::new(100).unwrap();
        let length = u8::try_from(content.len()).unwrap();
        let error = end
            .handle_datagram(&[&[0, 10, length], content].concat())
            .unwrap_err();
        assert!(matches!(error, LinkError::NotAPeer), "{error}");
    }
}

#[test]
fn datagrams_are_made_as_they_were() {
    let vectors = include_str!("../../../../../vectors/wire/ble.txt");
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut wire = Wire::new([185; 2]);
    let opening = wire.ends[0].poll_datagram().unwrap();
    wire.ends[0].handle_datagram(&opening).unwrap();
    wire.ends[0].write(b"hello");
    let data = wire.ends[0].poll_datagram().unwrap();
    let lines = [
        format!("opening | takes 185 | {}\n", hex(&opening)),
        format!("datagram | second, \"hello\" | {}\n", hex(&data)),
    ];
    for line in lines {
        assert!(vectors.contains(&line), "{line}");
    }
}
