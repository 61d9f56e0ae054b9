use super::*;
use crate::table::{Kind, Name};
use alloc::vec;
use smi_cluster::{GroupId, NodeId, Vid};

fn longest_entries() -> Vec<Entry> {
    let name = || Name::new(&"x".repeat(64)).unwrap();
    let body = Op::Create {
        vid: Vid(u128::MAX),
        kind: Kind::Process { program: name() },
        group: Some(GroupId(u32::MAX)),
        name: Some(name()),
    };
    let request =
        RequestId { node: NodeId(64), session: MAX_NUMBER - 1, number: MAX_NUMBER - 1, floor: MAX_NUMBER - 1 };
    let mut entries: Vec<Entry> = vec![];
    for i in 0..PIPELINE as u64 {
        let parent = entries.last().map_or(u64::MAX, Entry::hash);
        let op = MAX_NUMBER - 100 + i;
        entries.push(Entry { op, view: MAX_NUMBER - 1, parent, request: Some(request), body: body.clone() });
    }
    entries
}

fn samples() -> Vec<Message> {
    let entries = longest_entries();
    let tail = Tail { commit: entries[0].op - 1, commit_hash: u64::MAX, entries: entries.clone() };
    let standing = Standing::Normal { view: 7, tail: Some(tail.clone()) };
    let view = MAX_NUMBER - 1;
    vec![
        Message::Request { request: entries[0].request.unwrap(), body: entries[0].body.clone() },
        Message::Prepare { view, commit: 1, entries: entries.clone() },
        Message::DoViewChange { view, log_view: view, tail: tail.clone() },
        Message::StartView { view, tail },
        Message::Learn { commit: 9, entries },
        Message::Snapshot { op: 5, hash: 1, total: 5000, offset: 904, bytes: vec![7; CHUNK_BYTES] },
        Message::HelloReply { nonce: u64::MAX, standing },
        Message::Suspect { view },
        Message::Beat(Beat {
            view: 1,
            durable: Some(2),
            commit: 2,
            sent: u64::MAX,
            echo: u64::MAX,
            boot: u64::MAX,
            store: u64::MAX,
            external: true,
        }),
    ]
}

#[test]
fn messages_survive_encoding_within_the_bound() {
    for message in samples() {
        let bytes = message.encode();
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
    for entry in longest_entries() {
        assert!(encode(&entry).len() <= MAX_ENTRY_BYTES);
    }
}

#[test]
fn cut_messages_and_other_versions_are_refused() {
    for message in samples() {
        let mut bytes = message.encode();
        for len in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..len]), Err(BadEncoding));
        }
        bytes[0] += 1;
        assert_eq!(Message::decode(&bytes), Err(BadEncoding));
    }
    assert_eq!(Message::decode(&vec![VERSION; MAX_MESSAGE_BYTES + 1]), Err(BadEncoding));
}

#[test]
fn flipped_bits_never_panic_and_never_break_a_chain() {
    for message in samples() {
        let bytes = message.encode();
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << (i % 8);
            if let Ok(decoded) = Message::decode(&bad) {
                assert!(decoded.is_sane());
            }
        }
    }
}

#[test]
fn broken_runs_are_refused() {
    let entries = longest_entries();
    let prepare = |entries| Message::decode(&encode(&(VERSION, Message::Prepare { view: 1, commit: 1, entries })));
    assert!(prepare(entries.clone()).is_ok());
    let mut gap = entries.clone();
    gap.remove(3);
    assert_eq!(prepare(gap), Err(BadEncoding));
    let mut chain = entries.clone();
    chain[5].parent ^= 1;
    assert_eq!(prepare(chain), Err(BadEncoding));
    let mut unnumbered = entries[..1].to_vec();
    unnumbered[0].op = 0;
    assert_eq!(prepare(unnumbered), Err(BadEncoding));
    let mut long = entries.clone();
    let last = long[PIPELINE - 1].clone();
    long.push(Entry { op: last.op + 1, parent: last.hash(), request: None, body: Op::Noop, ..last });
    assert_eq!(prepare(long), Err(BadEncoding));
    let tail = Tail { commit: entries[0].op, commit_hash: u64::MAX, entries };
    assert_eq!(Message::decode(&encode(&(VERSION, Message::StartView { view: 1, tail }))), Err(BadEncoding));
}

#[test]
fn snapshot_parts_stay_inside() {
    let part = |total, offset, len| {
        let message = Message::Snapshot { op: 1, hash: 1, total, offset, bytes: vec![0; len] };
        Message::decode(&encode(&(VERSION, message))).is_ok()
    };
    assert!(part(10, 0, 10) && part(10, 9, 1));
    assert!(!part(10, 10, 1) && !part(10, 5, 6) && !part(10, 5, 0));
    assert!(!part(MAX_SNAPSHOT_BYTES as u32 + 1, 0, 1) && !part(8000, 0, CHUNK_BYTES + 1));
}
