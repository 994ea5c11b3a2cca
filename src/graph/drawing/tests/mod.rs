//! Drawings of built-in networks, of random layers and of graphs with several inputs and outputs.

mod bert;

use bert::bert;
use proptest::prelude::*;

use super::fold::{Piece, fold};
use super::grid::Link;
use super::plan::{Curve, Plan, Rect, plan};
use super::{dot, svg};
use crate::graph::{Graph, arbitrary, preset};

/// What `fold` makes of a graph, in words: the nodes of each box.
fn boxes(graph: &Graph) -> Vec<String> {
    let text = |piece: &Piece| match piece {
        Piece::Input(value) => format!("({})", graph.value(*value).name),
        Piece::Output(value) => format!("({})", graph.value(*value).name),
        Piece::Stack(nodes) => nodes.iter().map(|place| graph.nodes()[*place].op.name()).collect::<Vec<_>>().join(" "),
    };
    fold(graph).pieces.iter().map(text).collect()
}

fn preset(name: &str) -> Graph {
    preset::build(name).unwrap()
}

#[test]
fn layers_are_stacked_with_what_follows_them() {
    let lenet = boxes(&preset("lenet5"));
    assert_eq!(lenet[1], "Conv2d Relu MaxPool2d", "{lenet:?}");
    let resnet = boxes(&preset("resnet-cifar-20"));
    assert_eq!(resnet[1..5], ["Conv2d BatchNorm Relu", "Conv2d BatchNorm Relu", "Conv2d BatchNorm", "Add Relu"]);
    assert_eq!(resnet[resnet.len() - 3..], ["GlobalAvgPool Flatten", "Linear", "(linear)"]);
    let bert = boxes(&bert(1));
    let attention = ["Linear Reshape Transpose"; 3];
    assert_eq!(bert[..4], ["(input_ids)", "(attention_mask)", "Cast Reshape Mul", "Embedding LayerNorm"]);
    assert_eq!(bert[4..7], attention);
    assert_eq!(bert[7..12], ["MatMul Div", "Add Softmax", "MatMul Transpose Reshape", "Linear", "Add LayerNorm"]);
}

/// Random boxes and lines: each box reads from some before it, mostly near ones.
fn networks() -> impl Strategy<Value = (Vec<(i32, i32)>, Vec<Link>)> {
    let sizes = prop::collection::vec((20..=60i32, 10..=90i32).prop_map(|(w, h)| (2 * w, h)), 1..60);
    (sizes, prop::collection::vec((any::<u16>(), 1..12usize), 0..120)).prop_map(|(sizes, ends)| {
        let link = |(to, back): (u16, usize)| {
            let to = usize::from(to) % sizes.len();
            to.checked_sub(back).map(|from| Link { from, value: from, to })
        };
        let mut links: Vec<Link> = ends.into_iter().filter_map(link).collect();
        links.sort_unstable();
        links.dedup();
        (sizes, links)
    })
}

fn apart(a: &Rect, b: &Rect) -> bool {
    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y
}

/// The straight part of a line.
fn way(curve: &Curve) -> Rect {
    Rect { x: curve.start.0, y: curve.start.1, width: 0, height: curve.bend - curve.start.1 }
}

fn check(plan: &Plan, links: &[Link]) {
    for link in links {
        let (from, to) = (plan.boxes[link.from], plan.boxes[link.to]);
        assert!(from.y + from.height < to.y, "{link:?} runs down");
        let arrivals = plan.curves.iter().filter(|c| c.value == link.value && c.arrives);
        let arrives = |c: &Curve| c.end.1 == to.y && (to.x..=to.x + to.width).contains(&c.end.0);
        assert!(arrivals.into_iter().any(arrives), "{link:?} arrives");
    }
    for (i, a) in plan.boxes.iter().enumerate() {
        assert!(a.x >= 0 && a.y >= 0 && a.x + a.width <= plan.width && a.y + a.height <= plan.height);
        assert!(plan.boxes[..i].iter().all(|b| apart(a, b)), "{a:?} lies on another");
    }
    for curve in &plan.curves {
        let way = way(curve);
        // Beside the boxes that it passes; a line of no width may lie on an edge.
        let cuts =
            |b: &Rect| b.x < way.x && way.x < b.x + b.width && way.y < b.y + b.height && b.y < way.y + way.height;
        assert!(!plan.boxes.iter().any(cuts), "{curve:?} runs through a box");
        assert!(curve.bend <= curve.end.1 && curve.start.1 <= curve.bend);
    }
}

proptest! {
    #[test]
    fn layers_respect_lines_and_nothing_lies_on_a_box((sizes, links) in networks()) {
        let drawn = plan(&sizes, &links);
        check(&drawn, &links);
        prop_assert_eq!(&drawn, &plan(&sizes, &links));
    }

    #[test]
    fn any_graph_is_drawn_with_all_its_nodes(graph in arbitrary::graphs()) {
        let svg = svg(&graph);
        well_formed(&svg);
        for node in graph.nodes() {
            let title = format!("<title>{}: {}\n", node.name, node.op.name());
            prop_assert!(svg.contains(&title));
        }
        prop_assert_eq!(dot(&graph).matches(" [label=").count() , graph.nodes().len() + 2 + graph.nodes().iter().map(|n| n.inputs.len()).sum::<usize>() + 1);
    }
}

