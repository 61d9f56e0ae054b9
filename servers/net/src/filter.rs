//! Which received frames a client gets.

use crate::HEADER;

/// Which received frames a client gets; from its channel's argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Everything (empty argument).
    All,
    /// Frames of one EtherType (`ethertype=0x88b5`).
    Type(u16),
    /// Frames that no [`Filter::Type`] of another client asks for (`rest`).
    Rest,
}

/// The argument is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFilter;

impl Filter {
    /// Reads a channel's argument.
    pub fn parse(argument: &str) -> Result<Self, BadFilter> {
        match argument {
            "" => Ok(Self::All),
            "rest" => Ok(Self::Rest),
            _ => {
                let digits = argument.strip_prefix("ethertype=0x").ok_or(BadFilter)?;
                u16::from_str_radix(digits, 16).map(Self::Type).map_err(|_| BadFilter)
            }
        }
    }

    /// Whether the frame goes to the client with this filter, when `all` are the filters of the device's clients.
    pub fn accepts(self, frame: &[u8], all: impl IntoIterator<Item = Self>) -> bool {
        let Some(kind) = ether_type(frame) else { return false };
        match self {
            Self::All => true,
            Self::Type(wanted) => kind == wanted,
            Self::Rest => !all.into_iter().any(|other| other == Self::Type(kind)),
        }
    }
}

/// The frame's EtherType.
fn ether_type(frame: &[u8]) -> Option<u16> {
    let bytes = frame.get(HEADER - 2..HEADER)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(Filter::parse(""), Ok(Filter::All));
        assert_eq!(Filter::parse("rest"), Ok(Filter::Rest));
        assert_eq!(Filter::parse("ethertype=0x88b5"), Ok(Filter::Type(0x88b5)));
        for bad in ["ethertype=0x", "ethertype=0x12345", "ethertype=2048", "all"] {
            assert_eq!(Filter::parse(bad), Err(BadFilter), "{bad}");
        }
    }

    #[test]
    fn each_frame_goes_where_it_is_wanted() {
        let all = [Filter::All, Filter::Type(0x88b5), Filter::Rest];
        let mut link = [0; 20];
        link[12..14].copy_from_slice(&[0x88, 0xb5]);
        let mut ip = [0; 20];
        ip[12..14].copy_from_slice(&[8, 0]);
        assert_eq!(all.map(|filter| filter.accepts(&link, all)), [true, true, false]);
        assert_eq!(all.map(|filter| filter.accepts(&ip, all)), [true, false, true]);
        assert_eq!(all.map(|filter| filter.accepts(&ip[..13], all)), [false; 3]);
    }
}
