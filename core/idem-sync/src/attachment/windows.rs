//! Questions about windows. They are answered by the owner of the session, who runs queries.

use idem_model::{CollectionName, Object};
use idem_query::Window;
use idem_wire::{AskReach, Message, Reach, Told};

use super::{Attachment, Lasting};
use crate::{
    event::Event,
    failure::{Failure, cut},
    replica::Replica,
};

/// What is said of a collection that a sync scope closes.
const CLOSED: &str = "the sync scope of the collection leaves this peer out";

impl Attachment {
    /// The remote asks how far a window goes.
    pub(super) fn asked_reach<R: Replica>(
        &mut self,
        replica: &R,
        lasting: &mut Lasting<'_>,
        question: AskReach<'_>,
    ) -> Result<(), Failure> {
        let AskReach {
            number,
            count,
            statement,
        } = question;
        let window = match read(statement) {
            Ok(window) => window,
            Err(detail) => return self.queue_reach(number, count, Told::Refused(cut(&detail))),
        };
        if self.is_closed(replica, window.selector().collection()) {
            return self.queue_reach(number, count, Told::Refused(CLOSED));
        }
        lasting.events.push(Event::ReachAsked {
            number,
            count,
            window,
        });
        Ok(())
    }

    /// Answers. False, and nothing was said, if the remote reads too slowly.
    pub(crate) fn tell_reach<R: Replica>(
        &mut self,
        replica: &R,
        collection: &CollectionName,
        (number, count): (u8, u32),
        reach: &Result<idem_query::Reach, String>,
    ) -> bool {
        // It may have been closed since the question came.
        let told = match reach {
            _ if self.is_closed(replica, collection) => Told::Refused(CLOSED),
            Ok(reach) => Told::Place(reach.as_bytes()),
            Err(detail) => Told::Refused(cut(detail)),
        };
        self.queue_reach(number, count, told).is_ok()
    }

    /// Asks. False, and nothing was said, while a sync scope closes the collection, and if the remote
    /// reads too slowly.
    pub(crate) fn ask_reach<R: Replica>(
        &mut self,
        replica: &R,
        number: u8,
        count: u32,
        window: &Window,
    ) -> bool {
        if self.is_closed(replica, window.selector().collection()) {
            return false;
        }
        let question = Message::AskReach(AskReach {
            number,
            count,
            statement: window.canonical(),
        });
        self.queue(question.to_bytes()).is_ok()
    }

    fn queue_reach(&mut self, number: u8, count: u32, told: Told<'_>) -> Result<(), Failure> {
        let reach = Message::Reach(Reach {
            number,
            count,
            told,
        });
        self.queue(reach.to_bytes())
    }

    /// Whether a sync scope of this side closes a collection towards the remote.
    fn is_closed<R: Replica>(&self, replica: &R, collection: &CollectionName) -> bool {
        let peer = self.peer.as_ref();
        peer.is_none_or(|peer| !peer.source.is_open(replica, collection))
    }
}

/// What the remote told.
pub(super) fn told_reach(reach: Reach<'_>) -> Event {
    Event::ReachTold {
        number: reach.number,
        count: reach.count,
        reach: match reach.told {
            Told::Place(place) => Ok(idem_query::Reach::to_place(place)),
            Told::Refused(detail) => Err(detail.to_owned()),
        },
    }
}

/// Reads the canonical text of a window. The error is for people at the remote.
fn read(text: &str) -> Result<Window, String> {
    let window = idem_query::parse(text)
        .and_then(|statement| statement.window(&Object::new()))
        .map_err(|error| error.to_string())?;
    let window = window.ok_or("the statement has neither ORDER BY nor LIMIT")?;
    match window.canonical() == text {
        true => Ok(window),
        false => Err("the statement would be written in another way here".to_owned()),
    }
}
