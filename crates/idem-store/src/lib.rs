//! Collections, transactions, change feed and live queries.
