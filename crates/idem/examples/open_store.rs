//! Goal: open a store in a directory, write a document, and find it again after reopening.
//!
//! Command: `cargo run -p idem --example open_store`
//!
//! Expected output:
//! ```text
//! inserted "mars"
//! {"_id":"mars","moons":["Phobos","Deimos"],"radius_km":3390}
//! same peer after reopening: true
//! ```

use idem::{ConnectMode, DatabaseId, Idem, IdemConfig};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // An app makes this id once (any UUID) and ships it with every copy of itself.
    let database: DatabaseId = "8f2ad2c4-5b1e-4c55-9d3e-0f6d1c7a9b10".parse()?;
    let config =
        IdemConfig::new(database, ConnectMode::Offline).with_persistence_directory(&directory);

    let idem = Idem::open_sync(config.clone())?;
    let peer = idem.peer_key();
    let planet = json!({"_id": "mars", "radius_km": 3390, "moons": ["Phobos", "Deimos"]});
    let insert = (
        "INSERT INTO planets DOCUMENTS (:planet)",
        json!({"planet": planet}),
    );
    let result = idem.store().execute_blocking(insert)?;
    println!("inserted {}", result.mutated_document_ids()[0]);
    idem.close_blocking()?;

    let idem = Idem::open_sync(config)?;
    let query = (
        "SELECT * FROM planets WHERE radius_km > :min",
        json!({"min": 3000}),
    );
    for item in &idem.store().execute_blocking(query)? {
        println!("{}", item.json_string());
    }
    println!("same peer after reopening: {}", idem.peer_key() == peer);
    idem.close_blocking()?;
    Ok(())
}
