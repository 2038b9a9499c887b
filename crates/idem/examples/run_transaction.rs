//! Goal: change two documents as one commit, and nothing at all if a rule is broken.
//!
//! Command: `cargo run -p idem --example run_transaction`
//!
//! Expected output:
//! ```text
//! moved 30: true
//! moved 500: false
//! {"balance":70}
//! {"balance":80}
//! ```

use idem::{ConnectMode, DatabaseId, Error, Idem, IdemConfig, Store, TransactionCompletionAction};
use serde_json::json;

/// Moves `amount` from one account to another, unless the first one does not have it.
async fn transfer(store: &Store, from: &str, to: &str, amount: i64) -> Result<bool, Error> {
    let change = "UPDATE accounts APPLY balance INCREMENT BY :amount WHERE _id = :id";
    store
        .transaction(async |tx| {
            tx.execute((change, json!({"id": from, "amount": -amount})))
                .await?;
            tx.execute((change, json!({"id": to, "amount": amount})))
                .await?;
            let query = "SELECT balance FROM accounts WHERE _id = :id";
            let left = tx.execute((query, json!({"id": from}))).await?;
            let balance = left.items()[0].field("balance").and_then(|b| b.as_int());
            Ok(if balance.is_some_and(|balance| balance >= 0) {
                (TransactionCompletionAction::Commit, true)
            } else {
                (TransactionCompletionAction::Rollback, false)
            })
        })
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let idem = Idem::open(IdemConfig::new(DatabaseId([1; 16]), ConnectMode::Offline)).await?;
    let store = idem.store();
    for (id, balance) in [("ada", 100), ("bob", 50)] {
        // A counter starts with its first increment.
        let insert = "INSERT INTO accounts DOCUMENTS (:account)";
        store
            .execute((insert, json!({"account": {"_id": id}})))
            .await?;
        let start = "UPDATE accounts APPLY balance INCREMENT BY :n WHERE _id = :id";
        store
            .execute((start, json!({"n": balance, "id": id})))
            .await?;
    }
    println!("moved 30: {}", transfer(store, "ada", "bob", 30).await?);
    println!("moved 500: {}", transfer(store, "ada", "bob", 500).await?);
    let query = "SELECT balance FROM accounts ORDER BY _id";
    for item in &store.execute(query).await? {
        println!("{}", item.json_string());
    }
    idem.close().await?;
    Ok(())
}
