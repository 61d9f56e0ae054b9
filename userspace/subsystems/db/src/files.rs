//! The database's two files as the service sees them, and the same over the interfaces `filesystem` and `file`.

use crate::engine::FileOp;
use crate::recovery::{Recovered, Recovery, RecoveryError};
use crate::way::Way;
use alloc::string::String;
use alloc::vec;
use ipc_api::{file, filesystem};
use ipc_wire::{CallError, LinkError, RawCap};

/// How often an operation is tried again whose outcome is unknown. Each try waits for seconds in the file server.
const TRIES: u32 = 8;

/// Why a file operation failed for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilesError {
    /// The group is carried by another node: the service must stop.
    Fenced,
    /// The disks are full. For the log: nothing of the append counts.
    NoSpace,
    /// The cluster could not be reached for long, or the disk failed.
    Unavailable,
    /// What was read is no log that can be used.
    Log(RecoveryError),
}

/// The files as the service uses them. An operation is durable on all replicas when it returns.
pub trait Files {
    /// Reads the log, cuts off a torn tail and removes what an interrupted compaction left.
    fn recover(&mut self) -> Result<Recovered, FilesError>;
    /// Performs an operation of the engine.
    fn perform(&mut self, op: &FileOp) -> Result<(), FilesError>;
}

struct Open<W: Way> {
    cap: RawCap,
    file: file::Client<W>,
    len: u64,
}

/// [`Files`] through the file server.
pub struct IpcFiles<W: Way> {
    filesystem: filesystem::Client<W>,
    group: u32,
    log_name: String,
    next_name: String,
    log: Option<Open<W>>,
    next: Option<Open<W>>,
}

enum Trouble {
    /// It may work if tried again.
    Again,
    NotFound,
    For(FilesError),
}

fn link_trouble(error: LinkError) -> Trouble {
    match error {
        LinkError::Moved | LinkError::Revoked => Trouble::For(FilesError::Fenced),
        LinkError::BadMessage | LinkError::NoMethod | LinkError::NoRights => Trouble::For(FilesError::Unavailable),
        _ => Trouble::Again,
    }
}

fn file_trouble(error: CallError<file::Error>) -> Trouble {
    match error {
        CallError::Server(file::Error::Fenced) => Trouble::For(FilesError::Fenced),
        CallError::Server(file::Error::NoSpace) => Trouble::For(FilesError::NoSpace),
        CallError::Server(file::Error::NotFound) => Trouble::NotFound,
        CallError::Server(file::Error::Timeout | file::Error::Busy) => Trouble::Again,
        CallError::Server(_) => Trouble::For(FilesError::Unavailable),
        CallError::Link(error) => link_trouble(error),
    }
}

fn name_trouble(error: CallError<filesystem::Error>) -> Trouble {
    match error {
        CallError::Server(filesystem::Error::Fenced) => Trouble::For(FilesError::Fenced),
        CallError::Server(filesystem::Error::NoSpace) => Trouble::For(FilesError::NoSpace),
        CallError::Server(filesystem::Error::NotFound) => Trouble::NotFound,
        CallError::Server(filesystem::Error::Timeout | filesystem::Error::Busy) => Trouble::Again,
        CallError::Server(_) => Trouble::For(FilesError::Unavailable),
        CallError::Link(error) => link_trouble(error),
    }
}

/// Tries `op` until its outcome is known; `None` if what it speaks of does not exist.
fn known<T>(mut op: impl FnMut() -> Result<T, Trouble>) -> Result<Option<T>, FilesError> {
    for _ in 0..TRIES {
        match op() {
            Ok(value) => return Ok(Some(value)),
            Err(Trouble::NotFound) => return Ok(None),
            Err(Trouble::For(error)) => return Err(error),
            Err(Trouble::Again) => {}
        }
    }
    Err(FilesError::Unavailable)
}

impl<W: Way> IpcFiles<W> {
    /// The files of the service `name`, in its failover group.
    pub fn new(way: W, name: &str, group: u32) -> IpcFiles<W> {
        IpcFiles {
            filesystem: filesystem::Client::new(way),
            group,
            log_name: String::from(name) + ".log",
            next_name: String::from(name) + ".next",
            log: None,
            next: None,
        }
    }

