use super::*;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn up(node: u16, incarnation: u64) -> Op {
    let external = node >= 2;
    Op::NodeUp { node: NodeId(node), incarnation, boot: incarnation * 100, store: u64::from(node), external }
}

fn down(node: u16, incarnation: u64) -> Op {
    Op::NodeDown { node: NodeId(node), incarnation }
}

fn file(vid: u128, group: u32, text: &str) -> Op {
    Op::Create { vid: Vid(vid), kind: Kind::File, group: Some(GroupId(group)), name: Some(name(text)) }
}

fn table(ops: &[Op]) -> Table {
    let mut table = Table::new();
    for op in ops {
        assert_eq!(table.apply(op), Ok(Outcome::Done), "{op:?}");
        assert!(table.is_sound());
    }
    table
}

fn three_nodes() -> Vec<Op> {
    vec![up(1, 1), up(2, 1), up(3, 1)]
}

fn nodes(ids: &[u16]) -> Vec<NodeId> {
    ids.iter().map(|n| NodeId(*n)).collect()
}

#[test]
fn groups_go_to_the_least_loaded_nodes() {
    let mut ops = three_nodes();
    ops.extend((1..=3).map(|g| Op::CreateGroup { group: GroupId(g), degree: 2 }));
    let t = table(&ops);
    let members: Vec<_> = t.groups().map(|(_, g)| g.members.clone()).collect();
    assert_eq!(members, [nodes(&[1, 2]), nodes(&[3, 1]), nodes(&[2, 3])]);
}

#[test]
fn a_death_promotes_and_refills_every_group_at_once() {
    let mut ops = three_nodes();
    ops.extend((1..=3).map(|g| Op::CreateGroup { group: GroupId(g), degree: 2 }));
    ops.push(down(1, 1));
    let mut t = table(&ops);
    let g = |t: &Table, id| t.group(GroupId(id)).unwrap().clone();
    assert_eq!((g(&t, 1).members, g(&t, 1).joining, g(&t, 1).epoch), (nodes(&[2]), Some(NodeId(3)), Epoch(2)));
    assert_eq!((g(&t, 2).members, g(&t, 2).joining, g(&t, 2).epoch), (nodes(&[3]), Some(NodeId(2)), Epoch(2)));
    assert_eq!((g(&t, 3).members, g(&t, 3).epoch), (nodes(&[2, 3]), Epoch(1)));

    // The old epoch cannot finish the join, the current one can, once.
    let synced = |epoch| Op::Synced { group: GroupId(1), epoch: Epoch(epoch), node: NodeId(3) };
    assert_eq!(t.apply(&synced(1)), Err(OpError::Stale));
    assert_eq!(t.apply(&synced(2)), Ok(Outcome::Done));
    assert_eq!(t.apply(&synced(3)), Err(OpError::Stale));
    assert_eq!((g(&t, 1).members, g(&t, 1).joining, g(&t, 1).epoch), (nodes(&[2, 3]), None, Epoch(3)));
}

#[test]
fn a_join_that_was_interrupted_must_start_again() {
    let mut ops = vec![up(1, 1), Op::CreateGroup { group: GroupId(1), degree: 2 }, up(2, 1), down(2, 1), up(2, 2)];
    let mut t = table(&ops);
    let g = t.group(GroupId(1)).unwrap();
    // Founded, joining, left, joining again.
    assert_eq!((g.joining, g.epoch), (Some(NodeId(2)), Epoch(4)));
    let stale = Op::Synced { group: GroupId(1), epoch: Epoch(2), node: NodeId(2) };
    assert_eq!(t.apply(&stale), Err(OpError::Stale));
    ops.push(Op::Synced { group: GroupId(1), epoch: Epoch(4), node: NodeId(2) });
    assert_eq!(table(&ops).group(GroupId(1)).unwrap().members, nodes(&[1, 2]));
}

#[test]
fn a_group_without_members_waits_for_its_last_holder() {
    let ops = [up(1, 1), up(2, 1), Op::CreateGroup { group: GroupId(1), degree: 2 }, down(1, 1), down(2, 1), up(1, 2)];
    let mut t = table(&ops);
    let g = t.group(GroupId(1)).unwrap();
    // Node 1 missed writes that node 2 may have acknowledged alone.
    assert_eq!((g.members.len(), g.joining, g.lost), (0, None, Some(NodeId(2))));
    t.apply(&up(2, 2)).unwrap();
    let g = t.group(GroupId(1)).unwrap();
    assert_eq!((g.members.clone(), g.joining, g.lost), (nodes(&[2]), Some(NodeId(1)), None));
}

