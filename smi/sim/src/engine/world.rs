//! Machines and the event queue.

use super::disk::{Disk, DiskModel};
use super::net::{Net, NetModel};
use crate::prng::Prng;
use smi_cluster::{NodeId, PortId};
use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

/// What happens to an actor.
pub enum Input<'a> {
    /// The machine has started.
    Start,
    /// The time asked for by [`Effect::Wake`] has come.
    Wake,
    /// A message from the actor at the same port of another machine.
    Message {
        /// The sender.
        from: NodeId,
        /// The message.
        bytes: &'a [u8],
    },
    /// Something from the same machine or from the test driver.
    Local(&'a dyn Any),
    /// Blocks that were read; `None` if the disk could not.
    Read {
        /// Token of the read.
        token: u64,
        /// The data.
        data: Option<&'a [u8]>,
    },
    /// A write was taken.
    Written {
        /// Token of the write.
        token: u64,
    },
    /// A flush is done.
    Flushed {
        /// Token of the flush.
        token: u64,
    },
    /// A write or flush failed.
    Failed {
        /// Its token.
        token: u64,
    },
}

/// What an actor does. `O` is what the oracles see.
pub enum Effect<O> {
    /// Sends to the actor at the same port of another machine.
    Send {
        /// To whom.
        to: NodeId,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Gives something to another actor of this machine.
    Local {
        /// Its port.
        to: PortId,
        /// What.
        what: Rc<dyn Any>,
    },
    /// Wakes this actor at a local time; replaces the last such wish.
    Wake(u64),
    /// Reads blocks.
    Read {
        /// Comes back.
        token: u64,
        /// First block.
        block: u32,
        /// How many.
        count: u32,
    },
    /// Writes a block.
    Write {
        /// Comes back.
        token: u64,
        /// Which.
        block: u32,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Flushes.
    Flush {
        /// Comes back.
        token: u64,
    },
    /// Tells the oracles.
    Observe(O),
}

/// A sans-IO core with its adapter.
pub trait Actor<O> {
    /// Takes an input at a local time.
    fn handle(&mut self, now: u64, input: Input<'_>, effects: &mut Vec<Effect<O>>);
    /// For oracles that look inside.
    fn as_any(&self) -> &dyn Any;
}

/// Sees what happens. An error ends the run.
pub trait Watcher<O> {
    /// An actor reported something.
    fn observe(&mut self, world: &World<O>, node: NodeId, what: O) -> Result<(), String>;
    /// An actor has handled an input.
    fn stepped(&mut self, world: &World<O>, node: NodeId, port: PortId) -> Result<(), String>;
}

/// A machine's clock: runs at its own rate, and from another reading after each start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base_true: u64,
    base_local: u64,
    /// Deviation of its rate, parts per million.
    pub drift_ppm: i64,
}

impl Clock {
    /// The reading at a true time.
    pub fn local(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.base_true) as i128;
        let skewed = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        self.base_local + skewed as u64
    }

    /// The first true time at which the reading is at least `local`.
    fn true_time(&self, local: u64) -> u64 {
        let ahead = local.saturating_sub(self.base_local) as i128;
        let elapsed = ahead * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        self.base_true + elapsed as u64 + 1
    }
}

/// One machine.
pub struct Machine<O> {
    actors: BTreeMap<PortId, Box<dyn Actor<O>>>,
    disks: BTreeMap<PortId, Disk>,
    /// Its clock.
    pub clock: Clock,
    /// Counts its starts.
    pub boots: u64,
    /// Until when it is stopped.
    paused_until: u64,
    /// What came meanwhile.
    held: Vec<Event>,
    wakes: BTreeMap<PortId, u64>,
}

impl<O> Machine<O> {
    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        !self.actors.is_empty()
    }
}

enum What {
    Message {
        from: NodeId,
        bytes: Rc<Vec<u8>>,
    },
    Local(Rc<dyn Any>),
    Wake {
        wish: u64,
    },
    Read {
        token: u64,
        block: u32,
        count: u32,
    },
    Write {
        token: u64,
        block: u32,
        bytes: Vec<u8>,
    },
    Flush {
        token: u64,
        covered: usize,
    },
    Start,
    /// A pause ends.
    Resume,
}

struct Event {
    to: NodeId,
    port: PortId,
    /// The boot that it is for: a restart drops the rest. Messages are for any.
    boot: Option<u64>,
    what: What,
}

