//! What people and machines read. Nothing here decides; it only says.

#![forbid(unsafe_code)]

pub mod code;
pub mod duration;
pub mod escape;
pub mod folded;
pub mod json;
pub mod outlook;
pub mod redact;
pub mod sink;
pub mod text;

#[cfg(test)]
mod tests;
