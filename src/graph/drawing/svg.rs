//! A drawing as SVG: one file, no script, light and dark.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::family::Family;
use super::fold::{Folded, Piece, constants, fold};
use super::label::{amount, end_of, facts, gist, shape, share, width};
use super::plan::{Curve, Plan, Rect, plan};
use crate::graph::cost::{self, Cost};
use crate::graph::{Graph, Value};

/// Pixels of a line of text.
const ROW: i32 = 21;
/// Pixels of the font, and of the smaller one.
const FONT: f64 = 12.5;
const SMALL: f64 = 11.0;
/// The narrowest and the widest box.
const BOX: [i32; 2] = [200, 320];
/// Pixels around the drawing.
const EDGE: i32 = 24;

/// What a box shows.
struct Face {
    rows: Vec<Row>,
    /// What comes out; of boxes with nodes.
    out: Option<String>,
    cost: Cost,
    /// The same in words: parameters and MACs.
    shares: [String; 2],
    width: i32,
}

struct Row {
    family: Option<Family>,
    left: String,
    gist: String,
    name: String,
    facts: Vec<String>,
}

/// A drawing of the graph that people can read in any browser.
pub fn svg(graph: &Graph) -> String {
    let folded = fold(graph);
    let costs: Vec<Cost> = graph.nodes().iter().map(|node| cost::of_node(graph, node)).collect();
    let total = cost::of_graph(graph);
    let faces: Vec<Face> = (0..folded.pieces.len()).map(|at| face(graph, &folded, at, &costs, total)).collect();
    let sizes: Vec<(i32, i32)> = faces.iter().map(|face| (face.width, face.height())).collect();
    let plan = plan(&sizes, &folded.links);
    let families: BTreeSet<Family> = faces.iter().flat_map(|face| &face.rows).filter_map(|row| row.family).collect();
    let most = faces.iter().map(|face| face.cost).fold(Cost::default(), |most, cost| Cost {
        params: most.params.max(cost.params),
        macs: most.macs.max(cost.macs),
        ..most
    });
    let has_bars = most.params > 0 || most.macs > 0;
    let head = head(graph, total);
    let words = width(&head[0]) * 16.0;
    let whole = (plan.width.max(520).max(words as i32 + 1)).min(plan.width.max(1200)) + 2 * EDGE;
    let (legend, legend_height) = legend(&families, has_bars, whole - 2 * EDGE);
    let top = EDGE + 66 + legend_height;
    let height = top + plan.height + EDGE;
    let left = EDGE + (whole - 2 * EDGE - plan.width) / 2;

    let mut out = String::new();
    put(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"niwaki-net\" role=\"img\" width=\"{whole}\" height=\"{height}\" \
         viewBox=\"0 0 {whole} {height}\">\n<title>{}</title>\n{}",
            escaped(&head.join("\n")),
            style(&families)
        ),
    );
    put(&mut out, format_args!("<rect class=\"page\" width=\"{whole}\" height=\"{height}\"/>\n"));
    put(
        &mut out,
        format_args!(
            "<text class=\"head\" x=\"{EDGE}\" y=\"{}\">{}</text>\n<text class=\"dim\" x=\"{EDGE}\" y=\"{}\">{}</text>\n",
            EDGE + 14,
            escaped(&head[0]),
            EDGE + 36,
            escaped(&head[1])
        ),
    );
    put(&mut out, format_args!("<g transform=\"translate({EDGE} {})\">\n{legend}</g>\n", EDGE + 54));
    put(&mut out, format_args!("<g transform=\"translate({left} {top})\">\n"));
    lines(&mut out, graph, &plan);
    for (face, rect) in faces.iter().zip(&plan.boxes) {
        face.draw(&mut out, rect, most);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = out.write_fmt(text);
}

