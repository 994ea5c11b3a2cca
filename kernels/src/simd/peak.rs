//! The most multiplications and additions that a processor makes: what bounds every kernel.

use std::hint::black_box;

use super::{Path, Task, Vector, run};

/// Multiplies and adds `rounds` times in as many independent chains as keep the units busy, all in registers, on the calling
/// thread. It returns how many multiplications and additions that were.
pub fn multiply_adds(path: Path, rounds: usize) -> u64 {
    let (sum, chains) = run(path, Chains { rounds });
    black_box(sum);
    2 * (chains * path.lanes()) as u64 * rounds as u64
}

struct Chains {
    rounds: usize,
}

impl Task for Chains {
    /// The sum of all chains, which nobody reads but the compiler cannot know, and how many chains there were.
    type Output = (f32, usize);

    #[inline(always)]
    fn run<V: Vector>(self) -> Self::Output {
        // Two units of four cycles each need eight; what has half of the registers also has to hold factor and term.
        if V::REGISTERS >= 32 { chains::<V, 16>(self.rounds) } else { chains::<V, 12>(self.rounds) }
    }
}

#[inline(always)]
fn chains<V: Vector, const N: usize>(rounds: usize) -> (f32, usize) {
    let [factor, term] = [0.999, 0.001].map(|v| V::splat(black_box(v)));
    // Chains that begin alike would be computed as one.
    let mut sums: [V; N] = std::array::from_fn(|chain| V::splat(black_box(chain as f32)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = sum.mul_add(factor, term);
        }
    }
    (sums.iter().map(|sum| sum.sum()).sum(), N)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_chains_go_to_where_their_factor_leads_them() {
        for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
            // x = 0.999 x + 0.001 ends at 1 in each lane of each chain.
            let (sum, chains) = run(path, Chains { rounds: 50_000 });
            let lanes = (chains * path.lanes()) as f32;
            assert!((sum - lanes).abs() < 1e-2 * lanes, "{path:?}: {sum}, not {lanes}");
            assert_eq!(multiply_adds(path, 3), 6 * lanes as u64);
        }
    }
}
