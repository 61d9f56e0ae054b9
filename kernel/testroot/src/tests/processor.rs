//! What the processor shows to user code: registers are its own, privileged ones are hidden.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{Spec, World, exit};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::ext::ExtLabel;
use kernel_abi::{FaultType, Label, Syscall};

static RESULT: AtomicU64 = AtomicU64::new(0);
static ROUNDS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static BAD: AtomicU64 = AtomicU64::new(0);

/// Fills all FP registers with a pattern and watches for a change, giving way each round.
extern "C" fn fp_keeper(which: u64) -> ! {
    let pattern = 0x0123_4567_89ab_cdef ^ (which * 0x1111_1111_1111_1111);
    loop {
        let bad: u64;
        // SAFETY: only registers; all clobbers are named.
        unsafe {
            asm!(
                "dup v0.2d, {p}", "mov v1.16b, v0.16b", "mov v15.16b, v0.16b", "mov v16.16b, v0.16b",
                "mov v30.16b, v0.16b", "mov v31.16b, v0.16b",
                "msr fpcr, {mode}",
                "svc #0",                       // Yield
                "mov {n}, #20000",
                "2: subs {n}, {n}, #1", "b.ne 2b", // be preempted now and then
                "mrs {bad}, fpcr", "eor {bad}, {bad}, {mode}",
                "eor v1.16b, v1.16b, v0.16b", "eor v15.16b, v15.16b, v0.16b", "eor v16.16b, v16.16b, v0.16b",
                "eor v30.16b, v30.16b, v0.16b", "eor v31.16b, v31.16b, v0.16b",
                "orr v1.16b, v1.16b, v15.16b", "orr v1.16b, v1.16b, v16.16b", "orr v1.16b, v1.16b, v30.16b",
                "orr v1.16b, v1.16b, v31.16b",
                "mov {n}, v1.d[0]", "orr {bad}, {bad}, {n}", "mov {n}, v1.d[1]", "orr {bad}, {bad}, {n}",
                "mov {n}, v0.d[1]", "eor {n}, {n}, {p}", "orr {bad}, {bad}, {n}",
                "msr fpcr, xzr",
                p = in(reg) pattern, mode = in(reg) which << 22, n = out(reg) _, bad = out(reg) bad,
                in("x7") Syscall::Yield.raw(), out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
                out("v0") _, out("v1") _, out("v15") _, out("v16") _, out("v30") _, out("v31") _,
            );
        }
        BAD.fetch_or(bad, Ordering::Relaxed);
        ROUNDS[which as usize].fetch_add(1, Ordering::Relaxed);
    }
}

pub fn fp_registers(world: &mut World) -> Outcome {
    BAD.store(0, Ordering::Relaxed);
    ROUNDS.iter().for_each(|r| r.store(0, Ordering::Relaxed));
    let spec = Spec { budget: (1_000, 1_000), ..Spec::at(100) };
    world.thread(spec, fp_keeper, 0)?;
    world.thread(spec, fp_keeper, 1)?;
    for _ in 0..10 {
        world.sleep(10)?;
        // This thread uses FP registers in between.
        let x = f64::from_bits(core::hint::black_box(1.5f64.to_bits()));
        ensure_eq!((x * 3.0).to_bits(), 4.5f64.to_bits());
    }
    ensure!(ROUNDS.iter().all(|r| r.load(Ordering::Relaxed) > 2));
    ensure_eq!(BAD.load(Ordering::Relaxed), 0);
    Ok(())
}

extern "C" fn fp_user(_: u64) -> ! {
    let bits: u64;
    // SAFETY: only registers.
    unsafe { asm!("fmov d0, #1.0", "fmov {0}, d0", out(reg) bits, out("v0") _) };
    RESULT.store(bits, Ordering::Relaxed);
    exit()
}

pub fn fp_disabled(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let thread = world.thread(Spec { run: false, fault_endpoint: endpoint, ..Spec::at(100) }, fp_user, 0)?;
    ensure_ok!(invoke(thread.tcb, Label::TCBSetFlags, &[0, 1], &[]));
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    let fault = sys::recv(endpoint, reply);
    ensure_eq!(fault.label, FaultType::UserException.raw());
    ensure_eq!(fault.word(3), 0x1fe0_0000);
    RESULT.store(0, Ordering::Relaxed);
    ensure_ok!(invoke(thread.tcb, Label::TCBSetFlags, &[1, 0], &[]));
    sys::send(reply, 0, &[], &[]);
    world.let_run(50)?;
    ensure_eq!(RESULT.load(Ordering::Relaxed), 1.0f64.to_bits());
    Ok(())
}

extern "C" fn counter_reader(_: u64) -> ! {
    RESULT.store(sys::counter(), Ordering::Relaxed);
    RESULT.fetch_add(sys::counter_frequency(), Ordering::Relaxed);
    exit()
}

