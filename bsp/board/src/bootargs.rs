//! The kernel's command line: words separated by blanks, the kernel's own are `kernel.NAME` or `kernel.NAME=VALUE`.

/// The boot arguments as handed over by the firmware.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bootargs<'a>(pub &'a str);

impl<'a> Bootargs<'a> {
    /// The value of `kernel.NAME`: `Some("")` if it is given without a value, `None` if it is not given.
    /// If it is given more than once, the last one counts.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.0.split_ascii_whitespace().rev().find_map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.strip_prefix("kernel.")? == name).then_some(value)
        })
    }

    /// The value of `kernel.NAME` as a number (decimal, or hexadecimal with `0x`); `None` if absent or not a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.value(name)?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_kernels_own_words() {
        let args = Bootargs("quiet kernel.panic=off  domains=7 kernel.domains=0x10 kernel.verbose kernel.domains=3");
        assert_eq!(args.value("panic"), Some("off"));
        assert_eq!(args.value("verbose"), Some(""));
        assert_eq!(args.number("domains"), Some(3));
        assert_eq!(args.number("verbose"), None);
        assert_eq!(args.value("quiet"), None);
    }
}
