//! Interface file text to tokens.

use crate::diag::{Diagnostic, Pos};

/// A token without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word.
    Ident(String),
    /// A number, decimal or `0x` hexadecimal, `_` allowed between digits.
    Int(u64),
    /// `->`
    Arrow,
    /// A single character of punctuation.
    Punct(char),
    /// `/// text`
    Doc(String),
    /// `//! text`
    FileDoc(String),
    /// The end of the file.
    End,
}

impl Token {
    /// As a message names it.
    pub fn name(&self) -> String {
        match self {
            Self::Ident(word) => format!("`{word}`"),
            Self::Int(value) => format!("number {value}"),
            Self::Arrow => "`->`".into(),
            Self::Punct(c) => format!("`{c}`"),
            Self::Doc(_) => "a doc comment".into(),
            Self::FileDoc(_) => "a `//!` comment".into(),
            Self::End => "the end of the file".into(),
        }
    }
}

const PUNCTUATION: &str = "{}()[]<>:;,=.@";

struct Lexer<'a> {
    file: &'a str,
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    at: Pos,
}

/// Splits `text` into tokens; the last is [`Token::End`].
pub fn lex(file: &str, text: &str) -> Result<Vec<(Token, Pos)>, Diagnostic> {
    let mut lexer = Lexer { file, rest: text.chars().peekable(), at: Pos { line: 1, col: 1 } };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_while(char::is_whitespace);
        let at = lexer.at;
        let token = match lexer.rest.peek() {
            None => Some(Token::End),
            Some('/') => lexer.comment()?,
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => Some(Token::Ident(lexer.word())),
            Some(c) if c.is_ascii_digit() => Some(lexer.number()?),
            Some('-') => Some(lexer.arrow()?),
            Some(c) if PUNCTUATION.contains(*c) => {
                let c = *c;
                lexer.bump();
                Some(Token::Punct(c))
            }
            Some(c) => {
                let c = *c;
                return Err(lexer.error(at, format!("unexpected character `{c}`"), "remove it".into()));
            }
        };
        let end = token == Some(Token::End);
        tokens.extend(token.map(|token| (token, at)));
        if end {
            return Ok(tokens);
        }
    }
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.at = Pos { line: self.at.line + 1, col: 1 };
        } else {
            self.at.col += 1;
        }
        Some(c)
    }

    fn skip_while(&mut self, test: impl Fn(char) -> bool) {
        while self.rest.peek().is_some_and(|c| test(*c)) {
            self.bump();
        }
    }

    fn take_while(&mut self, test: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| test(*c)) {
            text.push(c);
            self.bump();
        }
        text
    }

    fn error(&self, at: Pos, what: String, todo: String) -> Diagnostic {
        Diagnostic { file: self.file.into(), at, what, todo }
    }

    fn word(&mut self) -> String {
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn number(&mut self) -> Result<Token, Diagnostic> {
        let at = self.at;
        let written = self.word();
        let digits = written.replace('_', "");
        let value = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        value.map(Token::Int).map_err(|_| {
            let what = format!("`{written}` is not a number of at most 64 bits");
            self.error(at, what, "write it in decimal or as 0x...".into())
        })
    }

    fn arrow(&mut self) -> Result<Token, Diagnostic> {
        let at = self.at;
        self.bump();
        match self.bump() {
            Some('>') => Ok(Token::Arrow),
            _ => Err(self.error(at, "a lone `-`".into(), "write `->` before a result; numbers have no sign".into())),
        }
    }

    /// `// ...` gives nothing, `/// ...` and `//! ...` give their text.
    fn comment(&mut self) -> Result<Option<Token>, Diagnostic> {
        let at = self.at;
        self.bump();
        if self.bump() != Some('/') {
            return Err(self.error(at, "a lone `/`".into(), "comments start with `//`".into()));
        }
        let text = self.take_while(|c| c != '\n');
        let trimmed = |text: &str| text.strip_prefix(' ').unwrap_or(text).trim_end().to_owned();
        Ok(if let Some(doc) = text.strip_prefix('!') {
            Some(Token::FileDoc(trimmed(doc)))
        } else {
            text.strip_prefix('/').map(|doc| Token::Doc(trimmed(doc)))
        })
    }
}
