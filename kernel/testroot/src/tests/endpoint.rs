//! Endpoints: messages, badges, queues.

use crate::report::Outcome;
use crate::sys::{self, invoke};
use crate::world::{CNODE, Spec, VSPACE, World, delete, exit};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel_abi::{Label, Syscall};

static ENDPOINT: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
static RESULT: AtomicU64 = AtomicU64::new(0);

extern "C" fn long_sender(length: u64) -> ! {
    let mut words = [0u64; 120];
    words.iter_mut().enumerate().for_each(|(i, w)| *w = 0x1_0000_0000 + i as u64);
    sys::send(ENDPOINT.load(Ordering::Relaxed), 0xf_ffff_ffff_fff0 + length % 16, &words[..length as usize], &[]);
    COUNT.fetch_add(1, Ordering::Relaxed);
    exit()
}

pub fn registers_and_memory(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let badged = world.badged(endpoint, 77)?;
    let reply = world.reply()?;
    ENDPOINT.store(badged, Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    for length in [0, 1, 3, 4, 5, 60, 119, 120] {
        let thread = world.thread(Spec::at(100), long_sender, length)?;
        let message = sys::recv(endpoint, reply);
        ensure_eq!(message.badge, 77);
        ensure_eq!(message.length, length);
        ensure_eq!(message.label, 0xf_ffff_ffff_fff0u64 + length % 16);
        ensure_eq!(message.extra_caps, 0);
        for i in 0..length as usize {
            ensure_eq!(message.word(i), 0x1_0000_0000u64 + i as u64);
        }
        world.stop_last(thread)?;
    }
    Ok(())
}

pub fn non_blocking(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    // Dropped: nobody waits.
    sys::nb_send(endpoint, 1, &[1], &[]);
    let before = [endpoint, 21, 22, 23, 24, 25, reply, 0, 28];
    let after = sys::svc(Syscall::NBRecv.raw(), before);
    ensure_eq!(after[0], 0);
    ensure!(after[1..7] == before[1..7] && after[8] == 28);
    // A length beyond the maximum is clamped, not an error.
    sys::svc(Syscall::NBSend.raw(), [endpoint, 127, 0, 0, 0, 0, 0, 0, 0]);
    Ok(())
}

extern "C" fn receiver(endpoint: u64) -> ! {
    let message = sys::wait(endpoint);
    RESULT.store(message.badge << 32 | message.label << 16 | message.word(0), Ordering::Relaxed);
    exit()
}

pub fn badge_and_rights(world: &mut World) -> Outcome {
    let endpoint = world.endpoint()?;
    let sender = world.minted(endpoint, 1, 5)?;
    let reader = world.minted(endpoint, 2, 0)?;
    RESULT.store(0, Ordering::Relaxed);
    world.thread(Spec::at(100), receiver, reader)?;
    // The receiver runs only when this thread blocks: sends block until then.
    sys::send(sender, 3, &[9], &[]);
    world.let_run(90)?;
    ensure_eq!(RESULT.load(Ordering::Relaxed), 5u64 << 32 | 3 << 16 | 9);
    // Without the right to write.
    ensure_error!(sys::call(reader, 0, &[], &[]), InvalidCapability, 0);
    sys::send(reader, 0, &[], &[]);
    Ok(())
}

extern "C" fn numbered_sender(number: u64) -> ! {
    sys::send(ENDPOINT.load(Ordering::Relaxed), number, &[], &[]);
    COUNT.fetch_add(1, Ordering::Relaxed);
    exit()
}

pub fn queue_order(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    let mut threads = [0; 4];
    for (i, priority) in [20, 40, 30, 40].into_iter().enumerate() {
        threads[i] = world.thread(Spec::at(priority), numbered_sender, i as u64 + 1)?.tcb;
    }
    world.let_run(10)?;
    // The last one made has sent first. A priority change moves the thread in the queue: the first goes before the third.
    ensure_ok!(invoke(threads[0], Label::TCBSetPriority, &[35], &[crate::world::TCB]));
    for want in [4, 2, 1, 3] {
        ensure_eq!(sys::recv(endpoint, reply).label, want);
    }
    Ok(())
}

pub fn cancel_badged_sends(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    let (red, blue) = (world.badged(endpoint, 1)?, world.badged(endpoint, 2)?);
    COUNT.store(0, Ordering::Relaxed);
    ENDPOINT.store(red, Ordering::Relaxed);
    world.thread(Spec::at(50), numbered_sender, 10)?;
    world.let_run(10)?;
    ENDPOINT.store(blue, Ordering::Relaxed);
    world.thread(Spec::at(50), numbered_sender, 20)?;
    world.let_run(10)?;
    // The red sender starts its send again: behind the blue one.
    ensure_ok!(invoke(CNODE, Label::CNodeCancelBadgedSends, &[red, 64], &[]));
    world.let_run(10)?;
    let first = sys::recv(endpoint, reply);
    ensure_eq!(first.badge, 2);
    ensure_eq!(first.label, 20);
    ensure_eq!(sys::recv(endpoint, reply).badge, 1);
    world.let_run(10)?;
    ensure_eq!(COUNT.load(Ordering::Relaxed), 2);
    Ok(())
}

pub fn deleted_under_waiters(world: &mut World) -> Outcome {
    // A thread blocked on an endpoint that goes away starts its call again and finds an empty slot: Send does nothing then.
    let endpoint = world.endpoint()?;
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    COUNT.store(0, Ordering::Relaxed);
    world.thread(Spec::at(50), numbered_sender, 1)?;
    world.let_run(10)?;
    ensure_eq!(COUNT.load(Ordering::Relaxed), 0);
    ensure_ok!(delete(endpoint));
    world.let_run(10)?;
    ensure_eq!(COUNT.load(Ordering::Relaxed), 1);
    Ok(())
}

pub fn buffers_are_optional(world: &mut World) -> Outcome {
    // The sender has no IPC buffer in the kernel's eyes: four words arrive, no capabilities.
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    let thread = world.thread(Spec { run: false, ..Spec::at(50) }, long_sender, 10)?;
    let frame = world.slot();
    ensure_ok!(invoke(thread.tcb, Label::TCBSetIPCBuffer, &[0], &[frame]));
    ensure_ok!(invoke(thread.tcb, Label::TCBResume, &[], &[]));
    let message = sys::recv(endpoint, reply);
    ensure_eq!(message.length, 4);
    ensure_eq!(message.word(3), 0x1_0000_0003u64);
    let tcb = thread.tcb;
    ensure_error!(invoke(tcb, Label::TCBSetIPCBuffer, &[0x1010], &[world.image_frame(0x40_0000)]), AlignmentError);
    ensure_error!(invoke(tcb, Label::TCBSetIPCBuffer, &[0x1000], &[VSPACE]), IllegalOperation);
    ensure_error!(invoke(tcb, Label::TCBSetIPCBuffer, &[], &[]), TruncatedMessage);
    Ok(())
}

pub fn untouched_registers(world: &mut World) -> Outcome {
    let (endpoint, reply) = (world.endpoint()?, world.reply()?);
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    world.thread(Spec::at(50), long_sender, 2)?;
    let after = sys::svc(Syscall::Recv.raw(), [endpoint, 31, 32, 33, 34, 35, reply, 0, 38]);
    // Two words delivered: x4, x5 keep their values.
    ensure_eq!(after[2], 0x1_0000_0000u64);
    ensure_eq!(after[3], 0x1_0000_0001u64);
    ensure_eq!(after[4], 34);
    ensure_eq!(after[5], 35);
    ensure_eq!(after[6], reply);
    ensure_eq!(after[8], 38);
    // A kernel operation without results: x0 = x1 = 0.
    let after = sys::svc(
        Syscall::Call.raw(),
        [CNODE, kernel_abi::MessageInfo::new(Label::CNodeDelete.raw(), 0, 0, 2).0, endpoint, 64, 44, 45, 46, 0, 48],
    );
    ensure_eq!(after[0], 0);
    ensure_eq!(after[1], 0);
    ensure_eq!(after[2], endpoint);
    ensure_eq!(after[3], 64);
    ensure_eq!(after[4], 44);
    ensure_eq!(after[6], 46);
    Ok(())
}
