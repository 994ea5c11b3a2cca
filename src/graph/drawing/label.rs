//! Words and numbers of a drawing.

use crate::graph::cost::Cost;
use crate::graph::op::Window;
use crate::graph::{Dim, Graph, Node, Op, Value};
use crate::tensor::DType;

/// A number as people say it: `432`, `13.8 k`, `40.6 M`.
pub fn amount(n: u64) -> String {
    let (mut value, mut unit) = (n as f64, "");
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "" => n.to_string(),
        unit if value < 99.95 => format!("{value:.1} {unit}"),
        unit => format!("{value:.0} {unit}"),
    }
}

/// A part of a whole: `0.3 %`, and nothing for no part.
pub fn share(part: u64, whole: u64) -> String {
    match 100.0 * part as f64 / whole.max(1) as f64 {
        _ if part == 0 => "0 %".into(),
        percent if percent < 0.05 => "< 0.1 %".into(),
        percent => format!("{percent:.1} %"),
    }
}

/// The axes of a value for one sample, as `16×32×32`; with the number format where it is not the usual one.
pub fn shape(value: &Value) -> String {
    let own = value.shape().strip_prefix(&[Dim::Batch]).unwrap_or(value.shape());
    let axes = if own.is_empty() { "scalar".into() } else { times(own) };
    match value.ty.dtype {
        DType::F32 => axes,
        dtype => format!("{axes} {dtype}"),
    }
}

/// Sizes side by side.
pub fn times<T: ToString>(sizes: &[T]) -> String {
    let sizes: Vec<String> = sizes.iter().map(T::to_string).collect();
    sizes.join("×")
}

/// The few numbers of a node's configuration that people look for first.
pub fn gist(graph: &Graph, node: &Node) -> String {
    let weight = || node.params.first().map(|id| graph.param(*id).data.shape()).unwrap_or_default();
    let stride = |stride: &[usize]| match stride {
        [first, rest @ ..] if rest.iter().all(|other| other == first) => match first {
            1 => String::new(),
            step => format!(" /{step}"),
        },
        steps => format!(" /{}", times(steps)),
    };
    let conv = |steps: &[usize], groups: usize| {
        let taps = times(weight().get(2..).unwrap_or_default());
        let groups = if groups == 1 { String::new() } else { format!(" groups {groups}") };
        format!("{taps}{}{groups}", stride(steps))
    };
    let window = |window: &Window| format!("{}{}", times(&window.kernel), stride(&window.stride));
    match &node.op {
        Op::Linear => weight().iter().rev().map(usize::to_string).collect::<Vec<_>>().join(" → "),
        Op::Conv2d(c) => conv(&c.stride, c.groups),
        Op::Conv1d(c) => conv(&[c.stride], c.groups),
        Op::ConvTranspose2d(c) => conv(&c.stride, c.groups),
        Op::ConvTranspose1d(c) => conv(&[c.stride], c.groups),
        Op::MaxPool2d(c) => window(&c.window),
        Op::AvgPool2d(c) => window(&c.window),
        Op::Embedding => times(weight()),
        Op::Dropout(c) => c.rate.to_string(),
        Op::Concat(c) => format!("axis {}", c.axis),
        Op::Cast(c) => c.to.to_string(),
        Op::Custom(c) => c.name.clone(),
        _ => String::new(),
    }
}

/// Everything about a node, a fact a line: what pointing at it shows.
pub fn facts(graph: &Graph, node: &Node, cost: Cost, total: Cost) -> Vec<String> {
    let mut facts = vec![format!("{}: {}", node.name, node.op.name())];
    let attributes = attributes(&node.op);
    facts.extend((!attributes.is_empty()).then_some(attributes));
    let values = |ids: &[crate::graph::ValueId]| -> String {
        ids.iter().map(|id| graph.value(*id)).map(|v| format!("{} {}", v.name, v.ty)).collect::<Vec<_>>().join(", ")
    };
    if !node.inputs.is_empty() {
        facts.push(format!("reads {}", values(&node.inputs)));
    }
    facts.push(format!("writes {}", values(&node.outputs)));
    facts.extend(node.params.iter().map(|id| graph.param(*id)).map(|p| format!("{} {:?}", p.name, p.data)));
    for (part, whole, what) in [(cost.params, total.params, "parameters"), (cost.macs, total.macs, "MACs")] {
        facts.extend((part > 0).then(|| format!("{part} {what}, {} of all", share(part, whole))));
    }
    facts
}

/// An operator's configuration as people read it: `stride [2, 2], padding [1, 1, 1, 1]`.
pub fn attributes(op: &Op) -> String {
    let json: serde_json::Value = serde_json::from_str(&op.attributes()).unwrap_or_default();
    let Some(object) = json.as_object() else { return String::new() };
    let plain = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string().replace(',', ", ").replace('"', ""),
    };
    object.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(", ")
}

/// About how wide a text is, in ems of its font: letters of a sans serif, and twice that for letters of East Asia.
pub fn width(text: &str) -> f64 {
    let letter = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | '\'' | '/' | '|' => 0.34,
        'm' | 'w' | 'M' | 'W' | '%' => 0.92,
        'A'..='Z' | '×' | '→' | '_' | '…' => 0.72,
        c if c >= '\u{1100}' => 1.1,
        _ => 0.6,
    };
    text.chars().map(letter).sum()
}

/// The end of a text that is at most so many ems wide: the ends of names tell them apart.
pub fn end_of(text: &str, most: f64) -> String {
    if width(text) <= most {
        return text.into();
    }
    let room = most - width("…");
    let mut used = 0.0;
    let kept = text.char_indices().rev().take_while(|(_, c)| {
        used += width(c.encode_utf8(&mut [0; 4]));
        used <= room
    });
    let start = kept.last().map_or(text.len(), |(at, _)| at);
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_three_digits() {
        let amounts = [0, 999, 1000, 13_824, 999_949, 999_950, 40_551_000, u64::MAX].map(amount);
        assert_eq!(amounts, ["0", "999", "1.0 k", "13.8 k", "1.0 M", "1.0 M", "40.6 M", "18.4 E"]);
        assert_eq!([(0, 9), (1, 9999), (1, 8), (0, 0)].map(|(a, b)| share(a, b)), ["0 %", "< 0.1 %", "12.5 %", "0 %"]);
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(end_of("conv1", 9.0), "conv1");
        let name = end_of("/encoder/layer.11/attention/self/query/MatMul", 9.0);
        assert!(name.starts_with('…') && name.ends_with("query/MatMul") && width(&name) <= 9.0, "{name}");
        assert_eq!(end_of("日本語日本語", 3.0), "…語語".replacen("語語", "本語", 1));
    }
}
