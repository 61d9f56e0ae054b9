//! A checked interface: every name is resolved, every byte has its place.

/// A primitive integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// Whether it has a sign.
    pub signed: bool,
    /// Bytes: 1, 2, 4, 8 or 16.
    pub size: usize,
}

impl Int {
    /// Its name in Rust and in interface files.
    pub fn name(self) -> String {
        format!("{}{}", if self.signed { 'i' } else { 'u' }, self.size * 8)
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [false, true].into_iter().flat_map(|signed| [1, 2, 4, 8, 16].map(|size| Self { signed, size }));
        all.into_iter().find(|int| int.name() == name)
    }

    /// The largest value that fits, as far as a 64-bit literal can say.
    pub fn max(self) -> u64 {
        let bits = self.size * 8 - usize::from(self.signed);
        if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
    }
}

/// A type of a value in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ty {
    /// An integer.
    Int(Int),
    /// `bool`
    Bool,
    /// `str<N>`
    Str(usize),
    /// `bytes<N>`
    Bytes(usize),
    /// `[T; N]`
    Array(Box<Ty>, usize),
    /// The struct of that index.
    Struct(usize),
    /// The enum of that index.
    Enum(usize),
}

/// What stands in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A value.
    Value(Ty),
    /// A window of the session buffer; true if the server reads it.
    Window(bool),
}

/// A field at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Name.
    pub name: String,
    /// What it holds.
    pub part: Part,
    /// Byte offset.
    pub offset: usize,
    /// Zero bytes between the previous field and this one.
    pub gap: usize,
}

/// The layout of a struct or payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Fields by offset.
    pub fields: Vec<Field>,
    /// Zero bytes after the last field.
    pub tail: usize,
    /// Bytes in all.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
}

/// A struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Name.
    pub name: String,
    /// Layout.
    pub layout: Layout,
}

/// A named number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Name.
    pub name: String,
    /// Number.
    pub value: u64,
}

/// An enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enum {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Name.
    pub name: String,
    /// Its integer.
    pub repr: Int,
    /// Its values, ascending.
    pub values: Vec<Value>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Const {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Name.
    pub name: String,
    /// Its integer.
    pub ty: Int,
    /// Value.
    pub value: u64,
}

/// A capability parameter or result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapParam {
    /// Name.
    pub name: String,
    /// Interface name, `any`, or kernel object name.
    pub what: String,
    /// Whether it is a kernel object.
    pub kernel: bool,
}

/// A parameter in the order it is written: index into the payload's fields or into the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A payload field.
    Field(usize),
    /// A capability.
    Cap(usize),
}

/// One direction of a method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The payload.
    pub layout: Layout,
    /// The capabilities.
    pub caps: Vec<CapParam>,
    /// Everything in the order it is written.
    pub order: Vec<Order>,
}

/// How results are handed to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// `()`
    Nothing,
    /// The one value itself.
    One,
    /// A struct of named values.
    Several,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Number.
    pub ordinal: u16,
    /// Whether it may be executed twice.
    pub idempotent: bool,
    /// Name.
    pub name: String,
    /// Parameters.
    pub request: Message,
    /// Results.
    pub reply: Message,
    /// Shape of the result in Rust.
    pub kind: ResultKind,
}

/// A checked interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Documentation lines.
    pub docs: Vec<String>,
    /// Whether kernel-object capabilities are allowed and calls stay on the node.
    pub local: bool,
    /// Name.
    pub name: String,
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Constants.
    pub consts: Vec<Const>,
    /// Structs, each after those it contains.
    pub structs: Vec<Struct>,
    /// Enums.
    pub enums: Vec<Enum>,
    /// Errors, ascending.
    pub errors: Vec<Value>,
    /// Methods, ascending.
    pub methods: Vec<Method>,
}

impl Interface {
    /// The 40-bit id.
    pub fn id(&self) -> u64 {
        ipc_wire::interface_id(&self.name, self.major)
    }

    /// Bytes of a type in a payload.
    pub fn size(&self, ty: &Ty) -> usize {
        match ty {
            Ty::Int(int) => int.size,
            Ty::Bool => 1,
            Ty::Str(max) | Ty::Bytes(max) => max + 2,
            Ty::Array(element, count) => self.size(element) * count,
            Ty::Struct(index) => self.structs[*index].layout.size,
            Ty::Enum(index) => self.enums[*index].repr.size,
        }
    }

    /// Alignment of a type in a payload.
    pub fn align(&self, ty: &Ty) -> usize {
        match ty {
            Ty::Int(int) => int.size,
            Ty::Bool | Ty::Str(_) | Ty::Bytes(_) => 1,
            Ty::Array(element, _) => self.align(element),
            Ty::Struct(index) => self.structs[*index].layout.align,
            Ty::Enum(index) => self.enums[*index].repr.size,
        }
    }

    /// A type as an interface file writes it.
    pub fn ty_name(&self, ty: &Ty) -> String {
        match ty {
            Ty::Int(int) => int.name(),
            Ty::Bool => "bool".into(),
            Ty::Str(max) => format!("str<{max}>"),
            Ty::Bytes(max) => format!("bytes<{max}>"),
            Ty::Array(element, count) => format!("[{}; {count}]", self.ty_name(element)),
            Ty::Struct(index) => self.structs[*index].name.clone(),
            Ty::Enum(index) => self.enums[*index].name.clone(),
        }
    }
}