pub fn counter_rights(world: &mut World) -> Outcome {
    let set = |tcb, words: &[u64]| sys::call(tcb, ExtLabel::SmiTcbSetCounterAccess.raw(), words, &[]);
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let spec = Spec { run: false, fault_endpoint: endpoint, ..Spec::at(100) };
    let thread = world.thread(spec, counter_reader, 0)?;
    ensure_error!(set(thread.tcb, &[4]), IllegalOperation);
    ensure_error!(set(thread.tcb, &[]), TruncatedMessage);
    RESULT.store(0, Ordering::Relaxed);
    ensure_ok!(set(thread.tcb, &[1]));
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    world.let_run(50)?;
    ensure!(RESULT.load(Ordering::Relaxed) > 0);
    // The right is the thread's, not the processor's: another one still faults, and so does the first without it.
    let other = world.thread(spec, counter_reader, 0)?;
    ensure_ok!(invoke(other.tcb, Label::TCBResume, &[], &[]));
    ensure_eq!(sys::recv(endpoint, reply).label, FaultType::UserException.raw());
    ensure!(sys::counter() > 0);
    let third = world.thread(spec, counter_reader, 0)?;
    ensure_ok!(set(third.tcb, &[1]));
    ensure_ok!(set(third.tcb, &[0]));
    ensure_ok!(invoke(third.tcb, Label::TCBResume, &[], &[]));
    ensure_eq!(sys::recv(endpoint, reply).label, FaultType::UserException.raw());
    Ok(())
}

extern "C" fn allowed(_: u64) -> ! {
    let ctr: u64;
    let line = &raw const RESULT as u64;
    // SAFETY: reads and cache maintenance that EL0 is allowed.
    unsafe {
        asm!("mrs {0}, ctr_el0", "dc cvac, {1}", "dc civac, {1}", "dc cvau, {1}", "ic ivau, {1}", "dsb ish", "isb",
            out(reg) ctr, in(reg) line);
    }
    RESULT.store(ctr, Ordering::Relaxed);
    exit()
}

pub fn hidden_registers(world: &mut World) -> Outcome {
    // What is forbidden is in fault::user_exception; this is what is allowed.
    RESULT.store(0, Ordering::Relaxed);
    world.thread(Spec::at(100), allowed, 0)?;
    world.let_run(50)?;
    ensure!(RESULT.load(Ordering::Relaxed) != 0);
    Ok(())
}

pub fn general_registers(_: &mut World) -> Outcome {
    let changed: u64;
    // SAFETY: registers only; x19 and x29 (reserved by the compiler) are left alone.
    unsafe {
        asm!(
            "mov x9, #9", "mov x10, #10", "mov x11, #11", "mov x12, #12", "mov x13, #13", "mov x14, #14", "mov x15, #15",
            "mov x16, #16", "mov x17, #17", "mov x20, #20", "mov x21, #21", "mov x22, #22", "mov x23, #23",
            "mov x24, #24", "mov x25, #25", "mov x26, #26", "mov x27, #27", "mov x28, #28", "mov x30, #30",
            "mov x0, #100", "mov x1, #101", "mov x2, #102", "mov x3, #103", "mov x4, #104", "mov x5, #105", "mov x6, #106",
            "cmp x0, x0",
            "svc #0",
            "cset x8, ne",
            "sub x9, x9, #9", "sub x10, x10, #10", "sub x11, x11, #11", "sub x12, x12, #12", "sub x13, x13, #13",
            "sub x14, x14, #14", "sub x15, x15, #15", "sub x16, x16, #16", "sub x17, x17, #17",
            "sub x20, x20, #20", "sub x21, x21, #21", "sub x22, x22, #22", "sub x23, x23, #23",
            "sub x24, x24, #24", "sub x25, x25, #25", "sub x26, x26, #26", "sub x27, x27, #27", "sub x28, x28, #28",
            "sub x30, x30, #30", "sub x0, x0, #100", "sub x1, x1, #101", "sub x2, x2, #102", "sub x3, x3, #103",
            "sub x4, x4, #104", "sub x5, x5, #105", "sub x6, x6, #106",
            "orr x8, x8, x9", "orr x8, x8, x10", "orr x8, x8, x11", "orr x8, x8, x12", "orr x8, x8, x13",
            "orr x8, x8, x14", "orr x8, x8, x15", "orr x8, x8, x16", "orr x8, x8, x17", "orr x8, x8, x20",
            "orr x8, x8, x21", "orr x8, x8, x22", "orr x8, x8, x23", "orr x8, x8, x24", "orr x8, x8, x25",
            "orr x8, x8, x26", "orr x8, x8, x27", "orr x8, x8, x28", "orr x8, x8, x30", "orr x8, x8, x0",
            "orr x8, x8, x1", "orr x8, x8, x2", "orr x8, x8, x3", "orr x8, x8, x4", "orr x8, x8, x5", "orr x8, x8, x6",
            in("x7") Syscall::Yield.raw(), out("x8") changed,
            out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
            out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _, out("x30") _,
        );
    }
    ensure_eq!(changed, 0);
    Ok(())
}
