//! The capability derivation tree, kept as one list in pre-order (sheet §5.4).
//!
//! Every non-empty slot is in a doubly linked list; a new capability goes directly after the one it was made from. Two marks
//! per slot, *revocable* and *first-badged*, and the region rule say which of the following slots are its descendants:
//! an unbroken run. So all capabilities to one object stand together, and "last one" is a question to two neighbours.
//!
//! Always: `a.next == b` iff `b.prev == a`; an empty slot has neither.

use core::cell::Cell;

use crate::cap::{Cap, Slot};
use crate::mem::{Link, Ptr, Window};

/// A slot's place in the list.
#[repr(C)]
pub(crate) struct Links {
    prev: Link<Slot>,
    /// Next slot, marks in the low bits (slots are 32-byte aligned).
    next: Cell<u64>,
}

const REVOCABLE: u64 = 1;
const FIRST_BADGED: u64 = 2;
const MARKS: u64 = REVOCABLE | FIRST_BADGED;

/// The two marks of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks(u64);

impl Marks {
    /// A plain copy.
    pub const NONE: Self = Self(0);
    /// An original: may have children, begins a badge.
    pub const ORIGINAL: Self = Self(MARKS);
}

impl Slot {
    /// Next slot in the list.
    #[inline]
    pub fn next(&self) -> Option<Ptr<Slot>> {
        Ptr::unpack(self.links.next.get() & !MARKS)
    }

    /// Previous slot in the list.
    #[inline]
    pub fn prev(&self) -> Option<Ptr<Slot>> {
        self.links.prev.get()
    }

    /// Whether the capability may have children.
    #[inline]
    pub fn revocable(&self) -> bool {
        self.links.next.get() & REVOCABLE != 0
    }

    /// Whether the capability begins a badge.
    #[inline]
    pub fn first_badged(&self) -> bool {
        self.links.next.get() & FIRST_BADGED != 0
    }

    /// Changes the link only, keeping the marks.
    #[inline]
    fn set_next(&self, next: Option<Ptr<Slot>>) {
        let marks = self.links.next.get() & MARKS;
        self.links.next.set(next.map_or(0, Ptr::addr) | marks);
    }

    /// The marks.
    #[inline]
    pub fn marks(&self) -> Marks {
        Marks(self.links.next.get() & MARKS)
    }

    #[inline]
    fn set_marks(&self, marks: Marks) {
        self.links.next.set((self.links.next.get() & !MARKS) | marks.0);
    }
}

/// Puts a capability into an empty slot that stands in no list.
pub(crate) fn insert_alone(dest: Ptr<Slot>, cap: Cap, marks: Marks) {
    debug_assert!(dest.is_empty());
    dest.set_cap(cap);
    dest.links.prev.set(None);
    dest.links.next.set(marks.0);
}

/// Puts a capability into an empty slot, directly after `parent` in the list.
pub(crate) fn insert_after(parent: Ptr<Slot>, dest: Ptr<Slot>, cap: Cap, marks: Marks) {
    debug_assert!(dest.is_empty());
    let next = parent.next();
    dest.set_cap(cap);
    dest.links.prev.set(Some(parent));
    dest.links.next.set(next.map_or(0, Ptr::addr) | marks.0);
    parent.set_next(Some(dest));
    if let Some(next) = next {
        next.links.prev.set(Some(dest));
    }
}

/// Inserts a capability derived from `src`'s, with the marks its origin gives it. A copied untyped fills its source up.
pub(crate) fn insert_derived(cap: Cap, src: Ptr<Slot>, dest: Ptr<Slot>) {
    let source = src.cap();
    let marks = if is_original_of(&cap, &source) { Marks::ORIGINAL } else { Marks::NONE };
    insert_after(src, dest, cap, marks);
    if let Cap::Untyped(mut untyped) = source {
        untyped.used = untyped.size();
        src.set_cap(Cap::Untyped(untyped));
    }
}

/// Whether a capability made from `source` starts a family of its own.
fn is_original_of(cap: &Cap, source: &Cap) -> bool {
    match (cap, source) {
        (Cap::Endpoint(new), Cap::Endpoint(old)) => new.badge != old.badge,
        (Cap::Notification(new), Cap::Notification(old)) => new.badge != old.badge,
        (Cap::Untyped(_), _) => true,
        (Cap::IrqHandler { .. } | Cap::SgiSignal { .. }, Cap::IrqControl) => true,
        _ => false,
    }
}

/// Moves the capability of `src` (as `cap`) to the empty slot `dest`; marks and place go along.
pub(crate) fn move_slot(cap: Cap, src: Ptr<Slot>, dest: Ptr<Slot>) {
    debug_assert!(dest.is_empty());
    let (prev, next, marks) = (src.prev(), src.next(), src.marks());
    dest.set_cap(cap);
    dest.links.prev.set(prev);
    dest.links.next.set(next.map_or(0, Ptr::addr) | marks.0);
    if let Some(prev) = prev {
        prev.set_next(Some(dest));
    }
    if let Some(next) = next {
        next.links.prev.set(Some(dest));
    }
    clear(src);
}

