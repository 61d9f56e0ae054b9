//! Values in payloads: how each is laid out and what is checked when it is read.

use core::fmt;
use core::ops::Deref;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// A byte that is always zero: explicit padding. Reading anything else fails, so every value has one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u8)]
pub enum Zero {
    /// The only value.
    #[default]
    Zero = 0,
}

/// A value that can stand in a payload.
///
/// `Raw` is its fixed layout, every bit pattern of which zerocopy accepts or refuses; `from_raw` checks the rest.
pub trait Wire: Copy {
    /// The layout in the payload.
    type Raw: Copy + TryFromBytes + IntoBytes + Immutable + KnownLayout;

    /// The layout of this value.
    fn to_raw(&self) -> Self::Raw;

    /// The value, or `None` if the layout does not hold a valid one.
    fn from_raw(raw: &Self::Raw) -> Option<Self>;
}

macro_rules! plain {
    ($($ty:ty)*) => {$(
        impl Wire for $ty {
            type Raw = Self;
            fn to_raw(&self) -> Self {
                *self
            }
            fn from_raw(raw: &Self) -> Option<Self> {
                Some(*raw)
            }
        }
    )*};
}
plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 bool);

impl<T: Wire, const N: usize> Wire for [T; N] {
    type Raw = [T::Raw; N];

    fn to_raw(&self) -> Self::Raw {
        core::array::from_fn(|i| self[i].to_raw())
    }

    fn from_raw(raw: &Self::Raw) -> Option<Self> {
        let mut value = [T::from_raw(raw.first()?)?; N];
        for (to, from) in value.iter_mut().zip(raw).skip(1) {
            *to = T::from_raw(from)?;
        }
        Some(value)
    }
}

/// The text or data does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too long for its field")
    }
}

/// At most `N` bytes with their length (`bytes<N>`); 2 + `N` bytes in a payload, the unused ones zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Bytes<const N: usize> {
    len: [u8; 2],
    data: [u8; N],
}

impl<const N: usize> Bytes<N> {
    /// No bytes.
    pub const EMPTY: Self = Self { len: [0; 2], data: [0; N] };

    /// A copy of `data`; [`TooLong`] above `N`.
    pub fn new(data: &[u8]) -> Result<Self, TooLong> {
        let mut value = Self::EMPTY;
        value.data.get_mut(..data.len()).ok_or(TooLong)?.copy_from_slice(data);
        value.len = u16::try_from(data.len()).map_err(|_| TooLong)?.to_le_bytes();
        Ok(value)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.data.get(..usize::from(u16::from_le_bytes(self.len))).unwrap_or(&[])
    }
}

impl<const N: usize> Wire for Bytes<N> {
    type Raw = Self;

    fn to_raw(&self) -> Self {
        *self
    }

    fn from_raw(raw: &Self) -> Option<Self> {
        let (_, unused) = raw.data.split_at_checked(usize::from(u16::from_le_bytes(raw.len)))?;
        unused.iter().all(|byte| *byte == 0).then_some(*raw)
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl<const N: usize> TryFrom<&[u8]> for Bytes<N> {
    type Error = TooLong;
    fn try_from(data: &[u8]) -> Result<Self, TooLong> {
        Self::new(data)
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// UTF-8 text of at most `N` bytes (`str<N>`); laid out like [`Bytes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str<const N: usize>(Bytes<N>);

impl<const N: usize> Str<N> {
    /// No text.
    pub const EMPTY: Self = Self(Bytes::EMPTY);

    /// A copy of `text`; [`TooLong`] above `N` bytes.
    pub fn new(text: &str) -> Result<Self, TooLong> {
        Bytes::new(text.as_bytes()).map(Self)
    }

    /// As much of `text` as fits, cut at a character.
    pub fn truncated(text: &str) -> Self {
        let mut end = text.len().min(N).min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::new(text.get(..end).unwrap_or("")).unwrap_or(Self::EMPTY)
    }

    /// Text from `format_args!`; what does not fit is cut off.
    pub fn format(args: fmt::Arguments<'_>) -> Self {
        struct Cut<const N: usize> {
            data: [u8; N],
            len: usize,
        }
        impl<const N: usize> fmt::Write for Cut<N> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for c in text.chars() {
                    let end = self.len + c.len_utf8();
                    let to = self.data.get_mut(self.len..end).ok_or(fmt::Error)?;
                    c.encode_utf8(to);
                    self.len = end;
                }
                Ok(())
            }
        }
        let mut cut = Cut { data: [0; N], len: 0 };
        // An error only says that the text was cut.
        let _ = fmt::write(&mut cut, args);
        let text = cut.data.get(..cut.len).and_then(|data| core::str::from_utf8(data).ok());
        Self::truncated(text.unwrap_or(""))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.0.as_slice()).unwrap_or("")
    }
}

impl<const N: usize> Wire for Str<N> {
    type Raw = Bytes<N>;

    fn to_raw(&self) -> Bytes<N> {
        self.0
    }

    fn from_raw(raw: &Bytes<N>) -> Option<Self> {
        let bytes = Bytes::from_raw(raw)?;
        core::str::from_utf8(bytes.as_slice()).ok()?;
        Some(Self(bytes))
    }
}

impl<const N: usize> Default for Str<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> Deref for Str<N> {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> TryFrom<&str> for Str<N> {
    type Error = TooLong;
    fn try_from(text: &str) -> Result<Self, TooLong> {
        Self::new(text)
    }
}

impl<const N: usize> fmt::Display for Str<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Str<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Str<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.as_str());
    }
}

#[cfg(feature = "defmt")]
impl<const N: usize> defmt::Format for Bytes<N> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]}", self.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_encoding() {
        let text = Str::<8>::new("grün").expect("fits");
        let raw = text.to_raw();
        assert_eq!(raw.as_bytes(), [5, 0, b'g', b'r', 0xc3, 0xbc, b'n', 0, 0, 0]);
        assert_eq!(Str::from_raw(&raw), Some(text));
        for (at, value) in [(0, 9), (1, 1), (2, 0xff), (9, 1), (0, 4)] {
            let mut bytes = [0u8; 10];
            bytes.copy_from_slice(raw.as_bytes());
            bytes[at] = value;
            let bad = Bytes::<8>::read_from_bytes(&bytes).expect("any bytes have this layout");
            assert_eq!(Str::from_raw(&bad), None, "byte {at} = {value:#x}");
        }
    }

    #[test]
    fn long_text_is_refused_or_cut_at_a_character() {
        assert_eq!(Str::<3>::new("abcd"), Err(TooLong));
        assert_eq!(Str::<3>::truncated("abü").as_str(), "ab");
        assert_eq!(Str::<4>::truncated("abü").as_str(), "abü");
        assert_eq!(Str::<4>::format(format_args!("{}-{}", 12, "xyz")).as_str(), "12-x");
    }

    #[test]
    fn padding_is_zero() {
        assert!(<[Zero; 2]>::try_read_from_bytes(&[0, 0]).is_ok());
        assert!(<[Zero; 2]>::try_read_from_bytes(&[0, 1]).is_err());
    }

    #[test]
    fn arrays_check_each_element() {
        let good = [Str::<2>::new("a").expect("fits"), Str::<2>::new("bc").expect("fits")];
        let mut raw = good.to_raw();
        assert_eq!(<[Str<2>; 2]>::from_raw(&raw), Some(good));
        raw[1] = Bytes::new(&[0xff]).expect("fits");
        assert_eq!(<[Str<2>; 2]>::from_raw(&raw), None);
    }
}