/// The name, and what it costs.
fn head(graph: &Graph, total: Cost) -> [String; 2] {
    let count = constants(graph).into_iter().filter(|constant| *constant).count();
    let nodes = graph.nodes().len() - count;
    let mut text = format!("{} parameters", amount(total.params));
    if total.nonzero_params < total.params {
        let _ = write!(text, " ({} are not zero)", amount(total.nonzero_params));
    }
    let _ = write!(text, " · {} MACs a sample · {nodes} node{}", amount(total.macs), if nodes == 1 { "" } else { "s" });
    [end_of(graph.name(), 70.0), text]
}

fn face(graph: &Graph, folded: &Folded, at: usize, costs: &[Cost], total: Cost) -> Face {
    let end = |what: &str, value: &Value| Face {
        rows: vec![Row {
            family: None,
            left: what.into(),
            gist: shape(value),
            name: value.name.clone(),
            facts: vec![format!("{what} {}: {}", value.name, value.ty)],
        }],
        out: None,
        cost: Cost::default(),
        shares: Default::default(),
        width: 0,
    };
    let mut face = match &folded.pieces[at] {
        Piece::Input(value) => end("input", graph.value(*value)),
        Piece::Output(value) => end("output", graph.value(*value)),
        Piece::Stack(nodes) => stack(graph, folded, (at, nodes), costs, total),
    };
    let row = |row: &Row| 40.0 + FONT * 1.06 * width(&row.left) + FONT * width(&row.gist) + SMALL * width(&row.name);
    let foot =
        face.out.iter().map(|out| 48.0 + SMALL * (width(out) + face.shares.iter().map(|s| width(s)).sum::<f64>()));
    let needed = face.rows.iter().map(row).chain(foot).fold(0.0, f64::max);
    face.width = (needed as i32 + 1).clamp(BOX[0], BOX[1]);
    // An even width has a middle.
    face.width += face.width % 2;
    face
}

fn stack(graph: &Graph, folded: &Folded, (at, nodes): (usize, &[usize]), costs: &[Cost], total: Cost) -> Face {
    let node = |place: &usize| &graph.nodes()[*place];
    let mut rows: Vec<Row> = nodes
        .iter()
        .map(|place| (node(place), costs[*place]))
        .map(|(node, cost)| Row {
            family: Some(Family::of(&node.op)),
            left: node.op.name().into(),
            gist: gist(graph, node),
            name: node.name.clone(),
            facts: facts(graph, node, cost, total),
        })
        .collect();
    rows.extend(folded.words[at].iter().map(|value| graph.value(*value)).map(|value| Row {
        family: None,
        left: "reads".into(),
        gist: String::new(),
        name: value.name.clone(),
        facts: vec![format!("reads {}: {}, from far above", value.name, value.ty)],
    }));
    let own = nodes.iter().chain(&folded.constants[at]).map(|place| costs[*place]);
    let cost = own.fold(Cost::default(), |sum, cost| Cost {
        params: sum.params.saturating_add(cost.params),
        nonzero_params: 0,
        macs: sum.macs.saturating_add(cost.macs),
    });
    let last = nodes.last().map(|place| node(place).outputs.as_slice()).unwrap_or_default();
    let out = match last {
        [one] => shape(graph.value(*one)),
        [first, ..] => format!("{} and {} more", shape(graph.value(*first)), last.len() - 1),
        [] => String::new(),
    };
    let shares = [(cost.params, total.params), (cost.macs, total.macs)].map(|(part, whole)| match part {
        0 => String::new(),
        part => format!("{} · {}", amount(part), share(part, whole)),
    });
    Face { rows, out: Some(out), cost, shares, width: 0 }
}

impl Face {
    fn bars(&self) -> i32 {
        if self.cost.params > 0 || self.cost.macs > 0 { 11 } else { 0 }
    }

    fn height(&self) -> i32 {
        let foot = if self.out.is_some() { ROW } else { 0 };
        self.rows.len() as i32 * ROW + foot + self.bars() + 6
    }

