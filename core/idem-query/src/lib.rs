//! DQL, the query language of Idem.
