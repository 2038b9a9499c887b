//! Answers of mDNS that nobody asked for and that are not true.

use std::net::{Ipv4Addr, UdpSocket};

/// Where mDNS listens.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

const SERVICE: [&str; 3] = ["_idem", "_tcp", "local"];

const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const SRV: u16 = 33;

/// Somebody in a network who answers whatever he likes.
pub(crate) struct Forger {
    sender: UdpSocket,
    sent: u64,
}

impl Forger {
    /// One who has the address `own`.
    pub(crate) fn at(own: Ipv4Addr) -> Self {
        // From the port of mDNS, or it would be no answer.
        let sender = UdpSocket::bind((own, GROUP.1)).unwrap();
        Self { sender, sent: 0 }
    }

    /// Names `count` peers more that nobody knows, and nothing else of them.
    pub(crate) fn name_peers(&mut self, count: u64) {
        let mut answer = Answer::default();
        for _ in 0..count {
            self.sent += 1;
            answer.point_to(&format!("{:032x}", self.sent));
        }
        self.send(&answer);
    }

    /// Says that a peer of the database with the id `database` can be reached at `address`.
    pub(crate) fn invent_peer(&mut self, database: [u8; 16], address: Ipv4Addr, port: u16) {
        self.sent += 1;
        let instance = format!("{:032x}", self.sent);
        let key = blake3::derive_key("idem 2026 discovery on local networks", &database);
        let hash = blake3::keyed_hash(&key, instance.as_bytes()).to_hex();
        let mut answer = Answer::default();
        answer.point_to(&instance);
        let name = [&[instance.as_str()], &SERVICE[..]].concat();
        let host = [instance.as_str(), "local"];
        let mut service = [0, 0, 0, 0].to_vec();
        service.extend(port.to_be_bytes());
        service.extend(encoded(&host));
        answer.push(&name, SRV, &service);
        // The peer is another one each time, whatever it is.
        let texts = [
            "v=1".to_owned(),
            format!("d={}", &hash[..16]),
            format!("p={:016x}", self.sent),
        ];
        let texts = texts.iter().flat_map(|text| label(text));
        answer.push(&name, TXT, &texts.collect::<Vec<_>>());
        answer.push(&host, A, &address.octets());
        self.send(&answer);
    }

    fn send(&self, answer: &Answer) {
        // A queue that is full takes the next one again.
        let _ = self.sender.send_to(&answer.to_bytes(), GROUP);
    }
}

#[derive(Default)]
struct Answer {
    records: Vec<u8>,
    count: u16,
}

impl Answer {
    fn point_to(&mut self, instance: &str) {
        let name = [&[instance], &SERVICE[..]].concat();
        self.push(&SERVICE, PTR, &encoded(&name));
    }

    fn push(&mut self, name: &[&str], kind: u16, data: &[u8]) {
        self.count += 1;
        self.records.extend(encoded(name));
        self.records.extend(kind.to_be_bytes());
        // Internet, for more than an hour.
        self.records.extend([0, 1, 0, 0, 0x10, 0]);
        let len = u16::try_from(data.len()).unwrap();
        self.records.extend(len.to_be_bytes());
        self.records.extend(data);
    }

    fn to_bytes(&self) -> Vec<u8> {
        // An authoritative answer, without a question.
        let mut bytes = vec![0, 0, 0x84, 0, 0, 0];
        bytes.extend(self.count.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.records);
        bytes
    }
}

fn label(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [&[len], text.as_bytes()].concat()
}

fn encoded(name: &[&str]) -> Vec<u8> {
    let mut bytes: Vec<u8> = name.iter().flat_map(|text| label(text)).collect();
    bytes.push(0);
    bytes
}
