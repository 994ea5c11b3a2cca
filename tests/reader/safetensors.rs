//! Numbers 1 to 16: models in safetensors files.

use std::io::Seek;

use super::*;

/// An entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// The reason for which entries like these are refused.
#[track_caller]
fn reason(entries: &[String], data: &[u8]) -> String {
    let header = format!("{{{}}}", entries.join(","));
    let refused = refused_model(&container(header.as_bytes(), data));
    refused.is(&refused.failure.reason, header.len());
    refused.failure.reason
}

#[test]
fn n01_files_of_0_to_7_bytes_are_cut_short() {
    for length in 0..8 {
        refused_model(&[0; 8][..length]).is("TRUNCATED", 0);
    }
}

#[test]
fn n02_header_lengths_that_lie_cost_no_memory() {
    for length in [u64::MAX, 1 << 62, 1 << 32, 101] {
        refused_model(&[&length.to_le_bytes()[..], &[b' '; 100]].concat()).is("TRUNCATED", 0);
    }
    let sparse = model(
        |file| {
            file.write_all(&(9u64 << 20).to_le_bytes()).unwrap();
            file.set_len(1 << 30).unwrap();
        },
        None,
    );
    let refused = Refused::of(sparse, "a gibibyte of nothing");
    refused.is("HEADER_TOO_LARGE", 0);
    assert_eq!(refused.failure.kind, Kind::ResourceExhausted);
}

#[test]
fn n03_a_million_empty_tensors_are_refused_while_they_are_counted() {
    // 99 MB, as long as other readers take: refused unread.
    let all = model(
        |file| {
            let mut out = std::io::BufWriter::new(file);
            let entry = |i: u32| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#);
            let length: usize = (0..1_774_006).map(|i| entry(i).len()).sum();
            out.write_all(&(length as u64 + 1).to_le_bytes()).unwrap();
            out.write_all(b"{").unwrap();
            (0..1_774_006).for_each(|i| out.write_all(entry(i).as_bytes()).unwrap());
            out.flush().unwrap();
        },
        None,
    );
    Refused::of(all, "1,774,006 tensors").is("HEADER_TOO_LARGE", 0);
    // As many as a header that is taken may have.
    let entries: Vec<String> = (0..140_000).map(|i| entry(&format!("{i:x}"), "U8", "[0]", 0, 0)).collect();
    let header = format!("{{{}}}", entries.join(","));
    assert!(header.len() < 8 << 20);
    let refused = refused_model(&container(header.as_bytes(), &[]));
    refused.is("TENSOR_COUNT", header.len());
    assert_eq!(refused.failure.kind, Kind::ResourceExhausted);
}

#[test]
fn n04_two_tensors_of_one_name_are_refused() {
    let first = entry("w", "U8", "[1]", 0, 1);
    assert_eq!(reason(&[first.clone(), entry("w", "U8", "[1]", 1, 2)], &[0; 2]), "DUPLICATE_NAME");
    assert_eq!(reason(&[first.clone(), entry("w", "F32", "[1]", 1, 5)], &[0; 5]), "DUPLICATE_NAME");
    // The same name in other spelling.
    assert_eq!(reason(&[first, entry(r"\u0077", "U8", "[1]", 1, 2)], &[0; 2]), "DUPLICATE_NAME");
}

