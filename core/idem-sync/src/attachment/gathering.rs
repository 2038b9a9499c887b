//! What a link does because others have the same.

use std::time::Duration;

use idem_model::Lane;
use idem_wire::Message;

use super::{Attachment, Lasting, Phase, data_lane};
use crate::{failure::Failure, replica::Replica, wanted::Wanted};

impl Attachment {
    /// Whether all that this side wants comes live over the link in use.
    pub(crate) fn is_live(&self, wanted: &Wanted) -> bool {
        let peer = self.peer.as_ref().filter(|_| self.phase == Phase::Steady);
        peer.is_some_and(|peer| peer.sink.is_live(wanted))
    }

    /// Looks for what was announced and came in meanwhile, asks for what did not, and tells the remote
    /// whether it is the only source.
    pub(crate) fn gather<R: Replica>(
        &mut self,
        now: Duration,
        replica: &mut R,
        lasting: &mut Lasting<'_>,
    ) -> Result<(), Failure> {
        let is_live = self.is_live(lasting.wanted);
        let Some(peer) = self.peer.as_mut() else {
            return Ok(());
        };
        if let Some((pulls, commit)) = peer.sink.gather(now, replica, lasting.events)? {
            let inlet = &mut peer.inlets[data_lane(Lane::Interactive)?];
            let open_from = peer.sink.heard.as_ref().and_then(|it| it.first_open());
            inlet.hold_from(open_from, commit);
            for pull in pulls {
                self.control.push(pull.to_bytes());
            }
        }
        let is_shared = replica.gathering().is_some_and(|it| it.is_shared());
        let is_fed_by_others = is_live && is_shared;
        if std::mem::replace(&mut peer.is_fed_by_others, is_fed_by_others) != is_fed_by_others {
            let feed = Message::Feed { is_fed_by_others };
            self.control.push(feed.to_bytes());
        }
        Ok(())
    }
}
