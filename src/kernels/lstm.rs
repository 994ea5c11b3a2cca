//! The LSTM (Hochreiter and Schmidhuber 1997), with backpropagation through time.
//!
//! ```text
//!   z = W x + R h + b          i = sigmoid(z_i + p_i c)   f = sigmoid(z_f + p_f c)   g = tanh(z_c)
//!   c' = f c + i g             o = sigmoid(z_o + p_o c')  h' = o tanh(c')                       gates in the order i o f c
//!
//!   dz_o = dh' tanh(c') o (1 - o)
//!   dc'  = dc' + dh' o (1 - tanh(c')^2) + dz_o p_o
//!   dz_i = dc' g i (1 - i)     dz_f = dc' c f (1 - f)     dz_c = dc' i (1 - g^2)
//!   dc   = dc' f + dz_i p_i + dz_f p_f                    dh = dz R
//! ```

use candle_core::Result;

use super::Kernel;
use super::matmul::{Matrix, multiply_add_on_all_threads};
use super::operator::{Array, Back, Made, Operator};
use super::recurrent::{Layer, Problem, column_sums, sigmoid};
use crate::graph::op;

/// Kept behind the three results: gates `[d, steps, n, 4 h]`, states and cells `[d, steps, n, h]`.
const KEPT: usize = 3;

/// The layer. Arguments: the sequence, the first state and cell where there are any, then the weights.
pub fn lstm(config: &op::Lstm, lengths: Option<Vec<i64>>) -> Kernel {
    Kernel::of(Lstm(Layer {
        op: "Lstm",
        hidden: config.hidden,
        gates: 4,
        direction: config.direction,
        lengths,
        states: if config.state { 2 } else { 0 },
    }))
}

struct Lstm(Layer);

/// Both halves of a bias in one.
fn bias(problem: &Problem<'_>, direction: usize) -> Option<Vec<f32>> {
    let both = problem.weight(2, direction)?;
    let (a, b) = both.split_at(both.len() / 2);
    Some(a.iter().zip(b).map(|(a, b)| a + b).collect())
}

/// The peephole weights `i`, `o` and `f` of a unit.
fn peephole(weights: Option<&[f32]>, hidden: usize, unit: usize) -> [f32; 3] {
    weights.map_or([0.0; 3], |p| [p[unit], p[hidden + unit], p[2 * hidden + unit]])
}

