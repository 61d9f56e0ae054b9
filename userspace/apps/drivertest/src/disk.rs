//! The block driver.

use alloc::vec;
use alloc::vec::Vec;

use block::{BLOCK_SIZE, BlockClient, Event, Geometry, Status, SubmitError, Token};
use ipc_api::block as calls;
use smi_rt::session::RegionSession;
use smi_rt::transport::ChannelExt;
use smi_rt::{Channel, time};

use crate::checks::Checks;

type Client = BlockClient<'static, RegionSession>;

/// Times the driver is killed under load.
const KILLS: u32 = 5;
/// Blocks of the load.
const LOAD: u64 = 64;

struct Disk<'a> {
    checks: &'a mut Checks,
    channel: Channel,
    client: Client,
}

/// Runs the checks of the disk.
pub fn run(checks: &mut Checks) {
    let channel = checks.channel("block");
    let client = BlockClient::new(checks.ring(&channel), RegionSession::of(&channel));
    let mut disk = Disk { checks, channel, client };
    let Some(geometry) = disk.ready() else {
        return disk.checks.check("disk is ready", false);
    };
    disk.checks.check("disk is ready", true);
    disk.geometry(&geometry);
    disk.contents();
    disk.window(&geometry);
    disk.measure();
    disk.restarts();
    disk.successor();
    let alarms = disk.checks.alarms;
    disk.checks.check("disk never forgets a signal", alarms == 0);
}

