//! The file server's face to clients: the interfaces `filesystem` and `file` on one side, [`ClientOp`]s on the other.
//!
//! Every call that goes to the core waits under its call token; [`Front::answer`] makes the reply when the core is done. An open file is a number in a
//! capability's badge; the capability is made by whoever runs the front (it needs the kernel), so [`Answer`] says what to mint.

use crate::proto::{FileError, MAX_WRITE, Request, Response};
use crate::server::{ClientOp, MAX_REQUESTS};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;
use ipc_api::{file, filesystem};
use ipc_wire::{
    Answer as Answered, Caller, Cap, InWindow, LinkError, OutWindow, RawCap, Refusal, Reply, Session, WindowRef,
};
use smi_cluster::{GroupId, Vid};
use smi_core::table::Name;

/// Open files of one client; opening more closes the oldest.
const MAX_OPEN: usize = 256;

/// How badges are put together: `object << 16 | client` (the runtime's convention).
const CLIENT_BITS: u32 = 16;

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Open {
    vid: Vid,
    term: u64,
}

/// A call that waits for the core.
enum Waiting {
    Open,
    Name,
    Size,
    Read(WindowRef),
    Change,
}

/// What to reply to a call.
pub struct Answer {
    /// The call's token.
    pub token: u64,
    /// If the answer hands out a capability: the badge to mint, and which method's result it is.
    pub mint: Option<u64>,
    /// The reply, unless `mint` says otherwise; its payload is in the buffer.
    pub reply: Reply,
}

/// Clients' calls and open files.
#[derive(Default)]
pub struct Front {
    waiting: BTreeMap<u64, (u64, Waiting)>,
    open: BTreeMap<u64, Open>,
    by_client: BTreeMap<u64, VecDeque<u64>>,
    next_object: u64,
    /// Requests for the core, by call token.
    requests: Vec<(u64, ClientOp)>,
    space: (u64, u64),
}

fn client_of(badge: u64) -> u64 {
    badge & ((1 << CLIENT_BITS) - 1)
}

impl Front {
    /// Nothing open.
    pub fn new() -> Front {
        Front { next_object: 1, ..Front::default() }
    }

    /// What `space` answers: free and total bytes.
    pub fn set_space(&mut self, space: (u64, u64)) {
        self.space = space;
    }

    /// Requests that came in, for the core.
    pub fn take_requests(&mut self) -> Vec<(u64, ClientOp)> {
        core::mem::take(&mut self.requests)
    }

    /// Badge of the capability through which a waiting call came.
    pub fn badge_of(&self, token: u64) -> Option<u64> {
        self.waiting.get(&token).map(|(badge, _)| *badge)
    }

    /// Handles a call of either interface.
    pub fn dispatch(&mut self, incoming: &ipc_wire::Incoming<'_>, buffer: &mut [u8]) -> ipc_wire::Dispatched {
        if incoming.from.badge >> CLIENT_BITS == 0 {
            filesystem::dispatch(self, incoming, buffer)
        } else {
            file::dispatch(self, incoming, buffer)
        }
    }

    fn wait<T, E>(&mut self, caller: Caller, waiting: Waiting, op: ClientOp) -> Answered<T, E> {
        if self.waiting.len() >= MAX_REQUESTS {
            return Err(LinkError::Busy.into());
        }
        self.waiting.insert(caller.token, (caller.badge, waiting));
        self.requests.push((caller.token, op));
        Err(Refusal::Pending)
    }

    fn opened(&self, caller: Caller) -> Result<Open, Refusal<file::Error>> {
        self.open.get(&(caller.badge >> CLIENT_BITS)).copied().ok_or(Refusal::Error(file::Error::NotFound))
    }

    /// The core is done with a request. `session` is the caller's, for bytes read. The reply's payload goes to `buffer`.
    pub fn answer(
        &mut self,
        token: u64,
        result: Result<Response, FileError>,
        session: &dyn Session,
        buffer: &mut [u8],
    ) -> Option<Answer> {
        let (badge, waiting) = self.waiting.remove(&token)?;
        let mut mint = None;
        let reply = match (waiting, result) {
            (Waiting::Open, Ok(Response::File { vid, term })) => {
                mint = Some(self.add_open(client_of(badge), Open { vid, term }));
                Reply::link_error(LinkError::Busy)
            }
            (Waiting::Open | Waiting::Name, Err(error)) => filesystem::reply::error(name_error(error), buffer),
            (Waiting::Name, Ok(_)) => filesystem::reply::remove(&(), buffer),
            (_, Err(error)) => file::reply::error(file_error(error), buffer),
            (Waiting::Size, Ok(Response::Size(len))) => file::reply::size(&len, buffer),
            (Waiting::Read(at), Ok(Response::Bytes(bytes))) => {
                match OutWindow::check(session, at).and_then(|window| window.write(0, &bytes)) {
                    Ok(()) => file::reply::read(&(bytes.len() as u32), buffer),
                    Err(error) => Reply::link_error(error),
                }
            }
            (Waiting::Change, Ok(_)) => file::reply::write(&(), buffer),
            // The core answers a request in kind.
            (_, Ok(_)) => Reply::link_error(LinkError::BadMessage),
        };
        Some(Answer { token, mint, reply })
    }

