//! State of a process with one thread.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one borrower at a time may change. Nested borrowing panics.
pub struct Local<T> {
    value: UnsafeCell<T>,
    borrowed: AtomicBool,
}

// SAFETY: `with` hands out one reference at a time, guarded by `borrowed`; a second thread would find it set and panic.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Local { value: UnsafeCell::new(value), borrowed: AtomicBool::new(false) }
    }

    /// Runs `f` on the value.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.try_with(f) {
            Some(result) => result,
            None => panic!("nested use of runtime state"),
        }
    }

    /// Runs `f` on the value unless it is being used.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.borrowed.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: the flag was clear, so no other reference exists; it stays set until `f` returns.
        let result = f(unsafe { &mut *self.value.get() });
        self.borrowed.store(false, Ordering::Release);
        Some(result)
    }
}
