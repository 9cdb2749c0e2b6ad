//! connleak's agent.

pub mod owner;