impl Operator for Lstm {
    fn name(&self) -> &'static str {
        self.0.op
    }

    fn forward(&self, args: &[Array<'_>]) -> Result<Vec<Made>> {
        let problem = self.0.problem(args)?;
        let (steps, n, h, size) = (problem.steps, problem.samples, self.0.hidden, problem.state_size());
        let directions = self.0.direction.backwards();
        let d = directions.len();
        let mut all = vec![0.0; steps * d * size];
        let [mut last, mut last_cell, mut gates, mut states, mut cells] = [const { Vec::new() }; 5];
        for (direction, backwards) in directions.iter().enumerate() {
            let (mut state, mut cell) = (problem.first_state(0, direction), problem.first_state(1, direction));
            let mut z = problem.projection(direction, bias(&problem, direction));
            let peepholes = problem.weight(3, direction);
            let (mut own_states, mut own_cells) = (vec![0.0; steps * size], vec![0.0; steps * size]);
            for step in problem.order(*backwards) {
                let z = &mut z[step * n * 4 * h..][..n * 4 * h];
                let recurrence = problem.recurrence(direction, 0..4).transposed();
                multiply_add_on_all_threads(z, Matrix::new(&state, n, h), recurrence);
                for sample in (0..n).filter(|sample| problem.is_active(step, *sample)) {
                    let z = &mut z[sample * 4 * h..][..4 * h];
                    let place = sample * h;
                    for unit in 0..h {
                        let [p_i, p_o, p_f] = peephole(peepholes, h, unit);
                        let before = cell[place + unit];
                        let i = sigmoid(z[unit] + p_i * before);
                        let f = sigmoid(z[2 * h + unit] + p_f * before);
                        let g = z[3 * h + unit].tanh();
                        let c = f * before + i * g;
                        let o = sigmoid(z[h + unit] + p_o * c);
                        (z[unit], z[h + unit], z[2 * h + unit], z[3 * h + unit]) = (i, o, f, g);
                        (cell[place + unit], state[place + unit]) = (c, o * c.tanh());
                    }
                    all[(step * d + direction) * size + place..][..h].copy_from_slice(&state[place..][..h]);
                }
                own_states[step * size..][..size].copy_from_slice(&state);
                own_cells[step * size..][..size].copy_from_slice(&cell);
            }
            last.extend(state);
            last_cell.extend(cell);
            gates.extend(z);
            states.extend(own_states);
            cells.extend(own_cells);
        }
        Ok(vec![
            Made::new([steps, d, n, h], all),
            Made::new([d, n, h], last),
            Made::new([d, n, h], last_cell),
            Made::new([d, steps, n, 4 * h], gates),
            Made::new([d, steps, n, h], states),
            Made::new([d, steps, n, h], cells),
        ])
    }

    fn backward(&self, back: &Back<'_>) -> Result<Vec<Option<Vec<f32>>>> {
        let problem = self.0.problem(back.args)?;
        let (steps, n, h, size) = (problem.steps, problem.samples, self.0.hidden, problem.state_size());
        let directions = self.0.direction.backwards();
        let d = directions.len();
        let [gates, states, cells] = [0, 1, 2].map(|kept| back.ys[back.ys.len() - KEPT + kept].values);
        let upstream = |result: usize| back.dys.get(result).copied().flatten().map(|dy| dy.values);
        let mut gradients: Vec<Vec<f32>> = vec![Vec::new(); back.args.len()];
        gradients[0] = vec![0.0; back.args[0].values.len()];
        for (direction, backwards) in directions.iter().enumerate() {
            let gates = &gates[direction * steps * n * 4 * h..][..steps * n * 4 * h];
            let own = |values: &'_ [f32]| direction * steps * size..values.len().min((direction + 1) * steps * size);
            let (states, cells) = (&states[own(states)], &cells[own(cells)]);
            let states_before = problem.before(states, &problem.first_state(0, direction), *backwards);
            let cells_before = problem.before(cells, &problem.first_state(1, direction), *backwards);
            let at_end = |result: usize| {
                upstream(result).map_or_else(|| vec![0.0; size], |dy| dy[direction * size..][..size].to_vec())
            };
            let (mut d_state, mut d_cell) = (at_end(1), at_end(2));
            let peepholes = problem.weight(3, direction);
            let (mut dz, mut d_peepholes) = (vec![0.0; steps * n * 4 * h], vec![0.0; 3 * h]);
            for step in problem.order(*backwards).into_iter().rev() {
                let dz = &mut dz[step * n * 4 * h..][..n * 4 * h];
                for sample in (0..n).filter(|sample| problem.is_active(step, *sample)) {
                    let (place, row) = (sample * h, step * n + sample);
                    let (gates, dz) = (&gates[row * 4 * h..][..4 * h], &mut dz[sample * 4 * h..][..4 * h]);
                    for unit in 0..h {
                        let at = place + unit;
                        let dh = d_state[at] + upstream(0).map_or(0.0, |dy| dy[(step * d + direction) * size + at]);
                        let [i, o, f, g] = [0, 1, 2, 3].map(|gate| gates[gate * h + unit]);
                        let [p_i, p_o, p_f] = peephole(peepholes, h, unit);
                        let (before, cell) = (cells_before[step * size + at], cells[step * size + at]);
                        let t = cell.tanh();
                        let dz_o = dh * t * o * (1.0 - o);
                        let dc = d_cell[at] + dh * o * (1.0 - t * t) + dz_o * p_o;
                        let (dz_i, dz_f) = (dc * g * i * (1.0 - i), dc * before * f * (1.0 - f));
                        dz[unit] = dz_i;
                        dz[h + unit] = dz_o;
                        dz[2 * h + unit] = dz_f;
                        dz[3 * h + unit] = dc * i * (1.0 - g * g);
                        d_cell[at] = dc * f + dz_i * p_i + dz_f * p_f;
                        // What is left of it comes from the product below.
                        d_state[at] = 0.0;
                        d_peepholes[unit] += dz_i * before;
                        d_peepholes[h + unit] += dz_o * cell;
                        d_peepholes[2 * h + unit] += dz_f * before;
                    }
                }
                let recurrence = problem.recurrence(direction, 0..4);
                multiply_add_on_all_threads(&mut d_state, Matrix::new(dz, n, 4 * h), recurrence);
            }
            problem.add_input_gradient(&mut gradients[0], direction, &dz);
            if self.0.states > 0 {
                gradients[1].extend(d_state);
                gradients[2].extend(d_cell);
            }
            let sums = column_sums(&dz, 4 * h);
            let found = [
                problem.input_weight_gradient(&dz),
                problem.state_weight_gradient(&dz, &states_before),
                sums.repeat(2),
                d_peepholes,
            ];
            for (number, found) in found.into_iter().enumerate() {
                gradients.get_mut(self.0.weight_place(number)).into_iter().for_each(|all| all.extend(&found));
            }
        }
        Ok(back.each(|which| std::mem::take(&mut gradients[which])))
    }
}
