//! The supervisor: starts what the manifest says, then answers faults, its clock, and calls on its interface, one at a time.
//!
//! It never calls a server and never waits for one.

use crate::boot::say;
use crate::devices::Devices;
use crate::fault;
use crate::machine::{Context, Failure, Machine, PAGE, TCB, own};
use crate::process::{Grant, Launch, Process, Shared, renew, withdraw};
use crate::tick::Tick;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use ipc_api::supervisor::{self, Error, Service, State, Status};
use ipc_wire::{Answer, Caller, Dispatched, Incoming, MAX_PAYLOAD, NoSession, Str};
use root::archive::Archive;
use root::elf::{ElfError, Program};
use root::manifest::{Device, Manifest, ROOT_INDEX, Restart, Start};
use root::plan::{PlanError, bit_of, plan};
use root::policy::Record;
use smi_env::{Role, layout, map};
use smi_rt::sys::abi::ext::CounterAccess;
use smi_rt::sys::call::Received;
use smi_rt::sys::invoke;
use smi_rt::sys::{CapRights, ObjectType, message, recv, send, signal};
use smi_rt::{CPtr, time};

/// Bit of an endpoint badge that marks a fault; the rest is the server's index.
const FAULT: u64 = 1 << 62;
/// Bit of our notification word: the clock.
const TICK: u64 = 1;
/// Bit of our notification word: signals of clients, which mean nothing.
const CLIENT: u64 = 2;
/// Our own priority: above every server.
const PRIORITY: u8 = 254;
/// Least priority at which processes are taken down and made while others run: that of the manager, whose heartbeats must go on
/// while megabytes are cleared.
const WORK_PRIORITY: u8 = 150;

/// Why a server cannot be started.
enum StartError {
    Machine(Failure),
    Plan(PlanError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Machine(failure) => failure.fmt(f),
            StartError::Plan(error) => error.fmt(f),
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        StartError::Machine(failure)
    }
}

impl From<PlanError> for StartError {
    fn from(error: PlanError) -> Self {
        StartError::Plan(error)
    }
}

/// What the supervisor knows of a server.
struct Entry {
    /// Called through copies of this; stays over restarts.
    endpoint: CPtr,
    /// Signalled through copies of this; stays over restarts.
    notification: CPtr,
    /// Tells us of the server's faults.
    fault_endpoint: CPtr,
    /// For its interrupt; made at the first start.
    irq_notification: Option<CPtr>,
    /// `None` if its device is absent or its program is bad.
    process: Option<Process>,
    state: State,
    record: Record,
    /// When it is started again, in state `Waiting`.
    restart_at_ns: u64,
}

/// The supervisor.
pub struct Supervisor {
    machine: Machine,
    manifest: &'static Manifest,
    entries: Vec<Entry>,
    /// By channel.
    shared: Vec<Shared>,
    endpoint: CPtr,
    notification: CPtr,
    reply: CPtr,
    tick: Tick,
    /// An empty slot.
    scratch: CPtr,
    /// A request to start or stop a server was dealt with, and our clients have not been told.
    worked: bool,
    environment: Box<[u8; layout::SIZE]>,
}

impl Supervisor {
    /// Makes everything that lives as long as the machine.
    pub fn new(
        mut machine: Machine,
        manifest: Manifest,
        archive: Archive<'static>,
        mut devices: Devices,
    ) -> Result<Supervisor, Failure> {
        let manifest: &'static Manifest = Box::leak(Box::new(manifest));
        let clock = CounterAccess::VIRTUAL_COUNTER;
        invoke::tcb_set_counter_access(TCB, clock).during("reading the clock")?;
        let endpoint = machine.object(ObjectType::Endpoint, 0)?;
        let notification = machine.object(ObjectType::Notification, 0)?;
        let reply = machine.object(ObjectType::Reply, 0)?;
        invoke::tcb_bind_notification(TCB, notification).during("binding our notification")?;
        let tick_signal = mint(&mut machine, notification, CapRights::WRITE, map::SIGNAL_FLAG | TICK)?;
        let tick = Tick::new(&mut machine, tick_signal, PRIORITY)?;
        let mut shared = Vec::new();
        for channel in &manifest.channels {
            let count = channel.region() / PAGE;
            let frames = if count == 0 { CPtr::NULL } else { machine.frames(count)? };
            shared.push(Shared { frames, count });
        }
        let mut entries = Vec::new();
        for index in 0..manifest.servers.len() {
            entries.push(entry(&mut machine, &mut devices, manifest, &archive, index, endpoint)?);
        }
        let scratch = machine.slots(1)?;
        invoke::tcb_set_priority(TCB, TCB, PRIORITY).during("our priority")?;
        let environment = Box::new([0; layout::SIZE]);
        Ok(Supervisor {
            machine,
            manifest,
            entries,
            shared,
            endpoint,
            notification,
            reply,
            tick,
            scratch,
            worked: false,
            environment,
        })
    }