#[test]
fn n05_metadata_that_stand_twice_are_refused() {
    assert_eq!(reason(&[r#""__metadata__":{"a":"1","a":"2"}"#.into()], &[]), "DUPLICATE_NAME");
    let twice = r#""__metadata__":{}"#.to_string();
    assert_eq!(reason(&[twice.clone(), twice], &[]), "HEADER");
}

#[test]
fn n06_bytes_of_no_tensor_or_of_two_are_refused() {
    let pair = |a, b, c, d| [entry("a", "U8", "[4]", a, b), entry("b", "U8", "[4]", c, d)];
    assert_eq!(reason(&pair(0, 4, 2, 6), &[0; 8]), "OFFSETS", "overlap");
    assert_eq!(reason(&pair(0, 4, 5, 9), &[0; 9]), "OFFSETS", "gap");
    assert_eq!(reason(&pair(4, 0, 4, 8), &[0; 8]), "OFFSETS", "reversed");
    assert_eq!(reason(&pair(0, 4, 0, 4), &[0; 4]), "OFFSETS", "the same bytes");
    // A second file behind the first: a zip archive, a program.
    for tail in [&b"PK\x03\x04polyglot"[..], b"\x7fELF"] {
        assert_eq!(reason(&[entry("a", "U8", "[4]", 0, 4)], &[&[0; 4], tail].concat()), "OFFSETS");
    }
}

#[test]
fn n07_shapes_of_no_tensor_are_refused() {
    for shape in ["[0,9223372036854775807,2]", "[4294967296,4294967296]", "[2147483649]", "[1,1,1,1,1,1,1,1,1]"] {
        assert_eq!(reason(&[entry("w", "F32", shape, 0, 0)], &[]), "SHAPE", "{shape}");
    }
    for shape in ["[-1]", "[1.5]", "[18446744073709551616]", "\"1\"", "[[1]]"] {
        assert_eq!(reason(&[entry("w", "F32", shape, 0, 0)], &[]), "HEADER", "{shape}");
    }
    let million = format!("[{}1]", "1,".repeat(1_000_000));
    assert_eq!(reason(&[entry("w", "U8", &million, 0, 1)], &[0]), "SHAPE");
}

#[test]
fn n08_number_formats_that_are_not_known_are_named() {
    for dtype in ["F4", "F6_E2M3", "F8_E8M0", "C64", "f32", "", "U128"] {
        let header = format!("{{{}}}", entry("block.weight", dtype, "[1]", 0, 1));
        let refused = refused_model(&container(header.as_bytes(), &[0]));
        refused.is("DTYPE_UNSUPPORTED", header.len());
        assert_eq!(refused.failure.violations[0].field, "block.weight");
    }
}

#[test]
fn n09_truth_values_other_than_0_and_1_are_refused() {
    assert_eq!(reason(&[entry("w", "BOOL", "[3]", 0, 3)], &[0, 1, 2]), "BOOL_VALUE");
}

#[test]
fn n10_weights_that_are_no_numbers_are_refused_at_the_door() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(reason(&[entry("w", "F32", "[1]", 0, 4)], &value.to_le_bytes()), "NON_FINITE");
    }
    assert_eq!(reason(&[entry("w", "F64", "[1]", 0, 8)], &1e300f64.to_le_bytes()), "NON_FINITE");
}

#[test]
fn n11_headers_that_are_no_json_object_are_refused() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let digits = format!("{{{}}}", entry("a", "U8", &format!("[{}]", "9".repeat(5_000_000)), 0, 1));
    let headers: [&[u8]; 10] = [
        b"",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b" {}",
        b"[]",
        b"null",
        b"{\"a\":\"\xff\"}",
        b"{}{}",
        deep.as_bytes(),
        digits.as_bytes(),
    ];
    for header in headers {
        let refused = refused_model(&container(header, &[]));
        let start = String::from_utf8_lossy(&header[..header.len().min(10)]);
        assert!(["HEADER", "FORMAT"].contains(&refused.failure.reason.as_str()), "{start}: {:?}", refused.failure);
        refused.is(&refused.failure.reason, header.len());
    }
}

#[test]
fn n12_names_that_lead_elsewhere_or_look_like_others_are_refused() {
    let long = "w".repeat(64 << 10);
    // The last are one name in two forms of Unicode, and two letters that look the same.
    for name in ["../x", "/etc/x", r"a\u0000b", &long, r"a\\b", "", " a", "a\u{202e}b", "\u{e9}", "e\u{301}", "\u{430}"]
    {
        assert_eq!(reason(&[entry(name, "U8", "[1]", 0, 1)], &[0]), "TENSOR_NAME", "{name:.20}");
    }
}

