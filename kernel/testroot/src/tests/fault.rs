//! Faults: what the handler is told, and what its answer does.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{CNODE, FREE_VADDR, Spec, TCB, Thread, VSPACE, World, exit};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{FaultType, Label, ObjectType};

static RESULT: AtomicU64 = AtomicU64::new(0);

fn result() -> u64 {
    RESULT.load(Ordering::Relaxed)
}

/// A fault endpoint, a reply object, and a thread whose faults go there with badge 55.
fn faulter(world: &mut World, entry: extern "C" fn(u64) -> !, argument: u64) -> Outcome<(u64, u64, Thread)> {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let badged = world.badged(endpoint, 55)?;
    RESULT.store(0, Ordering::Relaxed);
    let thread = world.thread(Spec { fault_endpoint: badged, ..Spec::at(100) }, entry, argument)?;
    Ok((endpoint, reply, thread))
}

extern "C" fn reader(address: u64) -> ! {
    // SAFETY: the test is about this access.
    let value = unsafe { (address as *const u64).read_volatile() };
    RESULT.store(value + 1, Ordering::Relaxed);
    exit()
}

extern "C" fn writer(address: u64) -> ! {
    // SAFETY: the test is about this access.
    unsafe { (address as *mut u64).write_volatile(0x77) };
    RESULT.store(1, Ordering::Relaxed);
    exit()
}

extern "C" fn jumper(address: u64) -> ! {
    // SAFETY: the test is about this jump; the code there returns.
    unsafe { asm!("blr {0}", in(reg) address, out("x30") _, out("x0") _) };
    RESULT.store(1, Ordering::Relaxed);
    exit()
}

fn is_in_image(address: u64) -> bool {
    (0x40_0000..0x100_0000).contains(&address)
}

pub fn vm_fault(world: &mut World) -> Outcome {
    let address = FREE_VADDR + 0x1008;
    for (entry, fsr, after) in [(reader as extern "C" fn(u64) -> !, 0x9200_0005u64, 1), (writer, 0x9200_0045, 1)] {
        let (endpoint, reply, _) = faulter(world, entry, address)?;
        let fault = sys::recv(endpoint, reply);
        ensure_eq!(fault.badge, 55);
        ensure_eq!(fault.label, FaultType::VMFault.raw());
        ensure_eq!(fault.length, 4);
        ensure_eq!(fault.extra_caps, 0);
        ensure!(is_in_image(fault.word(0)));
        ensure_eq!(fault.word(1), address);
        ensure_eq!(fault.word(2), 0);
        ensure_eq!(fault.word(3), fsr);
        // Map what was missing and let it go on.
        world.map_tables(VSPACE, FREE_VADDR, 2)?;
        world.map_new_page(FREE_VADDR + 0x1000)?;
        sys::send(reply, 0, &[], &[]);
        world.let_run(50)?;
        ensure_eq!(result(), after);
        world.clean_up()?;
    }
    let (endpoint, reply, _) = faulter(world, jumper, FREE_VADDR)?;
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::VMFault.raw());
    ensure_eq!(fault.word(0), FREE_VADDR);
    ensure_eq!(fault.word(1), FREE_VADDR);
    ensure_eq!(fault.word(2), 1);
    ensure_eq!(fault.word(3), 0x8200_0005u64);
    // The kernel's half of the address space.
    let (endpoint, reply, _) = faulter(world, reader, 0xffff_8000_4000_0000)?;
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::VMFault.raw());
    ensure_eq!(fault.word(1), 0xffff_8000_4000_0000u64);
    let (endpoint, reply, _) = faulter(world, writer, 0xffff_ffff_8008_0000)?;
    ensure_eq!(sys::recv(endpoint, reply).label, FaultType::VMFault.raw());
    Ok(())
}

pub fn execute_never(world: &mut World) -> Outcome {
    world.map_tables(VSPACE, FREE_VADDR, 2)?;
    let frame = world.map_new_page(FREE_VADDR)?;
    // SAFETY: just mapped; a `ret`.
    unsafe { *(FREE_VADDR as *mut u32) = 0xd65f_03c0 };
    let (endpoint, reply, _) = faulter(world, jumper, FREE_VADDR)?;
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::VMFault.raw());
    ensure_eq!(fault.word(2), 1);
    ensure_eq!(fault.word(3), 0x8200_000fu64); // permission, level 3
    ensure_ok!(invoke(frame, Label::ARMPageUnifyInstruction, &[0, 4096], &[]));
    ensure_ok!(invoke(frame, Label::ARMPageMap, &[FREE_VADDR, 15, crate::world::DEFAULT_ATTRIBUTES], &[VSPACE]));
    sys::send(reply, 0, &[], &[]);
    world.let_run(50)?;
    ensure_eq!(result(), 1);
    Ok(())
}

