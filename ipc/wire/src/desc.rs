//! Interfaces as data: what the relay between nodes, the tracer and the fuzzers are driven by.
//!
//! `idlc` writes one [`Interface`] per interface file, next to the stubs made from the same tree.

use core::fmt;

use crate::Label;

/// One interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: &'static str,
    /// Major version: part of the id.
    pub major: u16,
    /// Minor version: only adds methods.
    pub minor: u16,
    /// The 40-bit id.
    pub id: u64,
    /// Whether calls stay on the node (kernel-object capabilities allowed).
    pub local: bool,
    /// Methods by ascending ordinal.
    pub methods: &'static [Method],
    /// Error names and codes by ascending code.
    pub errors: &'static [(&'static str, u16)],
}

impl Interface {
    /// The method a label names, if it is one of this interface.
    pub fn method(&self, label: Label) -> Option<&'static Method> {
        if label.interface() != self.id {
            return None;
        }
        let at = self.methods.binary_search_by_key(&label.ordinal(), |method| method.ordinal).ok()?;
        self.methods.get(at)
    }
}

/// One method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Its number in the interface, never reused.
    pub ordinal: u16,
    /// Its name.
    pub name: &'static str,
    /// Whether executing it twice is the same as once, so that it may be sent again.
    pub idempotent: bool,
    /// The request's layout.
    pub request: Shape,
    /// The result's layout.
    pub reply: Shape,
}

/// The layout of a payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes, a multiple of 8.
    pub size: usize,
    /// Capabilities beside the bytes.
    pub caps: &'static [CapField],
    /// Fields by ascending offset; padding is what they leave uncovered.
    pub fields: &'static [Field],
}

impl Shape {
    /// The windows of the session buffer that this payload names, with their offset in the payload.
    pub fn windows(&self) -> impl Iterator<Item = (usize, Direction)> {
        self.fields.iter().filter_map(|field| match field.ty {
            Type::Window(direction) => Some((field.offset, direction)),
            _ => None,
        })
    }
}

impl Shape {
    /// Whether `bytes` and `caps` are a well-formed message of this shape: sizes, padding, values, windows inside a
    /// session buffer of `session` bytes. Says the same as the generated code, from the table alone; the relay asks
    /// before it carries a call to another node.
    pub fn accepts(&self, bytes: &[u8], caps: usize, session: usize) -> bool {
        bytes.len() == self.size && caps == self.caps.len() && fields_accept(self.fields, bytes, session)
    }
}

/// All fields valid and everything between them zero.
fn fields_accept(fields: &[Field], bytes: &[u8], session: usize) -> bool {
    let mut end = 0;
    for field in fields {
        let value = bytes.get(field.offset..field.offset + field.ty.size());
        let gap = bytes.get(end..field.offset);
        if !gap.is_some_and(is_zero) || !value.is_some_and(|value| field.ty.accepts(value, session)) {
            return false;
        }
        end = field.offset + field.ty.size();
    }
    bytes.get(end..).is_some_and(is_zero)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A capability that travels with a payload.
#[derive(Debug, PartialEq, Eq)]
pub struct CapField {
    /// Parameter or result name.
    pub name: &'static str,
    /// The interface it speaks, `any`, or a kernel object's name.
    pub what: &'static str,
}

/// A field in a payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Byte offset in the enclosing struct.
    pub offset: usize,
    /// What it holds.
    pub ty: Type,
}

/// Which way the bytes of a window go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    In,
    /// From server to client.
    Out,
}

/// What a field holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Type {
    /// An unsigned integer of so many bytes.
    Unsigned(usize),
    /// A signed integer of so many bytes.
    Signed(usize),
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 text of at most so many bytes.
    Str(usize),
    /// At most so many bytes.
    Bytes(usize),
    /// So many elements, each of a type and size.
    Array(&'static Type, usize),
    /// A struct.
    Struct {
        /// Its name.
        name: &'static str,
        /// Bytes.
        size: usize,
        /// Its fields.
        fields: &'static [Field],
    },
    /// An enum.
    Enum {
        /// Its name.
        name: &'static str,
        /// Bytes.
        size: usize,
        /// Names and values.
        values: &'static [(&'static str, u64)],
    },
    /// A window of the session buffer.
    Window(Direction),
}

