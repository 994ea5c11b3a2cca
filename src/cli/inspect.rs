//! `niwaki inspect`: a model, layer by layer.

use serde_json::{Value, json};

use super::args::InspectArgs;
use super::failure::Failure;
use super::local;
use super::output::{Output, grouped, percent, shape, table};
use crate::format;
use crate::graph::cost::{self, Cost};
use crate::graph::{Graph, Node};

/// Reads the model and shows it.
pub fn run(args: &InspectArgs, output: Output) -> Result<(), Failure> {
    let local = local::model(&args.model, args.graph.as_deref())?;
    let graph = &local.model.graph;
    if args.graph_json {
        let text = format::native::graph_json(graph);
        output.answer(|| text.clone(), || serde_json::from_str(&text).expect("the graph's JSON form is JSON"));
        return Ok(());
    }
    let layers: Vec<Layer> = graph.nodes().iter().map(|node| Layer::of(graph, node)).collect();
    let total = cost::of_graph(graph);
    output.answer(
        || text(graph, &layers, total, local.bytes),
        || {
            json!({
                "name": graph.name(),
                "bytes": local.bytes,
                "input_shape": graph.input_shape(),
                "output_shape": graph.output_shape(),
                "params": total.params,
                "nonzero_params": total.nonzero_params,
                "macs": total.macs,
                "metadata": local.model.metadata,
                "layers": layers.iter().map(Layer::to_json).collect::<Vec<_>>(),
            })
        },
    );
    let graph = args.graph.as_ref().map(|graph| format!(" --graph {graph}")).unwrap_or_default();
    let model = args.model.display();
    output.next([format!("niwaki eval {model}{graph} --data DATA"), format!("niwaki models put {model}{graph}")]);
    Ok(())
}

/// One line of the table.
struct Layer {
    name: String,
    kind: &'static str,
    shape: Vec<usize>,
    dtypes: Vec<&'static str>,
    cost: Cost,
}

impl Layer {
    fn of(graph: &Graph, node: &Node) -> Self {
        let mut dtypes: Vec<&str> = node.params.iter().map(|p| graph.param(*p).data.dtype().name()).collect();
        dtypes.dedup();
        Self {
            name: node.name.clone(),
            kind: node.op.name(),
            shape: graph.value(node.output()).sample_shape(),
            dtypes,
            cost: cost::of_node(graph, node),
        }
    }

    fn zeros(&self) -> u64 {
        self.cost.params - self.cost.nonzero_params
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "kind": self.kind,
            "output_shape": self.shape,
            "params": self.cost.params,
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
            self.name.clone(),
            self.kind.into(),
            shape(&self.shape),
            number(self.cost.params),
            share(self.cost.params, total.params),
            number(self.cost.macs),
            share(self.cost.macs, total.macs),
            self.dtypes.join(", "),
            if self.cost.params == 0 { String::new() } else { percent(self.zeros() as f64 / self.cost.params as f64) },
        ]
    }
}

fn text(graph: &Graph, layers: &[Layer], total: Cost, bytes: u64) -> String {
    let header = ["layer", "kind", "output", "params", "%", "MACs", "%", "dtype", "zeros"];
    let rows = layers.iter().map(|layer| layer.row(total));
    format!(
        "{}  {} B, {} parameters of which {} are not zero, {} MACs for one sample of {}\n\n{}",
        graph.name(),
        grouped(bytes),
        grouped(total.params),
        grouped(total.nonzero_params),
        grouped(total.macs),
        shape(&graph.input_shape()),
        table(&header, &["kind", "output", "dtype"], rows),
    )
}