extern "C" fn strange_caller(_: u64) -> ! {
    let after = sys::svc(-100, [1, 2, 3, 4, 5, 6, 7, 0, 9]);
    RESULT.store(after[0] << 32 | after[6] << 16 | after[8], Ordering::Relaxed);
    exit()
}

pub fn unknown_syscall(world: &mut World) -> Outcome {
    let (endpoint, reply, _) = faulter(world, strange_caller, 0)?;
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::UnknownSyscall.raw());
    ensure_eq!(fault.length, 13);
    for i in 0..7 {
        ensure_eq!(fault.word(i), i as u64 + 1);
    }
    ensure_eq!(fault.word(7), -100i64);
    let ip = fault.word(8);
    ensure!(is_in_image(ip));
    ensure_eq!(fault.word(10), ip + 4);
    ensure_eq!(fault.word(11) & !0xf000_0000, 0x40);
    ensure_eq!(fault.word(12), -100i64);
    let (sp, spsr) = (fault.word(9), fault.word(11));
    sys::send(reply, 0, &[0x99, 2, 3, 4, 5, 6, 0x77, -100i64 as u64, ip + 4, sp, ip + 4, spsr], &[]);
    world.let_run(50)?;
    ensure_eq!(result(), 0x99u64 << 32 | 0x77 << 16 | 9);
    // A label other than 0: the thread stays inactive.
    let (endpoint, reply, _) = faulter(world, strange_caller, 0)?;
    sys::recv(endpoint, reply);
    sys::send(reply, 1, &[], &[]);
    world.let_run(50)?;
    ensure_eq!(result(), 0);
    // A number that is only zero-extended is unknown as well.
    let (endpoint, reply, _) = faulter(world, zero_extended, 0)?;
    ensure_eq!(sys::recv(endpoint, reply).word(12), 0xffff_fff5u64);
    Ok(())
}

extern "C" fn zero_extended(_: u64) -> ! {
    sys::svc(0xffff_fff5, [0; 9]);
    exit()
}

extern "C" fn excepting(which: u64) -> ! {
    // SAFETY: the tests are about these instructions; the handler skips them.
    unsafe {
        match which {
            0 => asm!("brk #7"),
            1 => asm!(".word 0"),
            2 => asm!("msr daifset, #2"),
            3 => asm!("mrs x0, cntvct_el0", out("x0") _),
            4 => asm!("mrs x0, sctlr_el1", out("x0") _),
            5 => asm!("mrs x0, pmccntr_el0", out("x0") _),
            6 => asm!("mrs x0, cntp_ctl_el0", out("x0") _),
            7 => asm!("mrs x0, cntpct_el0", out("x0") _),
            8 => asm!("hvc #0"),
            _ => asm!("smc #0"),
        }
    }
    RESULT.store(which + 100, Ordering::Relaxed);
    exit()
}

pub fn user_exception(world: &mut World) -> Outcome {
    let numbers = [
        0xf200_0007u64,
        0x0200_0000,
        0x6207_93e4,
        0x6234_f801,
        0x0200_0000,
        0x6230_e600, // direction and CRm vary with the register: compared by class only
        0,
        0,
        0x0200_0000,
        0x0200_0000,
    ];
    for (which, number) in numbers.into_iter().enumerate() {
        let (endpoint, reply, _) = faulter(world, excepting, which as u64)?;
        let fault = sys::recv(endpoint, reply);
        ensure_eq!(fault.label, FaultType::UserException.raw());
        ensure_eq!(fault.length, 5);
        let ip = fault.word(0);
        ensure!(is_in_image(ip));
        ensure_eq!(fault.word(2) & !0xf000_0000, 0x40);
        ensure_eq!(fault.word(4), 0);
        match which {
            5..=7 => ensure_eq!(fault.word(3) >> 26, 0x18),
            4 | 9 => {} // undefined, or trapped as a system register or SMC: the processor's choice
            _ => ensure_eq!(fault.word(3), number),
        }
        sys::send(reply, 0, &[ip + 4], &[]);
        world.let_run(50)?;
        ensure_eq!(result(), which as u64 + 100);
        world.clean_up()?;
    }
    Ok(())
}

extern "C" fn sends_nowhere(cap: u64) -> ! {
    sys::send(cap, 0, &[1], &[]);
    RESULT.store(1, Ordering::Relaxed);
    exit()
}

extern "C" fn receives_nowhere(cap: u64) -> ! {
    sys::recv(cap, 0);
    exit()
}

