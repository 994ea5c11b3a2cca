//! The GRU (Cho et al. 2014), with backpropagation through time.
//!
//! ```text
//!   z, r = sigmoid(W x + R h + b)      q = R_h h + b_Rh          n = tanh(W_h x + b_Wh + r q)             reset after
//!   h' = (1 - z) n + z h                                         n = tanh(W_h x + b_Wh + R_h (r h) + b_Rh)   before
//!
//!   a_z = dh' (h - n) z (1 - z)        a_n = dh' (1 - z) (1 - n^2)
//!   after:  a_q = a_n r                a_r = a_n q r (1 - r)     dh = dh' z + [a_z a_r a_q] R
//!   before: e = a_n R_h                a_r = e h r (1 - r)       dh = dh' z + [a_z a_r] R_zr + e r
//! ```

use candle_core::Result;

use super::Kernel;
use super::matmul::{Matrix, multiply_add_on_all_threads};
use super::operator::{Array, Back, Made, Operator};
use super::recurrent::{Layer, Problem, column_sums, sigmoid};
use crate::graph::op;

/// Kept behind the two results: `z`, `r`, `n` and `q` `[d, steps, n, 4 h]`, and states `[d, steps, n, h]`.
const KEPT: usize = 2;

/// The layer. Arguments: the sequence, the first state where there is one, then the weights.
pub fn gru(config: &op::Gru, lengths: Option<Vec<i64>>) -> Kernel {
    let layer = Layer {
        op: "Gru",
        hidden: config.hidden,
        gates: 3,
        direction: config.direction,
        lengths,
        states: usize::from(config.state),
    };
    Kernel::of(Gru { layer, reset_after: config.reset_after })
}

struct Gru {
    layer: Layer,
    reset_after: bool,
}

impl Gru {
    /// The biases that are added to what the gates see of the input.
    fn bias(&self, problem: &Problem<'_>, direction: usize) -> Option<Vec<f32>> {
        let both = problem.weight(2, direction)?;
        let (input, state) = both.split_at(both.len() / 2);
        // The last gate's bias of the state is reset with it.
        let added = if self.reset_after { 2 * self.layer.hidden } else { state.len() };
        let state = state.iter().enumerate().map(|(i, b)| if i < added { *b } else { 0.0 });
        Some(input.iter().zip(state).map(|(a, b)| a + b).collect())
    }

    /// The product of the states with the last gate's weight, `[n, h]`: of all of the state, or of what is reset of it.
    fn candidates(&self, problem: &Problem<'_>, direction: usize, state: &[f32], z: &[f32]) -> Vec<f32> {
        let (n, h) = (problem.samples, self.layer.hidden);
        let mut q = vec![0.0; n * h];
        let recurrence = problem.recurrence(direction, 2..3).transposed();
        if self.reset_after {
            if let Some(both) = problem.weight(2, direction) {
                q.chunks_exact_mut(h).for_each(|q| q.copy_from_slice(&both[5 * h..]));
            }
            multiply_add_on_all_threads(&mut q, Matrix::new(state, n, h), recurrence);
        } else {
            let reset = (0..n * h).map(|i| state[i] * sigmoid(z[i / h * 3 * h + h + i % h]));
            let reset: Vec<f32> = reset.collect();
            multiply_add_on_all_threads(&mut q, Matrix::new(&reset, n, h), recurrence);
        }
        q
    }
}

/// Adds `a b` to the first columns of the rows `[n, width]`.
fn add_to_columns(rows: &mut [f32], width: usize, a: Matrix<'_>, b: Matrix<'_>, columns: usize) {
    let mut product = vec![0.0; rows.len() / width * columns];
    multiply_add_on_all_threads(&mut product, a, b);
    for (row, product) in rows.chunks_exact_mut(width).zip(product.chunks_exact(columns)) {
        row.iter_mut().zip(product).for_each(|(row, product)| *row += product);
    }
}

