//! One radio for each peer, which does one thing at a time.
//!
//! A packet occupies the radios at both of its ends. When one of them is free again, it takes the frame that
//! has waited longest among those whose other end is free too, and sends some packets of it: what fits into a
//! connection interval. So all links of a peer, and both directions, share what its radio carries.

use idem_mesh::Medium;
use idem_model::Lane;

use super::{Happening, World};

impl World {
    /// Hands a frame to a link of the field; whether it is one that goes over radios.
    pub(in crate::world) fn broadcast(
        &mut self,
        edge: usize,
        way: (u64, usize),
        frame: (Lane, Vec<u8>),
    ) -> Option<(Lane, Vec<u8>)> {
        let link = self
            .field
            .as_ref()
            .and_then(|field| field.links.get(&way.0));
        if link.is_none_or(|link| link.medium != Medium::Ble) {
            return Some(frame);
        }
        self.edges[edge].wait(self.now_us, way, frame);
        let sender = self.edges[edge].options.peers[1 - way.1];
        self.serve_radio(sender);
        None
    }

    /// Has the radio of a peer begin something, if it is free.
    fn serve_radio(&mut self, peer: usize) {
        let edges = &self.edges;
        let Some(field) = &mut self.field else {
            return;
        };
        if field.is_on_air[peer] {
            return;
        }
        let waiting = field.links_of[peer].iter().filter_map(|link| {
            let it = field.links.get(link)?;
            let edge = &edges[it.edge];
            let [a, b] = edge.options.peers;
            let (since_us, side) = edge.waits_since(*link)?;
            let is_free =
                it.medium == Medium::Ble && !field.is_on_air[if a == peer { b } else { a }];
            is_free.then_some((since_us, *link, it.edge, side))
        });
        let Some((_, link, edge, side)) = waiting.min() else {
            return;
        };
        for end in edges[edge].options.peers {
            field.is_on_air[end] = true;
        }
        let (air_us, bytes) = self.edges[edge].put_on_air((link, side), &mut self.random);
        self.schedule(
            air_us,
            Happening::OffAir {
                edge,
                link,
                side,
                bytes,
            },
        );
    }

    /// Some packets have been sent, and both radios are free.
    pub(in crate::world) fn off_air(
        &mut self,
        edge: usize,
        (link, side): (u64, usize),
        bytes: u64,
    ) {
        let ends = self.edges[edge].options.peers;
        for end in ends {
            self.field().is_on_air[end] = false;
        }
        let left =
            self.edges[edge].take_off_air(self.now_us, (link, side), bytes, &mut self.random);
        if let Some(left) = left {
            self.schedule(
                left.arrival_us - self.now_us,
                Happening::Frame {
                    edge,
                    link,
                    side,
                    bytes: left.bytes,
                },
            );
        }
        for end in ends {
            self.serve_radio(end);
        }
    }
}