    /// Opens a file as the group's own process; `None` if there is none of that name.
    fn open(&mut self, name: &str) -> Result<Option<Open<W>>, FilesError> {
        let filesystem = &mut self.filesystem;
        let Some(cap) = known(|| filesystem.open(name, true).map_err(name_trouble))? else { return Ok(None) };
        let mut file = file::Client::new(filesystem.transport().to(cap.raw()));
        let len = known(|| file.size().map_err(file_trouble))?.ok_or(FilesError::Fenced)?;
        Ok(Some(Open { cap: cap.raw(), file, len }))
    }

    fn create(&mut self, name: &str) -> Result<Open<W>, FilesError> {
        let (filesystem, group) = (&mut self.filesystem, self.group);
        for _ in 0..TRIES {
            let made = filesystem.create(name, group);
            match made {
                Ok(cap) => filesystem.transport().release(cap.raw()),
                // An attempt before, or an earlier life, made it.
                Err(CallError::Server(filesystem::Error::Exists)) => {}
                Err(error) => match name_trouble(error) {
                    Trouble::For(error) => return Err(error),
                    Trouble::Again | Trouble::NotFound => continue,
                },
            }
            return self.open(name)?.ok_or(FilesError::Unavailable);
        }
        Err(FilesError::Unavailable)
    }

    fn remove_next(&mut self) -> Result<(), FilesError> {
        self.forget_next();
        let (filesystem, name) = (&mut self.filesystem, &self.next_name);
        known(|| filesystem.remove(name).map_err(name_trouble)).map(drop)
    }

    fn forget_next(&mut self) {
        if let Some(open) = self.next.take() {
            close(open);
        }
    }

    /// The second file takes the first one's name; whoever has it open goes on with it.
    fn install(&mut self) -> Result<(), FilesError> {
        let (filesystem, from, to) = (&mut self.filesystem, &self.next_name, &self.log_name);
        // If it does not exist any more, an attempt of unknown outcome has succeeded.
        known(|| filesystem.rename(from, to).map_err(name_trouble))?;
        if let Some(old) = core::mem::replace(&mut self.log, self.next.take()) {
            close(old);
        }
        Ok(())
    }
}

fn close<W: Way>(mut open: Open<W>) {
    // Closing is a courtesy.
    let _ = open.file.close();
    open.file.transport().release(open.cap);
}

/// Writes at the end; the length counts only when all of it is durable.
fn append<W: Way>(open: Option<&mut Open<W>>, bytes: &[u8]) -> Result<(), FilesError> {
    let open = open.ok_or(FilesError::Unavailable)?;
    let mut at = open.len;
    for piece in bytes.chunks(file::IO_MAX as usize) {
        let file = &mut open.file;
        known(|| file.write(at, piece).map_err(file_trouble))?.ok_or(FilesError::Fenced)?;
        at += piece.len() as u64;
    }
    open.len = at;
    Ok(())
}

impl<W: Way> Files for IpcFiles<W> {
    fn recover(&mut self) -> Result<Recovered, FilesError> {
        self.remove_next()?;
        if let Some(old) = self.log.take() {
            close(old);
        }
        let name = self.log_name.clone();
        let mut open = match self.open(&name)? {
            Some(open) => open,
            None => self.create(&name)?,
        };
        let (mut recovery, mut at, mut buffer) = (Recovery::default(), 0, vec![0; file::IO_MAX as usize]);
        while at < open.len {
            let want = (open.len - at).min(buffer.len() as u64) as usize;
            let file = &mut open.file;
            let got = known(|| file.read(at, &mut buffer[..want]).map_err(file_trouble))?.ok_or(FilesError::Fenced)?;
            if got == 0 {
                break;
            }
            recovery.feed(&buffer[..(got as usize).min(want)]).map_err(FilesError::Log)?;
            at += u64::from(got);
        }
        let recovered = recovery.finish().map_err(FilesError::Log)?;
        if recovered.valid < open.len {
            let file = &mut open.file;
            known(|| file.truncate(recovered.valid).map_err(file_trouble))?.ok_or(FilesError::Fenced)?;
            open.len = recovered.valid;
        }
        self.log = Some(open);
        Ok(recovered)
    }

    fn perform(&mut self, op: &FileOp) -> Result<(), FilesError> {
        match op {
            FileOp::AppendLog(bytes) => append(self.log.as_mut(), bytes),
            FileOp::AppendNext(bytes) => append(self.next.as_mut(), bytes),
            FileOp::CreateNext => {
                self.remove_next()?;
                let name = self.next_name.clone();
                self.next = Some(self.create(&name)?);
                Ok(())
            }
            FileOp::InstallNext => self.install(),
            FileOp::RemoveNext => self.remove_next(),
        }
    }
}
