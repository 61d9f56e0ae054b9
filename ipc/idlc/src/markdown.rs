//! The reference for people.

use std::fmt::Write;

use crate::model::{Field, Interface, Layout, Message, Method, Order, Part, Value};
use crate::names::words;

/// All interfaces as one Markdown text.
pub fn reference(interfaces: &[Interface]) -> String {
    let mut out = String::from("# Interfaces\n\nMade from `ipc/idl` by `idlc`; do not edit.\n");
    for interface in interfaces {
        one(&mut out, interface).expect("writing to a string");
    }
    out
}

fn one(out: &mut String, interface: &Interface) -> std::fmt::Result {
    let local = if interface.local { ", local" } else { "" };
    writeln!(out, "\n## {} {}.{}{local}\n", interface.name, interface.major, interface.minor)?;
    writeln!(out, "{}\n", interface.docs.join("\n"))?;
    writeln!(out, "Id `{:#012x}`.", interface.id())?;
    for one in &interface.consts {
        writeln!(out, "\n`{}: {} = {}`: {}", one.name, one.ty.name(), one.value, one.docs.join(" "))?;
    }
    for one in &interface.structs {
        writeln!(out, "\n### struct {}\n\n{}\n", one.name, one.docs.join("\n"))?;
        fields(out, interface, &one.layout)?;
    }
    for one in &interface.enums {
        writeln!(out, "\n### enum {}: {}\n\n{}\n", one.name, one.repr.name(), one.docs.join("\n"))?;
        values(out, &one.values)?;
    }
    if !interface.errors.is_empty() {
        writeln!(out, "\n### Errors\n")?;
        values(out, &interface.errors)?;
    }
    interface.methods.iter().try_for_each(|method| self::method(out, interface, method))
}

fn values(out: &mut String, values: &[Value]) -> std::fmt::Result {
    writeln!(out, "| value | name | meaning |\n| --- | --- | --- |")?;
    values.iter().try_for_each(|value| {
        let docs = value.docs.join(" ");
        let meaning = if docs.is_empty() { words(&value.name) } else { docs };
        writeln!(out, "| {} | `{}` | {meaning} |", value.value, value.name)
    })
}

fn part_name(interface: &Interface, field: &Field) -> String {
    match &field.part {
        Part::Window(true) => "in buffer".into(),
        Part::Window(false) => "out buffer".into(),
        Part::Value(ty) => interface.ty_name(ty),
    }
}

fn fields(out: &mut String, interface: &Interface, layout: &Layout) -> std::fmt::Result {
    writeln!(out, "| byte | name | type | meaning |\n| --- | --- | --- | --- |")?;
    for field in &layout.fields {
        let (ty, docs) = (part_name(interface, field), field.docs.join(" "));
        writeln!(out, "| {} | `{}` | `{ty}` | {docs} |", field.offset, field.name)?;
    }
    writeln!(out, "\n{} bytes.", layout.size)
}

/// `a: u32, b: cap file`, as written.
pub fn signature(interface: &Interface, message: &Message) -> String {
    let one = |order: &Order| match order {
        Order::Field(i) => {
            let field = &message.layout.fields[*i];
            format!("{}: {}", field.name, part_name(interface, field))
        }
        Order::Cap(i) => format!("{}: cap {}", message.caps[*i].name, message.caps[*i].what),
    };
    message.order.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn method(out: &mut String, interface: &Interface, method: &Method) -> std::fmt::Result {
    let (request, reply) = (signature(interface, &method.request), signature(interface, &method.reply));
    let mark = if method.idempotent { "idempotent " } else { "" };
    writeln!(out, "\n### {} `@{}`\n", method.name, method.ordinal)?;
    writeln!(out, "```text\n{mark}fn {}({request}) -> ({reply})\n```\n", method.name)?;
    writeln!(out, "{}\n", method.docs.join("\n"))?;
    writeln!(out, "Request {} bytes, result {} bytes.", method.request.layout.size, method.reply.layout.size)
}
