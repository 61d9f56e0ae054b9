//! Outcome of a check, and the printing macros.

use core::fmt;

/// Why a test failed.
#[derive(Clone, Copy, Debug)]
pub struct Fail {
    /// Where the check is.
    pub file: &'static str,
    /// Line of the check.
    pub line: u32,
    /// What was checked.
    pub what: &'static str,
    /// What came out and what should have, if it is about two values.
    pub values: Option<(u64, u64)>,
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)?;
        if let Some((got, want)) = self.values {
            write!(f, " is {got} ({got:#x}), not {want} ({want:#x})")?;
        }
        Ok(())
    }
}

/// Result of a test or of a step of it.
pub type Outcome<T = ()> = Result<T, Fail>;

/// The check at the caller's place failed.
#[macro_export]
macro_rules! fail {
    ($what:expr) => {
        return Err($crate::report::Fail { file: file!(), line: line!(), what: $what, values: None })
    };
}

/// Ends the test if the condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($condition:expr) => {
        if !$condition {
            fail!(stringify!($condition))
        }
    };
}

/// Ends the test if the two numbers differ.
#[macro_export]
macro_rules! ensure_eq {
    ($got:expr, $want:expr) => {{
        let (got, want) = ($got as u64, $want as u64);
        if got != want {
            return Err($crate::report::Fail {
                file: file!(),
                line: line!(),
                what: stringify!($got),
                values: Some((got, want)),
            });
        }
    }};
}

/// Ends the test if a kernel operation did not succeed.
#[macro_export]
macro_rules! ensure_ok {
    ($reply:expr) => {{
        let reply = $reply;
        if reply.label != 0 {
            return Err($crate::report::Fail {
                file: file!(),
                line: line!(),
                what: concat!("error of ", stringify!($reply)),
                values: Some((reply.label, 0)),
            });
        }
        reply
    }};
}

/// Ends the test if a kernel operation did not fail with just this error and these words.
#[macro_export]
macro_rules! ensure_error {
    ($reply:expr, $error:ident $(, $word:expr)*) => {{
        let reply = $reply;
        let want = kernel_abi::Error::$error.raw();
        let words: &[u64] = &[$($word as u64),*];
        let place = |what, values| Err($crate::report::Fail { file: file!(), line: line!(), what, values: Some(values) });
        if reply.label != want {
            return place(concat!("error of ", stringify!($reply)), (reply.label, want));
        }
        if reply.length != words.len() {
            return place(concat!("error words of ", stringify!($reply)), (reply.length as u64, words.len() as u64));
        }
        for (i, &word) in words.iter().enumerate() {
            if reply.word(i) != word {
                return place(concat!("error word of ", stringify!($reply)), (reply.word(i), word));
            }
        }
    }};
}

/// Prints on the kernel's console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::sys::print(format_args!($($arg)*)) };
}

/// Prints a line on the kernel's console.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::sys::print(format_args!("{}\n", format_args!($($arg)*))) };
}
