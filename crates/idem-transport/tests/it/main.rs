//! Tests of links as a user of the crate sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod certified;
mod fault;
mod handshake;
#[cfg(feature = "internet")]
mod internet;
mod prop_frame;
#[cfg(feature = "tls")]
mod tls;
mod traffic;
#[cfg(feature = "websocket")]
mod websocket;

use idem_model::DatabaseId;
use idem_transport::{LinkCredentials, LinkIdentity, SharedSecret};

const DATABASE: DatabaseId = DatabaseId([1; 16]);

fn credentials(identity: u8, database: DatabaseId, key: u8) -> LinkCredentials {
    LinkCredentials::new(
        LinkIdentity::from_secret(&[identity; 32]),
        database,
        &SharedSecret::new([key; 32]),
        &format!("device {identity}"),
    )
}

fn on_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(std::time::Duration::from_secs(60), test)
                .await
                .expect("the test ends within a minute")
        })
}