#[test]
fn a_new_disk_does_not_revive_a_group() {
    let mut t = table(&[up(1, 1), Op::CreateGroup { group: GroupId(1), degree: 1 }, down(1, 1)]);
    t.apply(&Op::NodeUp { node: NodeId(1), incarnation: 2, boot: 9, store: 77, external: false }).unwrap();
    assert_eq!(t.group(GroupId(1)).unwrap().lost, Some(NodeId(1)));
    // Nor does it when the death went unnoticed.
    let mut t = table(&[up(1, 1), Op::CreateGroup { group: GroupId(1), degree: 1 }]);
    t.apply(&Op::NodeUp { node: NodeId(1), incarnation: 2, boot: 9, store: 77, external: false }).unwrap();
    assert_eq!(t.group(GroupId(1)).unwrap().lost, Some(NodeId(1)));
    assert!(t.is_sound());
}

#[test]
fn an_unnoticed_reboot_leaves_groups_first() {
    let t = table(&[up(1, 1), up(2, 1), Op::CreateGroup { group: GroupId(1), degree: 2 }, up(1, 2)]);
    let g = t.group(GroupId(1)).unwrap();
    assert_eq!((g.members.clone(), g.joining, g.epoch), (nodes(&[2]), Some(NodeId(1)), Epoch(2)));
}

#[test]
fn old_lives_are_refused() {
    let mut t = table(&[up(1, 2)]);
    assert_eq!(t.apply(&up(1, 2)), Err(OpError::Stale));
    assert_eq!(t.apply(&up(1, 1)), Err(OpError::Stale));
    assert_eq!(t.apply(&down(1, 1)), Err(OpError::Stale));
    assert_eq!(t.apply(&down(2, 1)), Err(OpError::NotFound));
    assert_eq!(t.apply(&up(0, 1)), Err(OpError::OutOfRange));
    assert_eq!(t.apply(&up(MAX_NODES as u16 + 1, 1)), Err(OpError::OutOfRange));
    // The same boot that is Up already.
    let again = Op::NodeUp { node: NodeId(1), incarnation: 3, boot: 200, store: 1, external: false };
    assert_eq!(t.apply(&again), Err(OpError::Stale));
    assert!(t.is_up(NodeId(1)));
}

#[test]
fn expel_keeps_the_last_copy() {
    let mut t = table(&[up(1, 1), up(2, 1), Op::CreateGroup { group: GroupId(1), degree: 2 }]);
    let expel = |epoch, node| Op::Expel { group: GroupId(1), epoch: Epoch(epoch), node: NodeId(node) };
    assert_eq!(t.apply(&expel(2, 1)), Err(OpError::Stale));
    assert_eq!(t.apply(&expel(1, 1)), Ok(Outcome::Done));
    let g = t.group(GroupId(1)).unwrap();
    assert_eq!((g.members.clone(), g.joining, g.epoch), (nodes(&[2]), Some(NodeId(1)), Epoch(2)));
    assert_eq!(t.apply(&expel(2, 2)), Err(OpError::Stale));
}

#[test]
fn promote_takes_members_only() {
    let mut t = table(&[up(1, 1), up(2, 1), Op::CreateGroup { group: GroupId(1), degree: 2 }]);
    let promote = |epoch, node| Op::Promote { group: GroupId(1), epoch: Epoch(epoch), node: NodeId(node) };
    assert_eq!(t.apply(&promote(1, 3)), Err(OpError::Stale));
    assert_eq!(t.apply(&promote(1, 2)), Ok(Outcome::Done));
    assert_eq!(t.group(GroupId(1)).unwrap().primary(), Some(NodeId(2)));
    assert_eq!(t.group(GroupId(1)).unwrap().epoch, Epoch(2));
    // Already so: no new epoch.
    assert_eq!(t.apply(&promote(2, 2)), Ok(Outcome::Done));
    assert_eq!(t.group(GroupId(1)).unwrap().epoch, Epoch(2));
}

