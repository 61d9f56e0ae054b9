//! Commands on values.

use super::{Context, Fail, NOT_AN_INTEGER, Outcome, SYNTAX, TOO_LONG, end_time, fail, is, number, wrong_arity};
use crate::limits;
use crate::record::Op;
use crate::resp::{Reply, integer};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

type Args<'a> = &'a [Vec<u8>];

fn put_value(reply: &mut Reply, value: Option<&[u8]>) {
    match value {
        Some(v) => reply.bulk(v),
        None => reply.nil(),
    }
}

pub fn get(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    put_value(reply, c.read(&a[1]).map(|e| &e.value[..]));
    Ok(())
}

/// How `SET` and `GETEX` were asked to treat the key's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// As the command does by itself.
    Default,
    Keep,
    Never,
    At(u64),
}

/// An end option with its amount: `EX`, `PX`, `EXAT`, `PXAT`.
fn end_option(c: &Context<'_>, option: &[u8], amount: &[u8], command: &str) -> Result<End, Fail> {
    let (unit, relative) = match () {
        _ if is(option, "EX") => (1000, true),
        _ if is(option, "PX") => (1, true),
        _ if is(option, "EXAT") => (1000, false),
        _ if is(option, "PXAT") => (1, false),
        _ => return Err(SYNTAX),
    };
    let amount = number(amount)?;
    let at = end_time(c.now(), amount, unit, relative, command)?;
    if amount <= 0 || at <= 0 {
        return Err(Cow::Owned(format!("ERR invalid expire time in '{command}' command").into_bytes()));
    }
    Ok(End::At(at as u64))
}

fn is_end_option(text: &[u8]) -> bool {
    ["EX", "PX", "EXAT", "PXAT"].iter().any(|o| is(text, o))
}

pub fn set(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut nx, mut xx, mut get, mut option) = (false, false, false, None);
    let mut keep = false;
    let mut rest = a[3..].iter();
    while let Some(word) = rest.next() {
        match () {
            _ if is(word, "NX") && !xx => nx = true,
            _ if is(word, "XX") && !nx => xx = true,
            _ if is(word, "GET") => get = true,
            _ if is(word, "KEEPTTL") && option.is_none() => keep = true,
            // The same option again takes the place of the first.
            _ if is_end_option(word)
                && !keep
                && option.is_none_or(|(o, _): (&Vec<u8>, _)| o.eq_ignore_ascii_case(word)) =>
            {
                option = Some((word, rest.next().ok_or(SYNTAX)?));
            }
            _ => return Err(SYNTAX),
        }
    }
    let end = match option {
        Some((word, amount)) => end_option(c, word, amount, "set")?,
        None if keep => End::Keep,
        None => End::Never,
    };
    let old = c.lookup(&a[1]).map(|e| (e.value.clone(), e.expires));
    let expires = match end {
        End::At(at) => at,
        End::Keep => old.as_ref().map_or(0, |(_, expires)| *expires),
        End::Default | End::Never => 0,
    };
    let may = if nx { old.is_none() } else { !xx || old.is_some() };
    if may {
        c.write(Op::Set { key: &a[1], value: &a[2], expires });
    }
    match (get, may) {
        (true, _) => put_value(reply, old.as_ref().map(|(v, _)| &v[..])),
        (false, true) => reply.simple("OK"),
        (false, false) => reply.nil(),
    }
    Ok(())
}

pub fn setnx(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let free = !c.exists(&a[1]);
    if free {
        c.write(Op::Set { key: &a[1], value: &a[2], expires: 0 });
    }
    reply.integer(free as i64);
    Ok(())
}

pub fn setex(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_with_end(c, a, "EX", "setex", reply)
}

pub fn psetex(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    set_with_end(c, a, "PX", "psetex", reply)
}

fn set_with_end(c: &mut Context<'_>, a: Args<'_>, option: &str, command: &str, reply: &mut Reply) -> Outcome {
    let End::At(expires) = end_option(c, option.as_bytes(), &a[2], command)? else { return Err(SYNTAX) };
    c.write(Op::Set { key: &a[1], value: &a[3], expires });
    reply.simple("OK");
    Ok(())
}

pub fn getset(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    put_value(reply, c.read(&a[1]).map(|e| &e.value[..]));
    c.write(Op::Set { key: &a[1], value: &a[2], expires: 0 });
    Ok(())
}

pub fn getdel(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let found = c.read(&a[1]).map(|e| &e.value[..]);
    put_value(reply, found);
    if found.is_some() {
        c.write(Op::Delete { key: &a[1] });
    }
    Ok(())
}

