//! Peers that want the first documents of an order, and whether they get them.

use idem_sync::Event;

use super::{Checked, World};
use crate::{
    canary::Canary,
    check::Violation,
    reader::{self, Reader},
};

impl World {
    pub(super) fn has_windows(&self) -> bool {
        !self.options.windows.counts.is_empty()
    }

    /// What a session says that matters for windows, of this peer or of the other one.
    pub(super) fn tell_window(&mut self, peer: usize, edge: usize, event: &Event) {
        let now = self.now();
        let it = &mut self.peers[peer];
        if let Event::ReachAsked {
            number,
            count,
            window,
        } = event
        {
            let (session, disk) = it.face(edge).expect("it has just asked");
            let reach = Ok(reader::reach(window, disk, *count));
            session.tell_reach(disk, window, (*number, *count), &reach);
            return;
        }
        let session = it.sessions.get(&edge);
        let is_linked = session.is_some_and(|it| it.is_established());
        if let Some(reader) = &mut it.reader {
            reader.handle(now, edge, event, is_linked);
        }
    }

    /// Lets a peer go on with its window, and both sides say what there is to say about windows.
    pub(super) fn turn_window(&mut self, peer: usize, edge: usize) -> Checked {
        if !self.has_windows() {
            return Ok(());
        }
        let now = self.now();
        let stays = self.canary == Some(Canary::StayInReach);
        let it = &mut self.peers[peer];
        if let Some(mut reader) = it.reader.take() {
            let face = it.face(edge).expect("looked up before");
            let is_changed = reader.turn(now, edge, (face.0, face.1), stays);
            it.reader = Some(reader);
            if is_changed {
                it.note_subscriptions();
            }
        }
        self.pump_frames(peer, edge)
    }

    /// Who wants the first documents has those that are the first ones of all.
    pub(super) fn check_windows(&self) -> Checked {
        if !self.has_windows() {
            return Ok(());
        }
        let mut full = self.peers.iter().filter(|it| it.is_interested());
        let full = full.next().expect("some want all there are");
        for (number, peer) in self.peers.iter().enumerate() {
            let Some(window) = peer.reader.as_ref().map(Reader::window) else {
                continue;
            };
            let count = usize::try_from(window.count()).expect("32 bits fit");
            let first = |disk| reader::sorted(window, disk).into_iter().take(count);
            let expected: Vec<_> = first(&full.disk).collect();
            let found: Vec<_> = first(&peer.disk).collect();
            let places = 0..expected.len().max(found.len());
            let mut wrong = places.filter(|at| expected.get(*at) != found.get(*at));
            if let Some(at) = wrong.next() {
                let name = |list: &[(_, _, _)]| {
                    list.get(at)
                        .map_or("nothing".to_owned(), |(_, key, _)| format!("{key}"))
                };
                return Err(Violation::WrongWindow {
                    peer: number,
                    place: at + 1,
                    found: name(&found),
                    expected: name(&expected),
                });
            }
        }
        Ok(())
    }
}