/// The content of block `n` in its `round`.
fn pattern(n: u64, round: u64) -> Vec<u8> {
    let seed = (n << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |i: u64| seed.wrapping_mul(2 * i + 1).to_le_bytes();
    (0..BLOCK_SIZE as u64 / 8).flat_map(word).collect()
}

impl Disk<'_> {
    fn signal(&mut self) {
        if self.client.wants_signal() {
            smi_rt::notify(&self.channel);
        }
    }

    /// Waits for the driver's Ready.
    fn ready(&mut self) -> Option<Geometry> {
        let mut found = None;
        self.until(|event| {
            if let Event::Ready(geometry) = event {
                found = Some(geometry);
            }
            matches!(event, Event::Ready(_))
        });
        found
    }

    /// Gives all events to `on` until it says true. False if that takes too long.
    fn until(&mut self, mut on: impl FnMut(Event) -> bool) -> bool {
        let Self { checks, channel, client } = self;
        checks.wait(|| {
            let mut done = false;
            while !done && let Some(event) = client.poll() {
                done = on(event);
            }
            if client.wants_signal() {
                smi_rt::notify(channel);
            }
            done
        })
    }

    /// Waits for one request.
    fn done(&mut self, token: Token) -> Option<Result<(), Status>> {
        let mut found = None;
        self.until(|event| {
            if let Event::Done(which, result) = event
                && which == token
            {
                found = Some(result);
            }
            found.is_some()
        });
        found
    }

    fn write(&mut self, block: u64, bytes: &[u8]) -> Option<Result<(), Status>> {
        let token = self.client.write(block, bytes).ok()?;
        self.signal();
        self.done(token)
    }

    fn read(&mut self, block: u64, count: u32) -> Option<Vec<u8>> {
        let token = self.client.read(block, count).ok()?;
        self.signal();
        self.done(token)?.ok()?;
        let mut bytes = vec![0; count as usize * BLOCK_SIZE];
        self.client.take(token, &mut bytes).then_some(bytes)
    }

    fn flush(&mut self) -> bool {
        let Ok(token) = self.client.flush() else { return false };
        self.signal();
        self.done(token) == Some(Ok(()))
    }

    fn geometry(&mut self, ready: &Geometry) {
        let mut calls = calls::Client::new(self.channel.transport());
        let same = calls.geometry().is_ok_and(|geometry| {
            geometry.blocks == ready.blocks
                && geometry.read_only == ready.read_only
                && geometry.first + geometry.blocks <= geometry.disk_blocks
        });
        self.checks.check("disk tells its geometry", same);
    }

    fn contents(&mut self) {
        let most = self.client.max_blocks();
        let data: Vec<u8> = (0..u64::from(most)).flat_map(|n| pattern(n, 1)).collect();
        let written = self.write(3, &data) == Some(Ok(()));
        self.checks.check("disk writes its longest request", written);
        let flushed = self.flush();
        self.checks.check("disk flushes", flushed);
        let same = self.read(3, most).is_some_and(|bytes| bytes == data);
        self.checks.check("disk reads it back", same);
        let one = self.read(3 + u64::from(most) - 1, 1).is_some_and(|bytes| bytes == pattern(u64::from(most) - 1, 1));
        self.checks.check("disk reads one block of it", one);
        let longer = self.client.read(0, most + 1) == Err(SubmitError::BadSize);
        self.checks.check("disk refuses a longer request", longer);
    }

    fn window(&mut self, geometry: &Geometry) {
        let last = self.write(geometry.blocks - 1, &pattern(0, 2)) == Some(Ok(()));
        self.checks.check("disk writes the last block of the window", last);
        let beyond = self.write(geometry.blocks, &pattern(0, 2)) == Some(Err(Status::OutOfWindow));
        self.checks.check("disk refuses the block after it", beyond);
        let around = self.write(u64::MAX, &pattern(0, 2)) == Some(Err(Status::OutOfWindow));
        self.checks.check("disk refuses a block that wraps around", around);
    }

    fn measure(&mut self) {
        const MIB: u64 = 8;
        let count = self.client.max_blocks();
        let data = vec![0x5a; count as usize * BLOCK_SIZE];
        let requests = (MIB << 20) / data.len() as u64;
        for (what, writing) in [("disk writes in long requests", true), ("disk reads in long requests", false)] {
            let start = time::now_ns();
            let (mut sent, mut done) = (0, 0);
            while done < requests {
                while sent < requests {
                    let block = 128 + sent * u64::from(count);
                    let token = if writing { self.client.write(block, &data) } else { self.client.read(block, count) };
                    if token.is_err() {
                        break;
                    }
                    sent += 1;
                }
                self.signal();
                let mut arrived = None;
                if !self.until(|event| {
                    arrived = if let Event::Done(token, Ok(())) = event { Some(token) } else { None };
                    arrived.is_some()
                }) {
                    break;
                }
                if let (Some(token), false) = (arrived, writing) {
                    self.client.forget(token);
                }
                done += 1;
            }
            self.checks.check(what, done == requests);
            self.checks.rate(what, MIB * 1024, "KiB", time::now_ns() - start);
        }
        const SMALL: u64 = 200;
        let start = time::now_ns();
        let good = (0..SMALL).all(|n| self.write(128 + n, &pattern(n, 3)) == Some(Ok(())) && self.flush());
        self.checks.check("disk makes small writes durable", good);
        self.checks.rate("disk, one block durable at a time", SMALL, "writes", time::now_ns() - start);
    }

    /// Rewrites blocks without pause while the driver is killed again and again; every acknowledged write must be found.
    fn restarts(&mut self) {
        let mut acknowledged = vec![0u64; LOAD as usize];
        let mut under_way: Vec<(Token, u64, u64)> = Vec::new();
        let (mut kills, mut restarts, mut errors) = (0, 0, 0);
        let mut round = 0;
        let mut next_kill = time::now_ns() + 300_000_000;
        while restarts < KILLS && round < 100_000 {
            round += 1;
            for block in 0..LOAD {
                if under_way.iter().all(|(_, busy, _)| *busy != block)
                    && let Ok(token) = self.client.write(block, &pattern(block, round))
                {
                    under_way.push((token, block, round));
                }
            }
            self.signal();
            if kills == restarts && time::now_ns() >= next_kill {
                kills += 1;
                let killed = self.checks.kill("block");
                self.checks.check("disk driver is killed under load", killed);
            }
            let progress = self.until(|event| {
                match event {
                    Event::Ready(_) => {
                        restarts += 1;
                        next_kill = time::now_ns() + 300_000_000;
                    }
                    Event::Done(token, result) => {
                        if let Some(i) = under_way.iter().position(|(which, ..)| *which == token) {
                            let (_, block, round) = under_way.swap_remove(i);
                            acknowledged[block as usize] = round;
                            errors += u32::from(result.is_err());
                        }
                    }
                }
                true
            });
            if !progress {
                break;
            }
        }
        self.checks.check("disk driver comes back each time", restarts == KILLS);
        while !under_way.is_empty()
            && self.until(|event| {
                if let Event::Done(token, result) = event
                    && let Some(i) = under_way.iter().position(|(which, ..)| *which == token)
                {
                    let (_, block, round) = under_way.swap_remove(i);
                    acknowledged[block as usize] = round;
                    errors += u32::from(result.is_err());
                }
                under_way.is_empty()
            })
        {}
        self.checks.check("disk answers everything that was asked", under_way.is_empty() && errors == 0);
        let kept = (0..LOAD).all(|block| {
            let expected = pattern(block, acknowledged[block as usize]);
            self.read(block, 1).is_some_and(|bytes| bytes == expected)
        });
        self.checks.check("disk keeps every acknowledged write", kept);
    }

    /// A client that was restarted with requests under way.
    fn successor(&mut self) {
        for block in 0..16 {
            let _ = self.client.write(block, &pattern(block, 7));
        }
        self.signal();
        self.client = BlockClient::new(self.checks.ring(&self.channel), RegionSession::of(&self.channel));
        let early = self.client.read(0, 1) == Err(SubmitError::NotReady);
        self.signal();
        let ready = self.ready().is_some();
        let good = ready && self.write(5, &pattern(5, 8)) == Some(Ok(()));
        let same = good && self.read(5, 1).is_some_and(|bytes| bytes == pattern(5, 8));
        self.checks.check("disk serves a restarted client", early && same);
    }
}
