//! What computes: instruction set, threads, and a thread with a stack that is deep enough.

use std::thread;

use super::ExecError;

/// Address space for the compute thread's stack. Only pages that are touched take memory.
const STACK_BYTES: usize = 512 << 20;

/// The processor architecture and the widest vector instructions that matrix products use, such as `x86_64 avx512`.
/// Results may differ in the last bits between machines where this differs.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "x86_64 avx512";
        }
        if is_x86_feature_detected!("fma") {
            return "x86_64 avx2";
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if std::arch::is_aarch64_feature_detected!("neon") {
            return "aarch64 neon";
        }
    }
    std::env::consts::ARCH
}

/// How many threads compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `f` on a thread of its own with 512 MiB of stack and waits for it: deep graphs need it, see
/// [the module](super). A panic of `f` goes on in the caller.
pub fn with_large_stack<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, ExecError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("compute".into()).stack_size(STACK_BYTES);
        let handle = thread
            .spawn_scoped(scope, f)
            .map_err(|e| ExecError::Stack { bytes: STACK_BYTES, reason: e.to_string() })?;
        handle.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
