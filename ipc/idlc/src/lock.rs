//! The lock file: what each released interface looks like on the wire, one line a fact.
//!
//! Facts of a major version only ever get more. A fact that is gone or different while the major version is the same is
//! an incompatible change. Versions 0.x are not locked. Names of parameters are not facts; their order and types are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Interface, Message, Order, Part, Ty};

/// A fact: what it is about, and its shape.
type Facts = BTreeMap<String, String>;

/// How interfaces and lock file disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockError {
    /// A released shape is gone or different.
    Incompatible {
        /// What it is about, such as `block 1 @2 read`.
        what: String,
        /// As released.
        locked: String,
        /// As it is now, if it still is.
        now: Option<String>,
    },
    /// A new fact is not in the lock file yet.
    NotLocked(String),
    /// A line of the lock file cannot be read.
    BadLine(String),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible { what, locked, now } => {
                let now = now.as_deref().unwrap_or("nothing");
                write!(f, "{what} was `{locked}` and is `{now}`; undo it, or raise the interface's major version")
            }
            Self::NotLocked(what) => write!(f, "{what} is not in the lock file; run `cargo run -p idlc -- lock`"),
            Self::BadLine(line) => write!(f, "unreadable line `{line}`; restore the lock file"),
        }
    }
}

/// The lock file's text.
pub fn text(interfaces: &[Interface]) -> String {
    let mut out = String::from("# Shapes of released interfaces. Made by `cargo run -p idlc -- lock`; do not edit.\n");
    for (what, shape) in all_facts(interfaces) {
        out += &format!("{what} = {shape}\n");
    }
    out
}

/// Compares the lock file's text with what is.
pub fn compare(locked: &str, interfaces: &[Interface]) -> Result<(), Vec<LockError>> {
    let now = all_facts(interfaces);
    let mut errors = Vec::new();
    let mut known = BTreeSet::new();
    for line in locked.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((what, shape)) = line.split_once(" = ") else {
            errors.push(LockError::BadLine(line.into()));
            continue;
        };
        known.insert(what);
        let current = now.get(what);
        // A whole major version may be retired; a part of a living one may not.
        let living = interfaces.iter().any(|one| what.starts_with(&head(one)));
        if living && current.is_none_or(|current| current != shape) {
            let (what, locked) = (what.into(), shape.into());
            errors.push(LockError::Incompatible { what, locked, now: current.cloned() });
        }
    }
    let new = now.keys().filter(|what| !known.contains(what.as_str()));
    errors.extend(new.cloned().map(LockError::NotLocked));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn head(interface: &Interface) -> String {
    format!("{} {} ", interface.name, interface.major)
}

fn all_facts(interfaces: &[Interface]) -> Facts {
    let mut facts = Facts::new();
    for interface in interfaces.iter().filter(|interface| interface.major > 0) {
        let head = head(interface);
        facts.insert(format!("{head}id"), format!("{:#x}", interface.id()));
        for error in &interface.errors {
            facts.insert(format!("{head}error {}", error.value), error.name.clone());
        }
        for one in &interface.enums {
            for value in &one.values {
                facts.insert(format!("{head}enum {} {}", one.name, value.value), value.name.clone());
            }
        }
        for method in &interface.methods {
            let mark = if method.idempotent { "idempotent " } else { "" };
            let (request, reply) = (shape(interface, &method.request), shape(interface, &method.reply));
            facts.insert(
                format!("{head}@{} {}", method.ordinal, method.name),
                format!("{mark}({request}) -> ({reply})"),
            );
        }
    }
    facts
}

fn shape(interface: &Interface, message: &Message) -> String {
    let one = |order: &Order| match order {
        Order::Field(i) => match &message.layout.fields[*i].part {
            Part::Window(true) => "in buffer".into(),
            Part::Window(false) => "out buffer".into(),
            Part::Value(ty) => ty_shape(interface, ty),
        },
        Order::Cap(i) => format!("cap {}", message.caps[*i].what),
    };
    message.order.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A type with structs written out, so that a change inside one is seen.
fn ty_shape(interface: &Interface, ty: &Ty) -> String {
    match ty {
        Ty::Struct(index) => {
            let fields = interface.structs[*index].layout.fields.iter().map(|field| match &field.part {
                Part::Value(ty) => ty_shape(interface, ty),
                Part::Window(_) => "window".into(),
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Ty::Enum(index) => {
            let one = &interface.enums[*index];
            format!("{}:{}", one.name, one.repr.name())
        }
        Ty::Array(element, count) => format!("[{}; {count}]", ty_shape(interface, element)),
        other => interface.ty_name(other),
    }
}
