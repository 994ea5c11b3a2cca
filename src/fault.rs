//! Bugs on purpose: a fault suite that has never failed proves nothing.
//!
//! With the feature `planted-bugs` one bug is switched on by its name in the environment variable `NIWAKI_PLANTED_BUG`;
//! without the feature [`planted`] is `false` and costs nothing. `tests/faults` runs the suite once for each name and
//! fails if one of them is not found.

/// The bugs. Each stands at one place of the code, which is the place that the suite must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An upload's bytes are not synced before its offset moves.
    SkippedSync,
    /// An upload's offset is told before it is stored.
    EarlyAcknowledgement,
    /// A worker's writes are taken whatever attempt it holds.
    UnfencedAttempt,
    /// A training goes on from its checkpoint, but its random numbers begin anew.
    CheckpointWithoutRandomness,
    /// An upload's offset moves before the chunk's checksum is compared.
    OffsetBeforeChecksum,
    /// A job that is finished twice is finished anew.
    FinishTwice,
}

/// Whether this bug is switched on.
#[cfg(feature = "planted-bugs")]
pub fn planted(bug: Bug) -> bool {
    std::env::var("NIWAKI_PLANTED_BUG").is_ok_and(|name| name == format!("{bug:?}"))
}

/// Whether this bug is switched on: never, in this build.
#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_bug: Bug) -> bool {
    false
}
