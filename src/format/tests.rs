//! Which graph a file's weights are put into.

use bytes::Bytes;

use super::*;
use crate::error::{Classify, Kind};
use crate::graph::init;
use crate::tensor::TensorData;

type Tensors = BTreeMap<String, TensorData>;

fn preset(name: &str) -> Graph {
    let mut graph = preset::build(name).unwrap();
    init::initialise(&mut graph, init::Init::He, 1).unwrap();
    graph
}

/// The weights of a built-in network as they come from elsewhere: without a graph.
fn weights(name: &str) -> Tensors {
    preset(name).params().iter().map(|p| (p.name.clone(), p.data.clone())).collect()
}

fn file(tensors: &Tensors) -> Bytes {
    safetensors::write(tensors, &BTreeMap::new()).unwrap().into()
}

fn lenet5() -> Option<Architecture> {
    Some(Architecture::Preset("lenet5".into()))
}

fn tensor(shape: &[usize]) -> TensorData {
    TensorData::zeros(shape.to_vec()).unwrap()
}

#[test]
fn weights_from_elsewhere_fit_a_built_in_network() {
    let model = open_model(file(&weights("lenet5")), lenet5().as_ref()).unwrap();
    assert_eq!(model.graph, preset("lenet5"));
}

#[test]
fn without_an_architecture_the_ways_to_give_one_are_told() {
    let error = open_model(file(&weights("lenet5")), None).unwrap_err();
    assert_eq!(error.reason(), "ARCHITECTURE_MISSING");
    let text = error.to_string();
    assert!(preset::names().all(|name| text.contains(name)), "{text}");
    assert!(text.contains("JSON form") && text.contains("written by niwaki"), "{text}");
}

#[test]
fn an_unknown_built_in_network_is_answered_with_the_known_ones() {
    let error = open_model(file(&weights("lenet5")), Some(&Architecture::Preset("lenet6".into()))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no built-in network 'lenet6'; there are lenet-300-100, lenet5, lenet5-caffe, lstm, mlp, \
         resnet-cifar-N, transformer"
    );
}

#[test]
fn missing_extra_and_misshapen_tensors_are_told_in_one_error() {
    let mut tensors = weights("lenet5");
    tensors.remove("conv1.bias");
    tensors.insert("fc2.weight".into(), tensor(&[120, 84]));
    tensors.insert("bn.num_batches_tracked".into(), tensor(&[]));
    let counts = TensorData::new(crate::tensor::DType::I32, vec![10], vec![0; 40]).unwrap();
    tensors.insert("fc3.bias".into(), counts);
    let error = open_model(file(&tensors), lenet5().as_ref()).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::InvalidArgument, "ARCHITECTURE_MISMATCH"));
    assert_eq!(
        error.to_string(),
        "the file's tensors do not fit the built-in network 'lenet5': 'conv1.bias' [6] is missing; 'fc2.weight' should \
         have shape [84, 120], has [120, 84]; 'fc3.bias' has dtype I32, parameters are floating point numbers; \
         'bn.num_batches_tracked' [] is not part of it"
    );
    let fields: Vec<String> = error.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["conv1.bias", "fc2.weight", "fc3.bias", "bn.num_batches_tracked"]);
}

#[test]
fn counters_of_batches_in_weights_from_elsewhere_are_passed_over() {
    let mut tensors = weights("resnet-cifar-8");
    let counter = TensorData::new(crate::tensor::DType::I64, vec![], 7i64.to_le_bytes().to_vec()).unwrap();
    tensors.insert("bn1.num_batches_tracked".into(), counter.clone());
    let architecture = Architecture::Preset("resnet-cifar-8".into());
    let model = open_model(file(&tensors), Some(&architecture)).unwrap();
    assert_eq!(model.graph, preset("resnet-cifar-8"));

    // A file with a graph of its own says itself what belongs to it.
    let own = [(native::GRAPH_KEY.to_string(), native::graph_json(&model.graph))].into();
    let error = open_model(safetensors::write(&tensors, &own).unwrap().into(), None).unwrap_err();
    assert!(error.to_string().contains("'bn1.num_batches_tracked' [] is not part of it"), "{error}");
}

#[test]
fn a_long_list_of_problems_is_cut_and_counted() {
    let tensors: Tensors = (0..5).map(|i| (format!("layer{i}"), tensor(&[1]))).collect();
    let text = open_model(file(&tensors), lenet5().as_ref()).unwrap_err().to_string();
    assert!(text.ends_with("'fc3.bias' [10] is missing; and 5 more"), "{text}");
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    for (value, bits) in [(f32::NAN, 0x7e00), (f32::INFINITY, 0x7c00), (f32::NEG_INFINITY, 0xfc00u16)] {
        let mut tensors = weights("lenet5");
        let mut bias = vec![0.0; 84];
        (bias[3], bias[83]) = (value, value);
        tensors.insert("fc2.bias".into(), TensorData::from_f32(vec![84], &bias).unwrap());
        let error = open_model(file(&tensors), lenet5().as_ref()).unwrap_err();
        assert_eq!(error, FormatError::NonFinite { tensor: "fc2.bias".into(), count: 2 });
        assert_eq!(error.reason(), "NON_FINITE");

        let half = TensorData::new(crate::tensor::DType::F16, vec![1], bits.to_le_bytes().to_vec()).unwrap();
        assert_eq!(safetensors::non_finite(&half), 1);
    }
}

#[test]
fn an_architecture_beside_the_files_own_graph_must_be_the_same() {
    let own: Bytes = native::write(&preset("lenet5"), &BTreeMap::new()).unwrap().into();
    assert!(open_model(own.clone(), lenet5().as_ref()).is_ok());

    let tanh = native::graph_json(&preset("lenet5")).replacen("Relu", "Tanh", 1);
    let error = open_model(own.clone(), Some(&Architecture::GraphJson(tanh))).unwrap_err();
    assert_eq!(error.reason(), "ARCHITECTURE_MISMATCH");
    assert_eq!(
        error.to_string(),
        "the file carries its own graph, which differs from the given graph: its node 1 is 'relu1' (Activation(Relu)), \
         not 'relu1' (Activation(Tanh))"
    );
    let other = open_model(own, Some(&Architecture::Preset("lenet-300-100".into()))).unwrap_err();
    assert_eq!(other.reason(), "ARCHITECTURE_MISMATCH");
}
