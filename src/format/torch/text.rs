//! Numbers, sizes and names as Python writes them.

use std::collections::BTreeSet;

use super::names::Names;
use crate::graph::{Dim, Graph};
use crate::tensor::DType;

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A number.
pub(super) fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "torch.nan".into(),
        _ if value.is_infinite() => if value > 0.0 { "torch.inf" } else { "-torch.inf" }.into(),
        _ => format!("{value:?}"),
    }
}

/// A number of a format: without a point where that has whole numbers.
pub(super) fn number_of(value: f64, dtype: DType) -> String {
    if dtype.is_float() || !value.is_finite() { number(value) } else { format!("{}", value.trunc() as i64) }
}

/// Numbers in brackets.
pub(super) fn tuple(numbers: &[usize]) -> String {
    listed(&numbers.iter().map(usize::to_string).collect::<Vec<_>>())
}

/// One number an axis: a single one where all are equal.
pub(super) fn each(numbers: &[usize]) -> String {
    match numbers {
        [first, rest @ ..] if rest.iter().all(|n| n == first) => first.to_string(),
        _ => tuple(numbers),
    }
}

/// Arguments by their names, without those that are PyTorch's defaults.
pub(super) fn keywords(all: &[(&str, String, &str)]) -> String {
    let said = all.iter().filter(|(_, value, default)| value != default);
    said.map(|(name, value, _)| format!(", {name}={value}")).collect()
}

/// What is in brackets, also one alone.
pub(super) fn listed(items: &[String]) -> String {
    match items {
        [one] => format!("({one},)"),
        _ => format!("({})", items.join(", ")),
    }
}

/// A number format.
pub(super) fn dtype(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "torch.bool",
        DType::U8 => "torch.uint8",
        DType::I8 => "torch.int8",
        DType::U16 => "torch.uint16",
        DType::I16 => "torch.int16",
        DType::F16 => "torch.float16",
        DType::BF16 => "torch.bfloat16",
        DType::U32 => "torch.uint32",
        DType::I32 => "torch.int32",
        DType::F32 => "torch.float32",
        DType::U64 => "torch.uint64",
        DType::I64 => "torch.int64",
        DType::F64 => "torch.float64",
    }
}

/// The size of an axis; `sizes` gets the open sizes that it needs.
pub(super) fn size(dim: Dim, sizes: &mut BTreeSet<&'static str>) -> String {
    let [fixed, batch, sequence, both] = dim.terms();
    let mut terms = Vec::new();
    for (factor, of) in [(both, &["N", "S"][..]), (batch, &["N"]), (sequence, &["S"])] {
        if factor != 0 {
            sizes.extend(of);
            let of = of.join(" * ");
            terms.push(if factor == 1 { of } else { format!("{factor} * {of}") });
        }
    }
    if fixed != 0 || terms.is_empty() {
        terms.push(fixed.to_string());
    }
    terms.join(" + ").replace("+ -", "- ")
}

/// Sizes in brackets.
pub(super) fn shape(dims: &[Dim], sizes: &mut BTreeSet<&'static str>) -> String {
    listed(&dims.iter().map(|dim| size(*dim, sizes)).collect::<Vec<_>>())
}

/// The line that says what an open size is: an input's axis that is it.
pub(super) fn size_of(graph: &Graph, names: &Names, name: &str) -> Option<String> {
    let dim = if name == "N" { Dim::Batch } else { Dim::SEQUENCE };
    graph.inputs().iter().find_map(|id| {
        let axis = graph.value(*id).shape().iter().position(|size| *size == dim)?;
        Some(format!("{name} = {}.shape[{axis}]", names.value(*id)))
    })
}
