//! Commands on keys whatever their value.

use super::{Context, Fail, Outcome, SYNTAX, end_time, fail, is, number};
use crate::glob;
use crate::record::Op;
use crate::resp::Reply;
use alloc::format;
use alloc::vec::Vec;

type Args<'a> = &'a [Vec<u8>];

/// Most keys that one `SCAN` meets, whatever `COUNT` says.
const MAX_SCAN: i64 = 10_000;

pub fn del(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut gone = 0;
    for key in &a[1..] {
        if c.exists(key) {
            c.write(Op::Delete { key });
            gone += 1;
        }
    }
    reply.integer(gone);
    Ok(())
}

pub fn exists(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = a[1..].iter().filter(|key| c.exists(key)).count();
    reply.integer(count as i64);
    Ok(())
}

pub fn kind(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.simple(if c.exists(&a[1]) { "string" } else { "none" });
    Ok(())
}

pub fn rename(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    move_key(c, &a[1], &a[2])?;
    reply.simple("OK");
    Ok(())
}

pub fn renamenx(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    if !c.exists(&a[1]) {
        return Err(NO_SUCH_KEY);
    }
    let free = !c.exists(&a[2]);
    if free {
        move_key(c, &a[1], &a[2])?;
    }
    reply.integer(free as i64);
    Ok(())
}

const NO_SUCH_KEY: Fail = Fail::Borrowed(b"ERR no such key");

fn move_key(c: &mut Context<'_>, from: &[u8], to: &[u8]) -> Outcome {
    let entry = c.lookup(from).ok_or(NO_SUCH_KEY)?.clone();
    if from != to {
        c.write(Op::Set { key: to, value: &entry.value, expires: entry.expires });
        c.write(Op::Delete { key: from });
    }
    Ok(())
}

pub fn expire(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_end(c, a, 1000, true, "expire", reply)
}

pub fn pexpire(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_end(c, a, 1, true, "pexpire", reply)
}

pub fn expireat(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_end(c, a, 1000, false, "expireat", reply)
}

pub fn pexpireat(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_end(c, a, 1, false, "pexpireat", reply)
}

/// `NX`, `XX`, `GT`, `LT` of the `EXPIRE` family.
#[derive(Default)]
struct When {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl When {
    fn parse(options: Args<'_>) -> Result<When, Fail> {
        let mut when = When::default();
        for option in options {
            match () {
                _ if is(option, "NX") => when.nx = true,
                _ if is(option, "XX") => when.xx = true,
                _ if is(option, "GT") => when.gt = true,
                _ if is(option, "LT") => when.lt = true,
                _ => {
                    let mut text = b"ERR Unsupported option ".to_vec();
                    text.extend_from_slice(super::c_string(option));
                    return Err(text.into());
                }
            }
        }
        if when.nx && (when.xx || when.gt || when.lt) {
            return Err(fail("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if when.gt && when.lt {
            return Err(fail("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(when)
    }

    /// Whether an end of `old` (0: never) may become `new`. Never counts as later than everything.
    fn allows(&self, old: u64, new: i64) -> bool {
        let later = old != 0 && new > old as i64;
        let earlier = old == 0 || new < old as i64;
        !(self.nx && old != 0 || self.xx && old == 0 || self.gt && !later || self.lt && !earlier)
    }
}

fn set_end(c: &mut Context<'_>, a: Args<'_>, unit: i64, relative: bool, command: &str, reply: &mut Reply) -> Outcome {
    let when = When::parse(&a[3..])?;
    let at = end_time(c.now(), number(&a[2])?, unit, relative, command)?;
    let Some(old) = c.lookup(&a[1]).map(|e| e.expires) else {
        reply.integer(0);
        return Ok(());
    };
    let allowed = when.allows(old, at);
    if allowed && at <= c.now() as i64 {
        c.write(Op::Delete { key: &a[1] });
    } else if allowed {
        c.write(Op::Expire { key: &a[1], at: at as u64 });
    }
    reply.integer(allowed as i64);
    Ok(())
}

pub fn persist(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let had_end = c.lookup(&a[1]).is_some_and(|e| e.expires != 0);
    if had_end {
        c.write(Op::Expire { key: &a[1], at: 0 });
    }
    reply.integer(had_end as i64);
    Ok(())
}

/// -2 without a key, -1 without an end, else what `show` makes of (end, now).
fn show_end(c: &mut Context<'_>, key: &[u8], reply: &mut Reply, show: fn(u64, u64) -> u64) -> Outcome {
    let now = c.now();
    reply.integer(match c.read(key).map(|e| e.expires) {
        None => -2,
        Some(0) => -1,
        Some(end) => show(end, now) as i64,
    });
    Ok(())
}

pub fn ttl(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    show_end(c, &a[1], reply, |end, now| (end - now + 500) / 1000)
}

pub fn pttl(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    show_end(c, &a[1], reply, |end, now| end - now)
}

pub fn expiretime(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    show_end(c, &a[1], reply, |end, _| (end + 500) / 1000)
}

pub fn pexpiretime(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    show_end(c, &a[1], reply, |end, _| end)
}

pub fn dbsize(c: &mut Context<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    c.reads_all();
    reply.integer(c.state.keys.len() as i64);
    Ok(())
}

pub fn flush(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    match &a[1..] {
        [] => {}
        [how] if is(how, "SYNC") || is(how, "ASYNC") => {}
        _ => return Err(SYNTAX),
    }
    c.write(Op::Flush);
    reply.simple("OK");
    Ok(())
}

pub fn keys(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    c.reads_all();
    let now = c.now();
    let found: Vec<&[u8]> = (c.state.keys.scan(0))
        .filter(|(_, key, entry)| !entry.expired(now) && glob::matches(&a[1], key, false))
        .map(|(_, key, _)| key)
        .collect();
    reply.array(found.len());
    for key in found {
        reply.bulk(key);
        if reply.is_too_long() {
            break;
        }
    }
    Ok(())
}

pub fn scan(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let text = core::str::from_utf8(&a[1]).ok();
    let cursor: u64 = text.and_then(|t| t.parse().ok()).ok_or_else(|| fail("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut strings) = (&b"*"[..], 10, true);
    for option in a[2..].chunks(2) {
        match option {
            [word, value] if is(word, "COUNT") => {
                count = number(value)?;
                if count < 1 {
                    return Err(SYNTAX);
                }
            }
            [word, value] if is(word, "MATCH") => pattern = value,
            [word, value] if is(word, "TYPE") => strings = is(value, "string"),
            _ => return Err(SYNTAX),
        }
    }
    c.reads_all();
    let now = c.now();
    let (mut met, mut found, mut last, mut next) = (0, Vec::new(), None, 0);
    for (hash, key, entry) in c.state.keys.scan(cursor) {
        // Keys with the same hash go together. Zero as a cursor means the end; only the very first key could have that hash.
        if met >= count.min(MAX_SCAN) && last != Some(hash) {
            next = hash;
            break;
        }
        met += 1;
        last = Some(hash);
        if strings && !entry.expired(now) && glob::matches(pattern, key, false) {
            found.push(key);
        }
    }
    reply.array(2);
    reply.bulk(format!("{next}").as_bytes());
    reply.array(found.len());
    found.into_iter().for_each(|key| reply.bulk(key));
    Ok(())
}
