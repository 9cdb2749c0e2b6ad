//! connleak's agent.
