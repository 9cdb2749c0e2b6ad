//! What people and machines read. Nothing here decides; it only says.

pub mod duration;
pub mod escape;
pub mod json;
pub mod sink;
pub mod text;
