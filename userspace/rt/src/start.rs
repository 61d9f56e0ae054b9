//! From the first instruction to the server's `main`.

use smi_env::{Env, layout, map};
use smi_sys::abi::IpcBuffer;
use smi_sys::message;

/// Sets up the process and runs `main`. Called by [`entry!`](crate::entry) with the environment's address.
pub fn run(env: usize, main: fn(&'static Env) -> !) -> ! {
    // SAFETY: the root task maps the IPC buffer of this process's one thread at this address for its life.
    unsafe { message::set_buffer(core::ptr::with_exposed_provenance_mut::<IpcBuffer>(map::IPC_BUFFER as usize)) };
    // SAFETY: the root task passes the address of the mapped environment, read-only for the process's life.
    let bytes: &'static [u8; layout::SIZE] = unsafe { &*core::ptr::with_exposed_provenance(env) };
    static ENV: spin_once::Once = spin_once::Once::new();
    let env = match Env::check(bytes) {
        Ok(env) => ENV.set(env),
        Err(error) => panic!("environment: {error}"),
    };
    let stack = env.stack();
    crate::panic::identify(env.name(), stack.ptr as usize..stack.ptr as usize + stack.len);
    let heap = env.heap();
    // SAFETY: the root task maps the heap for this process alone.
    unsafe { crate::heap::add(heap.ptr as usize, heap.len) };
    crate::cap::init(env.free_slots());
    crate::log::init(env);
    main(env)
}

mod spin_once {
    //! The checked environment's home.

    use core::cell::UnsafeCell;
    use smi_env::Env;

    pub struct Once(UnsafeCell<Option<Env>>);

    // SAFETY: written once by the process's one thread, before anybody reads.
    unsafe impl Sync for Once {}

    impl Once {
        pub const fn new() -> Self {
            Once(UnsafeCell::new(None))
        }

        pub fn set(&'static self, env: Env) -> &'static Env {
            // SAFETY: `run` is called once, at the start of the one thread; no reference exists yet.
            unsafe { (*self.0.get()).insert(env) }
        }
    }
}
