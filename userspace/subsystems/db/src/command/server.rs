//! Commands on the connection and the server.

use super::{
    COMMANDS, Command, Context, FAST, Fail, GROWS, Outcome, READ, SYNTAX, WRITE, arity_fits, fail, find, is,
    key_positions, number, unknown_subcommand, wrong_arity,
};
use crate::glob;
use crate::limits;
use crate::resp::Reply;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

type Args<'a> = &'a [Vec<u8>];

/// The version of Redis whose answers these are.
const REDIS_VERSION: &str = "7.0.15";

pub fn ping(_: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    match &a[1..] {
        [] => reply.simple("PONG"),
        [text] => reply.bulk(text),
        _ => return Err(wrong_arity("ping")),
    }
    Ok(())
}

pub fn echo(_: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.bulk(&a[1]);
    Ok(())
}

pub fn quit(c: &mut Context<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    c.session.quit = true;
    reply.simple("OK");
    Ok(())
}

pub fn reset(c: &mut Context<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    c.session.name.clear();
    reply.simple("RESET");
    Ok(())
}

pub fn select(_: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    if number(&a[1])? != 0 {
        return Err(fail("ERR DB index is out of range"));
    }
    reply.simple("OK");
    Ok(())
}

pub fn auth(_: &mut Context<'_>, a: Args<'_>, _: &mut Reply) -> Outcome {
    Err(match a.len() {
        2 => fail(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        3 => fail("WRONGPASS invalid username-password pair or user is disabled."),
        _ => SYNTAX,
    })
}

pub fn hello(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    if let Some(version) = a.get(1) {
        match crate::resp::integer(version) {
            None => return Err(fail("ERR Protocol version is not an integer or out of range")),
            Some(2) => {}
            Some(_) => return Err(fail("NOPROTO unsupported protocol version")),
        }
    }
    let mut name = None;
    let mut rest = a.get(2..).unwrap_or(&[]).iter();
    while let Some(option) = rest.next() {
        if is(option, "SETNAME") {
            name = Some(rest.next().ok_or_else(|| bad_hello(option))?);
        } else if is(option, "AUTH") {
            let _ = (rest.next().ok_or_else(|| bad_hello(option))?, rest.next().ok_or_else(|| bad_hello(option))?);
            return Err(fail("WRONGPASS invalid username-password pair or user is disabled."));
        } else {
            return Err(bad_hello(option));
        }
    }
    if let Some(name) = name {
        set_name(c, name)?;
    }
    reply.array(14);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(2);
    reply.bulk(b"id");
    reply.integer(c.session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn bad_hello(option: &[u8]) -> Fail {
    let mut text = b"ERR Syntax error in HELLO option '".to_vec();
    text.extend_from_slice(super::c_string(option));
    text.push(b'\'');
    text.into()
}

fn set_name(c: &mut Context<'_>, name: &[u8]) -> Outcome {
    if name.len() > limits::CLIENT_NAME || !name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Err(fail("ERR Client names cannot contain spaces, newlines or special characters."));
    }
    c.session.name = name.to_vec();
    Ok(())
}

pub fn client(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let sub = &a[1];
    let arity =
        |len: usize, name: &str| if a.len() == len { Ok(()) } else { Err(wrong_arity(&format!("client|{name}"))) };
    match () {
        _ if is(sub, "ID") => {
            arity(2, "id")?;
            reply.integer(c.session.id as i64);
        }
        _ if is(sub, "GETNAME") => {
            arity(2, "getname")?;
            match c.session.name.is_empty() {
                true => reply.nil(),
                false => reply.bulk(&c.session.name),
            }
        }
        _ if is(sub, "SETNAME") => {
            arity(3, "setname")?;
            set_name(c, &a[2])?;
            reply.simple("OK");
        }
        _ if is(sub, "SETINFO") => {
            arity(4, "setinfo")?;
            if !is(&a[2], "LIB-NAME") && !is(&a[2], "LIB-VER") {
                return Err(fail("ERR Unrecognized option"));
            }
            reply.simple("OK");
        }
        _ if is(sub, "INFO") => {
            arity(2, "info")?;
            let mut line = format!("id={} name=", c.session.id).into_bytes();
            line.extend_from_slice(&c.session.name);
            line.extend_from_slice(b" db=0 resp=2\n");
            reply.bulk(&line);
        }
        _ if is(sub, "NO-EVICT") => {
            arity(3, "no-evict")?;
            if !is(&a[2], "ON") && !is(&a[2], "OFF") {
                return Err(SYNTAX);
            }
            reply.simple("OK");
        }
        _ => return Err(unknown_subcommand("client", sub)),
    }
    Ok(())
}

pub fn config(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let sub = &a[1];
    if is(sub, "GET") {
        if a.len() < 3 {
            return Err(wrong_arity("config|get"));
        }
        let all = parameters(c);
        let found: Vec<_> =
            all.iter().filter(|(name, _)| a[2..].iter().any(|p| glob::matches(p, name.as_bytes(), true))).collect();
        reply.array(found.len() * 2);
        for (name, value) in found {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    } else if is(sub, "RESETSTAT") {
        let connections = c.state.stats.connections;
        c.state.stats = crate::engine::Stats { connections, ..Default::default() };
        reply.simple("OK");
    } else if is(sub, "SET") {
        let name = a.get(2).ok_or_else(|| wrong_arity("config|set"))?;
        let mut text = b"ERR CONFIG SET failed (possibly related to argument '".to_vec();
        text.extend_from_slice(super::c_string(name));
        text.extend_from_slice(b"') - can't set immutable config");
        return Err(text.into());
    } else {
        return Err(unknown_subcommand("config", sub));
    }
    Ok(())
}

fn parameters(c: &Context<'_>) -> Vec<(&'static str, String)> {
    alloc::vec![
        ("appendfsync", "always".into()),
        ("appendonly", "yes".into()),
        ("databases", "1".into()),
        ("maxclients", format!("{}", limits::CONNECTIONS)),
        ("maxmemory", format!("{}", c.state.config.max_memory)),
        ("maxmemory-policy", "noeviction".into()),
        ("proto-max-bulk-len", format!("{}", limits::VALUE)),
        ("save", String::new()),
        ("timeout", "0".into()),
    ]
}

pub fn rewrite(c: &mut Context<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if c.state.compacting {
        return Err(fail("ERR Background append only file rewriting already in progress"));
    }
    c.state.compacting = true;
    reply.simple("Background append only file rewriting started");
    Ok(())
}

pub fn time(c: &mut Context<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(2);
    reply.bulk(format!("{}", c.now() / 1000).as_bytes());
    reply.bulk(format!("{}", c.now() % 1000 * 1000).as_bytes());
    Ok(())
}

// ---- COMMAND ----

pub fn command(_: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(sub) = a.get(1) else {
        describe_all(COMMANDS.iter().map(Some), reply);
        return Ok(());
    };
    match () {
        _ if is(sub, "COUNT") => reply.integer(COMMANDS.len() as i64),
        _ if is(sub, "LIST") => {
            reply.array(COMMANDS.len());
            COMMANDS.iter().for_each(|c| reply.bulk(c.name.as_bytes()));
        }
        _ if is(sub, "INFO") && a.len() == 2 => describe_all(COMMANDS.iter().map(Some), reply),
        _ if is(sub, "INFO") => describe_all(a[2..].iter().map(|name| find(name)), reply),
        _ if is(sub, "DOCS") && a.len() == 2 => document_all(&COMMANDS.iter().collect::<Vec<_>>(), reply),
        _ if is(sub, "DOCS") => document_all(&a[2..].iter().filter_map(|n| find(n)).collect::<Vec<_>>(), reply),
        _ if is(sub, "GETKEYS") => return get_keys(&a[2..], reply),
        _ => return Err(unknown_subcommand("command", sub)),
    }
    Ok(())
}

fn get_keys(request: Args<'_>, reply: &mut Reply) -> Outcome {
    let [name, _, ..] = request else { return Err(wrong_arity("command|getkeys")) };
    let command = find(name).ok_or_else(|| fail("ERR Invalid command specified"))?;
    if command.keys.0 == 0 {
        return Err(fail("ERR The command has no key arguments"));
    }
    if !arity_fits(command.arity, request.len()) {
        return Err(fail("ERR Invalid number of arguments specified for command"));
    }
    let keys = key_positions(command, request.len());
    reply.array(keys.clone().count());
    keys.for_each(|at| reply.bulk(&request[at]));
    Ok(())
}

fn describe_all(commands: impl ExactSizeIterator<Item = Option<&'static Command>>, reply: &mut Reply) {
    reply.array(commands.len());
    for command in commands {
        let Some(c) = command else {
            reply.nil();
            continue;
        };
        reply.array(10);
        reply.bulk(c.name.as_bytes());
        reply.integer(c.arity);
        let flags = [(WRITE, "write"), (READ, "readonly"), (GROWS, "denyoom"), (FAST, "fast")];
        let set: Vec<_> = flags.iter().filter(|(bit, _)| c.flags & bit != 0).collect();
        reply.array(set.len());
        set.iter().for_each(|(_, name)| reply.simple(name));
        [c.keys.0, c.keys.1, c.keys.2].into_iter().for_each(|n| reply.integer(n));
        // ACL categories, tips, key specifications, subcommands.
        (0..4).for_each(|_| reply.array(0));
    }
}

fn document_all(commands: &[&'static Command], reply: &mut Reply) {
    reply.array(commands.len() * 2);
    for c in commands {
        reply.bulk(c.name.as_bytes());
        let facts = [("summary", c.summary), ("since", c.since), ("group", c.group)];
        reply.array(facts.len() * 2);
        for (name, text) in facts {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
        }
    }
}

// ---- INFO ----

/// Makes the text of one section.
type Section = fn(&Context<'_>) -> String;

pub fn info(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    c.reads_all();
    let wanted = |name: &str| {
        a.len() == 1 || a[1..].iter().any(|s| [name, "default", "all", "everything"].iter().any(|n| is(s, n)))
    };
    let sections: [(&str, Section); 7] = [
        ("Server", server_section),
        ("Clients", clients_section),
        ("Memory", memory_section),
        ("Persistence", persistence_section),
        ("Stats", stats_section),
        ("Replication", |_| "role:master\r\nconnected_slaves:0\r\n".into()),
        ("Keyspace", keyspace_section),
    ];
    let mut text = String::new();
    for (name, section) in sections.iter().filter(|(name, _)| wanted(name)) {
        let gap = if text.is_empty() { "" } else { "\r\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{gap}# {name}\r\n{}", section(c));
    }
    reply.bulk(text.as_bytes());
    Ok(())
}

fn lines(pairs: &[(&str, Cow<'_, str>)]) -> String {
    pairs.iter().fold(String::new(), |text, (name, value)| text + name + ":" + value + "\r\n")
}

fn n(number: u64) -> Cow<'static, str> {
    Cow::Owned(format!("{number}"))
}

fn server_section(c: &Context<'_>) -> String {
    let uptime = (c.now() - c.state.started) / 1000;
    lines(&[
        ("redis_version", REDIS_VERSION.into()),
        ("redis_mode", "standalone".into()),
        ("os", "SMI Kernel aarch64".into()),
        ("arch_bits", "64".into()),
        ("tcp_port", "6379".into()),
        ("server_time_usec", n(c.now() * 1000)),
        ("uptime_in_seconds", n(uptime)),
        ("uptime_in_days", n(uptime / 86_400)),
    ])
}

fn clients_section(c: &Context<'_>) -> String {
    lines(&[
        ("connected_clients", n(c.state.connections as u64)),
        ("maxclients", n(limits::CONNECTIONS as u64)),
        ("blocked_clients", n(0)),
    ])
}

fn memory_section(c: &Context<'_>) -> String {
    lines(&[
        ("used_memory", n(c.state.keys.bytes() as u64)),
        ("used_memory_dataset", n(c.state.keys.bytes() as u64)),
        ("maxmemory", n(c.state.config.max_memory as u64)),
        ("maxmemory_policy", "noeviction".into()),
    ])
}

fn persistence_section(c: &Context<'_>) -> String {
    let s = &c.state.stats;
    lines(&[
        ("loading", n(0)),
        ("aof_enabled", n(1)),
        ("aof_rewrite_in_progress", n(c.state.compacting as u64)),
        ("aof_last_bgrewrite_status", if s.failed_compactions > s.compactions { "err" } else { "ok" }.into()),
        ("aof_last_write_status", if c.refusing() { "err" } else { "ok" }.into()),
        ("aof_current_size", n(c.state.log_bytes)),
        ("aof_records", n(c.state.seq)),
        ("aof_commits", n(s.commits)),
        ("aof_rewrites", n(s.compactions)),
    ])
}

fn stats_section(c: &Context<'_>) -> String {
    let s = &c.state.stats;
    lines(&[
        ("total_connections_received", n(s.connections)),
        ("total_commands_processed", n(s.commands)),
        ("expired_keys", n(s.expired)),
        ("evicted_keys", n(0)),
        ("evicted_clients", n(s.shed)),
        ("keyspace_hits", n(s.hits)),
        ("keyspace_misses", n(s.misses)),
    ])
}

fn keyspace_section(c: &Context<'_>) -> String {
    match c.state.keys.len() {
        0 => String::new(),
        keys => format!("db0:keys={keys},expires={},avg_ttl=0\r\n", c.state.keys.with_end()),
    }
}
