//! Tokens to an interface file, by recursive descent.
//!
//! ```text
//! file   := filedoc* ["local"] "interface" name int "." int ";" item*
//! item   := const | struct | enum | error | method            each after its doc comments
//! const  := "const" NAME ":" name "=" int ";"
//! struct := "struct" Name "{" field,* "}"
//! enum   := "enum" Name ":" name "{" value,* "}"
//! error  := "error" "{" value,* "}"
//! method := "@" int ["idempotent"] "fn" name "(" field,* ")" ["->" "Result" "<" result ">"] ";"
//! result := "(" field,* ")" | type
//! field  := doc* name ":" type
//! value  := doc* Name "=" int
//! type   := "cap" name | "in" "buffer" | "out" "buffer" | "str" "<" size ">" | "bytes" "<" size ">"
//!         | "[" type ";" size "]" | name
//! size   := int | NAME
//! ```

use crate::ast::{FieldExpr, File, Item, Name, Number, ResultExpr, SizeExpr, TypeExpr, ValueExpr};
use crate::diag::{Diagnostic, Pos};
use crate::lexer::{Token, lex};

/// Types nest only so deep: bounds the parser's stack.
const MAX_NESTING: usize = 8;

struct Parser<'a> {
    file: &'a str,
    tokens: Vec<(Token, Pos)>,
    next: usize,
}

type Parsed<T> = Result<T, Diagnostic>;