/// Exchanges two slots, the capability of `a` becoming `cap_a` in `b` and that of `b` becoming `cap_b` in `a`.
/// Either may be empty.
pub(crate) fn swap(cap_a: Cap, a: Ptr<Slot>, cap_b: Cap, b: Ptr<Slot>) {
    if b.is_empty() {
        return move_slot(cap_a, a, b);
    }
    if a.is_empty() {
        return move_slot(cap_b, b, a);
    }
    let (a_prev, a_next, a_marks) = (a.prev(), a.next(), a.marks());
    let (b_prev, b_next, b_marks) = (b.prev(), b.next(), b.marks());
    // A neighbour that is the other slot is replaced by this one.
    let fix = |link: Option<Ptr<Slot>>, other, this| if link == Some(other) { Some(this) } else { link };
    b.set_cap(cap_a);
    b.links.prev.set(fix(a_prev, b, a));
    b.links.next.set(fix(a_next, b, a).map_or(0, Ptr::addr) | a_marks.0);
    a.set_cap(cap_b);
    a.links.prev.set(fix(b_prev, a, b));
    a.links.next.set(fix(b_next, a, b).map_or(0, Ptr::addr) | b_marks.0);
    for slot in [a, b] {
        if let Some(prev) = slot.prev() {
            prev.set_next(Some(slot));
        }
        if let Some(next) = slot.next() {
            next.links.prev.set(Some(slot));
        }
    }
}

/// Takes a slot out of the list and empties it. A first-badged mark passes on to the next slot.
pub(crate) fn remove(slot: Ptr<Slot>) {
    let (prev, next) = (slot.prev(), slot.next());
    if let Some(prev) = prev {
        prev.set_next(next);
    }
    if let Some(next) = next {
        next.links.prev.set(prev);
        if slot.first_badged() {
            next.set_marks(Marks(next.marks().0 | FIRST_BADGED));
        }
    }
    clear(slot);
}

fn clear(slot: Ptr<Slot>) {
    slot.set_cap(Cap::Null);
    slot.links.prev.set(None);
    slot.links.next.set(0);
}

/// Whether `child`, somewhere after `parent`, descends from it.
pub fn is_child(window: Window, parent: Ptr<Slot>, child: Ptr<Slot>) -> bool {
    if !parent.revocable() {
        return false;
    }
    let (a, b) = (parent.cap(), child.cap());
    if !covers(window, &a, &b) {
        return false;
    }
    match (a, b) {
        (Cap::Endpoint(a), Cap::Endpoint(b)) => a.badge == 0 || (a.badge == b.badge && !child.first_badged()),
        (Cap::Notification(a), Cap::Notification(b)) => a.badge == 0 || (a.badge == b.badge && !child.first_badged()),
        _ => true,
    }
}

/// Whether the slot has descendants.
pub fn has_children(window: Window, slot: Ptr<Slot>) -> bool {
    slot.next().is_some_and(|next| is_child(window, slot, next))
}

/// Whether no other capability denotes the slot's object.
pub fn is_final(slot: Ptr<Slot>) -> bool {
    let cap = slot.cap();
    let same = |other: Option<Ptr<Slot>>| other.is_some_and(|o| same_object(&cap, &o.cap()));
    !same(slot.prev()) && !same(slot.next())
}

/// The region rule: whether what `b` denotes lies in what `a` denotes.
fn covers(window: Window, a: &Cap, b: &Cap) -> bool {
    match (a, b) {
        (Cap::Untyped(u), _) => b.memory(window).is_some_and(|m| inside(m, (u.paddr, u.size()))),
        (Cap::Frame(a), Cap::Frame(b)) => inside((b.paddr, b.size.bytes()), (a.paddr, a.size.bytes())),
        (Cap::IrqControl, Cap::IrqControl | Cap::IrqHandler { .. } | Cap::SgiSignal { .. }) => true,
        (Cap::SgiSignal { .. }, Cap::SgiSignal { .. }) => a == b,
        (Cap::Domain, Cap::Domain)
        | (Cap::SchedControl { .. }, Cap::SchedControl { .. })
        | (Cap::AsidControl, Cap::AsidControl) => true,
        _ => same_object(a, b),
    }
}

fn inside((start, len): (u64, u64), (outer, outer_len): (u64, u64)) -> bool {
    start >= outer && start + len <= outer + outer_len
}

/// Whether two capabilities denote the same destructible object.
pub(crate) fn same_object(a: &Cap, b: &Cap) -> bool {
    match (a, b) {
        (Cap::Endpoint(a), Cap::Endpoint(b)) => a.ep == b.ep,
        (Cap::Notification(a), Cap::Notification(b)) => a.ntfn == b.ntfn,
        (Cap::Tcb(a), Cap::Tcb(b)) => a == b,
        (Cap::Reply { reply: a, .. }, Cap::Reply { reply: b, .. }) => a == b,
        (Cap::PageTable(a), Cap::PageTable(b)) => a.table == b.table,
        (Cap::VSpace { root: a, .. }, Cap::VSpace { root: b, .. }) => a == b,
        (Cap::AsidPool { pool: a, .. }, Cap::AsidPool { pool: b, .. }) => a == b,
        (Cap::CNode(a), Cap::CNode(b)) => a.slots == b.slots && a.radix == b.radix,
        (Cap::SchedContext { sc: a, bits: x }, Cap::SchedContext { sc: b, bits: y }) => a == b && x == y,
        (Cap::IrqHandler { line: a }, Cap::IrqHandler { line: b }) => a == b,
        _ => false,
    }
}
