//! Names: short text, checked when made.

use alloc::boxed::Box;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest [`Name`], in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A name in the directory or of a program: 1 to [`MAX_NAME_BYTES`] bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Name(Box<str>);

/// Text that is not a [`Name`]: empty, too long, or with control characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadName;

impl Name {
    /// Checks `text` and makes it a name.
    pub fn new(text: &str) -> Result<Name, BadName> {
        let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
        if fits && !text.chars().any(char::is_control) { Ok(Name(text.into())) } else { Err(BadName) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Name {
    type Error = BadName;

    fn try_from(text: &str) -> Result<Name, BadName> {
        Name::new(text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Name, D::Error> {
        let text: &str = Deserialize::deserialize(d)?;
        Name::new(text).map_err(|_| serde::de::Error::custom("not a name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_text_is_a_name() {
        assert_eq!(Name::new("disk/é").unwrap().as_str(), "disk/é");
        assert!(Name::new(&"x".repeat(MAX_NAME_BYTES)).is_ok());
        for bad in ["", "a\nb", "\0", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert_eq!(Name::new(bad), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_name_does_not_decode() {
        let good = postcard::to_allocvec("abc").unwrap();
        assert_eq!(postcard::from_bytes::<Name>(&good), Ok(Name::new("abc").unwrap()));
        assert!(postcard::from_bytes::<Name>(&postcard::to_allocvec("").unwrap()).is_err());
        assert!(postcard::from_bytes::<Name>(&postcard::to_allocvec("a\u{7}").unwrap()).is_err());
    }
}
