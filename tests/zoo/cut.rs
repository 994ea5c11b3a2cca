//! Half of every group of channels, units and heads is cut out of each network, which must then compute what the network
//! with zeros in their place does.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use niwaki::exec::{Mode, Session};
use niwaki::format::onnx::{self, Given, Tensors};
use niwaki::graph::dims::{Cut, Dims};
use niwaki::graph::{Graph, cost};
use niwaki::passes::{self, prune::channels::PruneChannels};
use niwaki::tensor::{DType, TensorData};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{TOLERANCE, beside, difference, zoo};

#[test]
fn half_of_every_group_can_be_cut_out_of_networks_that_pytorch_exports() {
    let Some((folder, cases)) = zoo() else { return };
    let mut problems = Vec::new();
    println!("| network | groups: exact | inexact | frozen | parameters | after | largest difference |");
    println!("|---|---|---|---|---|---|---|");
    for case in &cases {
        let row = halved(&folder.join(&case.folder));
        println!("| {} | {} |", case.folder, row.text);
        if row.difference.is_nan() || row.difference > TOLERANCE || row.exact == 0 {
            problems.push(format!("{}: {} exact groups, differs by {:.1e}", case.folder, row.exact, row.difference));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

struct Row {
    exact: usize,
    difference: f64,
    text: String,
}

fn halved(folder: &Path) -> Row {
    let file = Bytes::from(fs::read(folder.join("model.onnx")).unwrap());
    let mut graph = onnx::import(file, &mut beside(folder), &Given::default()).unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    // Fresh networks have zeros and ones in many places, where a mistake would not show.
    let mut edit = graph.edit();
    for id in edit.graph().param_ids() {
        let param = edit.graph().param(id);
        if !param.fixed && param.data.dtype() == DType::F32 {
            let values = param.data.to_f32().unwrap().into_iter().map(|v| v + rng.random_range(0.0..0.1));
            let values: Vec<f32> = values.collect();
            edit.set_param(id, TensorData::from_f32(param.data.shape().to_vec(), &values).unwrap());
        }
    }
    edit.commit().unwrap();

    let dims = Dims::of(&graph);
    let mut cut = dims.whole();
    for (group, keep) in dims.groups().iter().zip(&mut cut.keep).filter(|(group, _)| group.is_exact()) {
        keep.shuffle(&mut rng);
        keep.truncate(group.size.div_ceil(2));
        keep.sort_unstable();
    }
    let mut smaller = graph.clone();
    passes::apply(&PruneChannels { dims: &dims, cut: &cut }, &mut smaller).unwrap();
    let written = onnx::export(&smaller, &Tensors::Inside).unwrap();
    fs::write(folder.join("half-cut.onnx"), written).unwrap();

    let [exact, inexact, frozen] = {
        let frozen = dims.groups().iter().filter(|group| group.frozen.is_some()).count();
        let exact = dims.groups().iter().filter(|group| group.is_exact()).count();
        [exact, dims.groups().len() - exact - frozen, frozen]
    };
    let params = [&graph, &smaller].map(|graph| cost::of_graph(graph).params);
    let difference = compared(&graph, &smaller, &dims, &cut, &folder.join("set_1"));
    let text = format!("{exact} | {inexact} | {frozen} | {} | {} | {difference:.1e}", params[0], params[1]);
    Row { exact, difference, text }
}

fn compared(graph: &Graph, smaller: &Graph, dims: &Dims, cut: &Cut, set: &Path) -> f64 {
    let mut silent = graph.clone();
    let mut edit = silent.edit();
    dims.silence(&mut edit, cut).unwrap();
    edit.commit().unwrap();
    let tensor = |place| onnx::read_tensor(Bytes::from(fs::read(set.join(format!("input_{place}.pb"))).unwrap()));
    let inputs: Vec<TensorData> = (0..graph.inputs().len()).map(|place| tensor(place).unwrap()).collect();
    let outputs = |graph: &Graph| Session::new(graph).unwrap().run(&inputs, Mode::Eval, &[]).unwrap().outputs;
    difference(&outputs(smaller)[0], &outputs(&silent)[0]).unwrap()
}
