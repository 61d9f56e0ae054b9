//! Planted bugs, for proving that the simulator's oracles find them. Without the feature `plant` every check below is the
//! constant `false` and nothing of this is in the program.

/// A bug that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Prepares are acknowledged before they are durable.
    AckBeforeDurable,
    /// A view change is not persisted before it is acted on.
    ForgetView,
    /// A group's epoch stays when its replicas change.
    SkipEpochBump,
    /// A repeated request is executed again.
    DoubleApply,
    /// A voter that lost its disk starts as if it had never voted.
    VoteFromAmnesia,
    /// The primary commits alone.
    CommitWithoutQuorum,
    /// A node never believes that its lease is over.
    LeaseForever,
    /// A restart takes truncated entries for live ones.
    ResurrectTruncated,
    /// A restarted primary goes on in its old view.
    ResumePrimary,
    /// Groups that lost a replica get no other.
    NeverRefill,
    /// The queue of waiting requests has no bound.
    UnboundedQueue,
    /// A checkpoint takes effect before its snapshot is durable.
    CheckpointEarly,
    /// A view change adopts the first log it hears of, not the best.
    WorstLog,
    /// A voter follows others out of a view although its primary may hold a lease.
    IgnorePromise,
    /// What builds on a snapshot is acknowledged before the snapshot is durable.
    AckBeforeBase,
    /// A damaged log entry counts as one that was never written.
    DamagedIsMissing,
}

impl Plant {
    /// All planted bugs with their names.
    pub const ALL: [(&'static str, Plant); 16] = [
        ("ack-before-durable", Plant::AckBeforeDurable),
        ("forget-view", Plant::ForgetView),
        ("skip-epoch-bump", Plant::SkipEpochBump),
        ("double-apply", Plant::DoubleApply),
        ("vote-from-amnesia", Plant::VoteFromAmnesia),
        ("commit-without-quorum", Plant::CommitWithoutQuorum),
        ("lease-forever", Plant::LeaseForever),
        ("resurrect-truncated", Plant::ResurrectTruncated),
        ("resume-primary", Plant::ResumePrimary),
        ("never-refill", Plant::NeverRefill),
        ("unbounded-queue", Plant::UnboundedQueue),
        ("checkpoint-early", Plant::CheckpointEarly),
        ("worst-log", Plant::WorstLog),
        ("ignore-promise", Plant::IgnorePromise),
        ("ack-before-base", Plant::AckBeforeBase),
        ("damaged-is-missing", Plant::DamagedIsMissing),
    ];

    /// The planted bug of this name.
    pub fn named(name: &str) -> Option<Plant> {
        Plant::ALL.iter().find(|(n, _)| *n == name).map(|(_, plant)| *plant)
    }
}

#[cfg(feature = "plant")]
mod switch {
    use super::Plant;
    use core::cell::Cell;
    extern crate std;

    std::thread_local! {
        static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
    }

    /// Switches a bug on (or all off) for this thread.
    pub fn set(plant: Option<Plant>) {
        PLANTED.set(plant);
    }

    pub(crate) fn planted(plant: Plant) -> bool {
        PLANTED.get() == Some(plant)
    }
}

#[cfg(feature = "plant")]
pub(crate) use switch::planted;
#[cfg(feature = "plant")]
pub use switch::set;

#[cfg(not(feature = "plant"))]
#[inline(always)]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}
