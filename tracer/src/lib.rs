//! connleak's agent.

pub mod owner;
pub mod server;
