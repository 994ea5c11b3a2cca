//! Fewer bits a weight: half precision.
//!
//! A parameter that does not survive the rounding is kept in 32 bits, and the report says why.

use crate::graph::{Graph, GraphEdit, Param, glob};
use crate::passes::{Pass, PassError};
use crate::tensor::{DType, TensorError};

/// Number formats to store weights in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the exponent of `f32` with 8 bits of precision.
    Bf16,
}

/// Stores parameters in fewer bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    /// The number format.
    pub format: Format,
    /// Parameters that stay in 32 bits, by name or glob.
    pub keep_f32: Vec<String>,
    /// Whether values between nodes pass through the format too, as they do where the network will run in it.
    pub activations: Values,
}

/// What becomes of the values between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// They pass through the same format.
    Rounded,
    /// They stay in 32 bits: only the file is smaller.
    F32,
}

/// What happens, or happened, to one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// The parameter.
    pub name: String,
    /// The format it is stored in.
    pub dtype: DType,
    /// `|w - q(w)| / |w|` in the L2 norm.
    pub relative_error: f64,
    /// Share of the non-zero values that became zero.
    pub flushed_to_zero: f64,
    /// Why it stays in 32 bits, if it does.
    pub kept_because: Option<String>,
}

/// A larger relative error than this is no rounding error: f16's is at most 2^-11, about 0.0005, for normal numbers.
const MAX_RELATIVE_ERROR: f64 = 1e-3;
/// More lost values than this and the parameter's small weights are gone, not rounded.
const MAX_FLUSHED: f64 = 0.01;

impl Quantize {
    /// What the pass does to each parameter of a graph, in the graph's order.
    pub fn plans(&self, graph: &Graph) -> Result<Vec<Precision>, PassError> {
        let keep = glob::select(graph, &self.keep_f32)
            .map_err(|pattern| PassError::NoSuchParam { field: "keep_f32", pattern: pattern.to_string() })?;
        graph.param_ids().map(|id| Ok(self.plan(graph.param(id), keep.contains(&id))?)).collect()
    }

    fn plan(&self, param: &Param, keep: bool) -> Result<Precision, TensorError> {
        let before = param.data.to_f32()?;
        let after = param.data.to_float(DType::F16)?.to_f32()?;
        let (mut error, mut norm, mut nonzero, mut flushed, mut overflowed) = (0f64, 0f64, 0usize, 0usize, 0usize);
        for (&w, &q) in before.iter().zip(&after) {
            if w.is_finite() && !q.is_finite() {
                overflowed += 1;
                continue;
            }
            error += f64::from(w - q).powi(2);
            norm += f64::from(w).powi(2);
            nonzero += usize::from(w != 0.0);
            flushed += usize::from(w != 0.0 && q == 0.0);
        }
        let relative_error = if norm > 0.0 { (error / norm).sqrt() } else { 0.0 };
        let flushed_to_zero = flushed as f64 / nonzero.max(1) as f64;
        let kept_because = if keep {
            Some("named in keep_f32".to_string())
        } else if overflowed > 0 {
            Some(format!("{overflowed} values are larger than 65504, the largest f16"))
        } else if relative_error > MAX_RELATIVE_ERROR {
            Some(format!("the relative error would be {relative_error:.2e}, above {MAX_RELATIVE_ERROR:.0e}"))
        } else if flushed_to_zero > MAX_FLUSHED {
            Some(format!("{:.1} % of its values would become zero", 100.0 * flushed_to_zero))
        } else {
            None
        };
        let dtype = if kept_because.is_some() { DType::F32 } else { DType::F16 };
        Ok(Precision { name: param.name.clone(), dtype, relative_error, flushed_to_zero, kept_because })
    }
}

impl Pass for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let plans = self.plans(edit.graph())?;
        for (id, plan) in edit.graph().param_ids().zip(plans) {
            let data = edit.graph().param(id).data.to_float(plan.dtype)?;
            edit.set_param(id, data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::passes::apply;
    use crate::tensor::TensorData;

    fn network(weights: &[f32; 4]) -> Graph {
        let mut graph = GraphBuilder::new("test", &[2]).linear("fc", 2).build().unwrap();
        let mut edit = graph.edit();
        let id = edit.graph().param_id("fc.weight").unwrap();
        edit.set_param(id, TensorData::from_f32(vec![2, 2], weights).unwrap());
        edit.commit().unwrap();
        graph
    }

    fn f16(keep: &[&str]) -> Quantize {
        Quantize {
            format: Format::F16,
            keep_f32: keep.iter().map(|s| s.to_string()).collect(),
            activations: Values::Rounded,
        }
    }

    fn dtype(graph: &Graph) -> DType {
        graph.params()[0].data.dtype()
    }

    #[test]
    fn ordinary_weights_become_half_as_large() {
        let mut graph = network(&[0.5, -0.25, 1.0, 0.1]);
        apply(&f16(&[]), &mut graph).unwrap();
        assert_eq!(dtype(&graph), DType::F16);
        assert_eq!(graph.params()[0].data.bytes().len(), 8);
    }

    #[test]
    fn weights_that_would_overflow_stay_in_32_bits_and_the_plan_says_why() {
        let quantize = f16(&[]);
        let mut graph = network(&[0.5, 70_000.0, 1.0, 0.1]);
        let plans = quantize.plans(&graph).unwrap();
        assert!(plans[0].kept_because.as_deref().unwrap().starts_with("1 values are larger than 65504"));
        let before = graph.params()[0].data.clone();
        apply(&quantize, &mut graph).unwrap();
        assert_eq!(graph.params()[0].data, before);
    }

    #[test]
    fn weights_that_would_vanish_stay_in_32_bits() {
        let mut graph = network(&[1e-9, 2e-9, 1e-9, 3e-9]);
        apply(&f16(&[]), &mut graph).unwrap();
        assert_eq!(dtype(&graph), DType::F32);
    }

    #[test]
    fn named_parameters_stay_in_32_bits() {
        let mut graph = network(&[0.5, 0.25, 1.0, 2.0]);
        apply(&f16(&["fc.weight"]), &mut graph).unwrap();
        assert_eq!(dtype(&graph), DType::F32);
        assert_eq!(graph.params()[1].data.dtype(), DType::F16);
    }
}