    /// Starts the servers, then serves for ever.
    pub fn run(mut self) -> ! {
        for index in 0..self.entries.len() {
            if self.manifest.servers[index].start == Start::Boot && self.entries[index].process.is_some() {
                self.start_or_complain(index);
            }
        }
        say!(
            "all started {} ms after power-up; {} MiB and {} capability slots left",
            time::now_ns() / 1_000_000,
            self.machine.memory.available() >> 20,
            self.machine.slots_left()
        );
        loop {
            let waiting = self.entries.iter().any(|e| e.state == State::Waiting);
            self.tick.set(waiting);
            let received = recv(self.endpoint, self.reply);
            match received.badge {
                badge if badge & map::SIGNAL_FLAG != 0 => {
                    if badge & TICK != 0 {
                        self.restart_due();
                    }
                }
                badge if badge & FAULT != 0 => self.fault((badge & !FAULT) as usize, &received),
                _ => self.serve(&received),
            }
        }
    }

    /// A server failed by itself.
    fn fault(&mut self, index: usize, received: &Received) {
        let Some(Entry { process: Some(process), .. }) = self.entries.get(index) else { return };
        fault::report(&self.manifest.servers[index].name, received, process, self.scratch);
        self.failed(index);
    }

    /// Takes a failed server down, and starts it again now, later, or never.
    fn failed(&mut self, index: usize) {
        let server = &self.manifest.servers[index];
        self.take_down(index);
        let entry = &mut self.entries[index];
        if server.restart == Restart::Never {
            entry.state = State::Failed;
            withdraw(entry.endpoint);
            say!("`{}` stays down", server.name);
            return;
        }
        let now = time::now_ns();
        entry.restart_at_ns = entry.record.failed(now);
        entry.state = State::Waiting;
        let pause_ms = (entry.restart_at_ns - now) / 1_000_000;
        say!("`{}` is started again{} (restart {})", server.name, Pause(pause_ms), entry.record.restarts);
        self.restart_due();
    }

    /// Starts every server whose pause is over.
    fn restart_due(&mut self) {
        let now = time::now_ns();
        for index in 0..self.entries.len() {
            if self.entries[index].state == State::Waiting && self.entries[index].restart_at_ns <= now {
                self.start_politely(index);
            }
        }
    }

    /// As [`start`](Self::start), without getting in the way of what is more urgent than the server.
    fn start_politely(&mut self, index: usize) -> bool {
        let begun = time::now_ns();
        self.work_for(index, true);
        let started = self.start_or_complain(index);
        self.work_for(index, false);
        if started {
            let took_us = (time::now_ns() - begun) / 1000;
            say!(
                "`{}` runs (start {}, made in {took_us} us)",
                self.manifest.servers[index].name,
                self.entries[index].record.starts
            );
        }
        started
    }

    /// Lowers our priority for work on a server, or raises it again.
    fn work_for(&self, index: usize, begin: bool) {
        let priority = if begin { self.manifest.servers[index].priority.max(WORK_PRIORITY) } else { PRIORITY };
        // Our own thread, within our own limit: there is no error.
        let _ = invoke::tcb_set_priority(TCB, TCB, priority);
    }

    fn start_or_complain(&mut self, index: usize) -> bool {
        match self.start(index) {
            Ok(()) => true,
            Err(error) => {
                say!("`{}` cannot be started: {error}", self.manifest.servers[index].name);
                self.take_down(index);
                self.entries[index].state = State::Failed;
                withdraw(self.entries[index].endpoint);
                false
            }
        }
    }

