//! Messages of Idem's replication protocol and their bytes.

mod subscription;

pub use idem_model::Lane;
pub use subscription::SubscriptionId;
