//! Random and damaged messages against generated dispatch: no panic, and nothing malformed reaches a server.
//!
//! The oracle is `Shape::accepts`, which judges by the interface table and shares no code with generated dispatch.

mod samples;

use ipc_wire::desc::{Field, Type};
use ipc_wire::{Caller, CellSession, Dispatched, Incoming, Label, LinkError, MAX_PAYLOAD, RawCap, Session};
use samples::{Echo, every, other};

/// xorshift64*: deterministic, so a failing run repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

const CAPS: [RawCap; 4] = [RawCap(1), RawCap(2), RawCap(3), RawCap(4)];

/// Sends one message; returns the reply's label, or `None` if the call is pending.
fn send(server: &mut Echo, label: u64, bytes: &[u8], caps: usize, session: &dyn Session) -> Option<u64> {
    let from = Caller { badge: 1, token: 9 };
    let incoming = Incoming { from, label, bytes, caps: &CAPS[..caps], session };
    let mut reply = [0; MAX_PAYLOAD];
    match every::dispatch(server, &incoming, &mut reply) {
        Dispatched::Reply(reply) => Some(reply.label),
        Dispatched::Pending(token) => {
            assert_eq!(token, 9);
            None
        }
    }
}

/// Mostly zeros and small numbers, so that some messages are valid.
fn fill(random: &mut Random, bytes: &mut [u8]) {
    let dense = random.below(4) == 0;
    for byte in bytes {
        *byte = match random.below(if dense { 2 } else { 12 }) {
            0 => random.next() as u8,
            1 => random.below(9) as u8,
            _ => 0,
        };
    }
}

/// A valid value by the table.
fn fill_valid(random: &mut Random, ty: &Type, bytes: &mut [u8]) {
    match ty {
        Type::Unsigned(_) | Type::Signed(_) => fill(random, bytes),
        Type::Bool => bytes[0] = random.below(2) as u8,
        Type::Str(max) | Type::Bytes(max) => {
            let len = random.below(*max as u64 + 1) as usize;
            bytes[0] = len as u8;
            bytes[2..2 + len].iter_mut().for_each(|byte| *byte = b'a' + random.below(26) as u8);
        }
        Type::Array(element, _) => {
            bytes.chunks_mut(element.size()).for_each(|part| fill_valid(random, element, part));
        }
        Type::Struct { fields, .. } => fill_fields(random, fields, bytes),
        Type::Enum { values, size, .. } => {
            let (_, value) = values[random.below(values.len() as u64) as usize];
            bytes.copy_from_slice(&value.to_le_bytes()[..*size]);
        }
        Type::Window(_) => {
            bytes[0] = random.below(40) as u8;
            bytes[4] = random.below(25) as u8;
        }
    }
}

fn fill_fields(random: &mut Random, fields: &[Field], bytes: &mut [u8]) {
    for field in fields {
        fill_valid(random, &field.ty, &mut bytes[field.offset..field.offset + field.ty.size()]);
    }
}

#[test]
fn only_well_formed_messages_reach_the_server() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut memory = [0; 64];
    let session = CellSession::new(&mut memory);
    let mut server = Echo::default();
    let mut accepted = [0u32; 9];
    for _ in 0..400_000 {
        let index = random.below(every::INTERFACE.methods.len() as u64) as usize;
        let method = &every::INTERFACE.methods[index];
        let size = if random.below(20) == 0 { random.below(MAX_PAYLOAD as u64) as usize } else { method.request.size };
        let caps = if random.below(8) == 0 { random.below(5) as usize } else { method.request.caps.len() };
        let mut bytes = [0; MAX_PAYLOAD];
        if size == method.request.size && random.below(4) > 0 {
            fill_fields(&mut random, method.request.fields, &mut bytes[..size]);
            if size > 0 && random.below(2) == 0 {
                bytes[random.below(size as u64) as usize] ^= 1 << random.below(8);
            }
        } else {
            fill(&mut random, &mut bytes[..size]);
        }
        let label = Label::new(every::ID, method.ordinal).bits();
        let before = server.reached;
        let answer = send(&mut server, label, &bytes[..size], caps, &session);
        let valid = method.request.accepts(&bytes[..size], caps, session.len());
        assert_eq!(server.reached - before, u64::from(valid), "{} {:02x?}", method.name, &bytes[..size]);
        if !valid {
            assert_eq!(answer, Some(LinkError::BadMessage.label()), "{}", method.name);
        }
        accepted[index] += u32::from(valid);
    }
    let sent: u32 = accepted.iter().sum();
    assert!(sent < 350_000, "the fuzzer exercises refusal too: {sent}");
    assert!(accepted.iter().all(|count| *count > 1000), "the fuzzer exercises acceptance too: {accepted:?}");
}

#[test]
fn unknown_labels_are_no_method() {
    let mut random = Random(1);
    let mut server = Echo::default();
    for _ in 0..100_000 {
        let label = match random.below(3) {
            0 => random.next() >> 12,
            1 => Label::new(every::ID, random.below(4096) as u16).bits(),
            _ => Label::new(other::ID, 1).bits(),
        };
        if every::INTERFACE.method(Label::from_bits(label)).is_none() {
            let answer = send(&mut server, label, &[], 0, &ipc_wire::NoSession);
            assert_eq!(answer, Some(LinkError::NoMethod.label()), "{label:#x}");
        }
    }
    assert_eq!(server.reached, 0);
}

/// A client must survive a hostile server too: any label, any bytes, any capabilities.
#[test]
fn clients_survive_nonsense_replies() {
    struct Hostile(Random);
    impl ipc_wire::Transport for Hostile {
        fn call(&mut self, _: ipc_wire::Request<'_>, reply: &mut [u8]) -> Result<ipc_wire::Reply, LinkError> {
            fill(&mut self.0, reply);
            let label = [0, 1, 2, 0x101, 0x1ff][self.0.below(5) as usize];
            let len = if self.0.below(4) == 0 { self.0.below(2000) as usize } else { reply.len() };
            let caps = ipc_wire::CapList::new(&CAPS[..self.0.below(4) as usize]);
            Ok(ipc_wire::Reply { label, len, caps })
        }
        fn session(&self) -> &dyn Session {
            &ipc_wire::NoSession
        }
    }
    let mut client = every::Client::new(Hostile(Random(77)));
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let level = [every::Level::Low; 3];
        let results = [
            client.nothing().is_ok(),
            client.text("a", &[]).is_ok(),
            client.arrays(&[0; 6], &level, every::Wide::First, true).is_ok(),
            client.one(ipc_wire::Cap::new(RawCap(1))).is_ok(),
            client.later(1).is_ok(),
        ];
        good += results.iter().filter(|ok| **ok).count();
        bad += results.iter().filter(|ok| !**ok).count();
    }
    assert!(good > 500 && bad > 500, "both happen: {good} {bad}");
}

#[test]
fn traces_never_fail() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let methods = every::INTERFACE.methods;
        let method = &methods[random.below(methods.len() as u64) as usize];
        let mut bytes = [0; MAX_PAYLOAD];
        fill(&mut random, &mut bytes);
        let len = random.below(method.request.size as u64 + 1) as usize;
        let _ = ipc_wire::desc::Traced { fields: method.request.fields, bytes: &bytes[..len] }.to_string();
    }
    let text = &every::INTERFACE.methods[3];
    let mut bytes = [0; 24];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(b"hi");
    bytes[14] = 1;
    bytes[16] = 0xff;
    let trace = ipc_wire::desc::Traced { fields: text.request.fields, bytes: &bytes }.to_string();
    assert_eq!(trace, r#"name="hi" data=[ff]"#);
}
