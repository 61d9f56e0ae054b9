//! From the kernel's hand-over to the supervisor's loop.

use crate::devices::Devices;
use crate::machine::Machine;
use crate::supervisor::Supervisor;
use core::cell::UnsafeCell;
use root::archive::{Archive, MANIFEST};
use root::manifest::Manifest;
use smi_rt::sys::abi::{BootInfo, IpcBuffer};
use smi_rt::sys::{debug, message};

/// Prints a line on the console.
macro_rules! say {
    ($($arg:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!(smi_rt::sys::debug::Console, "root: {}", format_args!($($arg)*));
    }};
}
pub(crate) use say;

/// The servers and their manifest, made by `image-builder`.
static ARCHIVE: &[u8] = include_bytes!(env!(
    "SMI_BOOT_ARCHIVE",
    "SMI_BOOT_ARCHIVE is not set: the root task embeds the boot archive of that file. Build with `cargo xtask`, or make one: \
     `cargo run -p image-builder -- archive images/node.toml target/aarch64-unknown-none/release boot.archive` and then \
     `SMI_BOOT_ARCHIVE=$PWD/boot.archive cargo build -p root --release --target aarch64-unknown-none`"
));

const STACK: usize = 128 << 10;
const HEAP: usize = 1 << 20;

/// Memory of the image that is handed to the stack and the heap at start, and never touched by name again.
#[repr(align(4096))]
struct Area<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: used only through the addresses that are given to the stack pointer and the allocator.
unsafe impl<const N: usize> Sync for Area<N> {}

#[unsafe(no_mangle)]
static ROOT_STACK: Area<STACK> = Area(UnsafeCell::new([0; STACK]));
static ROOT_HEAP: Area<HEAP> = Area(UnsafeCell::new([0; HEAP]));

core::arch::global_asm!(
    ".pushsection .text._start, \"ax\"",
    ".globl _start",
    "_start:",
    "adrp x1, ROOT_STACK",
    "add x1, x1, :lo12:ROOT_STACK",
    "mov x2, #{stack}",
    "add x1, x1, x2",
    "mov sp, x1",
    "mov x29, xzr",
    "mov x30, xzr",
    "bl root_main",
    ".popsection",
    stack = const STACK,
);

/// The root task's first function; `bootinfo` is where the kernel put its hand-over.
#[unsafe(no_mangle)]
extern "C" fn root_main(bootinfo: usize) -> ! {
    // SAFETY: the kernel maps the boot info at this address, aligned to a page, for the root task's life (sheet §11.4).
    let info: &'static BootInfo = unsafe { &*core::ptr::with_exposed_provenance(bootinfo) };
    // SAFETY: the kernel mapped this thread's IPC buffer there.
    unsafe { message::set_buffer(core::ptr::with_exposed_provenance_mut::<IpcBuffer>(info.ipc_buffer as usize)) };
    let stack = ROOT_STACK.0.get() as usize;
    smi_rt::panic::identify("root", stack..stack + STACK);
    smi_rt::panic::halt_machine_at_end();
    // SAFETY: nobody else uses this memory.
    unsafe { smi_rt::heap::add(ROOT_HEAP.0.get() as usize, HEAP) };
    debug::name_thread(smi_rt::CPtr(1), "root");
    run(info, bootinfo)
}

fn run(info: &'static BootInfo, bootinfo: usize) -> ! {
    let (archive, manifest) = match read_archive() {
        Ok(read) => read,
        Err(()) => debug::halt(),
    };
    let mut machine = match Machine::new(info).and_then(|mut m| m.open_window().map(|()| m)) {
        Ok(machine) => machine,
        Err(error) => {
            say!("the kernel's hand-over cannot be used: {error}");
            debug::halt()
        }
    };
    say!(
        "{} MiB free, {} servers in the manifest, archive of {} KiB",
        machine.memory.available() >> 20,
        manifest.servers.len(),
        ARCHIVE.len() >> 10
    );
    let devices = Devices::find(&mut machine, info, bootinfo);
    let supervisor = match Supervisor::new(machine, manifest, archive, devices) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            say!("the supervisor cannot be set up: {error}");
            debug::halt()
        }
    };
    supervisor.run()
}

/// The embedded archive and its manifest; mistakes are told on the console.
fn read_archive() -> Result<(Archive<'static>, Manifest), ()> {
    let archive = Archive::check(ARCHIVE).map_err(|error| say!("{error}"))?;
    let bytes = archive.get(MANIFEST).map_err(|error| say!("manifest: {error}"))?;
    let manifest = Manifest::decode(bytes).map_err(|error| say!("manifest: {error}"))?;
    Ok((archive, manifest))
}
