//! Kernel side, from the outside in: programs ([`tcp`], [`unix`], [`wire`], [`snapshot`]; [`classic`] where there is no
//! BTF) are thin; they ask [`filter`] whether a socket is a database's, [`access`] for its identity, [`socket`] for what it holds, and
//! [`send`] to pass it on. [`stack`] copies who calls, [`python`] its frames.

mod access;
mod classic;
mod filter;
mod python;
mod read;
mod send;
mod snapshot;
mod socket;
mod stack;
mod tcp;
mod unix;
mod wire;

/// Why a program had nothing to send.
pub(crate) enum Skip {
    /// The socket is none of ours.
    Filtered,
    /// Kernel memory could not be read: counted.
    Fault,
}
