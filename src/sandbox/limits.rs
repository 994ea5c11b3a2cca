//! Resource limits, capabilities, and death with the parent.

use std::io;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};

use super::Force;

/// Address space beyond the memory: code, and what allocators and threads reserve without using it. With 64 threads
/// glibc's arenas alone may reserve 64 MiB each.
const RESERVED_BYTES: u64 = 16 << 30;

/// How much of the machine a process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, in bytes. An allocation beyond it fails, which ends the process.
    pub memory_bytes: u64,
    /// Seconds of processor time, all threads together; then the kernel ends the process.
    pub cpu_seconds: u64,
    /// The largest file that it may write, in bytes. 0: it writes nothing.
    pub file_bytes: u64,
    /// Descriptors at a time.
    pub open_files: u64,
}

impl Limits {
    /// Limits this process, and lets it die with its parent.
    ///
    /// Memory is `RLIMIT_DATA`: what can be written to and is not shared, counted when it becomes writable. `RLIMIT_AS`
    /// also counts what is only reserved, which grows with the number of threads and says little; it is set as well, far
    /// above, because it alone counts shared memory.
    pub(super) fn apply(&self) -> io::Result<()> {
        set(Resource::Core, 0)?;
        set(Resource::Data, self.memory_bytes)?;
        set(Resource::As, self.memory_bytes.saturating_add(RESERVED_BYTES))?;
        set(Resource::Cpu, self.cpu_seconds)?;
        set(Resource::Fsize, self.file_bytes)?;
        set(Resource::Nofile, self.open_files)?;
        Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
    }
}

/// The most memory that this process had at a time, in bytes; 0 where the kernel does not say.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

/// Sets a limit, or leaves one that is tighter already.
fn set(resource: Resource, wanted: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let limit = Some(hard.map_or(wanted, |hard| hard.min(wanted)));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}

/// Gives up what root has beyond other users, if this is root, and the right to become more than it is.
pub(super) fn drop_capabilities() -> Force {
    let none = CapabilitySet::empty();
    let dropped = set_no_new_privs(true)
        .and_then(|()| set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }));
    match dropped {
        Ok(()) => Force::Full,
        Err(error) => Force::Nothing(error.to_string()),
    }
}