    /// Makes the process of a server that has none, and lets it run.
    fn start(&mut self, index: usize) -> Result<(), StartError> {
        let server = &self.manifest.servers[index];
        let counter = access(server);
        let entry = &mut self.entries[index];
        let Some(process) = &mut entry.process else { return Ok(()) };
        process.environment(self.manifest, index, entry.record.starts as u64, counter, &mut self.environment)?;
        process.build(&mut self.machine, &self.shared, &self.environment)?;
        if let (None, Some((bit, _))) = (entry.irq_notification, process.plan.irq) {
            let badge = map::SIGNAL_FLAG | 1 << bit;
            entry.irq_notification = Some(mint(&mut self.machine, entry.notification, CapRights::WRITE, badge)?);
        }
        process.grant_own(entry.endpoint, entry.notification, entry.irq_notification, server.replies as u64)?;
        let launch = Launch {
            name: &server.name,
            priority: server.priority,
            budget_us: server.budget_us,
            period_us: server.period_us,
            counter,
            fault_endpoint: entry.fault_endpoint,
            notification: entry.notification,
        };
        self.grant_channels(index)?;
        let entry = &mut self.entries[index];
        if let Some(process) = &entry.process {
            process.launch(&self.machine, &launch)?;
        }
        entry.record.started(time::now_ns());
        entry.state = State::Running;
        self.tell_peers(index);
        Ok(())
    }

    /// Gives a new process the capabilities of its channels, and its running clients the way to it.
    fn grant_channels(&self, index: usize) -> Result<(), Failure> {
        let Some(process) = &self.entries[index].process else { return Ok(()) };
        for end in &process.plan.ends {
            let (notification, badge) = match end.peer {
                ROOT_INDEX => (self.notification, map::SIGNAL_FLAG | CLIENT),
                peer => {
                    let bit = bit_of(self.manifest, peer, end.channel);
                    (self.entries[peer as usize].notification, map::SIGNAL_FLAG | 1 << bit)
                }
            };
            process.grant(&Grant { slot: end.signal_slot, source: notification, rights: CapRights::WRITE, badge })?;
            let rights = CapRights::WRITE | CapRights::GRANT | CapRights::GRANT_REPLY;
            match (end.role, end.peer) {
                (Role::Client, ROOT_INDEX) => {
                    process.grant(&Grant { slot: end.call_slot, source: self.endpoint, rights, badge: end.badge })?;
                }
                (Role::Client, peer) if self.is_expected(peer as usize) => {
                    let source = self.entries[peer as usize].endpoint;
                    process.grant(&Grant { slot: end.call_slot, source, rights, badge: end.badge })?;
                }
                (Role::Client, _) => {} // the slot stays empty: calls answer `NoPeer` until the peer is started
                (Role::Server, peer) => {
                    let client = &self.entries[peer as usize];
                    let (Some(other), State::Running) = (&client.process, client.state) else { continue };
                    let Some(far) = other.plan.ends.iter().find(|e| e.channel == end.channel) else { continue };
                    let source = self.entries[index].endpoint;
                    renew(other, &Grant { slot: far.call_slot, source, rights, badge: end.badge })?;
                }
            }
        }
        Ok(())
    }

    /// Whether calls on a server make sense: it runs, or will without anybody asking.
    fn is_expected(&self, index: usize) -> bool {
        let entry = &self.entries[index];
        match entry.state {
            State::Running | State::Waiting => true,
            State::Stopped => self.manifest.servers[index].start == Start::Boot,
            State::Failed | State::Absent => false,
        }
    }

    /// Signals a started server's peers, so that they look at what they share with it.
    fn tell_peers(&self, index: usize) {
        let Some(process) = &self.entries[index].process else { return };
        for end in &process.plan.ends {
            let Some(peer) = self.entries.get(end.peer as usize) else { continue };
            let (Some(other), State::Running) = (&peer.process, peer.state) else { continue };
            if let Some(far) = other.plan.ends.iter().find(|e| e.channel == end.channel) {
                self.signal_server(peer.notification, far.bit);
            }
        }
    }

