//! What of a link in use changes with the link.

use idem_model::LinkId;

use super::{Attachment, Phase};
use crate::session::LinkProperties;

impl Attachment {
    /// Uses another link from now on.
    pub(crate) fn move_to(&mut self, link: LinkId, properties: LinkProperties, phase: Phase) {
        self.link = link;
        self.properties = properties;
        self.phase = phase;
        self.lost_at = None;
        if let Some(peer) = &mut self.peer {
            let frame_bytes_max = peer.frame_bytes_taken.min(properties.frame_bytes_max);
            peer.frame_bytes_max = frame_bytes_max;
            for outlet in &mut peer.outlets {
                outlet.limit_frames(frame_bytes_max);
            }
        }
    }

    /// Whether what is ready, or may have to be sent again, fits through a link.
    pub(crate) fn fits(&self, properties: LinkProperties) -> bool {
        let longest = self.carriage.frame_bytes_max();
        longest.max(self.control.frame_bytes_max()) <= properties.frame_bytes_max as usize
    }

    /// Whether the remote would go on over a link chosen now, as far as this side can tell.
    pub(crate) fn is_movable(&self, properties: LinkProperties) -> bool {
        let is_under_way = self.peer.is_some() && self.phase == Phase::Steady;
        is_under_way && self.carriage.is_covered() && self.fits(properties)
    }
}
