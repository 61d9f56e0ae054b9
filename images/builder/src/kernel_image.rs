//! The kernel's raw image: what the builder adds to the flattened ELF for one kind of board.
//!
//! The image starts with the 64-byte arm64 Image header (Linux, `Documentation/arch/arm64/booting.rst`); behind it the kernel
//! has words of its own: the tag `SMIKERNL` and the physical address of a console for the time before the device tree is
//! understood (0: none).

/// The arm64 Image magic and its place.
const IMAGE_MAGIC: (usize, &[u8; 4]) = (56, b"ARM\x64");
/// The kernel's own tag and its place.
const KERNEL_TAG: (usize, &[u8; 8]) = (64, b"SMIKERNL");
/// Place of the early console's address.
const EARLY_CONSOLE: usize = 72;

/// The bytes are not an image of this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOurKernel;

impl std::fmt::Display for NotOurKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not an image of this kernel: its header has no arm64 magic or no SMIKERNL tag")
    }
}

impl std::error::Error for NotOurKernel {}

fn has(image: &[u8], (at, tag): (usize, &[u8])) -> bool {
    image.get(at..at + tag.len()) == Some(tag)
}

/// Tells the kernel in `image` where a PL011 is (physical address) for messages about a device tree that it cannot
/// understand. The address is the board's: see the `bsp` crates.
pub fn set_early_console(image: &mut [u8], address: u64) -> Result<(), NotOurKernel> {
    if !has(image, (IMAGE_MAGIC.0, IMAGE_MAGIC.1)) || !has(image, (KERNEL_TAG.0, KERNEL_TAG.1)) {
        return Err(NotOurKernel);
    }
    let word = image.get_mut(EARLY_CONSOLE..EARLY_CONSOLE + 8).ok_or(NotOurKernel)?;
    word.copy_from_slice(&address.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_goes_behind_the_tag_and_only_into_our_kernel() {
        let mut image = vec![0u8; 96];
        assert_eq!(set_early_console(&mut image, 1), Err(NotOurKernel));
        image[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(set_early_console(&mut image, 1), Err(NotOurKernel));
        image[64..72].copy_from_slice(b"SMIKERNL");
        assert_eq!(set_early_console(&mut image, 0x0900_0000), Ok(()));
        assert_eq!(image[72..80], [0, 0, 0, 9, 0, 0, 0, 0]);
        assert!(image[80..].iter().all(|&b| b == 0));
        assert_eq!(set_early_console(&mut image[..76], 1), Err(NotOurKernel));
    }
}