/// The simulated world.
pub struct World<O> {
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    machines: BTreeMap<NodeId, Machine<O>>,
    /// The network.
    pub net: Net,
    /// All chance.
    pub rng: Prng,
    /// Inputs handled.
    pub steps: u64,
}

impl<O> World<O> {
    /// An empty world.
    pub fn new(seed: u64, model: NetModel) -> World<O> {
        World {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            machines: BTreeMap::new(),
            net: Net::new(model),
            rng: Prng::new(seed),
            steps: 0,
        }
    }

    /// The true time, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Adds a machine, switched off.
    pub fn add_machine(&mut self, node: NodeId, drift_ppm: i64) {
        let clock = Clock { base_true: 0, base_local: 0, drift_ppm };
        let (actors, disks, wakes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let machine = Machine { actors, disks, clock, boots: 0, paused_until: 0, held: Vec::new(), wakes };
        self.machines.insert(node, machine);
    }

    /// A machine.
    pub fn machine(&self, node: NodeId) -> &Machine<O> {
        &self.machines[&node]
    }

    /// All machines, in ascending order.
    pub fn machines(&self) -> impl Iterator<Item = (NodeId, &Machine<O>)> {
        self.machines.iter().map(|(n, m)| (*n, m))
    }

    /// The actor at a port, if the machine is on and it is of this type.
    pub fn actor<A: 'static>(&self, node: NodeId, port: PortId) -> Option<&A> {
        self.machines.get(&node)?.actors.get(&port)?.as_any().downcast_ref()
    }

    /// A machine's reading of the clock.
    pub fn local_time(&self, node: NodeId) -> u64 {
        self.machines[&node].clock.local(self.now)
    }

    /// An actor's disk, made blank if it has none yet.
    pub fn disk(&mut self, node: NodeId, port: PortId, model: DiskModel) -> &mut Disk {
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        machine.disks.entry(port).or_insert_with(|| Disk::new(model))
    }

    /// Sets how all disks behave.
    pub fn set_disks(&mut self, model: DiskModel) {
        self.machines.values_mut().flat_map(|m| m.disks.values_mut()).for_each(|d| d.model = model);
    }

    /// Switches a machine on with these actors. Its clock starts from somewhere.
    pub fn start(&mut self, node: NodeId, actors: Vec<(PortId, Box<dyn Actor<O>>)>) {
        let reading = self.rng.below(10_000_000_000);
        let now = self.now;
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        assert!(!machine.is_on(), "a machine starts when it is off");
        machine.boots += 1;
        machine.paused_until = 0;
        machine.clock = Clock { base_true: now, base_local: reading, ..machine.clock };
        let boot = machine.boots;
        let ports: Vec<PortId> = actors.iter().map(|(port, _)| *port).collect();
        for (port, _) in &actors {
            machine.disks.entry(*port).or_insert_with(|| Disk::new(DiskModel::GOOD));
        }
        machine.actors = actors.into_iter().collect();
        for port in ports {
            self.schedule(now, Event { to: node, port, boot: Some(boot), what: What::Start });
        }
    }

    /// Cuts a machine's power.
    pub fn crash(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        machine.actors.clear();
        machine.wakes.clear();
        let mine = |e: &Event| e.to == node && e.boot.is_some();
        let ids: Vec<u64> = self.events.iter().filter(|(_, e)| mine(e)).map(|(id, _)| *id).collect();
        let scheduled = ids.iter().filter_map(|id| self.events.remove(id));
        let mut in_flight: BTreeMap<PortId, Vec<(u32, Vec<u8>)>> = BTreeMap::new();
        for event in machine.held.drain(..).chain(scheduled) {
            if let Event { port, what: What::Write { block, bytes, .. }, .. } = event {
                in_flight.entry(port).or_default().push((block, bytes));
            }
        }
        for (port, disk) in &mut machine.disks {
            disk.crash(in_flight.remove(port).unwrap_or_default(), &mut self.rng);
        }
    }

    /// Stops a machine until a time, without its knowing: then it finds everything that came meanwhile. A time that has passed
    /// ends a pause.
    pub fn pause(&mut self, node: NodeId, until: u64) {
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        machine.paused_until = until;
        let boot = Some(machine.boots);
        self.schedule(until.max(self.now), Event { to: node, port: PortId(0), boot, what: What::Resume });
    }

