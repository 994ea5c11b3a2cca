//! Vectors of x86-64: all code that is for one processor architecture only.

mod avx2;
mod avx512;
mod float16;
mod sift;
mod stream;

pub use avx2::{has_avx2, run_avx2};
pub use avx512::{has_avx512, run_avx512};
pub use float16::{f16_to_f32_avx512, f16_to_f32_f16c, f32_to_f16_avx512, f32_to_f16_f16c, has_f16c};
pub use sift::sift_avx512;
pub use stream::{fence, prefetch, stream};
