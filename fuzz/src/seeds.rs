//! The seeds: files that are right, or nearly so, made here instead of kept. the program `seeds` writes them.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use niwaki::format::{native, safetensors};
use niwaki::graph::preset;

use crate::stored;

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "safetensors" => containers(),
        "onnx" => onnx_models(),
        "graph" => graphs(),
        "npz" => archives(),
        "npy" => arrays(),
        "idx" => indexed(),
        "csv" => tables(),
        "ts" => series(),
        "images" => pictures(),
        "detect" => [containers(), archives(), arrays(), indexed(), tables(), series(), pictures()].concat(),
        "recipe" => recipes(),
        _ => Vec::new(),
    }
}

/// All targets.
pub const TARGETS: [&str; 11] =
    ["safetensors", "onnx", "graph", "npz", "npy", "idx", "csv", "ts", "images", "detect", "recipe"];

fn containers() -> Vec<Vec<u8>> {
    let header = br#"{"__metadata__":{"a":"1"},"inputs":{"dtype":"U8","shape":[2,1,2,2],"data_offsets":[0,8]},"labels":{"dtype":"I64","shape":[2],"data_offsets":[8,24]}}"#;
    let data = [&[7; 8][..], &0i64.to_le_bytes(), &1i64.to_le_bytes()].concat();
    let mut found = vec![[&(header.len() as u64).to_le_bytes()[..], header, &data].concat()];
    for dtype in ["BOOL", "F16", "BF16", "F32", "F64", "I8", "U16", "I32", "U64"] {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[0,3],"data_offsets":[0,0]}}}}"#);
        found.push([&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    }
    found.push(safetensors::write(&BTreeMap::new(), &BTreeMap::new()).expect("an empty file is one"));
    found
}

/// A field of a protobuf that is a message, a text or bytes, of fewer than 128 bytes where it is not the graph.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = [content.len() as u8 | 0x80, (content.len() >> 7) as u8];
    [&[number << 3 | 2], &length[..], content].concat()
}

/// ONNX models, whose fields have the numbers of `onnx.proto3`.
fn onnx_models() -> Vec<Vec<u8>> {
    let tensor = |name: &str, dtype: u8, fields: &[u8]| {
        field(5, &[&[8, 2, 16, dtype], fields, &field(8, name.as_bytes())].concat())
    };
    let entry = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let outside = [entry("location", "w"), entry("offset", "8"), entry("length", "8"), vec![14 << 3, 1]].concat();
    let tensors = [
        tensor("raw", 1, &field(9, &[0; 8])),
        tensor("floats", 1, &field(4, &[0; 8])),
        tensor("halves", 10, &field(5, &[0x80, 0x78, 1])),
        tensor("bytes", 2, &[5 << 3, 7, 5 << 3, 9]),
        tensor("longs", 7, &field(7, &[1, 2])),
        tensor("doubles", 11, &field(10, &[0; 16])),
        tensor("unsigned", 12, &field(11, &[1, 2])),
        tensor("outside", 1, &outside),
    ];
    let shape = field(2, &[field(1, &[8, 4]), field(1, &field(2, b"n"))].concat());
    let input = field(11, &[field(1, b"x"), field(2, &field(1, &[&[8, 1][..], &shape].concat()))].concat());
    let inner = field(6, &field(1, &field(4, b"Relu")));
    let attribute = field(5, &[field(1, b"then_branch"), inner, vec![0xa0, 1, 5]].concat());
    let node = field(1, &[field(1, b"x"), field(2, b"y"), field(4, b"If"), attribute].concat());
    let model = |graph: &[u8]| [&[8, 10][..], &field(7, graph), &field(8, &[16, 18])].concat();
    vec![model(&tensors.concat()), model(&[input, node].concat()), model(&tensors[7])]
}