    /// A pause has ended, unless it was made longer.
    fn resume(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        if machine.paused_until <= self.now {
            for event in core::mem::take(&mut machine.held) {
                self.schedule(self.now, event);
            }
        }
    }

    /// Gives an actor something local, now.
    pub fn local(&mut self, node: NodeId, port: PortId, what: Rc<dyn Any>) {
        let boot = Some(self.machines[&node].boots);
        self.schedule(self.now, Event { to: node, port, boot, what: What::Local(what) });
    }

    /// Delivers bytes as a message from a node, now.
    pub fn inject(&mut self, from: NodeId, to: NodeId, port: PortId, bytes: Vec<u8>) {
        let what = What::Message { from, bytes: Rc::new(bytes) };
        self.schedule(self.now, Event { to, port, boot: None, what });
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    /// Runs until a true time.
    pub fn run_until(&mut self, end: u64, watcher: &mut dyn Watcher<O>) -> Result<(), String> {
        while let Some(Reverse((at, id))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at;
            // Events of a machine that has crashed are gone.
            let Some(event) = self.events.remove(&id) else { continue };
            self.dispatch(event, watcher)?;
        }
        self.now = end;
        Ok(())
    }

    fn dispatch(&mut self, event: Event, watcher: &mut dyn Watcher<O>) -> Result<(), String> {
        let (node, port) = (event.to, event.port);
        let Some(machine) = self.machines.get_mut(&node) else { return Ok(()) };
        if !machine.is_on() || event.boot.is_some_and(|b| b != machine.boots) {
            return Ok(());
        }
        if let What::Resume = event.what {
            self.resume(node);
            return Ok(());
        }
        if machine.paused_until > self.now {
            machine.held.push(event);
            return Ok(());
        }
        let now = machine.clock.local(self.now);
        let Some(actor) = machine.actors.get_mut(&port) else { return Ok(()) };
        let disk = machine.disks.get_mut(&port).expect("every actor has a disk");
        let mut effects = Vec::new();
        match event.what {
            What::Resume => {}
            What::Start => actor.handle(now, Input::Start, &mut effects),
            What::Message { from, bytes } => actor.handle(now, Input::Message { from, bytes: &bytes }, &mut effects),
            What::Local(what) => actor.handle(now, Input::Local(&*what), &mut effects),
            What::Wake { wish } => {
                if machine.wakes.get(&port) != Some(&wish) {
                    return Ok(());
                }
                machine.wakes.remove(&port);
                actor.handle(now, Input::Wake, &mut effects);
            }
            What::Read { token, block, count } => {
                let data = disk.read(block, count);
                actor.handle(now, Input::Read { token, data: Some(&data) }, &mut effects);
            }
            What::Write { token, block, bytes } => {
                disk.take(block, bytes);
                actor.handle(now, Input::Written { token }, &mut effects);
            }
            What::Flush { token, covered } => {
                disk.flush_first(covered);
                actor.handle(now, Input::Flushed { token }, &mut effects);
            }
        }
        self.steps += 1;
        self.carry_out(node, port, effects, watcher)?;
        watcher.stepped(self, node, port)
    }

    fn carry_out(
        &mut self,
        node: NodeId,
        port: PortId,
        effects: Vec<Effect<O>>,
        watcher: &mut dyn Watcher<O>,
    ) -> Result<(), String> {
        let boot = Some(self.machines[&node].boots);
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => {
                    let bytes = Rc::new(bytes);
                    for delay in self.net.route(node, to, self.now, &mut self.rng) {
                        let what = What::Message { from: node, bytes: bytes.clone() };
                        self.schedule(self.now + delay, Event { to, port, boot: None, what });
                    }
                }
                Effect::Local { to, what } => {
                    self.schedule(self.now, Event { to: node, port: to, boot, what: What::Local(what) });
                }
                Effect::Wake(at) => {
                    let machine = self.machines.get_mut(&node).expect("a machine of this world");
                    let wish = self.sequence + 1;
                    machine.wakes.insert(port, wish);
                    let at = machine.clock.true_time(at).max(self.now);
                    self.schedule(at, Event { to: node, port, boot, what: What::Wake { wish } });
                }
                Effect::Read { token, block, count } => {
                    self.disk_event(node, port, false, What::Read { token, block, count });
                }
                Effect::Write { token, block, bytes } => {
                    self.disk_event(node, port, false, What::Write { token, block, bytes });
                }
                Effect::Flush { token } => {
                    // It covers what the disk had taken when it was issued.
                    let covered = self.disk(node, port, DiskModel::GOOD).cached();
                    self.disk_event(node, port, true, What::Flush { token, covered });
                }
                Effect::Observe(what) => watcher.observe(self, node, what)?,
            }
        }
        Ok(())
    }

    fn disk_event(&mut self, node: NodeId, port: PortId, is_flush: bool, what: What) {
        let machine = self.machines.get_mut(&node).expect("a machine of this world");
        let boot = Some(machine.boots);
        let disk = machine.disks.get_mut(&port).expect("every actor has a disk");
        let at = disk.finish_time(self.now, is_flush, &mut self.rng);
        self.schedule(at, Event { to: node, port, boot, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{MS, SEC};

    /// Sends its clock to its neighbour every 10 ms and reports what it gets.
    struct Ping(NodeId);

    impl Actor<u64> for Ping {
        fn handle(&mut self, now: u64, input: Input<'_>, effects: &mut Vec<Effect<u64>>) {
            match input {
                Input::Start => effects.push(Effect::Wake(now + 10 * MS)),
                Input::Wake => {
                    effects.push(Effect::Send { to: self.0, bytes: now.to_le_bytes().to_vec() });
                    effects.push(Effect::Wake(now + 10 * MS));
                }
                Input::Message { bytes, .. } => {
                    effects.push(Effect::Observe(u64::from_le_bytes(bytes.try_into().unwrap())));
                }
                _ => {}
            }
        }

        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    #[derive(Default)]
    struct Record(Vec<(u64, NodeId, u64)>);

    impl Watcher<u64> for Record {
        fn observe(&mut self, world: &World<u64>, node: NodeId, what: u64) -> Result<(), String> {
            self.0.push((world.now(), node, what));
            Ok(())
        }

        fn stepped(&mut self, _: &World<u64>, _: NodeId, _: PortId) -> Result<(), String> {
            Ok(())
        }
    }

    fn run(seed: u64, script: impl Fn(&mut World<u64>, &mut Record)) -> Record {
        let mut world = World::new(seed, NetModel { loss: 100, ..NetModel::GOOD });
        for (node, other) in [(1, 2), (2, 1)] {
            world.add_machine(NodeId(node), 100);
            world.start(NodeId(node), vec![(PortId(0), Box::new(Ping(NodeId(other))))]);
        }
        let mut record = Record::default();
        script(&mut world, &mut record);
        record
    }

    #[test]
    fn a_seed_is_a_run() {
        let second = |world: &mut World<u64>, record: &mut Record| world.run_until(SEC, record).unwrap();
        let (a, b, c) = (run(1, second), run(1, second), run(2, second));
        assert_eq!(a.0, b.0);
        assert_ne!(a.0, c.0);
        assert!((160..200).contains(&a.0.len()), "{}", a.0.len());
    }

    #[test]
    fn a_paused_machine_finds_everything_later_and_a_crashed_one_nothing() {
        let record = run(1, |world, record| {
            world.pause(NodeId(1), SEC / 2);
            world.run_until(SEC / 2 - 1, record).unwrap();
            assert!(record.0.is_empty() || record.0.iter().all(|(_, node, _)| *node == NodeId(2)));
            world.run_until(SEC, record).unwrap();
            world.crash(NodeId(2));
            world.run_until(2 * SEC, record).unwrap();
        });
        let to = |node| record.0.iter().filter(|r| r.1 == NodeId(node)).count();
        assert!(to(1) > 80, "{}", to(1));
        assert!((40..60).contains(&to(2)), "{}", to(2));
    }

    #[test]
    fn clocks_convert_both_ways() {
        for drift_ppm in [-500, 0, 500] {
            let clock = Clock { base_true: 7 * SEC, base_local: 3 * SEC, drift_ppm };
            for local in [3 * SEC, 4 * SEC, 9 * SEC + 1] {
                let t = clock.true_time(local);
                assert!(clock.local(t) >= local && clock.local(t) <= local + 3, "{drift_ppm} {local}");
            }
        }
    }
}
