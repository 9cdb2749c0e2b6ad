//! Kernel side, from the outside in: programs ([`tcp`], [`unix`], [`snapshot`]) are thin; they ask
//! [`filter`] whether a socket is a database's, [`access`] for its identity, [`socket`] for what it holds, and
//! [`send`] to pass it on.

mod access;
mod classic;
mod filter;
#[allow(
    dead_code,
    reason = "called by the programs that copy stacks, which land next"
)]
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