fn graphs() -> Vec<Vec<u8>> {
    let names = ["mlp", "lenet5", "resnet20"];
    let built = names.iter().filter_map(|name| preset::build(name).ok());
    let mut found: Vec<Vec<u8>> = built.map(|graph| native::graph_json(&graph).into_bytes()).collect();
    found.push(
        br#"{"version":1,"name":"m","inputs":[{"name":"i","shape":[1,4,4]}],"params":[{"name":"w","shape":[2,16]},{"name":"a","shape":[1]},{"name":"b","shape":[1]},{"name":"c","shape":[1]},{"name":"d","shape":[1]}],"nodes":[{"name":"bn","op":"BatchNorm","attributes":{"epsilon":1e-5,"momentum":0.1},"inputs":["i"],"params":{"weight":"a","bias":"b","running_mean":"c","running_var":"d"}},{"name":"p","op":"MaxPool2d","attributes":{"kernel":[1,1],"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1]},"inputs":["bn"]},{"name":"s","op":"Slice","attributes":{"axis":1,"start":0,"end":1,"step":1},"inputs":["p"]},{"name":"f","op":"Flatten","inputs":["s"]},{"name":"fc","op":"Linear","inputs":["f"],"params":{"weight":"w"}}],"outputs":["fc"]}"#
            .to_vec(),
    );
    found
}

fn array(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00", &118u16.to_le_bytes()[..], header.as_bytes(), values].concat()
}

fn arrays() -> Vec<Vec<u8>> {
    let of = |descr: &str, size: usize| array(descr, "(2, 1)", &vec![0; 2 * size]);
    let types = [("|b1", 1), ("|u1", 1), ("<i2", 2), ("<f2", 2), ("<u4", 4), ("<f4", 4), ("<i8", 8), ("<f8", 8)];
    let mut found: Vec<Vec<u8>> = types.iter().map(|(descr, size)| of(descr, *size)).collect();
    found.push(array("|u1", "(2, 2, 2, 3)", &[9; 24]));
    found
}

fn archives() -> Vec<Vec<u8>> {
    let (x, y) = (array("<f4", "(2, 1)", &[0; 8]), array("|u1", "(2,)", &[0, 1]));
    let plain = stored(&[("x.npy", &x), ("y.npy", &y)]);
    let all = stored(&[("x_train.npy", &x), ("y_train.npy", &y), ("x_test.npy", &x), ("y_test.npy", &y)]);
    vec![plain, all]
}

/// Inputs, a separator, and labels; see the target.
fn indexed() -> Vec<Vec<u8>> {
    let inputs = [&[0, 0, 8, 3][..], &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], &[1, 2, 3, 4]].concat();
    let floats = [&[0, 0, 13, 2][..], &[0, 0, 0, 2, 0, 0, 0, 1], &[0; 8]].concat();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&inputs).expect("memory takes what is written");
    vec![inputs, floats, packed.finish().expect("memory takes what is written")]
}

fn tables() -> Vec<Vec<u8>> {
    let texts = [
        "1,0.5,0.25\n0,1,2\n",
        "label,a,b\ncat,1,2\r\ndog,3,4\n",
        "\"a\",1e3\n\"b\",-0.5\n",
        "\u{feff}x,y\n1,0\n2,1\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn series() -> Vec<Vec<u8>> {
    let texts = [
        "#a\n\n@problemName P\n@timeStamps false\n@missing false\n@univariate false\n@dimensions 2\n@equalLength false\n\
         @classLabel true low high\n@data\n1,2:3,4:low\n0.5,-1e3,0:1,2,3:high\n",
        "@univariate true\r\n@equalLength true\r\n@seriesLength 3\r\n@targetLabel false\r\n@classLabel true 1 2\r\n@data\r\n\
         1,2,3:1\r\n4,5,?:2\r\n",
        "\u{feff}%a\n@CLASSLABEL true a b\n@data\n1:2:3:a\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn pictures() -> Vec<Vec<u8>> {
    let grey = DynamicImage::from(GrayImage::from_fn(8, 8, |x, y| image::Luma([(x * y) as u8])));
    let colors = DynamicImage::from(RgbImage::from_fn(8, 8, |x, y| image::Rgb([x as u8, y as u8, 7])));
    let mut found = Vec::new();
    for picture in [grey, colors] {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).expect("memory takes what is written");
            found.push(bytes.into_inner());
        }
    }
    found
}

fn recipes() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"version": 1, "steps": [{"train": {"epochs": 2, "batch_size": 4}}]}"#,
        r#"{"version": 1, "seed": "7", "start": {"preset": "lenet5", "train": {"epochs": 1}}, "steps": [{"prune_weights": {"sparsity": 0.9}}, {"quantize": {"bits": 4}}]}"#,
        r#"{"version": 1, "data": {"source": {"csv": {"train": "a.csv", "shape": [1, 2, 2]}}, "transforms": [{"scale": {"factor": 0.5}}], "split": {"validation_fraction": 0.1}}, "steps": []}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