#[test]
fn names_are_unique_and_rename_replaces() {
    let group = Op::CreateGroup { group: GroupId(1), degree: 1 };
    let mut t = table(&[up(1, 1), group, file(1, 1, "a"), file(2, 1, "b")]);
    assert_eq!(t.apply(&file(3, 1, "a")), Err(OpError::Exists));
    assert_eq!(t.apply(&file(1, 1, "c")), Err(OpError::Exists));
    assert_eq!(t.apply(&file(3, 9, "c")), Err(OpError::NotFound));
    let rename = |from, to| Op::Rename { from: name(from), to: name(to) };
    assert_eq!(t.apply(&rename("a", "b")), Ok(Outcome::Replaced(Vid(2))));
    assert_eq!((t.lookup("a"), t.lookup("b"), t.vid(Vid(2))), (None, Some(Vid(1)), None));
    assert_eq!(t.apply(&rename("b", "b")), Ok(Outcome::Done));
    assert_eq!(t.lookup("b"), Some(Vid(1)));
    assert_eq!(t.apply(&rename("a", "c")), Err(OpError::NotFound));
    assert!(t.is_sound());
    assert_eq!(t.apply(&Op::DeleteGroup { group: GroupId(1) }), Err(OpError::NotEmpty));
    t.apply(&Op::Delete { vid: Vid(1) }).unwrap();
    t.apply(&Op::DeleteGroup { group: GroupId(1) }).unwrap();
    assert_eq!((t.names().count(), t.groups().count()), (0, 0));
}

#[test]
fn a_file_does_not_replace_a_process() {
    let group = Op::CreateGroup { group: GroupId(1), degree: 1 };
    let process = Op::Create {
        vid: Vid(2),
        kind: Kind::Process { program: name("db") },
        group: Some(GroupId(1)),
        name: Some(name("db")),
    };
    let mut t = table(&[up(1, 1), group, file(1, 1, "a"), process]);
    assert_eq!(t.apply(&Op::Rename { from: name("a"), to: name("db") }), Err(OpError::WrongKind));
    assert_eq!(t.lookup("a"), Some(Vid(1)));
}

#[test]
fn listeners_follow_their_resource() {
    let group = Op::CreateGroup { group: GroupId(1), degree: 1 };
    let socket =
        |vid| Op::Create { vid: Vid(vid), kind: Kind::Socket { port: 80 }, group: Some(GroupId(1)), name: None };
    let mut t = table(&[up(1, 1), group, file(1, 1, "a"), socket(2), socket(3)]);
    let listen = |port, vid| Op::Listen { port, vid: Vid(vid) };
    assert_eq!(t.apply(&listen(80, 1)), Err(OpError::WrongKind));
    assert_eq!(t.apply(&listen(80, 9)), Err(OpError::NotFound));
    assert_eq!(t.apply(&listen(0, 2)), Err(OpError::OutOfRange));
    assert_eq!(t.apply(&listen(80, 2)), Ok(Outcome::Done));
    assert_eq!(t.apply(&listen(80, 2)), Ok(Outcome::Done));
    assert_eq!(t.apply(&listen(80, 3)), Err(OpError::Exists));
    assert_eq!(t.listener(80), Some(Vid(2)));
    t.apply(&Op::Delete { vid: Vid(2) }).unwrap();
    assert_eq!(t.listener(80), None);
    assert_eq!(t.apply(&Op::Unlisten { port: 80 }), Err(OpError::NotFound));
}

#[test]
fn exported_servers_die_with_their_node() {
    let server = |vid, node| Op::Create {
        vid: Vid(vid),
        kind: Kind::Server { node: NodeId(node) },
        group: None,
        name: Some(name("greeter")),
    };
    let mut t = table(&[up(1, 1), up(2, 1), server(1, 2)]);
    assert_eq!(t.home(Vid(1)), Some((NodeId(2), Epoch(0))));
    t.apply(&down(2, 1)).unwrap();
    assert_eq!(t.lookup("greeter"), None);
    assert_eq!(t.apply(&server(1, 2)), Err(OpError::NotFound));
    t.apply(&server(2, 1)).unwrap();
    // An unnoticed reboot takes them too.
    t.apply(&up(1, 2)).unwrap();
    assert_eq!(t.vids().count(), 0);
}

#[test]
fn the_lowest_external_member_routes() {
    let mut t = table(&three_nodes());
    assert_eq!(t.active_router(), Some(NodeId(2)));
    t.apply(&down(2, 1)).unwrap();
    assert_eq!(t.active_router(), Some(NodeId(3)));
    t.apply(&down(3, 1)).unwrap();
    assert_eq!(t.active_router(), None);
}

#[test]
fn tables_survive_encoding_and_damage_is_refused() {
    let mut ops = three_nodes();
    ops.extend([Op::CreateGroup { group: GroupId(1), degree: 3 }, file(1, 1, "a"), down(3, 1)]);
    let t = table(&ops);
    let bytes = t.encode();
    let back = Table::decode(&bytes).unwrap();
    assert_eq!(back, t);
    assert_eq!(back.state_hash(), t.state_hash());
    for len in 0..bytes.len() {
        assert_eq!(Table::decode(&bytes[..len]), Err(BadEncoding));
    }
    // Whatever decodes after damage is still a sound table.
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << bit;
            assert!(Table::decode(&bad).is_ok_and(|t| t.is_sound()) || Table::decode(&bad).is_err());
        }
    }
}

