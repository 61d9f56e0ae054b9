//! The heap: a buddy allocator over the memory that the manifest gives.

use crate::cell::Local;
use buddy_system_allocator::Heap as Buddy;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

struct Heap(Local<Buddy<32>>);

#[global_allocator]
static HEAP: Heap = Heap(Local::new(Buddy::empty()));

// SAFETY: the buddy allocator hands out disjoint blocks of the memory it was given, of the layout's size and alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.with(|heap| heap.alloc(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr))
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            // SAFETY: the caller gives back a block of this allocator with its layout (contract of `dealloc`).
            self.0.with(|heap| unsafe { heap.dealloc(ptr, layout) });
        }
    }
}

/// Gives memory to the heap.
///
/// # Safety
/// `start..start + len` is mapped, writable, used by nobody else, and stays so.
pub unsafe fn add(start: usize, len: usize) {
    if len > 0 {
        // SAFETY: by this function's contract.
        HEAP.0.with(|heap| unsafe { heap.add_to_heap(start, start + len) });
    }
}

/// Bytes of heap: (in use, in total). Blocks are powers of two.
pub fn usage() -> (usize, usize) {
    HEAP.0.with(|heap| (heap.stats_alloc_actual(), heap.stats_total_bytes()))
}