    fn draw(&self, out: &mut String, rect: &Rect, most: Cost) {
        let Rect { x, y, width: w, height: h } = *rect;
        let end = self.out.is_none();
        let round = if end { h / 2 } else { 6 };
        let class = if end { "end" } else { "box" };
        put(
            out,
            format_args!(
                "<g transform=\"translate({x} {y})\"><rect class=\"{class}\" width=\"{w}\" height=\"{h}\" rx=\"{round}\"/>\n"
            ),
        );
        for (i, row) in self.rows.iter().enumerate() {
            row.draw(out, 3 + i as i32 * ROW, w, end);
        }
        let mut at = 3 + self.rows.len() as i32 * ROW;
        if let Some(text) = &self.out {
            let base = at + 15;
            let [params, macs] = self.shares.each_ref().map(|text| escaped(text));
            let between = if params.is_empty() || macs.is_empty() { "" } else { "&#160; " };
            put(
                out,
                format_args!(
                    "<text class=\"dim\" x=\"12\" y=\"{base}\">{}</text><text class=\"share\" text-anchor=\"end\" x=\"{}\" y=\"{base}\">\
                 <tspan class=\"params\">{params}</tspan>{between}<tspan class=\"macs\">{macs}</tspan></text>\n",
                    escaped(text),
                    w - 10
                ),
            );
            at += ROW;
        }
        for (part, whole, class) in [(self.cost.params, most.params, "params"), (self.cost.macs, most.macs, "macs")] {
            if self.bars() > 0 {
                let room = w - 20;
                let long = (f64::from(room) * part as f64 / whole.max(1) as f64).round() as i32;
                let long = if part > 0 { long.max(1) } else { 0 };
                put(
                    out,
                    format_args!(
                        "<rect class=\"rail\" x=\"10\" y=\"{at}\" width=\"{room}\" height=\"3\"/><rect class=\"{class}\" x=\"10\" \
                     y=\"{at}\" width=\"{long}\" height=\"3\"/>\n"
                    ),
                );
                at += 5;
            }
        }
        out.push_str("</g>\n");
    }
}

impl Row {
    fn draw(&self, out: &mut String, y: i32, w: i32, end: bool) {
        put(out, format_args!("<g><title>{}</title>", escaped(&self.facts.join("\n"))));
        if let Some(family) = self.family {
            let class = family.class();
            put(
                out,
                format_args!(
                    "<rect class=\"tint {class}\" x=\"3\" y=\"{y}\" width=\"{}\" height=\"{}\"/><rect class=\"{class}\" x=\"3\" \
                 y=\"{y}\" width=\"5\" height=\"{}\"/>",
                    w - 6,
                    ROW - 1,
                    ROW - 1
                ),
            );
        }
        let edge = if end { 14 } else { 12 };
        let base = y + 15;
        let used = FONT * (1.06 * width(&self.left) + width(&self.gist)) + 24.0;
        put(
            out,
            format_args!(
                "<text x=\"{edge}\" y=\"{base}\"><tspan class=\"kind\">{}</tspan>{}{}</text>",
                escaped(&self.left),
                if self.gist.is_empty() { "" } else { " " },
                escaped(&self.gist)
            ),
        );
        let room = (f64::from(w - 2 * edge) - used).max(0.0) / SMALL;
        if room > 2.0 {
            put(
                out,
                format_args!(
                    "<text class=\"dim\" text-anchor=\"end\" x=\"{}\" y=\"{base}\">{}</text>",
                    w - edge,
                    escaped(&end_of(&self.name, room))
                ),
            );
        }
        out.push_str("</g>\n");
    }
}

