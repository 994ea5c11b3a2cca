//! `niwaki inspect`: a model, layer by layer, as a table, as JSON or drawn.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::args::InspectArgs;
use super::failure::Failure;
use super::local;
use super::output::{Output, grouped, percent, shape, table};
use crate::format;
use crate::graph::cost::{self, Cost};
use crate::graph::{Dim, Graph, Node, Op, Value, ValueId, drawing};
use crate::recipe::Upload;
use crate::tensor::DType;

/// Reads the model and shows it.
pub fn run(args: &InspectArgs, output: Output) -> Result<(), Failure> {
    let local = local::model(&args.model, args.graph.as_deref())?;
    let graph = &local.model.graph;
    if args.graph_json {
        let text = format::native::graph_json(graph);
        output.answer(|| text.clone(), || serde_json::from_str(&text).expect("the graph's JSON form is JSON"));
        return Ok(());
    }
    if let Some(file) = &args.svg {
        return drawn(output, "svg", file, &drawing::svg(graph));
    }
    if let Some(file) = &args.dot {
        return drawn(output, "dot", file, &drawing::dot(graph));
    }
    let layers: Vec<Layer> = graph.nodes().iter().map(|node| Layer::of(graph, node)).collect();
    let total = cost::of_graph(graph);
    output.answer(|| text(graph, &layers, total, local.bytes), || to_json(&local, &layers, total));
    let graph = args.graph.as_ref().map(|graph| format!(" --graph {graph}")).unwrap_or_default();
    let model = args.model.display();
    output.next([
        format!("niwaki eval {model}{graph} --data DATA"),
        format!("niwaki models put {model}{graph}"),
        format!("niwaki inspect {model}{graph} --svg=model.svg"),
    ]);
    Ok(())
}

/// Puts a drawing where it was asked for; `-` is stdout.
fn drawn(output: Output, form: &str, file: &Path, text: &str) -> Result<(), Failure> {
    if file == Path::new("-") {
        output.answer(|| text.into(), || json!({form: text}));
        return Ok(());
    }
    std::fs::write(file, text).map_err(|error| Failure::io(file, &error))?;
    output.answer(|| file.display().to_string(), || json!({"file": file, "bytes": text.len()}));
    Ok(())
}

/// One line of the table.
struct Layer<'a> {
    graph: &'a Graph,
    node: &'a Node,
    dtypes: Vec<&'static str>,
    cost: Cost,
}

impl<'a> Layer<'a> {
    fn of(graph: &'a Graph, node: &'a Node) -> Self {
        let mut dtypes: Vec<&str> = node.params.iter().map(|p| graph.param(*p).data.dtype().name()).collect();
        dtypes.dedup();
        Self { graph, node, dtypes, cost: cost::of_node(graph, node) }
    }

    fn zeros(&self) -> u64 {
        self.cost.params - self.cost.nonzero_params
    }

    fn to_json(&self) -> Json {
        let Self { graph, node, .. } = self;
        let roles = node.op.roles().0.iter();
        let parameters = node.params.iter().map(|id| graph.param(*id)).zip(roles).map(|(param, role)| {
            json!({
                "name": param.name,
                "role": role,
                "shape": param.data.shape(),
                "dtype": param.data.dtype().name(),
                "fixed": param.fixed,
            })
        });
        let attributes: Json =
            serde_json::from_str(&node.op.attributes()).expect("an operator's attributes are a JSON object");
        json!({
            "name": node.name,
            "kind": node.op.name(),
            "attributes": attributes,
            "inputs": node.inputs.iter().map(|id| &graph.value(*id).name).collect::<Vec<_>>(),
            "outputs": values(graph, &node.outputs),
            "output_shape": graph.value(node.output()).sample_shape(),
            "params": self.cost.params,
            "parameters": parameters.collect::<Vec<_>>(),
            "zeros": self.zeros(),
            "macs": self.cost.macs,
            "dtypes": self.dtypes,
        })
    }

    fn row(&self, total: Cost) -> Vec<String> {
        let share = |part: u64, whole: u64| match part {
            0 => String::new(),
            part => percent(part as f64 / whole as f64),
        };
        let number = |n: u64| if n == 0 { String::new() } else { grouped(n) };
        vec![
            self.node.name.clone(),
            self.node.op.name().into(),
            outputs(self.graph, &self.node.outputs),
            number(self.cost.params),
            share(self.cost.params, total.params),
            number(self.cost.macs),
            share(self.cost.macs, total.macs),
            self.dtypes.join(", "),
            if self.cost.params == 0 { String::new() } else { percent(self.zeros() as f64 / self.cost.params as f64) },
        ]
    }
}