#[test]
fn the_longest_path_of_a_residual_network_is_straight() {
    let graph = preset("resnet-cifar-20");
    let folded = fold(&graph);
    let sizes = vec![(200, 80); folded.pieces.len()];
    let plan = plan(&sizes, &folded.links);
    let main = plan.boxes[0].x;
    let beside = plan.boxes.iter().filter(|b| b.x != main).count();
    // Only the boxes of the two shortcuts that change the shape stand beside it.
    assert_eq!(beside, 2);
    assert!(plan.width <= 200 + 28 + 200);
}

/// Every tag is one, and every tag that opens closes.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "{text}");
        let name = tag.split([' ', '/']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if tag.ends_with('/') => assert!(name.starts_with(char::is_alphabetic), "{tag}"),
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// Names that XML or Graphviz would take for their own.
#[test]
fn names_cannot_break_out_of_a_drawing() {
    let mut graph = Graph::new("</svg><script>\"net\"");
    let mut edit = graph.edit();
    let x = edit.add_input("in\"&<", &[4]);
    let name = "a\\\" -> \\N & <b>]]> ünïcode 層";
    let y = bert::add(&mut edit, name, crate::graph::Op::Linear, &[x], &[vec![3, 4]]);
    edit.set_outputs(&[y]);
    edit.commit().unwrap();
    let svg = svg(&graph);
    assert!(svg.contains("<title>a\\&quot; -&gt; \\N ") && svg.contains("ünïcode 層"), "{svg}");
    well_formed(&svg);
    assert!(!svg.contains("<script") && !svg.contains("<b>") && svg.matches("</svg>").count() == 1);
    let dot = dot(&graph);
    assert!(dot.contains("\"a\\\\\\\" -> \\\\N & <b>]]> ünïcode 層\\nLinear 4 → 3\\n3\\n12 parameters"), "{dot}");
    assert!(dot.starts_with("digraph \"</svg><script>\\\"net\\\"\" {"));
}

#[test]
fn a_small_network_in_graphviz_s_language() {
    let mut graph = Graph::new("small");
    let mut edit = graph.edit();
    let x = edit.add_input("x", &[4]);
    let y = bert::add(&mut edit, "fc", crate::graph::Op::Linear, &[x], &[vec![4, 4], vec![4]]);
    let y = bert::add(&mut edit, "sum", crate::graph::Op::ADD, &[y, x], &[]);
    edit.set_outputs(&[y]);
    edit.commit().unwrap();
    expect_test::expect![[r##"
        digraph "small" {
          rankdir=TB;
          node [shape=box, style="filled,rounded", fontname="sans-serif", fontsize=11];
          edge [fontname="sans-serif", fontsize=9, color="#7d8590"];
          in0 [label="input x\nF32[N, 4]", shape=oval, fillcolor="#eef1f4"];
          n0 [label="fc\nLinear 4 → 4\n4\n20 parameters\n100.0 % of all MACs", fillcolor="#009e7355", tooltip="fc: Linear\nreads x F32[N, 4]\nwrites fc F32[N, 4]\nfc.weight F32[4, 4]\nfc.bias F32[4]\n20 parameters, 100.0 % of all\n16 MACs, 100.0 % of all"];
          in0 -> n0 [label="4"];
          n1 [label="sum\nAdd\n4", fillcolor="#8a6d5a55", tooltip="sum: Add\nreads fc F32[N, 4], x F32[N, 4]\nwrites sum F32[N, 4]"];
          n0 -> n1 [label="4"];
          in0 -> n1 [label="4"];
          out0 [label="output sum\nF32[N, 4]", shape=oval, fillcolor="#eef1f4"];
          n1 -> out0 [label="4"];
        }
    "##]].assert_eq(&dot(&graph));
}

#[test]
fn what_every_layer_reads_is_one_line_beside_them() {
    let graph = bert(12);
    let folded = fold(&graph);
    let mask = folded.links.iter().find(|link| link.from == 2).unwrap().value;
    let plan = plan(&vec![(200, 80); folded.pieces.len()], &folded.links);
    let curves: Vec<&Curve> = plan.curves.iter().filter(|curve| curve.value == mask).collect();
    assert_eq!(curves.iter().filter(|curve| curve.arrives).count(), 12);
    let columns: std::collections::BTreeSet<i32> =
        curves.iter().filter(|curve| !curve.arrives).map(|curve| curve.end.0).collect();
    assert_eq!(columns.len(), 1, "the line is straight");
}

#[test]
fn long_networks_are_drawn_at_once_and_their_longest_lines_told_in_words() {
    let graph = bert(42);
    assert!(graph.nodes().len() > 1000, "{}", graph.nodes().len());
    let start = std::time::Instant::now();
    let svg = svg(&graph);
    println!("{:?}, without optimisation", start.elapsed());
    assert!(start.elapsed().as_secs() < 20, "far more than the second that it may take");
    assert!(svg.len() < 2 << 20, "{}", svg.len());
    well_formed(&svg);

    // Each sum reads all sums before it.
    let mut graph = Graph::new("dense");
    let mut edit = graph.edit();
    let mut all = vec![edit.add_input("x", &[4])];
    let op = |axis| crate::graph::Op::Concat(crate::graph::op::Concat { axis });
    for i in 0..200 {
        let sum = bert::add(&mut edit, &format!("join{i}"), op(1), &all, &[]);
        all.push(bert::add(&mut edit, &format!("fc{i}"), crate::graph::Op::Linear, &[sum], &[vec![4, 4 * all.len()]]));
    }
    edit.set_outputs(&[all[200]]);
    edit.commit().unwrap();
    let folded = fold(&graph);
    assert!(folded.words.iter().any(|words| !words.is_empty()));
    assert!(super::svg(&graph).contains("from far above"));
}
