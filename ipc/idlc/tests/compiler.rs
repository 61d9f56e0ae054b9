//! The compiler from outside: golden output, every mistake, the lock file, the reference.

use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn samples() -> Vec<idlc::Interface> {
    let sources = idlc::read_directory(&here("samples")).expect("samples");
    idlc::check(&sources).unwrap_or_else(|error| panic!("{error}"))
}

/// Compares with a file; `IDLC_BLESS=1` rewrites the file instead.
fn golden(name: &str, text: &str) {
    let path = here("golden").join(name);
    if std::env::var_os("IDLC_BLESS").is_some() {
        std::fs::write(&path, text).expect("golden file written");
        return;
    }
    let expected = std::fs::read_to_string(&path).expect("golden file; make it with IDLC_BLESS=1");
    if let Some((i, (is, was))) = text.lines().zip(expected.lines()).enumerate().find(|(_, (is, was))| is != was) {
        panic!("{name}:{}: is `{is}`, was `{was}`; if that is meant, run the test with IDLC_BLESS=1", i + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{name} has another length");
}

#[test]
fn generated_code_is_as_reviewed() {
    golden("every.rs", &idlc::rust(&samples(), idlc::Options::default()).expect("printable"));
}

#[test]
fn reference_is_as_reviewed() {
    golden("every.md", &idlc::markdown(&samples()));
}

#[test]
fn generation_does_not_depend_on_file_order() {
    let mut sources = idlc::read_directory(&here("samples")).expect("samples");
    sources.reverse();
    let reversed = idlc::check(&sources).expect("no mistakes");
    assert_eq!(reversed, samples());
}

const HEAD: &str = "//! A test.\ninterface t 1.0;\n";
const TAIL: &str = "\n/// A method.\n@999 fn last();\n";

/// Compiles declarations under a good head and gives the complaints.
fn complaints(body: &str) -> String {
    whole(&format!("{HEAD}{body}{TAIL}"))
}

fn whole(text: &str) -> String {
    match idlc::check(&[("t.idl".into(), text.into())]) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refused(body: &str, place: &str, what: &str) {
    let text = complaints(body);
    assert!(text.starts_with(&format!("t.idl:{place}: ")), "`{body}` complained: {text}");
    assert!(text.contains(what), "`{body}` complained: {text}");
    assert!(text.contains("; "), "says what to do: {text}");
}

#[test]
fn the_frame_of_these_tests_is_accepted() {
    assert_eq!(complaints(""), "");
}

#[test]
fn syntax_mistakes_are_placed() {
    refused("struct", "4:1", "expected the struct's name, found a doc comment");
    refused("/// d\n@1 fn x( -> Result<u8>;", "4:10", "expected a name, found `->`");
    refused("/// d\n@1 fn x() -> u8;", "4:14", "every call can fail");
    refused("/// d\n@1 fn x()", "5:1", "expected `;`");
    refused("/// d\nfn x();", "4:1", "expected `@` and the method's number");
    refused("/// d\n@x fn x();", "4:2", "expected the method's number");
    refused("/// d\n@1 fn x(a u8);", "4:11", "expected `:`");
    refused("/// d\n@1 fn x(a: u8 b: u8);", "4:15", "expected `)`, found `b`");
    refused("/// d\n@1 fn x(a: in buf);", "4:15", "expected `buffer`");
    refused("/// d\n@1 fn x(a: str);", "4:15", "expected `<`");
    refused("/// d\n@1 fn x(a: [u8]);", "4:15", "expected `;`");
    refused("/// d\nenum E { A = 1 }", "4:8", "expected `:`");
    refused("/// d\nenum E: u8 { A }", "4:16", "expected `=`");
    refused("/// d\nconst A: u8 = B;", "4:15", "expected the constant's value");
    refused("garbage", "3:1", "expected a declaration, found `garbage`");
    refused("/// d\n@1 fn x(a: u8)) ;", "4:15", "expected `;`");
    refused("$", "3:1", "unexpected character `$`");
    refused("/// d\nconst A: i8 = -1;", "4:15", "a lone `-`");
    refused("/ d", "3:1", "a lone `/`");
    refused("/// d\nconst A: u64 = 18446744073709551616;", "4:16", "is not a number of at most 64 bits");
    refused("/// d\nconst A: u64 = 0xZZ;", "4:16", "is not a number");
}

#[test]
fn nesting_is_bounded() {
    let deep = "[".repeat(5000) + "u8" + &"; 1]".repeat(5000);
    refused(&format!("/// d\n@1 fn x(a: {deep});"), "4:20", "expected a simpler type");
}

#[test]
fn heads_are_checked() {
    assert!(whole("").starts_with("t.idl:1:1: expected `interface`"));
    assert!(whole("//! d\ninterface t 1;\n").starts_with("t.idl:2:14: expected `.`"));
    assert!(whole(&format!("interface t 1.0;{TAIL}")).contains("t.idl:1:1: interface `t` has no description"));
    assert!(whole(&format!("//! d\ninterface T 1.0;{TAIL}")).contains("`T` is written unlike its kind"));
    assert!(whole(&format!("//! d\ninterface frame 1.0;{TAIL}")).contains("is taken by the language"));
    assert!(whole(&format!("//! d\ninterface t 70000.0;{TAIL}")).contains("major version 70000 is too large"));
    assert!(whole("//! d\ninterface t 1.0;").contains("has no method"));
}

#[test]
fn numbers_and_names_are_used_once() {
    refused("/// d\n@1 fn a();\n/// d\n@1 fn b();", "6:2", "method number 1 is already `a`");
    refused("/// d\n@1 fn a();\n/// d\n@2 fn a();", "6:7", "`a` is declared twice");
    refused("/// d\n@4096 fn a();", "4:2", "method number 4096 is too large");
    refused("/// d\n@1 fn a(x: u8, x: u8);", "4:16", "`x` is declared twice");
    refused("/// d\nenum E: u8 { A = 1, B = 1 }", "4:25", "number 1 is used twice");
    refused("/// d\nenum E: u8 { A = 1, A = 2 }", "4:21", "`A` is declared twice");
    refused("/// d\nenum E: u8 { A = 256 }", "4:18", "number 256 of `A` is out of range");
    refused("error { A = 0 }", "3:13", "number 0 of `A` is out of range");
    refused("error { A = 1 }\nerror { B = 2 }", "4:1", "a second `error` block");
    refused("/// d\nconst A: u8 = 256;", "4:15", "256 does not fit u8");
    refused("/// d\nstruct S { a: u8 }\n/// d\nenum S: u8 { A = 1 }", "6:6", "`S` is declared twice");
}

#[test]
fn reserved_words_are_refused() {
    refused("/// d\n@1 fn type();", "4:7", "`type` is a reserved word");
    refused("/// d\n@1 fn a(self: u8);", "4:9", "`self` is a reserved word");
    refused("/// d\n@1 fn a(buffer: u8);", "4:9", "`buffer` is taken by the language");
    refused("/// d\n@1 fn a(idl_x: u8);", "4:9", "`idl_x` is taken");
    refused("/// d\n@1 fn new();", "4:7", "`new` is taken");
    refused("/// d\nstruct Error { a: u8 }", "4:8", "`Error` is taken");
    refused("/// d\nstruct lower { a: u8 }", "4:8", "write it in CamelCase");
    refused("/// d\n@1 fn Upper();", "4:7", "write it in snake_case");
    refused("/// d\nconst lower: u8 = 1;", "4:7", "write it in UPPER_CASE");
}

#[test]
fn types_are_known_and_fixed() {
    refused("/// d\n@1 fn a(x: Thing);", "4:12", "unknown type `Thing`");
    refused("/// d\n@1 fn a(x: usize);", "4:12", "use u32 or u64");
    refused("/// d\n@1 fn a(x: f64);", "4:12", "scaled integer");
    refused("/// d\nstruct S { s: S }", "4:15", "unknown type `S`");
    refused("/// d\nstruct S {}", "4:8", "struct `S` is empty");
    refused("/// d\nenum E: i8 { A = 1 }", "4:9", "`i8` cannot number an enum");
    refused("/// d\nenum E: u8 {}", "4:6", "an enum without values");
    refused("/// d\n@1 fn a(x: str<N>);", "4:16", "unknown constant `N`");
    refused("/// d\n@1 fn a(x: str<0>);", "4:16", "size 0 is out of range");
    refused("/// d\n@1 fn a(x: bytes<99999>);", "4:18", "size 99999 is out of range");
    refused("/// d\nstruct S { c: cap any }", "4:19", "a capability inside a value");
    refused("/// d\nstruct S { w: in buffer }", "4:15", "a window inside a value");
    refused("/// d\n@1 fn a(x: [cap any; 2]);", "4:17", "a capability inside a value");
}

#[test]
fn messages_have_limits() {
    refused(
        "/// d\n@1 fn a(x: [u8; 900], y: [u8; 61]);",
        "4:7",
        "request of method `a` takes 968 bytes, a message holds 960",
    );
    refused("/// d\n@1 fn a() -> Result<[[u8; 500]; 2]>;", "4:7", "result of method `a` takes 1000 bytes");
    refused("/// d\n@1 fn a(w: cap any, x: cap any, y: cap any, z: cap any);", "4:7", "passes 4 capabilities");
    refused("/// d\n@1 fn a() -> Result<out buffer>;", "4:21", "a window as a result");
    assert_eq!(complaints("/// d\n@1 fn a(x: [u8; 900], y: [u8; 60]);"), "");
}

#[test]
fn kernel_objects_stay_on_the_node() {
    refused("/// d\n@1 fn a(x: cap frame);", "4:16", "write `local interface`");
    refused("/// d\n@1 fn a(x: cap nobody);", "4:16", "unknown interface `nobody`");
    assert_eq!(whole(&format!("//! d\nlocal interface t 1.0;\n/// d\n@1 fn a(x: cap frame, y: cap t);{TAIL}")), "");
}

#[test]
fn descriptions_are_asked_for() {
    refused("@1 fn a();", "3:7", "`a` has no description");
    refused("struct S { a: u8 }", "3:8", "`S` has no description");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = complaints("@1 fn type(x: Thing);\nstruct s { a: u8 }");
    assert_eq!(text.lines().count(), 5, "{text}");
}

fn compiled(body: &str, version: &str) -> Vec<idlc::Interface> {
    let text = format!("//! A test.\ninterface t {version};\n{body}");
    idlc::check(&[("t.idl".into(), text)]).unwrap_or_else(|error| panic!("{error}"))
}

const FIRST: &str =
    "/// d\nstruct S { a: u8, b: u8 }\nerror { Bad = 1 }\n/// d\n@1 fn a(s: S, x: u32) -> Result<u8>;\n";

#[test]
fn lock_file_allows_additions_and_renamed_parameters() {
    let lock = idlc::lock(&compiled(FIRST, "1.0"));
    assert_eq!(idlc::check_lock(&lock, &compiled(FIRST, "1.0")), Ok(()));
    assert_eq!(idlc::check_lock(&lock, &compiled(&FIRST.replace("x: u32", "y: u32"), "1.0")), Ok(()));
    let more = compiled(&format!("{FIRST}/// d\n@2 fn b();\n"), "1.1");
    let errors = idlc::check_lock(&lock, &more).expect_err("the new method is not locked yet");
    assert!(matches!(&errors[..], [idlc::LockError::NotLocked(what)] if what == "t 1 @2 b"), "{errors:?}");
    assert_eq!(idlc::check_lock(&idlc::lock(&more), &more), Ok(()));
}

#[test]
fn lock_file_refuses_what_would_break_callers() {
    let lock = idlc::lock(&compiled(FIRST, "1.0"));
    let changes = [
        ("x: u32", "x: u64", "t 1 @1 a"),
        ("b: u8", "b: u16", "t 1 @1 a"),
        ("Result<u8>", "Result<()>", "t 1 @1 a"),
        ("@1 fn a", "@1 idempotent fn a", "t 1 @1 a"),
        ("@1 fn a", "@2 fn a", "t 1 @1 a"),
        ("Bad = 1", "Worse = 1", "t 1 error 1"),
        ("Bad = 1", "Bad = 2", "t 1 error 1"),
    ];
    for (from, to, what) in changes {
        let changed = FIRST.replace(from, to);
        let errors = idlc::check_lock(&lock, &compiled(&changed, "1.1")).expect_err("incompatible");
        let text = errors[0].to_string();
        assert!(text.starts_with(what) && text.contains("major version"), "{from} -> {to}: {text}");
        let next = idlc::check_lock(&lock, &compiled(&changed, "2.0")).expect_err("new facts");
        assert!(next.iter().all(|error| matches!(error, idlc::LockError::NotLocked(_))), "{next:?}");
    }
    let errors = idlc::check_lock("nonsense\n", &[]).expect_err("no fact");
    assert_eq!(errors, [idlc::LockError::BadLine("nonsense".into())]);
}

#[test]
fn moving_interfaces_are_not_locked() {
    let lock = idlc::lock(&compiled(FIRST, "0.1"));
    assert_eq!(idlc::check_lock(&lock, &compiled(&FIRST.replace("u32", "u64"), "0.1")), Ok(()));
}

/// Damaged files are complained about or compiled, never a panic; and what compiles is printable.
#[test]
fn damaged_files_do_not_upset_the_compiler() {
    let sources = idlc::read_directory(&here("samples")).expect("samples");
    let text: Vec<char> = sources[0].1.chars().collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |bound: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    };
    let alphabet: Vec<char> = "{}()[]<>:;,=.@-/!_09azAZ \n\"ü".chars().collect();
    let mut compiled = 0;
    for _ in 0..2000 {
        let mut damaged = text.clone();
        for _ in 0..=random(3) {
            let at = random(damaged.len());
            match random(3) {
                0 => damaged[at] = alphabet[random(alphabet.len())],
                1 => damaged.insert(at, alphabet[random(alphabet.len())]),
                _ => {
                    damaged.drain(at..(at + random(12)).min(damaged.len()));
                }
            }
        }
        let damaged: String = damaged.into_iter().collect();
        if let Ok(interfaces) = idlc::check(&[("damaged.idl".into(), damaged), sources[1].clone()]) {
            compiled += 1;
            // Printing takes most of the time.
            if compiled % 20 == 0 {
                idlc::rust(&interfaces, idlc::Options::default()).expect("printable");
            }
        }
    }
    assert!(compiled > 100, "some damage is harmless: {compiled}");
}
