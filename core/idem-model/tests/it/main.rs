//! Laws of the vocabulary: every byte form is read back, every order is an order.

mod prop_key;
mod prop_time;
mod prop_value;
mod prop_version;
mod strategy;
