//! What computes: instruction set and threads.

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
