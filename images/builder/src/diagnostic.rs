//! Mistakes, with file and line.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 if it concerns the whole file.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message),
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// All mistakes that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(pub Vec<Diagnostic>);

impl BuildError {
    /// A mistake that concerns a whole file.
    pub fn file(file: &Path, message: impl Into<String>) -> BuildError {
        BuildError(vec![Diagnostic { file: file.to_owned(), line: 0, message: message.into() }])
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}

/// Line, from 1, of byte `offset` of a text.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}
