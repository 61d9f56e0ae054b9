//! What can go wrong with a call, by whose fault it is.

use core::fmt;

/// The call did not get through, whatever the method: any capability may denote something on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u16)]
pub enum LinkError {
    /// The server was restarted while it held the call; it may or may not have been executed.
    Restarted = 0x101,
    /// The grant behind the capability was revoked.
    Revoked = 0x102,
    /// The resource moved to another node; resolve it again.
    Moved = 0x103,
    /// The cluster has no quorum for what the call needs.
    NoQuorum = 0x104,
    /// No answer within the call's deadline.
    Deadline = 0x105,
    /// The message was malformed: sizes, padding, enum values, strings, windows or capability count.
    BadMessage = 0x106,
    /// The server does not have this interface or method.
    NoMethod = 0x107,
    /// Nothing answers under this capability or name.
    NoPeer = 0x108,
    /// The server's queue is full; try again later.
    Busy = 0x109,
    /// The capability does not carry the right the method needs.
    NoRights = 0x10A,
}

impl LinkError {
    /// Every link error, in code order.
    pub const ALL: [Self; 10] = [
        Self::Restarted,
        Self::Revoked,
        Self::Moved,
        Self::NoQuorum,
        Self::Deadline,
        Self::BadMessage,
        Self::NoMethod,
        Self::NoPeer,
        Self::Busy,
        Self::NoRights,
    ];

    /// The reply label that carries this error.
    pub const fn label(self) -> u64 {
        self as u64
    }

    /// The error a reply label carries, if it is a known one.
    pub fn from_label(label: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.label() == label)
    }

    /// What it means, in words for a log or a terminal.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Restarted => "the server was restarted during the call",
            Self::Revoked => "the capability was revoked",
            Self::Moved => "the resource moved to another node",
            Self::NoQuorum => "the cluster has no quorum",
            Self::Deadline => "no answer within the deadline",
            Self::BadMessage => "malformed message",
            Self::NoMethod => "the server has no such interface or method",
            Self::NoPeer => "nothing answers under this name",
            Self::Busy => "the server's queue is full",
            Self::NoRights => "the capability lacks the right",
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

impl core::error::Error for LinkError {}

/// Why a call returned no result, seen by the client. `E` is the interface's own error enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CallError<E> {
    /// The call did not get through.
    Link(LinkError),
    /// The server executed the call and refused.
    Server(E),
}

impl<E> From<LinkError> for CallError<E> {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl<E: fmt::Debug> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Server(error) => write!(f, "{error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for CallError<E> {}

/// Why a server method returns no result now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal<E> {
    /// An error of the interface.
    Error(E),
    /// A link error: the server stands for something that cannot be reached, is overloaded, and so on.
    Link(LinkError),
    /// Not an error: the server kept [`crate::Caller::token`] and answers later.
    Pending,
}

/// `?` on link errors in a server; generated code adds the same for each interface's own error enum.
impl<E> From<LinkError> for Refusal<E> {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// What a server method returns: the result, or why there is none (now).
pub type Answer<T, E> = Result<T, Refusal<E>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_its_label() {
        for error in LinkError::ALL {
            assert_eq!(LinkError::from_label(error.label()), Some(error));
            assert!(error.label() >= 0x100 && !error.meaning().is_empty());
        }
        assert_eq!(LinkError::from_label(0), None);
        assert_eq!(LinkError::from_label(0x1ff), None);
    }
}