pub fn getex(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let known = match &a[2..] {
        [] => true,
        [word] => is(word, "PERSIST"),
        [word, _] => is_end_option(word),
        _ => false,
    };
    if !known {
        return Err(SYNTAX);
    }
    // Only a key that is there has its option looked at further.
    let Some(expires) = c.read(&a[1]).map(|e| e.expires) else {
        reply.nil();
        return Ok(());
    };
    let end = match &a[2..] {
        [word, amount] => end_option(c, word, amount, "getex")?,
        [_] => End::Never,
        _ => End::Default,
    };
    if let Some(entry) = c.lookup(&a[1]) {
        reply.bulk(&entry.value);
    }
    match end {
        End::At(at) if at <= c.now() => c.write(Op::Delete { key: &a[1] }),
        End::At(at) => c.write(Op::Expire { key: &a[1], at }),
        End::Never if expires != 0 => c.write(Op::Expire { key: &a[1], at: 0 }),
        _ => {}
    }
    Ok(())
}

pub fn append(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let old = c.lookup(&a[1]).map_or(0, |e| e.value.len());
    let len = old + a[2].len();
    if len > limits::VALUE {
        return Err(TOO_LONG);
    }
    c.write(Op::Append { key: &a[1], data: &a[2] });
    reply.integer(len as i64);
    Ok(())
}

pub fn strlen(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.integer(c.read(&a[1]).map_or(0, |e| e.value.len()) as i64);
    Ok(())
}

pub fn getrange(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, end) = (number(&a[2])?, number(&a[3])?);
    let Some(entry) = c.read(&a[1]) else {
        reply.bulk(b"");
        return Ok(());
    };
    let len = entry.value.len() as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
    // Both from the end and crossed: nothing, before either is brought into the string.
    let crossed = start < 0 && end < 0 && start > end;
    let (start, end) = (from_end(start).max(0), from_end(end).max(0).min(len - 1));
    if crossed || start > end || len == 0 {
        reply.bulk(b"");
    } else {
        reply.bulk(&entry.value[start as usize..=end as usize]);
    }
    Ok(())
}

pub fn setrange(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let offset = number(&a[2])?;
    if offset < 0 {
        return Err(fail("ERR offset is out of range"));
    }
    let old = c.lookup(&a[1]).map(|e| (e.value.len(), e.expires));
    let (len, expires) = old.unwrap_or((0, 0));
    if a[3].is_empty() {
        reply.integer(len as i64);
        return Ok(());
    }
    let end = (offset as usize).checked_add(a[3].len()).filter(|end| *end <= limits::VALUE).ok_or(TOO_LONG)?;
    c.room_for(end.saturating_sub(len))?;
    let mut value = vec![0; len.max(end)];
    if let Some(entry) = c.lookup(&a[1]) {
        value[..len].copy_from_slice(&entry.value);
    }
    value[offset as usize..end].copy_from_slice(&a[3]);
    c.write(Op::Set { key: &a[1], value: &value, expires });
    reply.integer(value.len() as i64);
    Ok(())
}

pub fn incr(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    add(c, &a[1], 1, reply)
}

pub fn decr(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    add(c, &a[1], -1, reply)
}

pub fn incrby(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    add(c, &a[1], number(&a[2])?, reply)
}

pub fn decrby(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    let by = number(&a[2])?.checked_neg().ok_or_else(|| fail("ERR decrement would overflow"))?;
    add(c, &a[1], by, reply)
}

fn add(c: &mut Context<'_>, key: &[u8], by: i64, reply: &mut Reply) -> Outcome {
    let (old, expires) = match c.lookup(key) {
        Some(e) => (integer(&e.value).ok_or(NOT_AN_INTEGER)?, e.expires),
        None => (0, 0),
    };
    let sum = old.checked_add(by).ok_or_else(|| fail("ERR increment or decrement would overflow"))?;
    c.write(Op::Set { key, value: format!("{sum}").as_bytes(), expires });
    reply.integer(sum);
    Ok(())
}

pub fn mget(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(a.len() - 1);
    for key in &a[1..] {
        put_value(reply, c.read(key).map(|e| &e.value[..]));
    }
    Ok(())
}

pub fn mset(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    if a.len().is_multiple_of(2) {
        return Err(wrong_arity("mset"));
    }
    set_all(c, a);
    reply.simple("OK");
    Ok(())
}

pub fn msetnx(c: &mut Context<'_>, a: Args<'_>, reply: &mut Reply) -> Outcome {
    if a.len().is_multiple_of(2) {
        return Err(wrong_arity("msetnx"));
    }
    let mut free = true;
    for key in a[1..].iter().step_by(2) {
        free &= !c.exists(key);
    }
    if free {
        set_all(c, a);
    }
    reply.integer(free as i64);
    Ok(())
}

fn set_all(c: &mut Context<'_>, a: Args<'_>) {
    for pair in a[1..].chunks_exact(2) {
        c.write(Op::Set { key: &pair[0], value: &pair[1], expires: 0 });
    }
}
