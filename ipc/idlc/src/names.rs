//! Which names an interface file may use.

/// Rust's reserved words, which would not survive as names in generated code.
const RUST_WORDS: &[&str] = &[
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super",
    "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while",
    "yield",
];

/// Words of the language that would make a file hard to read as names.
const IDL_WORDS: &[&str] =
    &["any", "buffer", "bytes", "cap", "error", "idempotent", "interface", "local", "out", "str"];

/// Types and traits every generated module has.
const MODULE_TYPES: &[&str] =
    &["Client", "Err", "Error", "None", "Ok", "Option", "Protocol", "Result", "Server", "Some", "String", "Vec"];

/// Functions a generated client has beside the methods.
const CLIENT_METHODS: &[&str] = &["new", "transport", "into_transport", "drop"];

/// Constants every generated module has.
const MODULE_CONSTS: &[&str] = &["ID", "INTERFACE"];

/// Kernel objects that a `local interface` can hand over, with their marker types in `ipc_wire::kernel`.
const KERNEL_OBJECTS: &[(&str, &str)] = &[
    ("endpoint", "Endpoint"),
    ("notification", "Notification"),
    ("frame", "Frame"),
    ("untyped", "Untyped"),
    ("tcb", "Tcb"),
    ("cnode", "Cnode"),
    ("vspace", "Vspace"),
    ("sched_context", "SchedContext"),
    ("irq_handler", "IrqHandler"),
];

/// What kind of thing is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interface: also a module.
    Interface,
    /// A method.
    Method,
    /// A parameter, result or struct field.
    Field,
    /// A struct or enum.
    Type,
    /// A value of an enum, or an error.
    Variant,
    /// A constant.
    Const,
}

/// The marker type of a kernel object.
pub fn kernel_marker(name: &str) -> Option<&'static str> {
    KERNEL_OBJECTS.iter().find(|(object, _)| *object == name).map(|(_, marker)| *marker)
}

/// What is wrong with `name` for this kind of thing, and what to do.
pub fn complaint(kind: Kind, name: &str) -> Option<(String, &'static str)> {
    if RUST_WORDS.contains(&name) {
        return Some((format!("`{name}` is a reserved word"), "choose another name"));
    }
    let (good, style) = match kind {
        Kind::Interface | Kind::Method | Kind::Field => (is_snake(name), "write it in snake_case"),
        Kind::Type | Kind::Variant => (is_camel(name), "write it in CamelCase"),
        Kind::Const => (is_upper(name), "write it in UPPER_CASE"),
    };
    if !good {
        return Some((format!("`{name}` is written unlike its kind"), style));
    }
    let taken = IDL_WORDS.contains(&name)
        || name.starts_with("idl_")
        || match kind {
            Kind::Interface => kernel_marker(name).is_some() || matches!(name, "kernel" | "core"),
            Kind::Method => CLIENT_METHODS.contains(&name),
            Kind::Type => MODULE_TYPES.contains(&name),
            Kind::Const => MODULE_CONSTS.contains(&name),
            Kind::Field | Kind::Variant => false,
        };
    taken.then(|| (format!("`{name}` is taken by the language or by generated code"), "choose another name"))
}

fn is_snake(name: &str) -> bool {
    let clean = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    clean && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('_') && !name.contains("__")
}

fn is_camel(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_alphanumeric()) && name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn is_upper(name: &str) -> bool {
    let clean = name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
    clean && name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// `read_block` as `ReadBlock`.
pub fn camel(snake: &str) -> String {
    let capital = |part: &str| {
        let mut chars = part.chars();
        chars.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + chars.as_str())
    };
    snake.split('_').map(capital).collect()
}

/// `OutOfRange` as `out of range`.
pub fn words(camel: &str) -> String {
    let mut text = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles() {
        assert!(is_snake("read_block2") && !is_snake("readBlock") && !is_snake("_a") && !is_snake("a__b"));
        assert!(is_camel("OutOfRange") && !is_camel("Out_Of") && !is_camel("out"));
        assert!(is_upper("MAX_LEN") && !is_upper("max"));
        assert_eq!(camel("read_block"), "ReadBlock");
        assert_eq!(words("OutOfRange"), "out of range");
    }

    #[test]
    fn reserved_words_are_sorted_and_refused() {
        assert!(RUST_WORDS.is_sorted() && IDL_WORDS.is_sorted());
        assert!(complaint(Kind::Field, "type").is_some());
        assert!(complaint(Kind::Method, "new").is_some());
        assert!(complaint(Kind::Interface, "frame").is_some());
        assert!(complaint(Kind::Field, "frame").is_none());
    }
}
