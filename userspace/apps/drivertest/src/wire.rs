//! The net driver, twice: what one NIC sends, the other receives.

use alloc::vec::Vec;

use ipc_api::net as calls;
use net::{MAX_FRAME, MIN_FRAME, NetClient, SendError};
use smi_rt::transport::ChannelExt;
use smi_rt::{Channel, time};

use crate::checks::Checks;

/// EtherType of the test's frames: for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb6];
/// Frames under way while order and contents are checked.
const WINDOW: u32 = 24;

struct End {
    channel: Channel,
    client: NetClient<'static>,
    mac: [u8; 6],
}

/// Runs the checks of the NICs.
pub fn run(checks: &mut Checks) {
    let (one, other) = (end(checks, "net-int"), end(checks, "net-ext"));
    let (Some(mut one), Some(mut other)) = (one, other) else {
        return checks.check("cards tell their addresses", false);
    };
    checks.check("cards tell their addresses", one.mac != other.mac);
    let up = calls::Client::new(one.channel.transport()).link() == Ok(true);
    checks.check("card says that the link is up", up);
    let bad = one.client.send(&[&[0; 13]]) == Err(SendError::BadLength)
        && one.client.send(&[&[0; MAX_FRAME + 1]]) == Err(SendError::BadLength);
    checks.check("card refuses frames of bad length", bad);
    let start = time::now_ns();
    let there = exchange(checks, &mut one, &mut other, 0..4000);
    checks.check("frames of all lengths arrive in order", there);
    checks.rate("frames, 24 under way", 4000, "frames", time::now_ns() - start);
    let back = exchange(checks, &mut other, &mut one, 0..1000);
    checks.check("and the other way", back);
    let stats = calls::Client::new(one.channel.transport()).stats();
    let counted = stats.is_ok_and(|stats| stats.sent >= 4000 && stats.received >= 1000 && stats.dropped_receive == 0);
    checks.check("card counts frames", counted);
    for name in ["net-int", "net-ext"] {
        let killed = checks.kill(name);
        checks.check("net driver is killed", killed);
        let again = recovers(checks, &mut one, &mut other) && exchange(checks, &mut one, &mut other, 5000..5500);
        checks.check("frames arrive again", again);
    }
}

fn end(checks: &mut Checks, name: &str) -> Option<End> {
    let channel = checks.channel(name);
    let client = NetClient::new(checks.ring(&channel));
    let mac = calls::Client::new(channel.transport()).mac().ok()?;
    Some(End { channel, client, mac })
}

/// Frame number `n`.
fn frame(from: &End, to: &End, n: u32) -> Vec<u8> {
    let len = MIN_FRAME + n as usize * 7 % (MAX_FRAME - MIN_FRAME + 1);
    let mut bytes = Vec::with_capacity(MAX_FRAME);
    bytes.extend(to.mac);
    bytes.extend(from.mac);
    bytes.extend(ETHERTYPE);
    bytes.extend(n.to_le_bytes());
    bytes.resize(len, n as u8);
    bytes
}

fn notify(end: &mut End) {
    if end.client.wants_signal() {
        smi_rt::notify(&end.channel);
    }
}

/// Sends frames one after the other and checks that each arrives, in order.
fn exchange(checks: &mut Checks, from: &mut End, to: &mut End, numbers: core::ops::Range<u32>) -> bool {
    let (mut sent, mut arrived, mut good) = (numbers.start, numbers.start, true);
    checks.wait(|| {
        while sent < numbers.end && sent - arrived < WINDOW && from.client.send(&[&frame(from, to, sent)]).is_ok() {
            sent += 1;
        }
        let mut buffer = [0; MAX_FRAME];
        while let Some(len) = to.client.receive(&mut buffer) {
            if buffer[12..14] == ETHERTYPE {
                good &= buffer[..len] == frame(from, to, arrived);
                arrived += 1;
            }
        }
        while sent < numbers.end && sent - arrived < WINDOW && from.client.send(&[&frame(from, to, sent)]).is_ok() {
            sent += 1;
        }
        notify(from);
        notify(to);
        arrived == numbers.end || !good
    }) && good
}

/// Sends until something arrives: frames may be lost while a driver is down. Then lets the rest arrive.
fn recovers(checks: &mut Checks, from: &mut End, to: &mut End) -> bool {
    let mut buffer = [0; MAX_FRAME];
    let start = time::now_ns();
    for n in 0..1000 {
        let _ = from.client.send(&[&frame(from, to, n)]);
        notify(from);
        let mut arrived = false;
        let until = time::now_ns() + 20_000_000;
        checks.wait(|| {
            arrived |= to.client.receive(&mut buffer).is_some();
            notify(to);
            arrived || time::now_ns() >= until
        });
        if arrived {
            let quiet = time::now_ns() + 200_000_000;
            while time::now_ns() < quiet {
                while to.client.receive(&mut buffer).is_some() {}
                notify(to);
            }
            return true;
        }
        if time::now_ns() > start + crate::checks::PATIENCE_NS {
            return false;
        }
    }
    false
}
