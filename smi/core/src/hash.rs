//! CRC-64/XZ: finds damage on disk and tells states and log entries apart. Not cryptographic: the link authenticates peers.

const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_XZ);

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u64 {
    CRC.checksum(bytes)
}

/// The checksum of the concatenation of `parts`.
pub fn checksum_of(parts: &[&[u8]]) -> u64 {
    let mut digest = CRC.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_like_their_concatenation() {
        // Check value of CRC-64/XZ from the catalogue of parametrised CRC algorithms.
        assert_eq!(checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(checksum_of(&[b"1234", b"", b"56789"]), checksum(b"123456789"));
    }
}