fn to_json(local: &Upload, layers: &[Layer<'_>], total: Cost) -> Json {
    let graph = &local.model.graph;
    json!({
        "name": graph.name(),
        "bytes": local.bytes,
        "inputs": values(graph, graph.inputs()),
        "outputs": values(graph, graph.outputs()),
        "input_shape": graph.input_shape(),
        "output_shape": graph.output_shape(),
        "params": total.params,
        "nonzero_params": total.nonzero_params,
        "macs": total.macs,
        "metadata": local.model.metadata,
        "layers": layers.iter().map(Layer::to_json).collect::<Vec<_>>(),
    })
}

/// Values with their number formats and axes: numbers where they are fixed, else text such as `N`.
fn values(graph: &Graph, ids: &[ValueId]) -> Vec<Json> {
    let value = |value: &Value| json!({"name": value.name, "dtype": value.ty.dtype.name(), "axes": value.shape()});
    ids.iter().map(|id| value(graph.value(*id))).collect()
}

/// What comes out for one sample: `16x32x32`, `SxNx64, 2xNx64`, `10 I64`.
fn outputs(graph: &Graph, ids: &[ValueId]) -> String {
    let one = |value: &Value| {
        let axes = value.shape().strip_prefix(&[Dim::Batch]).unwrap_or(value.shape());
        let axes = if axes.is_empty() { "scalar".into() } else { shape(axes) };
        if value.ty.dtype == DType::F32 { axes } else { format!("{axes} {}", value.ty.dtype.name()) }
    };
    let all: Vec<String> = ids.iter().map(|id| one(graph.value(*id))).collect();
    match &all[..] {
        [first, _, ..] if all.iter().all(|other| other == first) => format!("{first} ({} times)", all.len()),
        _ => all.join(", "),
    }
}

fn text(graph: &Graph, layers: &[Layer<'_>], total: Cost, bytes: u64) -> String {
    let header = ["layer", "kind", "output", "params", "%", "MACs", "%", "dtype", "zeros"];
    let (constants, shown): (Vec<_>, Vec<_>) =
        layers.iter().partition(|layer| matches!(layer.node.op, Op::Constant(_)));
    let rows = shown.iter().map(|layer| layer.row(total));
    let named = |id: &ValueId| format!("{} {}", graph.value(*id).name, outputs(graph, &[*id]));
    let list = |ids: &[ValueId]| ids.iter().map(named).collect::<Vec<_>>().join(", ");
    let sample = match graph.inputs() {
        [input] => outputs(graph, &[*input]),
        inputs => list(inputs),
    };
    let mut text = format!(
        "{}  {} B, {} parameters of which {} are not zero, {} MACs for one sample of {sample}\n",
        graph.name(),
        grouped(bytes),
        grouped(total.params),
        grouped(total.nonzero_params),
        grouped(total.macs),
    );
    if graph.outputs().len() > 1 {
        text += &format!("Outputs: {}\n", list(graph.outputs()));
    }
    text += &format!("\n{}", table(&header, &["kind", "output", "dtype"], rows));
    if !constants.is_empty() {
        let params: u64 = constants.iter().map(|layer| layer.cost.params).sum();
        text += &format!("Constants, not shown: {}; parameters in them: {}\n", constants.len(), grouped(params));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ValueType;
    use crate::graph::op::{Binary, Constant, Split};
    use crate::tensor::TensorData;

    /// Two inputs, one of whole numbers; an open sequence; a node with several outputs; a constant.
    fn graph() -> Graph {
        let mut graph = Graph::new("two");
        let mut edit = graph.edit();
        let tokens = vec![Dim::Batch, Dim::SEQUENCE];
        let ids = edit.add_input_of("ids", ValueType::new(DType::I64, tokens));
        let more = edit.add_input("more", &[4]);
        let table = edit.add_param("embed.weight", TensorData::zeros(vec![8, 4]).unwrap());
        let words = edit.add_node("embed", Op::Embedding, &[ids], &[table]).unwrap();
        let two = edit.add_param("two", TensorData::from_f32(vec![1], &[2.0]).unwrap());
        let two = edit.add_node("two", Op::Constant(Constant { dtype: DType::F32 }), &[], &[two]).unwrap();
        let words = edit.add_node("mul", Op::Binary(Binary::Mul), &[words, two], &[]).unwrap();
        let split = Op::Split(Split { axis: 1, sizes: vec![2.into(), 2.into()] });
        let halves = edit.add_node_with_outputs("split", split, &[more], &[], &["a".into(), "b".into()]).unwrap();
        edit.set_outputs(&[words, halves[0], halves[1]]);
        edit.commit().unwrap();
        graph
    }

    #[test]
    fn the_table_shows_open_sizes_several_outputs_and_no_constants() {
        let graph = graph();
        let layers: Vec<Layer<'_>> = graph.nodes().iter().map(|node| Layer::of(&graph, node)).collect();
        expect_test::expect![[r#"
            two  1,234 B, 33 parameters of which 1 are not zero, 0 MACs for one sample of ids S I64, more 4
            Outputs: mul Sx4, a 2, b 2

            layer  kind       output       params        %  MACs  %  dtype     zeros
            embed  Embedding  Sx4              32  96.97 %           F32    100.00 %
            mul    Mul        Sx4
            split  Split      2 (2 times)
            Constants, not shown: 1; parameters in them: 1
        "#]]
        .assert_eq(&text(&graph, &layers, cost::of_graph(&graph), 1234));
    }

    #[test]
    fn the_json_says_what_comes_in_and_out() {
        let graph = graph();
        assert_eq!(values(&graph, graph.inputs())[0], json!({"name": "ids", "dtype": "I64", "axes": ["N", "S"]}));
        let layer = Layer::of(&graph, &graph.nodes()[3]).to_json();
        assert_eq!(
            (&layer["name"], &layer["kind"], &layer["inputs"]),
            (&json!("split"), &json!("Split"), &json!(["more"]))
        );
        assert_eq!(layer["attributes"], json!({"axis": 1, "sizes": [2, 2]}));
        assert_eq!(layer["outputs"][1], json!({"name": "b", "dtype": "F32", "axes": ["N", 2]}));
        let embed = Layer::of(&graph, &graph.nodes()[0]).to_json();
        assert_eq!(embed["params"], 32);
        assert_eq!(embed["parameters"][0]["shape"], json!([8, 4]));
    }
}