/// Parses one interface file; `file` is its name in messages.
pub fn parse(file: &str, text: &str) -> Parsed<File> {
    let mut parser = Parser { file, tokens: lex(file, text)?, next: 0 };
    let docs = parser.file_docs();
    let local = parser.eat_word("local");
    parser.word("interface", "start the file with `interface name major.minor;` after its `//!` lines")?;
    let name = parser.name("the interface's name")?;
    let major = parser.number("the major version")?;
    parser.punct('.', "write the version as `1.0`")?;
    let minor = parser.number("the minor version")?;
    parser.punct(';', "end the interface line with `;`")?;
    let mut items = Vec::new();
    while *parser.peek() != Token::End {
        items.push(parser.item()?);
    }
    Ok(File { file: file.into(), docs, local, name, version: (major, minor), items })
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn at(&self) -> Pos {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(Pos { line: 1, col: 1 }, |(_, at)| *at)
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    fn error<T>(&self, expected: &str, todo: &str) -> Parsed<T> {
        let what = format!("expected {expected}, found {}", self.peek().name());
        Err(Diagnostic { file: self.file.into(), at: self.at(), what, todo: todo.into() })
    }

    fn eat(&mut self, token: &Token) -> bool {
        let found = self.peek() == token;
        if found {
            self.advance();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Ident(text) if text == word);
        if found {
            self.advance();
        }
        found
    }

    fn word(&mut self, word: &str, todo: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { self.error(&format!("`{word}`"), todo) }
    }

    fn punct(&mut self, c: char, todo: &str) -> Parsed<()> {
        if self.eat(&Token::Punct(c)) { Ok(()) } else { self.error(&format!("`{c}`"), todo) }
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        let at = self.at();
        match self.peek() {
            Token::Ident(text) => {
                let text = text.clone();
                self.advance();
                Ok(Name { text, at })
            }
            _ => self.error(what, "names are letters, digits and `_`"),
        }
    }

    fn number(&mut self, what: &str) -> Parsed<Number> {
        let at = self.at();
        match *self.peek() {
            Token::Int(value) => {
                self.advance();
                Ok(Number { value, at })
            }
            _ => self.error(what, "write a number"),
        }
    }

    fn file_docs(&mut self) -> Vec<String> {
        let mut docs = Vec::new();
        while let Token::FileDoc(text) = self.peek() {
            docs.push(text.clone());
            self.advance();
        }
        docs
    }

    fn docs(&mut self) -> Vec<String> {
        let mut docs = Vec::new();
        while let Token::Doc(text) = self.peek() {
            docs.push(text.clone());
            self.advance();
        }
        docs
    }

    fn item(&mut self) -> Parsed<Item> {
        let docs = self.docs();
        let at = self.at();
        if self.eat_word("const") {
            return self.constant(docs);
        }
        if self.eat_word("struct") {
            let name = self.name("the struct's name")?;
            return Ok(Item::Struct { docs, name, fields: self.list('{', '}', Self::field)? });
        }
        if self.eat_word("enum") {
            let name = self.name("the enum's name")?;
            self.punct(':', "write `enum Name: u8 { ... }`")?;
            let repr = self.name("the enum's integer type")?;
            return Ok(Item::Enum { docs, name, repr, values: self.list('{', '}', Self::value)? });
        }
        if self.eat_word("error") {
            return Ok(Item::Error { at, values: self.list('{', '}', Self::value)? });
        }
        if self.eat(&Token::Punct('@')) {
            return self.method(docs);
        }
        if matches!(self.peek(), Token::Ident(word) if word == "fn" || word == "idempotent") {
            return self.error("`@` and the method's number", "write `@1 fn name(...)`; numbers are never reused");
        }
        self.error("a declaration", "write `const`, `struct`, `enum`, `error` or `@n fn`")
    }

    fn constant(&mut self, docs: Vec<String>) -> Parsed<Item> {
        const SHAPE: &str = "write `const NAME: u32 = 1;`";
        let name = self.name("the constant's name")?;
        self.punct(':', SHAPE)?;
        let ty = self.name("the constant's type")?;
        self.punct('=', SHAPE)?;
        let value = self.number("the constant's value")?;
        self.punct(';', SHAPE)?;
        Ok(Item::Const { docs, name, ty, value })
    }

    fn method(&mut self, docs: Vec<String>) -> Parsed<Item> {
        let ordinal = self.number("the method's number")?;
        let idempotent = self.eat_word("idempotent");
        self.word("fn", "write `@1 fn name(...)` or `@1 idempotent fn name(...)`")?;
        let name = self.name("the method's name")?;
        let params = self.list('(', ')', Self::field)?;
        let result = if self.eat(&Token::Arrow) { self.result()? } else { ResultExpr::Nothing };
        self.punct(';', "end the method with `;`")?;
        Ok(Item::Method { docs, ordinal, idempotent, name, params, result })
    }

    fn result(&mut self) -> Parsed<ResultExpr> {
        self.word("Result", "every call can fail: write `-> Result<T>`")?;
        self.punct('<', "write `Result<T>`")?;
        let at = self.at();
        let result = if *self.peek() == Token::Punct('(') {
            let fields = self.list('(', ')', Self::field)?;
            if fields.is_empty() { ResultExpr::Nothing } else { ResultExpr::Several(fields) }
        } else {
            ResultExpr::One(Box::new(self.ty(0)?), at)
        };
        self.punct('>', "close `Result<` with `>`")?;
        Ok(result)
    }

    fn list<T>(&mut self, open: char, close: char, one: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.punct(open, "open the list")?;
        let mut items = Vec::new();
        while !self.eat(&Token::Punct(close)) {
            items.push(one(self)?);
            if !self.eat(&Token::Punct(',')) {
                self.punct(close, &format!("separate with `,` and close with `{close}`"))?;
                break;
            }
        }
        Ok(items)
    }

    fn field(&mut self) -> Parsed<FieldExpr> {
        let docs = self.docs();
        let name = self.name("a name")?;
        self.punct(':', "write `name: type`")?;
        Ok(FieldExpr { docs, name, ty: self.ty(0)? })
    }

    fn value(&mut self) -> Parsed<ValueExpr> {
        let docs = self.docs();
        let name = self.name("a name")?;
        self.punct('=', "give every value its number: `Name = 1`")?;
        Ok(ValueExpr { docs, name, value: self.number("a number")? })
    }

    fn size(&mut self) -> Parsed<SizeExpr> {
        match self.peek() {
            Token::Ident(_) => Ok(SizeExpr::Const(self.name("a constant")?)),
            _ => Ok(SizeExpr::Number(self.number("a size")?)),
        }
    }

    fn sized(&mut self) -> Parsed<SizeExpr> {
        self.punct('<', "write the maximum in bytes, as in `str<64>`")?;
        let size = self.size()?;
        self.punct('>', "write the maximum in bytes, as in `str<64>`")?;
        Ok(size)
    }

    fn ty(&mut self, depth: usize) -> Parsed<TypeExpr> {
        if depth >= MAX_NESTING {
            return self.error("a simpler type", "name the inner part as a struct");
        }
        if self.eat(&Token::Punct('[')) {
            let element = self.ty(depth + 1)?;
            self.punct(';', "write `[type; count]`")?;
            let count = self.size()?;
            self.punct(']', "write `[type; count]`")?;
            return Ok(TypeExpr::Array(Box::new(element), count));
        }
        let name = self.name("a type")?;
        Ok(match name.text.as_str() {
            "str" => TypeExpr::Str(self.sized()?),
            "bytes" => TypeExpr::Bytes(self.sized()?),
            "cap" => TypeExpr::Cap(self.name("what the capability denotes")?),
            "in" | "out" => {
                self.word("buffer", "windows are `in buffer` (to the server) or `out buffer` (from it)")?;
                TypeExpr::Window { input: name.text == "in", at: name.at }
            }
            _ => TypeExpr::Named(name),
        })
    }
}
