//! The file as people read it, and what has no counterpart.

use expect_test::expect;

use super::*;
use crate::graph::ValueType;
use crate::graph::builder::GraphBuilder;
use crate::graph::op::{Activation, Conv2d, Custom, Window};

#[test]
fn a_small_network() {
    let conv = Conv2d { padding: [1, 1, 2, 1], ..Conv2d::default() };
    let graph = GraphBuilder::new("small", &[1, 6, 6])
        .conv("conv", 2, 3, conv)
        .activation("relu", Activation::Relu)
        .max_pool("pool", Window::tiles(2))
        .flatten("flatten")
        .linear("fc", 3)
        .build()
        .unwrap();
    expect![[r#"
        """small: a network that niwaki wrote, in PyTorch.

            model = load("model.safetensors")

        `Network` is an ordinary module: its state_dict() has the names of the file, and it can be trained on.
        """

        import torch
        import torch.nn.functional as F
        from safetensors.torch import load_file
        from torch import nn

        # What each tensor of the file is called, its shape and format, and whether it is learned.
        PARAMETERS = {
            "conv.weight": ((2, 1, 3, 3), torch.float32, True),
            "conv.bias": ((2,), torch.float32, True),
            "fc.weight": ((3, 18), torch.float32, True),
            "fc.bias": ((3,), torch.float32, True),
        }


        class Network(nn.Module):
            """The network: a line a node in forward, and its tensors by their names in PARAMETERS."""

            def __init__(self):
                super().__init__()
                for name, (shape, dtype, learned) in PARAMETERS.items():
                    *path, last = name.split(".")
                    place = self
                    for part in path:
                        place = place._modules.setdefault(part, nn.Module())
                    tensor = torch.zeros(shape, dtype=dtype)
                    if learned:
                        place._parameters[last] = nn.Parameter(tensor)
                    else:
                        place._buffers[last] = tensor

            def tensors(self):
                """All tensors by their names."""
                shared = {"remove_duplicate": False}
                return dict(self.named_parameters(**shared)) | dict(self.named_buffers(**shared))

            def forward(self, input):
                p = self.tensors()
                conv = F.conv2d(F.pad(input, (1, 1, 1, 2)), p["conv.weight"], p["conv.bias"])
                relu = F.relu(conv)
                pool = F.max_pool2d(relu, 2)
                flatten = pool.flatten(1)
                fc = F.linear(flatten, p["fc.weight"], p["fc.bias"])
                return fc


        def load(path, device="cpu"):
            """The network with the tensors of a .safetensors file, as it is used; call train() on it to train it."""
            model = Network()
            model.load_state_dict(load_file(path))
            return model.to(device).eval()
    "#]]
    .assert_eq(&loader(&graph).unwrap());
}

#[test]
fn an_operator_that_niwaki_does_not_know_is_told_with_its_node() {
    let mut graph = GraphBuilder::new("small", &[6]).linear("fc", 3).build().unwrap();
    let mut edit = graph.edit();
    let top = edit.graph().outputs()[0];
    let outputs = vec![ValueType::new(DType::F32, vec![crate::graph::Dim::Batch])];
    let op = Op::Custom(Custom { domain: "com.example".into(), name: "Fancy".into(), outputs });
    let out = edit.add_node("fancy", op, &[top], &[]).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    let error = loader(&graph).unwrap_err();
    assert_eq!(error.to_string(), "node 'fancy': Custom cannot be expressed in PyTorch");
}

#[test]
fn names_are_pythons_and_each_is_there_once() {
    let mut graph = GraphBuilder::new("odd", &[2]).linear("a/b", 2).linear("a.b", 2).linear("7", 2).build().unwrap();
    let mut edit = graph.edit();
    let top = edit.graph().outputs()[0];
    let out = edit.add_node("lambda", Op::ADD, &[top, top], &[]).unwrap();
    edit.set_outputs(&[out]);
    edit.commit().unwrap();
    let names = Names::of(&graph);
    let all: Vec<&str> = graph.nodes().iter().map(|node| names.value(node.output())).collect();
    assert_eq!(all, ["a_b", "a_b_1", "v7", "lambda_1"]);
}
