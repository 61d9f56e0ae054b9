//! An interface file as written: names are not looked up yet.

use crate::diag::Pos;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The word.
    pub text: String,
    /// Its place.
    pub at: Pos,
}

/// A number and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The value.
    pub value: u64,
    /// Its place.
    pub at: Pos,
}

/// A size: a number or the name of a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeExpr {
    /// Written out.
    Number(Number),
    /// A constant's name.
    Const(Name),
}

/// A type as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeExpr {
    /// A primitive, struct or enum.
    Named(Name),
    /// `str<N>`
    Str(SizeExpr),
    /// `bytes<N>`
    Bytes(SizeExpr),
    /// `[T; N]`
    Array(Box<TypeExpr>, SizeExpr),
    /// `cap what`
    Cap(Name),
    /// `in buffer` or `out buffer`
    Window {
        /// Whether the server reads it.
        input: bool,
        /// Its place.
        at: Pos,
    },
}

/// `name: type`, of a struct, of parameters, of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldExpr {
    /// Its documentation.
    pub docs: Vec<String>,
    /// Its name.
    pub name: Name,
    /// Its type.
    pub ty: TypeExpr,
}

/// `Name = number`, of an enum or the errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueExpr {
    /// Its documentation.
    pub docs: Vec<String>,
    /// Its name.
    pub name: Name,
    /// Its number.
    pub value: Number,
}

/// What a method gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultExpr {
    /// `Result<()>`
    Nothing,
    /// `Result<T>`
    One(Box<TypeExpr>, Pos),
    /// `Result<(a: A, b: B)>`
    Several(Vec<FieldExpr>),
}

/// One declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// `const NAME: type = number;`
    Const {
        /// Documentation.
        docs: Vec<String>,
        /// Name.
        name: Name,
        /// Type.
        ty: Name,
        /// Value.
        value: Number,
    },
    /// `struct Name { fields }`
    Struct {
        /// Documentation.
        docs: Vec<String>,
        /// Name.
        name: Name,
        /// Fields.
        fields: Vec<FieldExpr>,
    },
    /// `enum Name: type { values }`
    Enum {
        /// Documentation.
        docs: Vec<String>,
        /// Name.
        name: Name,
        /// Type of the value.
        repr: Name,
        /// Values.
        values: Vec<ValueExpr>,
    },
    /// `error { values }`
    Error {
        /// Where the keyword stands.
        at: Pos,
        /// Values.
        values: Vec<ValueExpr>,
    },
    /// `@n [idempotent] fn name(params) -> Result<...>;`
    Method {
        /// Documentation.
        docs: Vec<String>,
        /// Number.
        ordinal: Number,
        /// Whether marked so.
        idempotent: bool,
        /// Name.
        name: Name,
        /// Parameters.
        params: Vec<FieldExpr>,
        /// Results.
        result: ResultExpr,
    },
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file's name for messages.
    pub file: String,
    /// Its `//!` lines.
    pub docs: Vec<String>,
    /// Whether `local interface`.
    pub local: bool,
    /// The interface's name.
    pub name: Name,
    /// Major and minor version.
    pub version: (Number, Number),
    /// Declarations in order.
    pub items: Vec<Item>,
}
