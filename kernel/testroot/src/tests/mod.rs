//! The tests, in the order in which they run: what later ones rely on comes first.

use crate::report::Outcome;
use crate::world::World;

mod boot;
mod cnode;
mod endpoint;
mod fault;
mod fuzz;
mod irq;
mod notification;
mod processor;
mod reply;
mod sched;
mod smp;
mod tcb;
mod transfer;
mod untyped;
mod vspace;

/// A test: takes a clean world, leaves whatever it likes.
pub type Test = fn(&mut World) -> Outcome;

macro_rules! tests {
    ($($module:ident: $($test:ident),+;)+) => {
        /// Name and function of every test.
        pub const ALL: &[(&str, Test)] = &[$($((concat!(stringify!($module), "::", stringify!($test)), $module::$test)),+),+];
    };
}

tests! {
    boot: boot_info, initial_caps, untyped_list, debug_calls;
    untyped: makes_every_object, errors, memory_is_zeroed, watermark, copies, device_memory, many_objects;
    cnode: copy_and_move, badges, errors, lookup, guards, revoke_spares_others, rotate_and_mutate, nested, revoke_thousands;
    notification: signal_and_wait, priority_order, bound, errors;
    endpoint: registers_and_memory, non_blocking, badge_and_rights, queue_order, cancel_badged_sends, deleted_under_waiters,
        buffers_are_optional, untouched_registers;
    reply: call_and_reply, reply_recv, nb_send_recv, reused_object, lost_caller, passive_server, chain_of_servers;
    transfer: to_receive_slot, unwrapped, needs_grant, stops_at_first_failure, in_replies;
    tcb: registers, copy_registers, suspend_and_resume, priorities, flags_and_tls, spaces, errors;
    fault: vm_fault, execute_never, unknown_syscall, user_exception, cap_fault, timeout, no_reply_object, handler_rights;
    vspace: small_page, large_page, huge_page, tables_and_errors, rights, remap_and_replace, own_address_space, asid_pools,
        cache_operations;
    irq: control_errors, uart, sgi, physical_timer, handler_lifetime;
    sched: budget_is_kept, round_robin, configure_errors, bind_and_unbind, consumed, yield_to, yield_rotates, domains,
        replenishment;
    processor: fp_registers, fp_disabled, counter_rights, hidden_registers, general_registers;
    fuzz: random_calls;
    smp: other_core_runs, call_across, moved_about, kill_across;
}
