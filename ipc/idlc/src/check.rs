//! Interface files to checked interfaces: names, numbers, sizes, capabilities.
//!
//! All mistakes of all files are reported, not only the first.

use std::collections::{BTreeMap, BTreeSet};

use ipc_wire::{Label, MAX_CAPS, MAX_PAYLOAD};

use crate::ast::{FieldExpr, File, Item, Name, Number, ResultExpr, SizeExpr, TypeExpr, ValueExpr};
use crate::diag::{Diagnostic, Pos};
use crate::model::{
    CapParam, Const, Enum, Field, Int, Interface, Layout, Message, Method, Order, Part, ResultKind, Struct, Ty, Value,
};
use crate::names::{Kind, camel, complaint, kernel_marker};

/// The largest struct, string or array: more does not fit a message anyway.
const MAX_SIZE: usize = MAX_PAYLOAD;

/// Checks `files` together: capabilities may name any interface among them.
pub fn check(files: &[File]) -> Result<Vec<Interface>, Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    let names: BTreeSet<&str> = files.iter().map(|file| file.name.text.as_str()).collect();
    let mut seen: BTreeMap<u64, &File> = BTreeMap::new();
    let mut interfaces = Vec::new();
    for file in files {
        let mut checker = Checker::new(file, &names);
        checker.head();
        for item in &file.items {
            checker.item(item);
        }
        checker.finish();
        if let Some(other) = seen.insert(checker.out.id(), file) {
            let what = format!("`{}` has the same id as `{}` in {}", file.name.text, other.name.text, other.file);
            checker.complain(file.name.at, what, "rename one of them");
        }
        mistakes.append(&mut checker.mistakes);
        interfaces.push(checker.out);
    }
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    if mistakes.is_empty() { Ok(interfaces) } else { Err(mistakes) }
}

struct Checker<'a> {
    file: &'a File,
    interfaces: &'a BTreeSet<&'a str>,
    out: Interface,
    /// Names of methods, types and constants: one space each, as in Rust.
    taken: BTreeSet<(Space, String)>,
    errors_at: Option<Pos>,
    mistakes: Vec<Diagnostic>,
}

/// Name spaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    Method,
    Type,
    Const,
}

impl<'a> Checker<'a> {
    fn new(file: &'a File, interfaces: &'a BTreeSet<&'a str>) -> Self {
        let out = Interface {
            docs: file.docs.clone(),
            local: file.local,
            name: file.name.text.clone(),
            major: 0,
            minor: 0,
            consts: vec![],
            structs: vec![],
            enums: vec![],
            errors: vec![],
            methods: vec![],
        };
        Self { file, interfaces, out, taken: BTreeSet::new(), errors_at: None, mistakes: vec![] }
    }

    fn complain(&mut self, at: Pos, what: String, todo: &str) {
        self.mistakes.push(Diagnostic { file: self.file.file.clone(), at, what, todo: todo.into() });
    }

    fn head(&mut self) {
        self.name(Kind::Interface, &self.file.name);
        if self.file.docs.is_empty() {
            let what = format!("interface `{}` has no description", self.file.name.text);
            self.complain(Pos { line: 1, col: 1 }, what, "say what it is for in `//!` lines at the top");
        }
        self.out.major = self.fit(self.file.version.0, u16::MAX, "major version");
        self.out.minor = self.fit(self.file.version.1, u16::MAX, "minor version");
    }

    /// `number` if it is at most `max`; else a complaint and 0.
    fn fit(&mut self, number: Number, max: u16, what: &str) -> u16 {
        match u16::try_from(number.value) {
            Ok(value) if value <= max => value,
            _ => {
                self.complain(
                    number.at,
                    format!("{what} {} is too large", number.value),
                    &format!("use at most {max}"),
                );
                0
            }
        }
    }

    fn name(&mut self, kind: Kind, name: &Name) {
        if let Some((what, todo)) = complaint(kind, &name.text) {
            self.complain(name.at, what, todo);
        }
    }

