//! Fewer bits a weight: half precision.
//!
//! Every value is rounded to the nearest one of the format. A parameter that does not survive that is kept in 32 bits, and
//! the report says why: values too large for the format, too large an error on the whole, or too many values that become
//! zero. Running statistics stay in 32 bits whatever they are: a small variance is divided by.
//!
//! | | bits of precision | largest | smallest normal | smallest |
//! |---|---|---|---|---|
//! | f16 | 11 | 65504 | 6.1e-5 | 6.0e-8 |
//! | bf16 | 8 | 3.4e38 | 1.2e-38 | 9.2e-41 |

use half::{bf16, f16};

use super::{Pass, PassError};
use crate::graph::{Graph, GraphEdit, Param, ParamId, glob};
use crate::tensor::{DType, TensorError};

/// Number formats to store weights in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 half precision.
    F16,
    /// bfloat16: the exponent of `f32` with 8 bits of precision.
    Bf16,
}

impl Format {
    /// The format as a tensor's.
    pub fn dtype(self) -> DType {
        match self {
            Format::F16 => DType::F16,
            Format::Bf16 => DType::BF16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
        }
    }

    /// The largest number.
    fn largest(self) -> f64 {
        match self {
            Format::F16 => f16::MAX.to_f64(),
            Format::Bf16 => bf16::MAX.to_f64(),
        }
    }

    /// The smallest number above zero that has all bits of precision.
    fn smallest_normal(self) -> f64 {
        match self {
            Format::F16 => f16::MIN_POSITIVE.to_f64(),
            Format::Bf16 => bf16::MIN_POSITIVE.to_f64(),
        }
    }

    /// A larger relative error than this is no rounding error: that of a normal number is at most 2^-11 (0.0005) in f16
    /// and 2^-8 (0.0039) in bf16.
    fn max_relative_error(self) -> f64 {
        match self {
            Format::F16 => 1e-3,
            Format::Bf16 => 4e-3,
        }
    }
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

/// What happens, or happened, to one parameter. Where it stays in 32 bits, the figures are those that it would have.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// The parameter.
    pub id: ParamId,
    /// The parameter.
    pub name: String,
    /// The format it is stored in.
    pub dtype: DType,
    /// `|w - q(w)| / |w|` in the L2 norm, over the values that the format has room for.
    pub relative_error: f64,
    /// Share of the non-zero values that became zero.
    pub flushed_to_zero: f64,
    /// Share of the non-zero values that are stored below the format's smallest normal number, with fewer bits of
    /// precision than others.
    pub subnormal: f64,
    /// Why it stays in 32 bits, if it does.
    pub kept_because: Option<String>,
}

/// More lost values than this and the parameter's small weights are gone, not rounded.
const MAX_FLUSHED: f64 = 0.01;

impl Quantize {
    /// What the pass does to each parameter of a graph, in the graph's order. What is fixed stays as it is and has no plan.
    pub fn plans(&self, graph: &Graph) -> Result<Vec<Precision>, PassError> {
        let keep = glob::select(graph, &self.keep_f32)
            .map_err(|pattern| PassError::NoSuchParam { field: "keep_f32", pattern: pattern.to_string() })?;
        let statistics = graph.statistics();
        let plan = |id| {
            let param = graph.param(id);
            let rounding = Rounding::of(param, self.format)?;
            let kept_because = if statistics.contains(&id) {
                Some("running statistics stay in 32 bits".to_string())
            } else if keep.contains(&id) {
                Some("named in keep_f32".to_string())
            } else {
                rounding.objection(self.format)
            };
            Ok(Precision {
                id,
                name: param.name.clone(),
                dtype: if kept_because.is_some() { DType::F32 } else { self.format.dtype() },
                relative_error: rounding.relative_error(),
                flushed_to_zero: rounding.flushed(),
                subnormal: rounding.subnormal as f64 / rounding.nonzero.max(1) as f64,
                kept_because,
            })
        };
        graph.param_ids().filter(|id| !graph.param(*id).fixed).map(plan).collect()
    }
}

impl Pass for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        let plans = self.plans(edit.graph())?;
        for plan in plans {
            let id = plan.id;
            let data = edit.graph().param(id).data.to_float(plan.dtype)?;
            edit.set_param(id, data);
        }
        if self.activations == Values::Rounded {
            edit.set_activations(self.format.dtype());
        }
        Ok(())
    }
}

/// Stores all parameters in 32 bits, which adds nothing to their values, and lets values pass between nodes unrounded:
/// what a network needs before it can be trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widen;

