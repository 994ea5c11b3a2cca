//! Landlock: one folder, and what tells how many processors there are.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Force;

/// The rights that are denied everywhere but where a rule gives them: all that kernel 6.15 knows. Older kernels know
/// fewer: without 6.7 TCP is left to seccomp, without 6.12 signals are.
const KNOWN: ABI = ABI::V7;
/// The standard library and rayon ask here how many processors this process may use. Nothing of it is secret. The
/// process's own memory peak is told here, too.
const READABLE: [&str; 5] =
    ["/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/status", "/sys/fs/cgroup", "/sys/devices/system/cpu"];

/// Denies this thread, and those that it starts, all files but those in `folder`.
pub(super) fn lock(folder: &Path, writable: bool) -> Force {
    match restrict(folder, writable) {
        Ok(RestrictionStatus { ruleset: RulesetStatus::FullyEnforced, .. }) => Force::Full,
        Ok(RestrictionStatus { ruleset: RulesetStatus::PartiallyEnforced, landlock, .. }) => match landlock {
            LandlockStatus::Available { effective_abi, .. } => {
                Force::Part(format!("the kernel has Landlock {}, {} is asked for", effective_abi as i32, KNOWN as i32))
            }
            other => Force::Part(format!("Landlock: {other:?}")),
        },
        Ok(RestrictionStatus { landlock: LandlockStatus::NotEnabled, .. }) => {
            Force::Nothing("Landlock was not enabled when the kernel started".into())
        }
        Ok(_) => Force::Nothing("the kernel has no Landlock".into()),
        Err(error) => Force::Nothing(format!("Landlock: {error}")),
    }
}

fn restrict(folder: &Path, writable: bool) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules([folder], rights(writable)))?
        .add_rules(path_beneath_rules(READABLE, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()
}

/// Plain files; no folders, links, pipes or devices, and nothing to execute. (A folder that its owner may not read, or ten
/// thousand in one another, is hard to remove.)
fn rights(writable: bool) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    if !writable {
        return read;
    }
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    read | files | AccessFs::Refer
}