#[test]
fn n13_a_graph_in_the_metadata_is_not_believed() {
    let with = |graph: &str| {
        let metadata = BTreeMap::from([("niwaki.graph".to_string(), graph.to_string())]);
        let header = header(&[("fc.weight", "F32", &[2, 3], 24)], &metadata);
        let refused = refused_model(&container(header.as_bytes(), &[0; 24]));
        refused.is("GRAPH_METADATA", header.len());
        refused.failure.message
    };
    let graph = |version: u32, node: &str, shape: &str| {
        format!(
            r#"{{"version":{version},"name":"m","inputs":[{{"name":"input","shape":[3]}}],
            "params":[{{"name":"fc.weight","shape":{shape}}}],
            "nodes":[{{"name":"{node}","op":"Linear","inputs":["input"],"params":{{"weight":"fc.weight"}}}}],
            "outputs":["{node}"]}}"#
        )
    };
    assert!(with(&graph(99, "fc", "[2,3]")).contains("version 99"));
    assert!(with(&graph(1, "fc", "[3,2]")).contains("fc.weight"));
    assert!(with(&graph(1, "fc", "[2,3]").replace("Linear", "PythonOp")).contains("PythonOp"));
    assert!(with("not even JSON").contains("expected"));
    // A job's end is no place to find out that a tensor cannot have this name.
    assert!(with(&graph(1, "../fc", "[2,3]")).contains("could name no tensor"));
    let nodes = vec![r#"{"name":"","op":"","inputs":[]}"#; 190_000].join(",");
    let many = format!(r#"{{"version":1,"name":"","inputs":[],"params":[],"nodes":[{nodes}],"outputs":[]}}"#);
    assert!(with(&many).contains("20000"));
}

#[test]
fn n13_metadata_without_end_are_refused() {
    let refused = |metadata: &str| {
        let header = format!("{{\"__metadata__\":{{{metadata}}}}}");
        assert!(header.len() <= 8 << 20, "{}", header.len());
        (refused_model(&container(header.as_bytes(), &[])), header.len())
    };
    let (many, length) = refused(&(0..700_000).map(|i| format!("\"{i:x}\":\"\"")).collect::<Vec<_>>().join(","));
    many.is("METADATA_COUNT", length);
    // One text of eight mebibytes is odd, and harmless: what is missing is a graph.
    let (long, length) = refused(&format!("\"a\":\"{}\"", "x".repeat((8 << 20) - 100)));
    long.is("ARCHITECTURE_MISSING", length);
}

#[test]
fn n13_variances_below_zero_are_refused_by_the_tensors_name() {
    let graph = r#"{"version":1,"name":"m","inputs":[{"name":"input","shape":[1,2,2]}],
        "params":[{"name":"w","shape":[1]},{"name":"b","shape":[1]},{"name":"m","shape":[1]},{"name":"v","shape":[1]}],
        "nodes":[{"name":"bn","op":"BatchNorm","attributes":{"epsilon":1e-5,"momentum":0.1},"inputs":["input"],
            "params":{"weight":"w","bias":"b","running_mean":"m","running_var":"v"}}],"outputs":["bn"]}"#;
    let shape: &[u64] = &[1];
    let header = header(
        &[("w", "F32", shape, 4), ("b", "F32", shape, 4), ("m", "F32", shape, 4), ("v", "F32", shape, 4)],
        &BTreeMap::new(),
    );
    let with = |variance: f32| {
        let data = [1f32, 0.0, 0.0, variance].map(f32::to_le_bytes).concat();
        model(|file| file.write_all(&container(header.as_bytes(), &data)).unwrap(), Some(graph))
    };
    assert!(matches!(with(0.0).unwrap().verdict, Verdict::Model(_)));
    let refused = Refused::of(with(-1.0), "a variance");
    refused.is("VARIANCE", header.len());
    assert_eq!(refused.failure.violations[0].field, "v");
}

#[test]
fn n14_an_index_of_shards_is_no_model() {
    for shard in ["model-00001-of-00002.safetensors", "../../secret", "http://example.com/x"] {
        let index = format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{{"w":"{shard}"}}}}"#);
        refused_model(index.as_bytes()).is("FORMAT", 0);
    }
}

#[test]
fn n15_a_terabyte_is_refused_by_the_length_or_by_the_memory() {
    let header = format!("{{{}}}", entry("w", "U8", "[1048576,1048576]", 0, 1 << 40));
    refused_model(&container(header.as_bytes(), &[0; 100])).is("TRUNCATED", header.len());
    // A file that has a hole of this size where its data should be.
    let sparse = model(
        |file| {
            file.write_all(&container(header.as_bytes(), &[])).unwrap();
            let end = file.stream_position().unwrap();
            file.set_len(end + (1 << 40)).unwrap();
        },
        None,
    );
    Refused::of(sparse, "a sparse file").is("READER_MEMORY", header.len());
}