    /// Signals our own clients: a request to start or stop a server was dealt with. So a client that cannot wait for
    /// a process to be made sends the request without asking for a reply, and looks at the server's state then.
    fn tell_clients(&self) {
        for (number, channel) in self.manifest.channels.iter().enumerate() {
            let Some(client) = self.entries.get(channel.client as usize) else { continue };
            if channel.server == ROOT_INDEX && client.state == State::Running {
                self.signal_server(client.notification, bit_of(self.manifest, channel.client, number));
            }
        }
    }

    /// Sets a bit of a server's notification word.
    fn signal_server(&self, notification: CPtr, bit: u32) {
        let badge = map::SIGNAL_FLAG | 1 << bit;
        if invoke::cnode_mint(own(self.scratch), own(notification), CapRights::WRITE, badge).is_ok() {
            signal(self.scratch);
            crate::machine::delete_all(&[self.scratch]);
        }
    }

    /// Stops a server, answers its callers and releases what it owned.
    fn take_down(&mut self, index: usize) {
        if let Some(process) = &self.entries[index].process {
            process.stop();
            self.work_for(index, true);
            process.release(&self.shared);
            self.work_for(index, false);
        }
    }

    /// Answers a call on the supervisor interface.
    fn serve(&mut self, received: &Received) {
        let mut bytes = [0; MAX_PAYLOAD];
        let len = message::unpack(received, &mut bytes);
        let incoming = Incoming {
            from: Caller { badge: received.badge, token: 0 },
            label: received.info.label(),
            bytes: &bytes[..len],
            caps: &[],
            session: &NoSession,
        };
        let mut out = [0; MAX_PAYLOAD];
        if let Dispatched::Reply(reply) = supervisor::dispatch(self, &incoming, &mut out) {
            let (mrs, words) = message::pack(&out[..reply.len.min(MAX_PAYLOAD)]);
            send(self.reply, message::info(reply.label, 0, words), mrs);
        }
        if core::mem::take(&mut self.worked) {
            self.tell_clients();
        }
    }

    fn find(&self, name: &str) -> Result<usize, Error> {
        self.manifest.find(name).ok_or(Error::Unknown)
    }

    fn find_on_demand(&self, name: &str) -> Result<usize, Error> {
        let index = self.find(name)?;
        let on_demand = self.manifest.servers[index].start == Start::OnDemand;
        if on_demand { Ok(index) } else { Err(Error::NotOnDemand) }
    }

    fn status_of(&self, index: usize) -> Result<Status, Error> {
        let (Some(entry), Some(server)) = (self.entries.get(index), self.manifest.servers.get(index)) else {
            return Err(Error::Unknown);
        };
        Ok(Status {
            name: Str::new(&server.name).unwrap_or_default(),
            state: entry.state,
            restarts: entry.record.restarts,
            starts: entry.record.starts,
            source_id: index as u8,
            memory: entry.process.as_ref().map_or(0, |p| p.plan.bytes()),
        })
    }
}

impl supervisor::Server for Supervisor {
    fn start(&mut self, _: Caller, name: &str) -> Answer<(), Error> {
        self.worked = true;
        let index = self.find_on_demand(name)?;
        match self.entries[index].state {
            State::Running | State::Waiting => Err(Error::Running.into()),
            State::Absent => Err(Error::StartFailed.into()),
            State::Stopped | State::Failed => {
                self.entries[index].record.forgive();
                if self.start_politely(index) { Ok(()) } else { Err(Error::StartFailed.into()) }
            }
        }
    }

    fn stop(&mut self, _: Caller, name: &str) -> Answer<(), Error> {
        self.worked = true;
        let index = self.find_on_demand(name)?;
        match self.entries[index].state {
            State::Running | State::Waiting => {
                self.take_down(index);
                self.entries[index].state = State::Stopped;
                withdraw(self.entries[index].endpoint);
                say!("`{}` is stopped", self.manifest.servers[index].name);
                Ok(())
            }
            _ => Err(Error::NotRunning.into()),
        }
    }

