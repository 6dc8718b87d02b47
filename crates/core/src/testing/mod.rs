//! For tests, the simulator and benches: a small organisation, a store in memory, stories told step by step, and a
//! deterministic simulator of several control nodes, gateways and connectors with every rule as an invariant.
//! Not part of the product: behind the feature `testing`. Start reading at `simulator/mod.rs`.

pub mod invariants;
pub mod organisation;
pub mod random;
pub mod simulator;
pub mod store;
pub mod story;
