//! Planted bugs: a checker that does not find its canary is broken itself.

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Canary {
    /// A store says that it merged a document and did not (P2).
    DropDocument,
    /// A store calls a commit durable before it is, to who wrote it and to other peers (P3).
    AcknowledgeTooEarly,
    /// A store says that it merged what it has an earlier state of, and did not (P3).
    KeepFirstState,
    /// A feed gives the documents of a transaction one by one (P4).
    BreakGroups,
    /// Two peers that should be linked are not (P5).
    Isolate,
    /// A store never takes anything in (P5).
    NeverApply,
    /// Every change that comes in makes the application write, which makes the next one write (P7).
    ReactToChanges,
    /// A peer keeps every frame that it took in (P7).
    HoardFrames,
    /// A store does not merge deletions (P8).
    IgnoreDeletion,
    /// Stores forget what was deleted and do not say so (P8).
    HideFloor,
    /// Stores do not remember that they evicted something without a trace (P8).
    ForgetEvictions,
    /// A store calls every collection open, whatever its sync scope is.
    IgnoreScopes,
    /// Peers that want the first documents never ask for more than at first (windows).
    StayInReach,
    /// A store that was restored from a backup goes on as the writer it was (P2, P3).
    KeepActor,
    /// Meshes keep to no limit (links of a mesh).
    IgnoreLimits,
    /// A peer and the others do not see each other (islands).
    HideStrangers,
    /// A peer never says who it is linked with (presence).
    HidePresence,
    /// A peer passes on something else than the content that it checked (attachments).
    SpoilPieces,
    /// A peer does not notice that time passes, so that it waits for ever (attachments).
    IgnoreTime,
    /// A peer flips a bit in what it says of others, and takes itself for honest (presence).
    SpoilGossip,
}