    /// Checks and enters a name that other declarations must not have.
    fn declare(&mut self, space: Space, kind: Kind, name: &Name) {
        self.name(kind, name);
        if !self.taken.insert((space, name.text.clone())) {
            self.complain(name.at, format!("`{}` is declared twice", name.text), "rename one of them");
        }
    }

    fn docs(&mut self, docs: &[String], name: &Name) -> Vec<String> {
        if docs.is_empty() {
            let what = format!("`{}` has no description", name.text);
            self.complain(name.at, what, "write a `///` line above it: meaning, units, when it fails");
        }
        docs.to_vec()
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Const { docs, name, ty, value } => self.constant(docs, name, ty, *value),
            Item::Struct { docs, name, fields } => {
                self.declare(Space::Type, Kind::Type, name);
                let docs = self.docs(docs, name);
                if fields.is_empty() {
                    self.complain(name.at, format!("struct `{}` is empty", name.text), "give it a field or remove it");
                }
                let message = self.message(fields, false);
                self.limit(name, "struct", message.layout.size, MAX_SIZE);
                self.out.structs.push(Struct { docs, name: name.text.clone(), layout: message.layout });
            }
            Item::Enum { docs, name, repr, values } => {
                self.declare(Space::Type, Kind::Type, name);
                let docs = self.docs(docs, name);
                let repr = self.repr(repr);
                let values = self.values(name.at, "enum", values, 0, repr.max());
                self.out.enums.push(Enum { docs, name: name.text.clone(), repr, values });
            }
            Item::Error { at, values } => {
                if self.errors_at.replace(*at).is_some() {
                    self.complain(*at, "a second `error` block".into(), "put all errors into one block");
                }
                self.out.errors = self.values(*at, "error", values, 1, u64::from(u16::MAX));
            }
            Item::Method { docs, ordinal, idempotent, name, params, result } => {
                self.method(docs, *ordinal, *idempotent, name, params, result);
            }
        }
    }

    fn finish(&mut self) {
        if self.out.methods.is_empty() && self.mistakes.is_empty() {
            let what = format!("interface `{}` has no method", self.file.name.text);
            self.complain(self.file.name.at, what, "write `@1 fn name(...) -> Result<...>;`");
        }
        self.out.methods.sort_by_key(|method| method.ordinal);
    }

    fn constant(&mut self, docs: &[String], name: &Name, ty: &Name, value: Number) {
        self.declare(Space::Const, Kind::Const, name);
        let docs = self.docs(docs, name);
        let Some(int) = Int::parse(&ty.text) else {
            return self.complain(ty.at, format!("`{}` is not an integer type", ty.text), "use u8 to u64");
        };
        if value.value > int.max() {
            self.complain(value.at, format!("{} does not fit {}", value.value, int.name()), "use a larger type");
        }
        self.out.consts.push(Const { docs, name: name.text.clone(), ty: int, value: value.value });
    }

    fn repr(&mut self, name: &Name) -> Int {
        match Int::parse(&name.text).filter(|int| !int.signed && int.size <= 8) {
            Some(int) => int,
            None => {
                self.complain(name.at, format!("`{}` cannot number an enum", name.text), "use u8, u16, u32 or u64");
                Int { signed: false, size: 1 }
            }
        }
    }

    fn values(&mut self, at: Pos, what: &str, values: &[ValueExpr], min: u64, max: u64) -> Vec<Value> {
        if values.is_empty() {
            self.complain(at, format!("an {what} without values"), "write `Name = 1` or remove it");
        }
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let mut out = Vec::new();
        for value in values {
            self.name(Kind::Variant, &value.name);
            if !names.insert(&value.name.text) {
                self.complain(value.name.at, format!("`{}` is declared twice", value.name.text), "rename one of them");
            }
            let number = value.value;
            if !numbers.insert(number.value) {
                self.complain(number.at, format!("number {} is used twice", number.value), "give each its own number");
            }
            if number.value < min || number.value > max {
                let what = format!("number {} of `{}` is out of range", number.value, value.name.text);
                self.complain(number.at, what, &format!("use {min} to {max}"));
            }
            out.push(Value { docs: value.docs.clone(), name: value.name.text.clone(), value: number.value });
        }
        out.sort_by_key(|value| value.value);
        out
    }

    fn method(
        &mut self,
        docs: &[String],
        ordinal: Number,
        idempotent: bool,
        name: &Name,
        params: &[FieldExpr],
        result: &ResultExpr,
    ) {
        self.declare(Space::Method, Kind::Method, name);
        let docs = self.docs(docs, name);
        let number = self.fit(ordinal, (1 << Label::ORDINAL_BITS) - 1, "method number");
        if let Some(other) = self.out.methods.iter().find(|method| method.ordinal == number) {
            let what = format!("method number {number} is already `{}`", other.name);
            self.complain(ordinal.at, what, "numbers are never shared nor reused: take the next free one");
        }
        let request = self.message(params, true);
        let (reply, kind) = self.result(name, result);
        self.limit(name, "request of method", request.layout.size, MAX_PAYLOAD);
        self.limit(name, "result of method", reply.layout.size, MAX_PAYLOAD);
        self.caps(name, &request.caps);
        self.caps(name, &reply.caps);
        let name = name.text.clone();
        self.out.methods.push(Method { docs, ordinal: number, idempotent, name, request, reply, kind });
    }

    fn result(&mut self, method: &Name, result: &ResultExpr) -> (Message, ResultKind) {
        let (fields, kind) = match result {
            ResultExpr::Nothing => (vec![], ResultKind::Nothing),
            ResultExpr::One(ty, at) => {
                let name = Name { text: "value".into(), at: *at };
                (vec![FieldExpr { docs: vec![], name, ty: (**ty).clone() }], ResultKind::One)
            }
            ResultExpr::Several(fields) => {
                let text = camel(&method.text) + "Result";
                self.declare(Space::Type, Kind::Type, &Name { text, at: method.at });
                (fields.clone(), ResultKind::Several)
            }
        };
        for field in &fields {
            if let TypeExpr::Window { at, .. } = field.ty {
                self.complain(at, "a window as a result".into(), "make it a parameter: `data: out buffer`");
            }
        }
        (self.message(&fields, true), kind)
    }

    fn limit(&mut self, name: &Name, what: &str, size: usize, max: usize) {
        if size > max {
            let text = format!("{what} `{}` takes {size} bytes, a message holds {max}", name.text);
            self.complain(name.at, text, "move bulk data to `in buffer` or `out buffer`");
        }
    }

    fn caps(&mut self, method: &Name, caps: &[CapParam]) {
        if caps.len() > MAX_CAPS {
            let what = format!("method `{}` passes {} capabilities in one message", method.text, caps.len());
            self.complain(method.at, what, &format!("pass at most {MAX_CAPS}"));
        }
    }

    /// Lays out fields; `whole` for a payload, which may hold windows and capabilities and fills message words.
    fn message(&mut self, fields: &[FieldExpr], whole: bool) -> Message {
        let mut out = Message::default();
        let mut names = BTreeSet::new();
        out.layout.align = if whole { 8 } else { 1 };
        for field in fields {
            self.name(Kind::Field, &field.name);
            if !names.insert(&field.name.text) {
                self.complain(field.name.at, format!("`{}` is declared twice", field.name.text), "rename one of them");
            }
            match &field.ty {
                TypeExpr::Cap(what) if whole => {
                    let cap = self.cap(&field.name, what);
                    out.order.push(Order::Cap(out.caps.len()));
                    out.caps.push(cap);
                }
                TypeExpr::Window { input, .. } if whole => self.place(&mut out, field, Part::Window(*input), 8, 4),
                ty => {
                    let ty = self.ty(ty);
                    let (size, align) = (self.out.size(&ty), self.out.align(&ty));
                    self.place(&mut out, field, Part::Value(ty), size, align);
                }
            }
        }
        out.layout.tail = out.layout.size.next_multiple_of(out.layout.align) - out.layout.size;
        out.layout.size += out.layout.tail;
        out
    }

    fn place(&mut self, out: &mut Message, field: &FieldExpr, part: Part, size: usize, align: usize) {
        let Layout { fields, size: end, align: max, .. } = &mut out.layout;
        let offset = end.next_multiple_of(align);
        let gap = offset - *end;
        out.order.push(Order::Field(fields.len()));
        fields.push(Field { docs: field.docs.clone(), name: field.name.text.clone(), part, offset, gap });
        *max = align.max(*max);
        *end = offset + size;
    }

    fn cap(&mut self, name: &Name, what: &Name) -> CapParam {
        let kernel = kernel_marker(&what.text).is_some();
        if kernel && !self.file.local {
            let text = format!("`cap {}` is a kernel object, which means nothing on another node", what.text);
            self.complain(what.at, text, "write `local interface`, or pass a capability to an interface");
        }
        if !kernel && what.text != "any" && !self.interfaces.contains(what.text.as_str()) {
            let text = format!("unknown interface `{}`", what.text);
            self.complain(what.at, text, "name an interface of this directory, a kernel object, or `any`");
        }
        CapParam { name: name.text.clone(), what: what.text.clone(), kernel }
    }

    fn size(&mut self, size: &SizeExpr) -> usize {
        let (value, at) = match size {
            SizeExpr::Number(number) => (number.value, number.at),
            SizeExpr::Const(name) => match self.out.consts.iter().find(|known| known.name == name.text) {
                Some(known) => (known.value, name.at),
                None => {
                    self.complain(name.at, format!("unknown constant `{}`", name.text), "declare it above this line");
                    return 1;
                }
            },
        };
        match usize::try_from(value) {
            Ok(value @ 1..=MAX_SIZE) => value,
            _ => {
                self.complain(at, format!("size {value} is out of range"), &format!("use 1 to {MAX_SIZE}"));
                1
            }
        }
    }

    fn ty(&mut self, ty: &TypeExpr) -> Ty {
        match ty {
            TypeExpr::Str(size) => Ty::Str(self.size(size)),
            TypeExpr::Bytes(size) => Ty::Bytes(self.size(size)),
            TypeExpr::Array(element, count) => {
                let element = self.ty(element);
                Ty::Array(Box::new(element), self.size(count))
            }
            TypeExpr::Named(name) => self.named(name),
            TypeExpr::Cap(what) => {
                let text = "a capability inside a value".into();
                self.complain(what.at, text, "capabilities are parameters or results of their own");
                Ty::Bool
            }
            TypeExpr::Window { at, .. } => {
                self.complain(*at, "a window inside a value".into(), "windows are parameters of their own");
                Ty::Bool
            }
        }
    }

    fn named(&mut self, name: &Name) -> Ty {
        if let Some(int) = Int::parse(&name.text) {
            return Ty::Int(int);
        }
        if name.text == "bool" {
            return Ty::Bool;
        }
        if let Some(index) = self.out.structs.iter().position(|known| known.name == name.text) {
            return Ty::Struct(index);
        }
        if let Some(index) = self.out.enums.iter().position(|known| known.name == name.text) {
            return Ty::Enum(index);
        }
        let todo = match name.text.as_str() {
            "usize" | "isize" => "sizes differ between machines: use u32 or u64",
            "f32" | "f64" => "replicas must agree on every bit: use a scaled integer",
            "String" => "use `str<N>` with a maximum",
            _ => "use a primitive, or declare it above this line",
        };
        self.complain(name.at, format!("unknown type `{}`", name.text), todo);
        Ty::Bool
    }
}
