//! Idem, an edge-sync database: the Small Peer that an app embeds.
