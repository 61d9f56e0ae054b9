//! Messages to the author of an interface file.

use std::fmt;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub col: u32,
}

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file's name as given to the compiler.
    pub file: String,
    /// Where.
    pub at: Pos,
    /// What was wrong.
    pub what: String,
    /// What to do.
    pub todo: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}; {}", self.file, self.at.line, self.at.col, self.what, self.todo)
    }
}

impl std::error::Error for Diagnostic {}
