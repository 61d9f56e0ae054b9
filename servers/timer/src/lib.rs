//! Deadline service on the EL0 physical timer.
//!
//! Clients ask to be signalled at a time of the node's clock; one deadline per client. [`Deadlines`] is the bookkeeping; the binary beside it
//! drives the timer's registers and its interrupt (PPI 30), and signals.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Most clients. Clients are numbered from 1 by the badges of their channels.
pub const MAX_CLIENTS: usize = 64;

/// The deadlines of all clients, in nanoseconds.
pub struct Deadlines {
    at: [Option<u64>; MAX_CLIENTS],
}

/// The client's number is not in `1..=MAX_CLIENTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownClient;

impl Deadlines {
    /// No deadlines.
    pub const fn new() -> Deadlines {
        Deadlines { at: [None; MAX_CLIENTS] }
    }

    /// Sets a client's deadline, replacing an earlier one.
    pub fn arm(&mut self, client: u64, deadline_ns: u64) -> Result<(), UnknownClient> {
        *self.slot(client)? = Some(deadline_ns);
        Ok(())
    }

    /// Withdraws a client's deadline.
    pub fn disarm(&mut self, client: u64) -> Result<(), UnknownClient> {
        *self.slot(client)? = None;
        Ok(())
    }

    /// Takes one client whose deadline has come, the earliest first; `None` if there is none.
    pub fn expire(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.at.iter().enumerate().filter_map(|(i, at)| at.map(|at| (at, i))).min()?;
        if due.0 > now_ns {
            return None;
        }
        self.at[due.1] = None;
        Some(due.1 as u64 + 1)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<u64> {
        self.at.iter().flatten().min().copied()
    }

    fn slot(&mut self, client: u64) -> Result<&mut Option<u64>, UnknownClient> {
        let index = client.checked_sub(1).ok_or(UnknownClient)?;
        self.at.get_mut(index as usize).ok_or(UnknownClient)
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deadline_comes_once_in_order() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(3, 300).unwrap();
        deadlines.arm(1, 100).unwrap();
        deadlines.arm(64, 200).unwrap();
        assert_eq!(deadlines.next(), Some(100));
        assert_eq!(deadlines.expire(99), None);
        assert_eq!((deadlines.expire(250), deadlines.expire(250), deadlines.expire(250)), (Some(1), Some(64), None));
        assert_eq!(deadlines.next(), Some(300));
        assert_eq!((deadlines.expire(u64::MAX), deadlines.expire(u64::MAX)), (Some(3), None));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_client_has_one_deadline() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(1, 100).unwrap();
        deadlines.arm(1, 500).unwrap();
        assert_eq!(deadlines.expire(400), None);
        deadlines.disarm(1).unwrap();
        assert_eq!(deadlines.expire(u64::MAX), None);
    }

    #[test]
    fn strangers_are_refused() {
        let mut deadlines = Deadlines::new();
        for client in [0, 65, u64::MAX] {
            assert_eq!(deadlines.arm(client, 1), Err(UnknownClient));
            assert_eq!(deadlines.disarm(client), Err(UnknownClient));
        }
    }
}
