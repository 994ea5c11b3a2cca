//! Numbers 29 and 30: numbers of nodes that no network has, as attributes and as constants.

use super::*;

/// What one node is refused with whose input is an image `[N, 4, 8, 8]` and whose weight `w` has the shape.
#[track_caller]
fn image(op: &str, weight: &[usize], attributes: Vec<AttributeProto>) -> String {
    refused_node(&[-1, 4, 8, 8], vec![filled("w", weight, 0.5)], node(op, &["x", "w"], &["y"], attributes)).1
}

/// What one node is refused with that reads `x` of that shape and whole numbers.
#[track_caller]
fn by(op: &str, x: &[i64], all: &[&[i64]], attributes: Vec<AttributeProto>) -> (&'static str, String) {
    let names: Vec<String> = (0..all.len()).map(|i| format!("c{i}")).collect();
    let tensors = names.iter().zip(all).map(|(name, all)| numbers(name, &[all.len()], all)).collect();
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    refused_node(x, tensors, node(op, &inputs, &["y"], attributes))
}

#[test]
fn n29_windows_that_no_layer_has_are_refused() {
    for op in ["Conv", "ConvTranspose"] {
        for group in [0, 3, -1, i64::MAX] {
            image(op, &[4, 4, 3, 3], vec![int("group", group)]);
        }
        for name in ["strides", "dilations"] {
            for n in [0, -1, 1 << 31, 1 << 62, i64::MIN] {
                let told = image(op, &[4, 4, 3, 3], vec![ints(name, &[1, n])]);
                assert!(told.starts_with(&format!("node 'y' ({op}): ")), "{told}");
            }
        }
        for n in [-1, 1 << 62, i64::MIN] {
            let told = image(op, &[4, 4, 3, 3], vec![ints("pads", &[0, n, 0, 0])]);
            assert!(told.contains(&format!("pads has the number {n}")), "{told}");
        }
        image(op, &[4, 4, 3, 3], vec![ints("pads", &[0; 3])]);
        image(op, &[4, 4, 3], vec![]);
        image(op, &[4, 4, 0, 3], vec![]);
    }
    image("Conv", &[4, 4, 9, 9], vec![]);
    image("ConvTranspose", &[4, 4, 3, 3], vec![ints("output_padding", &[1 << 20, 1])]);
    image("ConvTranspose", &[4, 4, 3, 3], vec![ints("output_shape", &[1 << 20, 1 << 20])]);
    for op in ["MaxPool", "AveragePool"] {
        let of = |attributes| refused_node(&[-1, 4, 8, 8], vec![], node(op, &["x"], &["y"], attributes)).1;
        for kernel in [[0, 1], [9, 9], [1 << 31, 1], [i64::MAX, 1]] {
            of(vec![ints("kernel_shape", &kernel)]);
        }
        of(vec![ints("kernel_shape", &[2, 2]), ints("pads", &[2, 2, 2, 2])]);
        of(vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1 << 20; 4]), int("ceil_mode", 1)]);
    }
}

#[test]
fn n29_shapes_without_end_are_refused_before_they_are_made() {
    let (_, told) = by("Reshape", &[-1, 4], &[&[-1, -1]], vec![]);
    assert!(told.contains("has two open axes"), "{told}");
    for shape in [&[3, 3][..], &[0, 0, 0], &[i64::MAX, 0], &[-2], &[1 << 32, -1], &[1; 17]] {
        by("Reshape", &[1, 4], &[shape], vec![]);
    }
    for op in ["Expand", "Tile"] {
        for n in [1 << 40, 1 << 62, i64::MAX, -1] {
            by(op, &[1, 1], &[&[n, n]], vec![]);
        }
        let (reason, _) = by(op, &[1, 1], &[&[1 << 20, 1 << 20]], vec![]);
        assert!(["GRAPH_SIZE", "NODE"].contains(&reason), "{reason}");
    }
    // A constant of 10^15 numbers, from three.
    for all in [&[1000, 1_000_000, 1_000_000][..], &[1 << 31], &[1 << 15, 1 << 10]] {
        let nodes = vec![node("ConstantOfShape", &["s"], &["c"], vec![]), node("Add", &["x", "c"], &["y"], vec![])];
        let (reason, told) = refused_graph(graph(&[-1, 1], vec![numbers("s", &[all.len()], all)], nodes));
        assert!(["TENSOR_SIZE", "GRAPH_SIZE", "WORK"].contains(&reason), "{reason}");
        assert!(told.contains("'c'"), "{told}");
    }
    let range = |to: i64, step: i64| {
        let scalars = vec![numbers("a", &[], &[0]), numbers("b", &[], &[to]), numbers("s", &[], &[step])];
        let nodes = vec![node("Range", &["a", "b", "s"], &["r"], vec![]), node("Gather", &["x", "r"], &["y"], vec![])];
        refused_graph(graph(&[-1, 4], scalars, nodes)).0
    };
    assert_eq!(range(10, 0), "NODE");
    assert_eq!(range(i64::MAX, 1), "NODE");
    assert_eq!(range(1 << 31, 1), "WORK");
    assert_eq!(range(1 << 24, 1), "TENSOR_SIZE");
}

