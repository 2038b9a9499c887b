//! With which peers the documents of a collection sync.

use std::fmt;

/// With which peers the documents of a collection sync. Set for each collection by the system
/// parameter `user_collection_sync_scopes`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum SyncScope {
    /// With every peer. The default.
    #[default]
    AllPeers,
    /// With Big Peers only.
    BigPeerOnly,
    /// With Small Peers only.
    SmallPeersOnly,
    /// With none: the documents stay where they were written.
    LocalPeerOnly,
}

impl SyncScope {
    /// Every scope.
    pub const ALL: [Self; 4] = [
        Self::AllPeers,
        Self::BigPeerOnly,
        Self::SmallPeersOnly,
        Self::LocalPeerOnly,
    ];

    /// The name as a statement writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllPeers => "AllPeers",
            Self::BigPeerOnly => "BigPeerOnly",
            Self::SmallPeersOnly => "SmallPeersOnly",
            Self::LocalPeerOnly => "LocalPeerOnly",
        }
    }

    /// The scope of a name, in any case; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        let is_it = |scope: &Self| scope.name().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_it)
    }

    /// Whether documents of this scope may go to a peer, and be taken from it.
    pub fn includes(self, is_big_peer: bool) -> bool {
        match self {
            Self::AllPeers => true,
            Self::BigPeerOnly => is_big_peer,
            Self::SmallPeersOnly => !is_big_peer,
            Self::LocalPeerOnly => false,
        }
    }
}

impl fmt::Display for SyncScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_its_name_and_its_peers() {
        for scope in SyncScope::ALL {
            assert_eq!(SyncScope::parse(&scope.name().to_lowercase()), Some(scope));
        }
        assert_eq!(SyncScope::parse("Everyone"), None);
        let of = |scope: SyncScope| [false, true].map(|is_big| scope.includes(is_big));
        assert_eq!(of(SyncScope::AllPeers), [true, true]);
        assert_eq!(of(SyncScope::BigPeerOnly), [false, true]);
        assert_eq!(of(SyncScope::SmallPeersOnly), [true, false]);
        assert_eq!(of(SyncScope::LocalPeerOnly), [false, false]);
    }
}