impl Pass for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn apply(&self, edit: &mut GraphEdit<'_>) -> Result<(), PassError> {
        for id in edit.graph().param_ids() {
            let param = edit.graph().param(id);
            if !param.fixed && param.data.dtype() != DType::F32 {
                let data = param.data.to_float(DType::F32)?;
                edit.set_param(id, data);
            }
        }
        edit.set_activations(DType::F32);
        Ok(())
    }
}

/// What rounding does to the values of one parameter. Values that are no numbers are so in every format and not counted.
#[derive(Debug, Default)]
struct Rounding {
    nonzero: usize,
    overflowed: usize,
    flushed: usize,
    subnormal: usize,
    /// Sums of the squares of the values and of what rounding changes of them.
    squares: f64,
    error_squares: f64,
}

impl Rounding {
    fn of(param: &Param, format: Format) -> Result<Self, TensorError> {
        let before = param.data.to_f64()?;
        let after = param.data.to_float(format.dtype())?.to_f64()?;
        let mut rounding = Self::default();
        for (&w, &q) in before.iter().zip(&after) {
            if !w.is_finite() {
                continue;
            }
            rounding.nonzero += usize::from(w != 0.0);
            if !q.is_finite() {
                rounding.overflowed += 1;
                continue;
            }
            rounding.flushed += usize::from(w != 0.0 && q == 0.0);
            rounding.subnormal += usize::from(q != 0.0 && q.abs() < format.smallest_normal());
            rounding.squares += w * w;
            rounding.error_squares += (w - q).powi(2);
        }
        Ok(rounding)
    }

    fn relative_error(&self) -> f64 {
        if self.squares > 0.0 { (self.error_squares / self.squares).sqrt() } else { 0.0 }
    }

    fn flushed(&self) -> f64 {
        self.flushed as f64 / self.nonzero.max(1) as f64
    }

