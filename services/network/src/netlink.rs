//! Netlink with netfilter: nftables and connection tracking, which `rtnetlink` does not speak (`link` does with it).
//!
//! This is the only module that opens a socket for them. A [`Socket`] speaks to the network namespace that it was
//! opened in, whatever thread uses it later.

mod events;
mod message;
mod socket;

pub use events::Events;
pub use message::{Attributes, Message};
pub use socket::{Refused, Socket};

/// Flags of a message, as `linux/netlink.h` names them.
pub mod flag {
    /// It asks for something.
    pub const REQUEST: u16 = 0x01;
    /// It wants a receipt.
    pub const ACK: u16 = 0x04;
    /// Make it when it is not there.
    pub const CREATE: u16 = 0x400;
    /// Answer with all objects.
    pub const DUMP: u16 = 0x300;
}