    /// The reply to a call for which a capability was minted (its slot) or could not be.
    pub fn minted(&self, cap: Option<RawCap>, buffer: &mut [u8]) -> Reply {
        match cap {
            // `create` and `open` have the same shape of result.
            Some(raw) => filesystem::reply::open(&Cap::new(raw), buffer),
            None => filesystem::reply::error(filesystem::Error::Busy, buffer),
        }
    }

    /// Notes an open file; gives the badge of its capability.
    fn add_open(&mut self, client: u64, open: Open) -> u64 {
        let object = self.next_object;
        self.next_object += 1;
        self.open.insert(object, open);
        let mine = self.by_client.entry(client).or_default();
        mine.push_back(object);
        if mine.len() > MAX_OPEN
            && let Some(oldest) = mine.pop_front()
        {
            self.open.remove(&oldest);
        }
        (object << CLIENT_BITS) | client
    }
}

/// A name from a message.
fn name(text: &str) -> Result<Name, Refusal<filesystem::Error>> {
    Name::new(text).map_err(|_| Refusal::Error(filesystem::Error::BadName))
}

impl filesystem::Server for Front {
    fn create(&mut self, caller: Caller, text: &str, group: u32) -> Answered<Cap<file::Protocol>, filesystem::Error> {
        let op = ClientOp::Create { name: name(text)?, group: GroupId(group) };
        self.wait(caller, Waiting::Open, op)
    }

    fn open(&mut self, caller: Caller, text: &str, bound: bool) -> Answered<Cap<file::Protocol>, filesystem::Error> {
        let op = ClientOp::Open { name: name(text)?, bound };
        self.wait(caller, Waiting::Open, op)
    }

    fn remove(&mut self, caller: Caller, text: &str) -> Answered<(), filesystem::Error> {
        let op = ClientOp::Remove { name: name(text)? };
        self.wait(caller, Waiting::Name, op)
    }

    fn rename(&mut self, caller: Caller, from: &str, to: &str) -> Answered<(), filesystem::Error> {
        let op = ClientOp::Rename { from: name(from)?, to: name(to)? };
        self.wait(caller, Waiting::Name, op)
    }

    fn space(&mut self, _caller: Caller) -> Answered<filesystem::Space, filesystem::Error> {
        Ok(filesystem::Space { free: self.space.0, total: self.space.1 })
    }
}

impl file::Server for Front {
    fn size(&mut self, caller: Caller) -> Answered<u64, file::Error> {
        let Open { vid, term } = self.opened(caller)?;
        self.wait(caller, Waiting::Size, ClientOp::File { request: Request::Size { vid }, term })
    }

    fn read(&mut self, caller: Caller, offset: u64, data: OutWindow<'_>) -> Answered<u32, file::Error> {
        let Open { vid, term } = self.opened(caller)?;
        if data.len() > MAX_WRITE {
            return Err(file::Error::TooLarge.into());
        }
        let request = Request::Read { vid, offset, len: data.len() as u32 };
        self.wait(caller, Waiting::Read(data.at()), ClientOp::File { request, term })
    }

    fn write(&mut self, caller: Caller, offset: u64, data: InWindow<'_>) -> Answered<(), file::Error> {
        let Open { vid, term } = self.opened(caller)?;
        if data.len() > MAX_WRITE {
            return Err(file::Error::TooLarge.into());
        }
        let mut bytes = vec![0; data.len()];
        data.read(0, &mut bytes)?;
        self.wait(caller, Waiting::Change, ClientOp::File { request: Request::Write { vid, offset, bytes }, term })
    }

    fn truncate(&mut self, caller: Caller, len: u64) -> Answered<(), file::Error> {
        let Open { vid, term } = self.opened(caller)?;
        self.wait(caller, Waiting::Change, ClientOp::File { request: Request::Truncate { vid, len }, term })
    }

    fn close(&mut self, caller: Caller) -> Answered<(), file::Error> {
        let object = caller.badge >> CLIENT_BITS;
        self.open.remove(&object);
        if let Some(mine) = self.by_client.get_mut(&client_of(caller.badge)) {
            mine.retain(|o| *o != object);
        }
        Ok(())
    }
}

fn name_error(error: FileError) -> filesystem::Error {
    match error {
        FileError::NotFound => filesystem::Error::NotFound,
        FileError::Exists => filesystem::Error::Exists,
        FileError::NoSpace => filesystem::Error::NoSpace,
        FileError::Fenced => filesystem::Error::Fenced,
        FileError::Deadline => filesystem::Error::Timeout,
        FileError::BadName => filesystem::Error::BadName,
        FileError::Refused | FileError::TooLarge | FileError::Corrupt | FileError::Device => filesystem::Error::Refused,
    }
}

fn file_error(error: FileError) -> file::Error {
    match error {
        FileError::NotFound | FileError::Exists | FileError::BadName => file::Error::NotFound,
        FileError::NoSpace => file::Error::NoSpace,
        FileError::TooLarge => file::Error::TooLarge,
        FileError::Corrupt => file::Error::Corrupt,
        FileError::Fenced => file::Error::Fenced,
        FileError::Deadline => file::Error::Timeout,
        FileError::Refused | FileError::Device => file::Error::Device,
    }
}