extern "C" fn polls_nowhere(cap: u64) -> ! {
    sys::nb_wait(cap);
    exit()
}

pub fn cap_fault(world: &mut World) -> Outcome {
    let wild = 1u64 << 40 | 5;
    let (endpoint, reply, _) = faulter(world, sends_nowhere, wild)?;
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::CapFault.raw());
    ensure_eq!(fault.length, 7);
    ensure!(is_in_image(fault.word(0)));
    let guard = 64 - world.radix();
    for (i, want) in [(1, wild), (2, 0), (3, 4), (4, 64), (5, 0), (6, guard)] {
        ensure_eq!(fault.word(i), want);
    }
    // The wrong kind of capability, in the receive phase; also when polling.
    for entry in [receives_nowhere as extern "C" fn(u64) -> !, polls_nowhere] {
        let (endpoint, reply, _) = faulter(world, entry, TCB)?;
        let fault = sys::recv(endpoint, reply);
        ensure_eq!(fault.label, FaultType::CapFault.raw());
        ensure_eq!(fault.length, 5);
        for (i, want) in [(1, TCB), (2, 1), (3, 2), (4, 0)] {
            ensure_eq!(fault.word(i), want);
        }
    }
    // A good endpoint but no reply object.
    let source = world.endpoint()?;
    let (endpoint, reply, _) = faulter(world, receives_nowhere, source)?;
    let fault = sys::recv(endpoint, reply);
    for (i, want) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
        ensure_eq!(fault.word(i), want);
    }
    // A send to an empty slot is no fault.
    let empty = world.slot();
    let _ = faulter(world, sends_nowhere, empty)?;
    world.let_run(50)?;
    ensure_eq!(result(), 1);
    Ok(())
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        RESULT.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn timeout(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let thread = world.thread(Spec { run: false, budget: (0, 0), ..Spec::at(100) }, spins, 0)?;
    let sc = world.sched_context(8, 1_000, 20_000, 0, 0x5c, 0)?;
    ensure_ok!(invoke(sc, Label::SchedContextBind, &[], &[thread.tcb]));
    let badged = world.badged(endpoint, 9)?;
    ensure_ok!(invoke(thread.tcb, Label::TCBSetTimeoutEndpoint, &[], &[badged]));
    RESULT.store(0, Ordering::Relaxed);
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    for round in 0..20 {
        let fault = sys::recv(endpoint, reply);
        ensure_eq!(fault.badge, 9);
        ensure_eq!(fault.label, FaultType::Timeout.raw());
        ensure_eq!(fault.length, 2);
        ensure_eq!(fault.word(0), 0x5c);
        // The first time the whole budget, but for what is too short to run on; later ones may be pieces of it.
        ensure!(fault.word(1) >= if round == 0 { 975 } else { 15 });
        if round > 0 && result() > 0 {
            return Ok(());
        }
        // Let it go on, in its next period. (A busy host can make all of a period pass without an instruction.)
        sys::send(reply, 0, &[], &[]);
    }
    fail!("the thread never ran")
}

pub fn no_reply_object(world: &mut World) -> Outcome {
    let (endpoint, reply, thread) = faulter(world, sends_nowhere, 1 << 50)?;
    ensure_eq!(sys::wait(endpoint).label, FaultType::CapFault.raw());
    // Inactive for good; a reply object does not know it.
    sys::send(reply, 0, &[], &[]);
    world.let_run(50)?;
    ensure_eq!(result(), 0);
    // Unless it is resumed: then the call is made again, and faults again.
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    ensure_eq!(sys::recv(endpoint, reply).label, FaultType::CapFault.raw());
    Ok(())
}

pub fn handler_rights(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let tcb = world.make(ObjectType::Tcb, 0)?;
    let set = |cap| invoke(tcb, Label::TCBSetSpace, &[0, 0], &[cap, CNODE, VSPACE]);
    for (rights, good) in [(1, false), (2, false), (4, false), (5, true), (9, true), (15, true), (14, false)] {
        let weak = world.minted(endpoint, rights, 1)?;
        if good {
            ensure_ok!(set(weak));
        } else {
            ensure_error!(set(weak), InvalidCapability, 1);
        }
    }
    // Without a handler the fault is printed (debug) and the thread stays inactive: nothing else happens.
    let thread = world.thread(Spec { run: false, ..Spec::at(100) }, reader, FREE_VADDR)?;
    sys::name_thread(thread.tcb, "faults on purpose");
    RESULT.store(0, Ordering::Relaxed);
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    world.let_run(50)?;
    ensure_eq!(result(), 0);
    Ok(())
}
