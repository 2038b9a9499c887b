//! Messages and batches: there and back, golden files, hostile bytes.

mod blob;
mod golden;
mod prop_batch;
mod prop_message;
mod prop_sketch;