    fn kill(&mut self, _: Caller, name: &str) -> Answer<(), Error> {
        let index = self.find(name)?;
        if self.entries[index].state != State::Running {
            return Err(Error::NotRunning.into());
        }
        say!("`{}` is killed on request", self.manifest.servers[index].name);
        self.failed(index);
        Ok(())
    }

    fn status(&mut self, _: Caller, name: &str) -> Answer<Status, Error> {
        let index = self.find(name)?;
        Ok(self.status_of(index)?)
    }

    fn list(&mut self, _: Caller, index: u32) -> Answer<Status, Error> {
        Ok(self.status_of(index as usize)?)
    }

    fn service(&mut self, _: Caller, index: u32) -> Answer<Service, Error> {
        let service = self.manifest.services.get(index as usize).ok_or(Error::Unknown)?;
        Ok(Service {
            name: Str::new(&service.name).unwrap_or_default(),
            server: Str::new(self.manifest.name_of(service.server)).unwrap_or_default(),
            degree: service.degree,
            port: service.port,
        })
    }
}

/// "", or " in n ms".
struct Pause(u64);

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " in {} ms", self.0) }
    }
}

fn access(server: &root::manifest::Server) -> CounterAccess {
    let mut access = CounterAccess::empty();
    if server.counter {
        access |= CounterAccess::VIRTUAL_COUNTER;
    }
    if server.device == Some(Device::PhysTimer) {
        access |= CounterAccess::VIRTUAL_COUNTER | CounterAccess::PHYSICAL_TIMER;
    }
    access
}

/// Everything about one server that lives as long as the machine. A server that cannot run is told of and left out.
fn entry(
    machine: &mut Machine,
    devices: &mut Devices,
    manifest: &Manifest,
    archive: &Archive<'static>,
    index: usize,
    root_endpoint: CPtr,
) -> Result<Entry, Failure> {
    let endpoint = machine.object(ObjectType::Endpoint, 0)?;
    let notification = machine.object(ObjectType::Notification, 0)?;
    let rights = CapRights::WRITE | CapRights::GRANT | CapRights::GRANT_REPLY;
    let fault_endpoint = mint(machine, root_endpoint, rights, FAULT | index as u64)?;
    let mut entry = Entry {
        endpoint,
        notification,
        fault_endpoint,
        irq_notification: None,
        process: None,
        state: State::Stopped,
        record: Record::default(),
        restart_at_ns: 0,
    };
    let server = &manifest.servers[index];
    let device = match server.device {
        None => None,
        Some(device) => match devices.info(device) {
            Some(info) => Some(info),
            None => {
                entry.state = State::Absent;
                let weight = if server.optional { "" } else { ", which this node needs" };
                say!("`{}` is left out: there is no {device}{weight}", server.name);
                return Ok(entry);
            }
        },
    };
    match program(archive, &server.program) {
        Err(error) => {
            entry.state = State::Failed;
            say!("`{}` cannot be started: program `{}`: {error}", server.name, server.program);
        }
        Ok(program) => match plan(manifest, index, &program, device.as_ref()) {
            Err(error) => {
                entry.state = State::Failed;
                say!("`{}` cannot be started: {error}", server.name);
            }
            Ok(plan) => match Process::new(machine, devices, manifest, index, plan, device) {
                Ok(process) => entry.process = Some(process),
                Err(failure) => {
                    entry.state = State::Failed;
                    say!("`{}` cannot be started: {failure}", server.name);
                }
            },
        },
    }
    Ok(entry)
}

/// Why a program is not usable.
enum ProgramError {
    Missing,
    Bad(ElfError),
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Missing => f.write_str("it is not in the boot archive"),
            ProgramError::Bad(error) => error.fmt(f),
        }
    }
}

fn program(archive: &Archive<'static>, name: &str) -> Result<Program<'static>, ProgramError> {
    let file = archive.get(name).map_err(|_| ProgramError::Missing)?;
    Program::parse(file).map_err(ProgramError::Bad)
}

/// A badged copy in a slot of our own, for good.
fn mint(machine: &mut Machine, source: CPtr, rights: CapRights, badge: u64) -> Result<CPtr, Failure> {
    let slot = machine.slots(1)?;
    invoke::cnode_mint(own(slot), own(source), rights, badge).during("making a badged capability")?;
    Ok(slot)
}