#[test]
fn n29_parts_scales_and_pads() {
    let split =
        |attributes, outputs: &[&str]| refused_node(&[-1, 4], vec![], node("Split", &["x"], outputs, attributes)).1;
    split(vec![int("axis", 1), ints("split", &[1, 1])], &["y", "z"]);
    split(vec![int("axis", 1), ints("split", &[-1, 5])], &["y", "z"]);
    split(vec![int("axis", 1), ints("split", &[i64::MAX, i64::MAX])], &["y", "z"]);
    split(vec![int("axis", 1), int("num_outputs", i64::MAX)], &["y", "z"]);
    split(vec![int("axis", 1), int("num_outputs", 0)], &["y"]);
    let nodes = vec![
        node("SplitToSequence", &["x"], &["s"], vec![int("axis", 1)]),
        node("SequenceAt", &["s", "i"], &["y"], vec![]),
    ];
    let (_, told) = refused_graph(graph(&[-1, 1 << 27], vec![numbers("i", &[], &[0])], nodes));
    assert!(told.contains("134217728 parts, at most 65536 are read"), "{told}");
    let resize = |scale: f32| {
        let scales = vec![filled("s", &[4], scale)];
        refused_node(&[-1, 4, 8, 8], scales, node("Resize", &["x", "", "s"], &["y"], vec![])).1
    };
    for scale in [1e9, 0.0, -1.0, f32::NAN, f32::INFINITY, 1e-9] {
        resize(scale);
    }
    for pads in [&[0, 1 << 62, 0, 1 << 62][..], &[0, i64::MAX, 0, i64::MAX], &[0, 0, 0]] {
        by("Pad", &[-1, 4], &[pads], vec![]);
    }
    // Cut more than there is: nothing is left.
    for pads in [[0, i64::MIN, 0, 0], [0, 0, 0, i64::MIN], [0, i64::MIN, 0, i64::MIN]] {
        let pad = node("Pad", &["x", "p"], &["y"], vec![]);
        let _ = read(&model(graph(&[-1, 4], vec![numbers("p", &[4], &pads)], vec![pad])));
    }
    by("Slice", &[-1, 4], &[&[0], &[1], &[1], &[0]], vec![]);
    by("Slice", &[-1, 4], &[&[0, 0], &[1, 1], &[1, 1]], vec![]);
    by("Slice", &[-1, 4], &[&[0; 100], &[1; 100], &[1; 100]], vec![]);
    for (start, end, step) in [(i64::MAX, i64::MIN, i64::MIN), (i64::MIN, i64::MAX, i64::MAX), (-1, i64::MIN, -1)] {
        let all = [[start], [end], [1], [step]];
        let tensors = ["a", "b", "c", "d"].iter().zip(&all).map(|(name, n)| numbers(name, &[1], n)).collect();
        let slice = node("Slice", &["x", "a", "b", "c", "d"], &["y"], vec![]);
        read(&model(graph(&[-1, 4], tensors, vec![slice]))).unwrap();
    }
    // An axis of 65,537 axes, and a thousand new ones.
    by("Unsqueeze", &[-1, 4], &[&vec![0; 65_537]], vec![]);
    by("Unsqueeze", &[-1, 4], &[&(0..1000).collect::<Vec<i64>>()], vec![]);
    by("Squeeze", &[1, 4], &[&[0; 1000]], vec![]);
    refused_node(&[-1, 4], vec![], node("Transpose", &["x"], &["y"], vec![ints("perm", &[0; 100_000])]));
}

#[test]
fn n30_places_and_divisors_of_constants() {
    let folded = |op: &str, a: &[i64], b: &[i64], attributes| {
        let tensors = vec![numbers("a", &[a.len()], a), numbers("b", &[b.len()], b)];
        let nodes = vec![
            node(op, &["a", "b"], &["c"], attributes),
            node("Cast", &["c"], &["d"], vec![int("to", 1)]),
            node("Add", &["x", "d"], &["y"], vec![]),
        ];
        read(&model(graph(&[-1, 1], tensors, nodes)))
    };
    for op in ["Div", "Mod"] {
        for (a, b) in [(1, 0), (i64::MIN, -1), (0, 0)] {
            let _ = folded(op, &[a], &[b], vec![]);
        }
    }
    for op in ["Add", "Sub", "Mul", "Pow"] {
        folded(op, &[i64::MAX, i64::MIN], &[i64::MAX, i64::MIN], vec![]).unwrap();
        folded(op, &[i64::MIN], &[i64::MIN], vec![]).unwrap();
    }
    for place in [2, -3, i64::MAX, i64::MIN] {
        let error = folded("Gather", &[1, 2], &[place], vec![]).unwrap_err();
        assert_eq!(error.reason(), "NODE", "{error}");
        let error = folded("GatherElements", &[1, 2], &[place], vec![]).unwrap_err();
        assert!(error.to_string().contains("node 'c'"), "{error}");
    }
    let empty = |op: &str| {
        let nodes = vec![
            node(op, &["e"], &["c"], vec![int("axis", 0), int("keepdims", 0)]),
            node("Cast", &["c"], &["d"], vec![int("to", 1)]),
            node("Add", &["x", "d"], &["y"], vec![]),
        ];
        read(&model(graph(&[-1, 1], vec![filled("e", &[0], 0.0)], nodes)))
    };
    for op in ["ArgMax", "ArgMin"] {
        assert_eq!(empty(op).unwrap_err().reason(), "NODE");
    }
    for op in ["ReduceMax", "ReduceMean", "ReduceProd", "ReduceLogSumExp"] {
        let _ = empty(op);
    }
    let nd = |places: &[i64], batch: i64| {
        let tensors = vec![numbers("p", &[places.len()], places)];
        read(&model(graph(
            &[2, 2],
            tensors,
            vec![node("GatherND", &["x", "p"], &["y"], vec![int("batch_dims", batch)])],
        )))
    };
    for places in [&[-3][..], &[2, 0], &[0, 0, 0], &[i64::MIN], &[]] {
        for batch in [0, 1, 2, -1, i64::MAX] {
            let _ = nd(places, batch);
        }
    }
}
