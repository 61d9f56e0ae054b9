//! The heap: a two-level segregated fit allocator (Masmano and others, "TLSF", 2004) over the memory that the manifest gives.
//!
//! Allocating and freeing take bounded time whatever the heap looks like. (A buddy allocator with list-searched buddies, which was here
//! first, needs time proportional to the number of free blocks for each block freed: minutes for fifty thousand small ones.)

use crate::cell::Local;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use rlsf::Tlsf;

/// Blocks up to 32 bytes << 24, in 32 sizes per power of two.
struct State {
    heap: Tlsf<'static, u32, u32, 24, 32>,
    used: usize,
    total: usize,
}

struct Heap(Local<State>);

#[global_allocator]
static HEAP: Heap = Heap(Local::new(State { heap: Tlsf::new(), used: 0, total: 0 }));

// SAFETY: the allocator hands out disjoint blocks of the memory it was given, of the layout's size and alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.with(|state| match state.heap.allocate(layout) {
            Some(block) => {
                state.used += layout.size();
                block.as_ptr()
            }
            None => core::ptr::null_mut(),
        })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            self.0.with(|state| {
                state.used -= layout.size();
                // SAFETY: the caller gives back a block of this allocator with its layout (contract of `dealloc`).
                unsafe { state.heap.deallocate(ptr, layout.align()) }
            });
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(ptr), Ok(new)) = (NonNull::new(ptr), Layout::from_size_align(new_size, layout.align())) else {
            return core::ptr::null_mut();
        };
        // SAFETY: the caller's block is this allocator's, with this alignment (contract of `realloc`). It grows in place if it can.
        self.0.with(|state| match unsafe { state.heap.reallocate(ptr, new) } {
            Some(block) => {
                state.used = state.used - layout.size() + new_size;
                block.as_ptr()
            }
            None => core::ptr::null_mut(),
        })
    }
}

/// Gives memory to the heap.
///
/// # Safety
/// `start..start + len` is mapped, writable, used by nobody else, and stays so.
pub unsafe fn add(start: usize, len: usize) {
    let Some(start) = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)) else { return };
    HEAP.0.with(|state| {
        let block = NonNull::slice_from_raw_parts(start, len);
        // SAFETY: by this function's contract. What is too small for a block is left unused.
        let added = unsafe { state.heap.insert_free_block_ptr(block) };
        state.total += added.map_or(0, |bytes| bytes.get());
    });
}

/// Bytes of heap: (asked for and not given back, in total).
pub fn usage() -> (usize, usize) {
    HEAP.0.with(|state| (state.used, state.total))
}