    /// Why the parameter does not survive, if it does not.
    fn objection(&self, format: Format) -> Option<String> {
        let (error, bound) = (self.relative_error(), format.max_relative_error());
        if self.overflowed > 0 {
            let largest = match format {
                Format::F16 => format!("{}", format.largest()),
                Format::Bf16 => format!("{:.2e}", format.largest()),
            };
            return Some(format!(
                "{} values are larger than {largest}, the largest {}",
                self.overflowed,
                format.name()
            ));
        }
        if error > bound {
            return Some(format!("the relative error would be {error:.2e}, above {bound:.0e}"));
        }
        if self.flushed() > MAX_FLUSHED {
            return Some(format!("{:.1} % of its values would become zero", 100.0 * self.flushed()));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::builder::GraphBuilder;
    use crate::graph::op::{Activation, BatchNorm};
    use crate::passes::apply;
    use crate::passes::insert_batch_norm::{InsertBatchNorm, Place};
    use crate::tensor::TensorData;

    fn network(weights: &[f32; 4]) -> Graph {
        let mut graph = GraphBuilder::new("test", &[2]).linear("fc", 2).build().unwrap();
        let mut edit = graph.edit();
        let id = edit.graph().param_id("fc.weight").unwrap();
        edit.set_param(id, TensorData::from_f32(vec![2, 2], weights).unwrap());
        edit.commit().unwrap();
        graph
    }

    fn quantize(format: Format, keep: &[&str]) -> Quantize {
        Quantize { format, keep_f32: keep.iter().map(|s| s.to_string()).collect(), activations: Values::Rounded }
    }

    fn f16(keep: &[&str]) -> Quantize {
        quantize(Format::F16, keep)
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

    #[test]
    fn running_statistics_stay_in_32_bits() {
        let builder = GraphBuilder::new("test", &[2]).linear("fc", 2).activation("relu", Activation::Relu);
        let mut graph = builder.build().unwrap();
        let config = BatchNorm::default();
        let insert = InsertBatchNorm { place: Place::Before, activations: vec![], config, moments: vec![] };
        apply(&insert, &mut graph).unwrap();
        apply(&f16(&[]), &mut graph).unwrap();
        let dtypes: Vec<(&str, DType)> = graph.params().iter().map(|p| (p.name.as_str(), p.data.dtype())).collect();
        let (half, full) = (DType::F16, DType::F32);
        assert_eq!(
            dtypes[2..],
            [
                ("relu.norm.weight", half),
                ("relu.norm.bias", half),
                ("relu.norm.running_mean", full),
                ("relu.norm.running_var", full),
            ]
        );
        let plans = f16(&[]).plans(&graph).unwrap();
        assert_eq!(plans[5].kept_because.as_deref(), Some("running statistics stay in 32 bits"));
    }

    #[test]
    fn values_between_nodes_pass_through_the_format_unless_only_weights_are_asked_for() {
        let mut graph = network(&[0.5; 4]);
        apply(&Quantize { activations: Values::F32, ..f16(&[]) }, &mut graph).unwrap();
        assert_eq!(graph.activations(), DType::F32);
        apply(&quantize(Format::Bf16, &[]), &mut graph).unwrap();
        assert_eq!((graph.activations(), dtype(&graph)), (DType::BF16, DType::BF16));
    }

    #[test]
    fn bf16_has_room_for_what_f16_has_not() {
        let weights = [70_000.0, 1e-9, 1e30, 1.0];
        assert!(f16(&[]).plans(&network(&weights)).unwrap()[0].kept_because.is_some());
        let plans = quantize(Format::Bf16, &[]).plans(&network(&weights)).unwrap();
        assert_eq!((plans[0].dtype, &plans[0].kept_because), (DType::BF16, &None));
        let plans = quantize(Format::Bf16, &[]).plans(&network(&[f32::MAX, 1.0, 1.0, 1.0])).unwrap();
        assert_eq!(plans[0].kept_because.as_deref(), Some("1 values are larger than 3.39e38, the largest bf16"));
    }

    #[test]
    fn the_share_of_subnormal_values_is_told() {
        // Half of the smallest normal number, twice; and 0, which does not count.
        let plans = f16(&[]).plans(&network(&[2f32.powi(-15), -2f32.powi(-15), 0.0, 1.0])).unwrap();
        assert_eq!((plans[0].subnormal, plans[0].flushed_to_zero, plans[0].dtype), (2.0 / 3.0, 0.0, DType::F16));
    }

    /// The nearest number with `bits` of precision and no exponent below that of `smallest_normal`, ties to even; by the
    /// definition: the value is divided by the unit in the last place and rounded to a whole number.
    fn rounded(w: f64, bits: i32, smallest_normal: f64, largest: f64) -> f64 {
        let exponent = w.abs().max(smallest_normal).log2().floor() as i32;
        let unit = 2f64.powi(exponent - bits + 1);
        let q = (w / unit).round_ties_even() * unit;
        if q.abs() > largest { f64::INFINITY.copysign(q) } else { q }
    }

    proptest! {
        #[test]
        fn the_figures_are_those_of_the_definition(
            mantissas in prop::collection::vec(-2f32..2.0, 4), exponents in prop::collection::vec(-30i32..18, 4),
        ) {
            let weights: Vec<f32> = mantissas.iter().zip(&exponents).map(|(m, e)| m * 2f32.powi(*e)).collect();
            let graph = network(&weights.clone().try_into().unwrap());
            for (format, bits) in [(Format::F16, 11), (Format::Bf16, 8)] {
                let plan = &quantize(format, &[]).plans(&graph).unwrap()[0];
                let pairs: Vec<(f64, f64)> = weights
                    .iter()
                    .map(|w| f64::from(*w))
                    .map(|w| (w, rounded(w, bits, format.smallest_normal(), format.largest())))
                    .collect();
                let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                    pairs.iter().filter(|(_, q)| q.is_finite()).map(|(w, q)| f(*w, *q)).sum()
                };
                let nonzero = weights.iter().filter(|w| **w != 0.0).count() as f64;
                let expected = (sum(&|w, q| (w - q) * (w - q)) / sum(&|w, _| w * w)).sqrt();
                if expected.is_finite() {
                    prop_assert!((plan.relative_error - expected).abs() <= 1e-9);
                }
                let flushed = sum(&|w, q| f64::from(u8::from(w != 0.0 && q == 0.0)));
                let subnormal = sum(&|_, q| f64::from(u8::from(q != 0.0 && q.abs() < format.smallest_normal())));
                prop_assert!((plan.flushed_to_zero - flushed / nonzero.max(1.0)).abs() < 1e-12);
                prop_assert!((plan.subnormal - subnormal / nonzero.max(1.0)).abs() < 1e-12);
                let overflows = pairs.iter().any(|(_, q)| q.is_infinite());
                prop_assert_eq!(overflows, plan.kept_because.as_deref().is_some_and(|why| why.contains("larger than")));
            }
        }
    }
}