impl Operator for Gru {
    fn name(&self) -> &'static str {
        self.layer.op
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let problem = self.layer.problem(args)?;
        let (steps, n, h, size) = (problem.steps, problem.samples, self.layer.hidden, problem.state_size());
        let directions = self.layer.direction.backwards();
        let d = directions.len();
        let mut all = vec![0.0; steps * d * size];
        let [mut last, mut gates, mut states] = [const { Vec::new() }; 3];
        for (direction, backwards) in directions.iter().enumerate() {
            let mut state = problem.first_state(0, direction);
            let mut projection = problem.projection(direction, self.bias(&problem, direction));
            let (mut own_gates, mut own_states) = (vec![0.0; steps * n * 4 * h], vec![0.0; steps * size]);
            for step in problem.order(*backwards) {
                let z = &mut projection[step * n * 3 * h..][..n * 3 * h];
                let recurrence = problem.recurrence(direction, 0..2).transposed();
                add_to_columns(z, 3 * h, Matrix::new(&state, n, h), recurrence, 2 * h);
                let q = self.candidates(&problem, direction, &state, z);
                for sample in (0..n).filter(|sample| problem.is_active(step, *sample)) {
                    let (z, place) = (&z[sample * 3 * h..][..3 * h], sample * h);
                    let kept = &mut own_gates[(step * n + sample) * 4 * h..][..4 * h];
                    for unit in 0..h {
                        let (update, reset, q) = (sigmoid(z[unit]), sigmoid(z[h + unit]), q[place + unit]);
                        let fresh = (z[2 * h + unit] + if self.reset_after { reset * q } else { q }).tanh();
                        let state = &mut state[place + unit];
                        *state = (1.0 - update) * fresh + update * *state;
                        (kept[unit], kept[h + unit], kept[2 * h + unit], kept[3 * h + unit]) =
                            (update, reset, fresh, q);
                    }
                    all[(step * d + direction) * size + place..][..h].copy_from_slice(&state[place..][..h]);
                }
                own_states[step * size..][..size].copy_from_slice(&state);
            }
            last.extend(state);
            gates.extend(own_gates);
            states.extend(own_states);
        }
        Ok(vec![
            Made::new([steps, d, n, h], all),
            Made::new([d, n, h], last),
            Made::new([d, steps, n, 4 * h], gates),
            Made::new([d, steps, n, h], states),
        ])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let problem = self.layer.problem(back.args)?;
        let (steps, n, h, size) = (problem.steps, problem.samples, self.layer.hidden, problem.state_size());
        let directions = self.layer.direction.backwards();
        let d = directions.len();
        let [gates, states] = [0, 1].map(|kept| back.ys[back.ys.len() - KEPT + kept].values);
        let upstream = |result: usize| back.dys.get(result).copied().flatten().map(|dy| dy.values);
        let mut gradients: Vec<Vec<f32>> = vec![Vec::new(); back.args.len()];
        gradients[0] = vec![0.0; back.args[0].values.len()];
        for (direction, backwards) in directions.iter().enumerate() {
            let gates = &gates[direction * steps * n * 4 * h..][..steps * n * 4 * h];
            let states = &states[direction * steps * size..][..steps * size];
            let before = problem.before(states, &problem.first_state(0, direction), *backwards);
            let mut d_state = upstream(1).map_or_else(|| vec![0.0; size], |dy| dy[direction * size..][..size].to_vec());
            // At the gates as the input sees them, and as the state does.
            let (mut of_input, mut of_state) = (vec![0.0; steps * n * 3 * h], vec![0.0; steps * n * 3 * h]);
            for step in problem.order(*backwards).into_iter().rev() {
                let rows = step * n * 3 * h..(step + 1) * n * 3 * h;
                let (of_input, of_state) = (&mut of_input[rows.clone()], &mut of_state[rows]);
                let before = &before[step * size..][..size];
                let active: Vec<usize> = (0..n).filter(|sample| problem.is_active(step, *sample)).collect();
                let gate = |at: usize, which: usize| gates[(step * n + at / h) * 4 * h + which * h + at % h];
                let units = || active.iter().flat_map(|sample| sample * h..(sample + 1) * h);
                for at in units() {
                    let dh = d_state[at] + upstream(0).map_or(0.0, |dy| dy[(step * d + direction) * size + at]);
                    let (z, n) = (gate(at, 0), gate(at, 2));
                    let row = at / h * 3 * h + at % h;
                    of_input[row] = dh * (before[at] - n) * z * (1.0 - z);
                    of_input[row + 2 * h] = dh * (1.0 - z) * (1.0 - n * n);
                    d_state[at] = dh * z;
                }
                // What comes to the state that is reset before the product.
                let mut reset = vec![0.0; if self.reset_after { 0 } else { size }];
                if !self.reset_after {
                    let fresh: Vec<f32> =
                        of_input.chunks_exact(3 * h).flat_map(|row| row[2 * h..].iter().copied()).collect();
                    multiply_add_on_all_threads(
                        &mut reset,
                        Matrix::new(&fresh, n, h),
                        problem.recurrence(direction, 2..3),
                    );
                }
                for at in units() {
                    let row = at / h * 3 * h + at % h;
                    let (r, fresh) = (gate(at, 1), of_input[row + 2 * h]);
                    let dr = if self.reset_after { fresh * gate(at, 3) } else { reset[at] * before[at] };
                    of_input[row + h] = dr * r * (1.0 - r);
                    (of_state[row], of_state[row + h]) = (of_input[row], of_input[row + h]);
                    of_state[row + 2 * h] = if self.reset_after { fresh * r } else { fresh };
                    if !self.reset_after {
                        d_state[at] += reset[at] * r;
                    }
                }
                let seen = if self.reset_after { 3 } else { 2 };
                let rows: Vec<f32> =
                    of_state.chunks_exact(3 * h).flat_map(|row| row[..seen * h].iter().copied()).collect();
                let recurrence = problem.recurrence(direction, 0..seen);
                multiply_add_on_all_threads(&mut d_state, Matrix::new(&rows, n, seen * h), recurrence);
            }
            problem.add_input_gradient(&mut gradients[0], direction, &of_input);
            if self.layer.states > 0 {
                gradients[1].extend(d_state);
            }
            let mut recurrence = problem.state_weight_gradient(&of_state, &before);
            if !self.reset_after {
                let reset: Vec<f32> =
                    before.iter().enumerate().map(|(i, v)| v * gates[i / h * 4 * h + h + i % h]).collect();
                let of_reset = problem.state_weight_gradient(&of_state, &reset);
                recurrence[2 * h * h..].copy_from_slice(&of_reset[2 * h * h..]);
            }
            let sums = [column_sums(&of_input, 3 * h), column_sums(&of_state, 3 * h)].concat();
            for (number, found) in [problem.input_weight_gradient(&of_input), recurrence, sums].into_iter().enumerate()
            {
                gradients.get_mut(self.layer.weight_place(number)).into_iter().for_each(|all| all.extend(&found));
            }
        }
        Ok(back.each(|which| std::mem::take(&mut gradients[which])))
    }
}
