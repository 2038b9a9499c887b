//! Asks the app whether it wants a peer.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use idem_model::{Object, PeerId};
use idem_transport::{Applicant, Refusal, Role};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    error::{Error, ErrorKind},
    presence::{ConnectionKind, read_metadata},
};

/// Requests that wait for an app whose handler keeps its thread busy. More are refused as if there were no
/// room: each is a peer that holds the shared key, and as many links are kept open meanwhile.
const REQUESTS_PENDING_MAX: usize = 64;

/// A peer that proved who it is, and wants a link or was dialled for one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionRequest {
    /// Its key, of which it has proved that it is its own.
    pub peer_key: PeerId,
    /// What it calls itself.
    pub device_name: String,
    /// What its app said with [`set_peer_metadata`](crate::Presence::set_peer_metadata). Empty if it said
    /// nothing, or what is no JSON object.
    pub peer_metadata: Object,
    /// What the link would run over.
    pub kind: ConnectionKind,
    /// The other end's address, where there is one.
    pub address: Option<SocketAddr>,
    /// Whether the other side dialled.
    pub is_inbound: bool,
}

/// What becomes of a [`ConnectionRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionRequestAuthorization {
    /// The link is made.
    Allow,
    /// The link is not made, and both sides are told why. Each tries again, or lets the other try, some
    /// seconds or minutes later.
    Deny,
}

type Answer = Pin<Box<dyn Future<Output = ConnectionRequestAuthorization> + Send>>;

struct Question {
    request: ConnectionRequest,
    answer: oneshot::Sender<ConnectionRequestAuthorization>,
}

/// Has the handler of the app, if there is one.
#[derive(Default)]
pub(crate) struct Doorkeeper {
    /// To the thread of the handler, which ends when this goes.
    handler: Mutex<Option<mpsc::Sender<Question>>>,
}

impl Doorkeeper {
    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<Question>>> {
        self.handler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks `handler` from now on.
    pub(crate) fn set<F>(
        &self,
        handler: impl Fn(ConnectionRequest) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = ConnectionRequestAuthorization> + Send + 'static,
    {
        let failed = |e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e);
        // The app may wait for whatever tokio offers, and if it blocks it holds up nothing else.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (questions, asked) = mpsc::channel(REQUESTS_PENDING_MAX);
        let handler = Arc::new(move |request| -> Answer { Box::pin(handler(request)) });
        thread::Builder::new()
            .name("idem-requests".to_owned())
            .spawn(move || runtime.block_on(answer(asked, &handler)))
            .map_err(failed)?;
        *self.lock() = Some(questions);
        Ok(())
    }

    /// Nobody is asked any more.
    pub(crate) fn clear(&self) {
        *self.lock() = None;
    }

    /// Asks about `applicant`.
    pub(crate) async fn ask(&self, applicant: Applicant) -> Result<(), Refusal> {
        let handler = self.lock().clone();
        let Some(handler) = handler else {
            return Ok(());
        };
        let (answer, answered) = oneshot::channel();
        let request = ConnectionRequest::of(applicant);
        let asked = handler.try_send(Question { request, answer });
        // Its thread ends with the last of these.
        drop(handler);
        asked.map_err(|_| Refusal::Full)?;
        match answered.await {
            Ok(ConnectionRequestAuthorization::Allow) => Ok(()),
            Ok(ConnectionRequestAuthorization::Deny) => Err(Refusal::Denied),
            Err(_) => Err(Refusal::Undecided),
        }
    }
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doorkeeper")
    }
}

/// Has all questions answered, also those that come while the app thinks about others.
async fn answer(
    mut asked: mpsc::Receiver<Question>,
    handler: &Arc<impl Fn(ConnectionRequest) -> Answer + Send + Sync + 'static>,
) {
    let mut thinking = JoinSet::new();
    while let Some(question) = asked.recv().await {
        while thinking.try_join_next().is_some() {}
        let handler = Arc::clone(handler);
        thinking.spawn(async move {
            let Question {
                request,
                mut answer,
            } = question;
            tokio::select! {
                // A panic ends the task, and drops `answer`.
                answered = async { handler(request).await } => {
                    let _ = answer.send(answered);
                }
                // Nobody waits for it any more.
                () = answer.closed() => {}
            }
        });
    }
    while thinking.join_next().await.is_some() {}
}

impl ConnectionRequest {
    fn of(applicant: Applicant) -> Self {
        Self {
            peer_key: applicant.peer,
            device_name: applicant.device_name,
            peer_metadata: read_metadata(&applicant.metadata),
            kind: ConnectionKind::of(applicant.kind),
            address: applicant.address,
            is_inbound: applicant.role == Role::Responder,
        }
    }
}
