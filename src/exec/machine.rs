//! What computes: instruction set and threads.

use std::sync::LazyLock;

use niwaki_kernels::simd::Path;

/// The processor architecture and the vector instructions in use, such as `x86_64 avx512`. Results may differ in the last
/// bits where this differs.
pub fn instruction_set() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let (chosen, best) = (Path::chosen(), Path::best());
        // Matrix products go by the processor, whatever is asked of the rest.
        let products = if chosen == best { String::new() } else { format!(", products {}", best.name()) };
        format!("{} {}{products}", std::env::consts::ARCH, chosen.name())
    });
    &NAME
}

/// How many numbers a vector instruction in use takes at once: numbers of channels that are multiples of it cost least.
pub fn lanes() -> u64 {
    match Path::chosen() {
        Path::Avx512 => 16,
        Path::Avx2 => 8,
        Path::Portable => 4,
    }
}

/// How many threads compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Makes the calling thread one of those that compute, where nothing was computed before in this process: then work is
/// handed to the others without waking this one in between. It is the thread that computes from then on.
pub fn compute_here() {
    // As many a processor: more would only wait for each other.
    const MOST: usize = 4;
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let threads = asked.filter(|threads| *threads > 0).unwrap_or(there).min(MOST * there);
    // A pool that is this thread alone would leave nobody for work that others hand out.
    if threads == 1 {
        return;
    }
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global() {
        tracing::debug!(%error, "the threads that compute are there already");
    }
}