impl Type {
    /// Bytes in a payload.
    pub fn size(&self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) => *size,
            Self::Bool => 1,
            Self::Str(max) | Self::Bytes(max) => max + 2,
            Self::Array(element, count) => element.size() * count,
            Self::Struct { size, .. } | Self::Enum { size, .. } => *size,
            Self::Window(_) => 8,
        }
    }

    /// Whether `bytes`, which have this type's size, are a valid value. Depth is bounded by the interface file.
    fn accepts(&self, bytes: &[u8], session: usize) -> bool {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => true,
            Self::Bool => integer(bytes) <= 1,
            Self::Str(_) | Self::Bytes(_) => {
                let (len, data) = bytes.split_at(2);
                let Some((data, unused)) = data.split_at_checked(integer(len) as usize) else { return false };
                is_zero(unused) && (matches!(self, Self::Bytes(_)) || core::str::from_utf8(data).is_ok())
            }
            Self::Array(element, _) => bytes.chunks(element.size()).all(|part| element.accepts(part, session)),
            Self::Struct { fields, .. } => fields_accept(fields, bytes, session),
            Self::Enum { values, .. } => values.iter().any(|(_, value)| u128::from(*value) == integer(bytes)),
            Self::Window(_) => integer(&bytes[..4]) + integer(&bytes[4..]) <= session as u128,
        }
    }
}

/// Prints a payload by its shape, for tracers: `lba=7 count=1 data=out[0..4096]`.
///
/// The bytes are a claim; what does not fit is printed as `?`.
pub struct Traced<'a> {
    /// The fields to print.
    pub fields: &'static [Field],
    /// The payload.
    pub bytes: &'a [u8],
}

impl fmt::Display for Traced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}=", field.name)?;
            match self.bytes.get(field.offset..field.offset + field.ty.size()) {
                Some(bytes) => trace_value(f, &field.ty, bytes)?,
                None => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

/// Little-endian integer of at most 16 bytes.
fn integer(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

/// Depth is bounded by the interface file: types nest only as written there, and cannot contain themselves.
fn trace_value(f: &mut fmt::Formatter<'_>, ty: &Type, bytes: &[u8]) -> fmt::Result {
    match ty {
        Type::Unsigned(_) => write!(f, "{}", integer(bytes)),
        Type::Signed(size) => {
            let unused = 128 - 8 * *size as u32;
            write!(f, "{}", ((integer(bytes) << unused) as i128) >> unused)
        }
        Type::Bool => write!(f, "{}", integer(bytes) != 0),
        Type::Str(_) | Type::Bytes(_) => {
            let (len, data) = bytes.split_at(2);
            let data = data.get(..integer(len) as usize).unwrap_or(data);
            match (ty, core::str::from_utf8(data)) {
                (Type::Str(_), Ok(text)) => write!(f, "{text:?}"),
                _ => write!(f, "{data:02x?}"),
            }
        }
        Type::Array(element, _) => {
            f.write_str("[")?;
            for (i, part) in bytes.chunks(element.size().max(1)).enumerate() {
                f.write_str(if i == 0 { "" } else { ", " })?;
                trace_value(f, element, part)?;
            }
            f.write_str("]")
        }
        Type::Struct { fields, .. } => write!(f, "{{{}}}", Traced { fields, bytes }),
        Type::Enum { values, .. } => match values.iter().find(|(_, value)| u128::from(*value) == integer(bytes)) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "?{}", integer(bytes)),
        },
        Type::Window(direction) => {
            let (offset, len) = (integer(&bytes[..4]), integer(&bytes[4..]));
            let way = if *direction == Direction::In { "in" } else { "out" };
            write!(f, "{way}[{offset}..{}]", offset + len)
        }
    }
}
