//! What must hold at the end.

use idem_model::{DocumentKey, DocumentOp};

use super::{Checked, Happening, World};
use crate::{
    check::{Violation, agree},
    workload::{FORGED, Transaction},
};

impl World {
    pub(crate) fn check_all(&mut self) -> Checked {
        // Nobody can tell which content of one dot is the right one.
        let beside = self.peers.iter().any(|it| it.twin.is_some());
        let peers = self.peers.iter().enumerate();
        let interested = peers.filter(|(_, it)| it.is_interested());
        let disks = interested.map(|(number, it)| (number, &it.disk));
        self.oracle.check(disks, beside.then_some(FORGED))
    }

    /// All peers hold the same.
    pub(crate) fn check_agreement(&self) -> Checked {
        agree(self.peers.iter().map(|it| &it.disk).enumerate(), None).map(|_| ())
    }

    /// One peer is away while another deletes; nothing comes back when it returns, also not if its
    /// disk is one from before.
    pub(super) fn check_deletion(&mut self) -> Checked {
        let peers = self.peers.iter().enumerate();
        let peers = peers.filter(|(_, it)| it.is_interested());
        let peers: Vec<usize> = peers.map(|(peer, _)| peer).collect();
        let away = self.random.index(peers.len());
        let other = peers[(away + 1) % peers.len()];
        let away = peers[away];
        for edge in self.edges_of[away].clone() {
            self.cut(edge, false);
        }
        self.run_to_rest()?;
        let is_restored = self.random.chance(30);
        if is_restored {
            self.back_up(away);
            self.run_to_rest()?;
            for edge in self.edges_of[away].clone() {
                self.cut(edge, false);
            }
            self.run_to_rest()?;
        }
        let states = self.peers[other].disk.states();
        let present = |key: &&DocumentKey| self.peers[other].disk.fields(key).is_some();
        let is_pair = |key: &DocumentKey| key.id.to_string().contains("pair");
        let doomed = states.keys().filter(present).filter(|key| !is_pair(key));
        let doomed: Vec<DocumentKey> = doomed.cloned().collect();
        for key in &doomed {
            let transaction = Transaction {
                operations: vec![(key.clone(), DocumentOp::Delete)],
                tallied: Vec::new(),
            };
            self.commit(other, transaction)?;
        }
        self.run_to_rest()?;
        if is_restored {
            self.restore(away);
            self.run_to_rest()?;
        }
        for edge in self.edges_of[away].clone() {
            if !self.is_hostile(edge) {
                self.happen(Happening::Raise { edge })?;
            }
        }
        self.run_to_rest()?;
        let honest = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, it)| it.is_interested());
        for (number, peer) in honest {
            let is_back = |key: &&DocumentKey| peer.disk.fields(key).is_some();
            if let Some(key) = doomed.iter().find(is_back) {
                return Err(Violation::Revived {
                    peer: number,
                    key: key.clone(),
                });
            }
        }
        Ok(())
    }
}
