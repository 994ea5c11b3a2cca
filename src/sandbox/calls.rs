//! seccomp: system calls that neither a reader nor a recipe has a use for fail with EPERM.
//!
//! This is a list of what is denied, not of what is allowed: the allocator, the threads and the C library below us may
//! use what calls they like, on this kernel and the next, and a list of those would break with their next release. What
//! is denied is chosen by what a process that was taken over would reach for.

use std::collections::BTreeMap;

use libc::{c_long, *};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch,
};

use super::Force;

/// Calls that are denied whatever their arguments.
const DENIED: &[c_long] = &[
    // programs
    SYS_execve,
    SYS_execveat,
    // the network, and sockets of any kind
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    // other processes
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_kcmp,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_sched_setscheduler,
    SYS_sched_setparam,
    SYS_sched_setattr,
    SYS_move_pages,
    SYS_migrate_pages,
    // identity and namespaces
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_capset,
    SYS_setns,
    SYS_unshare,
    SYS_setsid,
    SYS_setpgid,
    SYS_personality,
    SYS_setrlimit,
    // the file system beyond reading and writing plain files
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_symlinkat,
    SYS_linkat,
    SYS_mknodat,
    SYS_fchownat,
    SYS_fchown,
    SYS_fchmodat,
    SYS_fchmodat2,
    SYS_fchmod,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_quotactl,
    SYS_acct,
    SYS_swapon,
    SYS_swapoff,
    SYS_sync,
    SYS_syncfs,
    SYS_fanotify_init,
    // memory that is a file, and files that are other programs' business
    SYS_memfd_create,
    SYS_memfd_secret,
    SYS_userfaultfd,
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_vmsplice,
    // the kernel itself
    SYS_bpf,
    SYS_perf_event_open,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_io_setup,
    SYS_io_submit,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_syslog,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_nfsservctl,
    SYS_lookup_dcookie,
];

/// Calls that are denied and that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[
    SYS_fork,
    SYS_vfork,
    SYS_symlink,
    SYS_link,
    SYS_mknod,
    SYS_chown,
    SYS_lchown,
    SYS_chmod,
    SYS_kexec_file_load,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
    SYS_uselib,
    SYS__sysctl,
];
/// Calls that are denied and that only this architecture has.
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[];

/// x86-64 kernels may take the same calls, and some of their own, under other numbers: `x32`, with 32-bit pointers. No
/// program of ours makes any.
#[cfg(target_arch = "x86_64")]
const X32: (c_long, std::ops::Range<c_long>) = (0x4000_0000, 512..548);

/// Denies these calls to this thread and those that it starts.
pub(super) fn lock() -> Force {
    let applied = filters().map_err(|error| error.to_string()).and_then(|filters| {
        filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter).map_err(|error| error.to_string()))
    });
    match applied {
        Ok(()) => Force::Full,
        Err(error) => Force::Nothing(format!("seccomp: {error}")),
    }
}

fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |calls, errno: c_int| {
        SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?.try_into()
    };
    // The arguments of clone3 lie in memory, where no filter looks; without it, the C library takes clone.
    let unknown = filter([(SYS_clone3, Vec::new())].into(), ENOSYS)?;
    let mut calls: BTreeMap<c_long, Vec<Rule>> = DENIED.iter().chain(DENIED_HERE).map(|&call| (call, vec![])).collect();
    calls.extend(by_argument()?);
    #[cfg(target_arch = "x86_64")]
    {
        let (bit, own) = X32;
        let doubled: Vec<c_long> =
            calls.keys().copied().chain(own).chain([SYS_clone3]).map(|call| call | bit).collect();
        calls.extend(doubled.into_iter().map(|call| (call, Vec::new())));
    }
    Ok([unknown, filter(calls, EPERM)?])
}

/// Calls that are denied where an argument asks for too much.
fn by_argument() -> Result<[(c_long, Vec<Rule>); 7], BackendError> {
    let rule = |argument, len, op, value| Rule::new(vec![Condition::new(argument, len, op, value)?]);
    let own = u64::from(std::process::id());
    let thread = CLONE_THREAD as u64;
    Ok([
        // Threads, but no processes.
        (SYS_clone, vec![rule(0, Len::Qword, Op::MaskedEq(thread), 0)?]),
        // Signals to itself, which is how a process aborts.
        (SYS_kill, vec![rule(0, Len::Dword, Op::Ne, own)?]),
        (SYS_tgkill, vec![rule(0, Len::Dword, Op::Ne, own)?]),
        // Its own threads may be put on processors, not others'.
        (SYS_sched_setaffinity, vec![rule(0, Len::Dword, Op::Ne, 0)?]),
        // It dies with its parent, whatever it thinks of that.
        (SYS_prctl, vec![rule(0, Len::Dword, Op::Eq, PR_SET_PDEATHSIG as u64)?]),
        // Its own limits may be looked at.
        (SYS_prlimit64, vec![rule(0, Len::Dword, Op::Ne, 0)?, rule(2, Len::Qword, Op::Ne, 0)?]),
        // Terminals: pushing characters into one types commands for whoever sits there.
        (SYS_ioctl, vec![rule(1, Len::Dword, Op::Eq, 0x5412)?, rule(1, Len::Dword, Op::Eq, 0x541c)?]),
    ])
}
