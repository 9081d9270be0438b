//! Netlink, for all three families that we speak: routes and links, nftables, connection tracking.
//!
//! This is the only module that opens a netlink socket. A [`Socket`] speaks to the network namespace that it was
//! opened in, whatever thread uses it later.

mod message;
mod socket;

pub use message::{Attributes, Message};
pub use socket::{Family, Refused, Socket};

/// Flags of a message, as `linux/netlink.h` names them.
pub mod flag {
    /// It asks for something.
    pub const REQUEST: u16 = 0x01;
    /// It wants a receipt.
    pub const ACK: u16 = 0x04;
    /// Replace what is there.
    pub const REPLACE: u16 = 0x100;
    /// Fail when it is there.
    pub const EXCL: u16 = 0x200;
    /// Make it when it is not there.
    pub const CREATE: u16 = 0x400;
    /// Answer with all objects.
    pub const DUMP: u16 = 0x300;
}
