//! A small locked room for a process that reads what came from outside.
//!
//! The readers are safe Rust and check everything, so nothing of this should ever matter. It matters on the day one of
//! them, or a library below it, is wrong: what has been taken over then is a process that has one folder and two pipes.
//!
//! | measure | keeps the process from |
//! |---|---|
//! | [`Limits`] | taking memory, time, disk, descriptors without end; leaving core dumps |
//! | [files](self) (Landlock) | opening, making or removing anything outside its folder; TCP; signals to others |
//! | [calls](self) (seccomp) | starting programs or processes, sockets, looking into other processes, odd corners of the kernel |
//! | no capabilities, no new privileges | being more than its user, even where that is root |
//! | death with its parent | living on after the server has been killed |
//!
//! What the kernel does not offer is left out and told ([`Room::gaps`]): a server goes on without it, says so in its
//! log, and `niwaki doctor` shows it.
//!
//! ```no_run
//! use niwaki::sandbox::{Limits, enter};
//! let limits = Limits { memory_bytes: 1 << 30, cpu_seconds: 60, file_bytes: 0, open_files: 64 };
//! let room = enter(std::path::Path::new("/srv/niwaki/work/1"), &limits)?;
//! assert!(room.gaps().is_empty(), "{:?}", room.gaps());
//! # Ok::<(), std::io::Error>(())
//! ```

mod calls;
mod files;
mod limits;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};

pub use limits::{Limits, peak_bytes};

/// How far a measure is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Force {
    /// All of it.
    Full,
    /// A part, because the kernel is older than the measure: so much is known of what is missing.
    Part(String),
    /// Nothing of it, for this reason.
    Nothing(String),
}

/// A room that was entered: which of its walls stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Files, TCP and signals: Landlock.
    pub files: Force,
    /// System calls: seccomp.
    pub calls: Force,
    /// Capabilities of the user.
    pub capabilities: Force,
}

impl Room {
    /// What is missing, in sentences; empty where everything is in force.
    pub fn gaps(&self) -> Vec<String> {
        let named = [("files", &self.files), ("system calls", &self.calls), ("capabilities", &self.capabilities)];
        let gap = |(name, force): (&str, &Force)| match force {
            Force::Full => None,
            Force::Part(why) => Some(format!("{name} are denied in part: {why}")),
            Force::Nothing(why) => Some(format!("{name} are not denied: {why}")),
        };
        named.into_iter().filter_map(gap).collect()
    }
}

/// Locks this process in: the calling thread and all that it starts from now on. A process calls this before it starts any
/// and before it opens a stranger's file. It cannot be undone. SIGINT and SIGTERM, by which a service or a terminal ends
/// all processes of a server at once, do nothing from then on: the server tells each what to do.
///
/// The process keeps what is open already (its pipes), may read and, if `limits.file_bytes` is not 0, write in `folder`,
/// and may read what tells how many processors it has. An error is one of the limits: these exist on every kernel.
pub fn enter(folder: &Path, limits: &Limits) -> io::Result<Room> {
    limits.apply()?;
    let unread = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, unread.clone())?;
    }
    Ok(lock(folder, limits))
}

/// What would be in force here: the walls are built around a thread that does nothing else and ends at once.
pub fn try_out() -> Room {
    let folder = std::env::temp_dir();
    let limits = Limits { memory_bytes: 0, cpu_seconds: 0, file_bytes: 0, open_files: 0 };
    std::thread::scope(|scope| scope.spawn(|| lock(&folder, &limits)).join()).unwrap_or_else(|_| {
        let nothing = || Force::Nothing("the test of it failed".into());
        Room { files: nothing(), calls: nothing(), capabilities: nothing() }
    })
}

/// The walls that stand around a thread; the limits are those of the whole process.
fn lock(folder: &Path, limits: &Limits) -> Room {
    // Capabilities first: seccomp forbids the call afterwards. Seccomp last: it also forbids what Landlock needs.
    let capabilities = limits::drop_capabilities();
    let files = files::lock(folder, limits.file_bytes > 0);
    Room { files, calls: calls::lock(), capabilities }
}

#[cfg(test)]
mod tests;