/// The lines, those of a value together.
fn lines(out: &mut String, graph: &Graph, plan: &Plan) {
    let mut of_value: BTreeMap<usize, Vec<&Curve>> = BTreeMap::new();
    for curve in &plan.curves {
        of_value.entry(curve.value).or_default().push(curve);
    }
    for (value, curves) in of_value {
        let value = &graph.values()[value];
        let (mut ways, mut tips) = (String::new(), String::new());
        for Curve { start: (x, y), bend, end: (to, tip), arrives, .. } in curves {
            put(&mut ways, format_args!("M{x} {y}"));
            let stop = tip - if *arrives { 6 } else { 0 };
            if x == to {
                put(&mut ways, format_args!("V{stop}"));
            } else {
                let middle = (bend + stop) / 2;
                put(&mut ways, format_args!("V{bend}C{x} {middle} {to} {middle} {to} {stop}"));
            }
            if *arrives {
                put(&mut tips, format_args!("M{to} {tip}l-4-7h8z"));
            }
        }
        put(
            out,
            format_args!(
                "<g><title>{}</title><path class=\"line\" d=\"{ways}\"/><path class=\"tip\" d=\"{tips}\"/></g>\n",
                escaped(&format!("{}: {}", value.name, value.ty))
            ),
        );
    }
}

/// The legend, as wide as it may be, and its height.
fn legend(families: &BTreeSet<Family>, bars: bool, room: i32) -> (String, i32) {
    let mut entries: Vec<(&str, &str, i32)> = families.iter().map(|f| (f.class(), f.label(), 11)).collect();
    if bars {
        entries.extend([("params", "parameters", 3), ("macs", "MACs a sample (longest bar: the most)", 3)]);
    }
    let mut out = String::new();
    let (mut x, mut y) = (0, 0);
    for (class, label, height) in entries {
        let wide = 38 + (SMALL * width(label)) as i32;
        if x > 0 && x + wide > room {
            (x, y) = (0, y + 20);
        }
        put(
            &mut out,
            format_args!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"14\" height=\"{height}\"/><text class=\"dim\" x=\"{}\" \
             y=\"{}\">{label}</text>\n",
                y + (11 - height) / 2,
                x + 19,
                y + 10
            ),
        );
        x += wide;
    }
    (out, y + 24)
}

fn style(families: &BTreeSet<Family>) -> String {
    let colours: String =
        families.iter().map(|f| format!(".niwaki-net .{}{{fill:{}}}", f.class(), f.colour())).collect();
    // Plain colours and a second set: not every program that shows pictures knows CSS variables.
    format!(
        "<style>.niwaki-net{{font:{FONT}px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}}\
         .niwaki-net text{{fill:#1f2328}}.niwaki-net .dim{{font-size:{SMALL}px;fill:#59636e}}\
         .niwaki-net .head{{font-size:16px;font-weight:600}}.niwaki-net .kind{{font-weight:600}}\
         .niwaki-net .page{{fill:#fff}}.niwaki-net .box{{fill:#fff;stroke:#c3cad3}}.niwaki-net .end{{fill:#eef1f4;stroke:#c3cad3}}\
         .niwaki-net .line{{fill:none;stroke:#7d8590;stroke-width:1.5}}.niwaki-net .tip{{fill:#7d8590}}\
         .niwaki-net .rail{{fill:#e4e8ec}}.niwaki-net .share{{font-size:{SMALL}px}}.niwaki-net .params{{fill:#2f62a0}}.niwaki-net .macs{{fill:#a85510}}\
         {colours}.niwaki-net .tint{{fill-opacity:.16}}\
         @media (prefers-color-scheme:dark){{.niwaki-net text{{fill:#e6edf3}}.niwaki-net .dim{{fill:#9aa4af}}\
         .niwaki-net .page{{fill:#0d1117}}.niwaki-net .box{{fill:#161b22;stroke:#3d444d}}\
         .niwaki-net .end{{fill:#1f2630;stroke:#3d444d}}.niwaki-net .rail{{fill:#2b323b}}\
         .niwaki-net .params{{fill:#79b0ea}}.niwaki-net .macs{{fill:#f0a35e}}.niwaki-net .tint{{fill-opacity:.28}}}}</style>\n"
    )
}

/// A text within XML. What XML has no letter for becomes a mark.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push('\n'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}