#[test]
fn a_refused_operation_changes_only_the_number() {
    let mut t = table(&three_nodes());
    let mut before = t.clone();
    assert!(t.apply(&down(1, 7)).is_err());
    before.op_number += 1;
    assert_eq!(t, before);
}

#[test]
fn the_fullest_table_fits_its_bound() {
    let long = |i: usize| name(&format!("{i:0>64}"));
    let mut t = Table { op_number: u64::MAX, ..Table::new() };
    for n in 1..=MAX_NODES as u16 {
        let r =
            NodeRecord { state: NodeState::Up, incarnation: u64::MAX, boot: u64::MAX, store: u64::MAX, external: true };
        t.nodes.insert(NodeId(n), r);
    }
    for g in 0..MAX_GROUPS as u32 {
        let r = GroupRecord {
            epoch: Epoch(u64::MAX),
            degree: 5,
            members: nodes(&[60, 61, 62, 63, 64]),
            joining: None,
            lost: None,
        };
        t.groups.insert(GroupId(u32::MAX - g), r);
    }
    for v in 0..MAX_VIDS {
        let r = VidRecord {
            kind: Kind::Process { program: long(0) },
            group: Some(GroupId(u32::MAX)),
            generation: u64::MAX,
            name: Some(long(v)),
        };
        t.names.insert(long(v), Vid(u128::MAX - v as u128));
        t.vids.insert(Vid(u128::MAX - v as u128), r);
    }
    t.listeners = (0..MAX_LISTENERS as u16).map(|p| (u16::MAX - p, Vid(u128::MAX))).collect::<BTreeMap<_, _>>();
    assert!(t.is_sound());
    assert!(t.encode().len() <= MAX_TABLE_BYTES);
    let create = Op::Create { vid: Vid(1), kind: Kind::File, group: Some(GroupId(u32::MAX)), name: None };
    t.op_number = 0;
    assert_eq!(t.apply(&create), Err(OpError::Full));
    assert_eq!(t.apply(&Op::CreateGroup { group: GroupId(1), degree: 1 }), Err(OpError::Full));
    assert_eq!(t.apply(&Op::Listen { port: 1, vid: Vid(u128::MAX) }), Err(OpError::Full));
}

/// Random operations never break the table's rules, and replicas that apply the same ones agree.
#[test]
fn random_operations_keep_the_table_sound() {
    for seed in 1..=200u64 {
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        let mut t = Table::new();
        for incarnation in 1..=150 {
            let node = NodeId(1 + below(5) as u16);
            let group = GroupId(below(4) as u32);
            let epoch = t.group(group).map_or(Epoch(1), |g| g.epoch);
            let vid = Vid(u128::from(below(6)));
            let (a, b) = (name(&format!("n{}", below(5))), name(&format!("n{}", below(5))));
            let current = t.node(node).map_or(0, |n| n.incarnation);
            let op = match below(11) {
                0 | 1 => Op::NodeUp { node, incarnation, boot: incarnation, store: below(2), external: below(2) == 1 },
                2 => Op::NodeDown { node, incarnation: current },
                3 => Op::Synced { group, epoch, node },
                4 => Op::Expel { group, epoch, node },
                5 => Op::Promote { group, epoch, node },
                6 => Op::CreateGroup { group, degree: 1 + below(4) as u8 },
                7 => Op::Create { vid, kind: Kind::Socket { port: 1 }, group: Some(group), name: Some(a) },
                8 => Op::Create { vid, kind: Kind::Server { node }, group: None, name: None },
                9 => Op::Rename { from: a, to: b },
                _ => Op::Delete { vid },
            };
            let before = t.clone();
            let result = t.apply(&op);
            assert!(t.is_sound(), "seed {seed}: {op:?} broke {before:?} into {t:?}");
            if result.is_err() {
                assert!(t.groups == before.groups && t.vids == before.vids && t.names == before.names);
            }
            for (id, g) in t.groups() {
                let Some(old) = before.group(id) else { continue };
                let same = (&old.members, old.joining) == (&g.members, g.joining);
                // A member that was rebooted is another replica even if it is put back at once.
                let reborn = matches!(&op, Op::NodeUp { node, .. } if result.is_ok() && old.involves(*node));
                let rise = u64::from(!same || reborn);
                assert_eq!(g.epoch.0, old.epoch.0 + rise, "seed {seed}: {op:?}: {old:?} -> {g:?}");
            }
        }
        assert_eq!(Table::decode(&t.encode()), Ok(t));
    }
}
