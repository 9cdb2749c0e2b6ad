//! A method as JDK 17 has it, in small: what the tests and the fuzz target walk over.

use super::{Method, Source};

pub const METHOD: Method = Method {
    constant: 0,
    constants: 0,
    name: 8,
    code_size: 10,
    flags: 12,
    constant_size: 16,
    holder: 0,
    length: 8,
    pool_size: 16,
    class_name: 0,
    class_constants: 8,
    source: Source::Constants(12),
    symbol_length: 0,
    symbol_body: 2,
};
