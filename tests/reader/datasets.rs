//! Numbers 41 to 47 and 49 to 53: data sets of all forms but pictures.

use std::io::Cursor;

use flate2::Compression;
use flate2::write::GzEncoder;
use niwaki::data::{BySplit, Header, LabelColumn, Layout, NpzPair};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

/// An array as NumPy writes it, with that header.
fn npy(header: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{header:<117}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), values].concat()
}

pub(super) fn array(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"), values)
}

/// Labels for two samples.
fn labels() -> (&'static str, Vec<u8>) {
    ("y.npy", array("'|u1'", "(2,)", &[0, 1]))
}

pub(super) fn archive(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn npz_source() -> Option<DataSource> {
    let pair = NpzPair { file: "a.npz".into(), inputs: "x".into(), labels: "y".into() };
    Some(DataSource::Npz { arrays: BySplit::train(pair), layout: Layout::Detected })
}

/// What is said of an archive.
#[track_caller]
fn refused_archive(bytes: &[u8]) -> Refused {
    refused_data(&[("a.npz", bytes)], npz_source())
}

/// What is said of an array of inputs.
#[track_caller]
fn refused_array(bytes: Vec<u8>) -> (String, String) {
    let refused = refused_archive(&archive(&[("x.npy", bytes), labels()], CompressionMethod::Stored));
    refused.is(&refused.failure.reason, 0);
    (refused.failure.reason, refused.failure.message)
}

#[test]
fn n41_headers_of_arrays_are_short_and_never_run() {
    let huge = [b"\x93NUMPY\x02\x00", &u32::MAX.to_le_bytes()[..]].concat();
    assert!(refused_array(huge.clone()).1.contains("a header of 4294967295 bytes, at most 65536"));
    for header in ["__import__('os').system('id')", "[1, 2]", "{'descr': '<f4'}", "{'descr': eval('1'), }", ""] {
        assert_eq!(refused_array(npy(header, &[0; 8])).0, "DATASET_FORMAT", "{header}");
    }
    assert!(refused_array(array("'|O'", "(2, 1)", &[0; 16])).1.contains("pickled code"));
    // A file of one array has no labels.
    assert_eq!(refused_data(&[("x.npy", &huge)], None).failure.reason, "DATASET_EMPTY");
}

#[test]
fn n42_arrays_that_are_no_plain_numbers_in_order_are_refused() {
    for descr in ["'>f4'", "[('a', '<f4')]", "'<M8[ns]'", "'|S4'", "'<U4'", "'<c8'", "'|V8'"] {
        assert_eq!(refused_array(array(descr, "(2, 1)", &[0; 64])).0, "DATASET_FORMAT", "{descr}");
    }
    for shape in ["(-2, 1)", "(2,", "(18446744073709551616, 1)", "'2'", "(1, 1.5)"] {
        assert_eq!(refused_array(array("'<f4'", shape, &[0; 8])).0, "DATASET_FORMAT", "{shape}");
    }
    for shape in ["(2, 3)", "(4294967296, 4294967296, 4294967296)", "(0, 9223372036854775807, 3)", "(2, 1000000)"] {
        assert_eq!(refused_array(array("'<f4'", shape, &[0; 8])).0, "TRUNCATED", "{shape}");
    }
    assert_eq!(refused_array(array("'<f4'", "(2, 1)", &[0; 9])).0, "DATASET_FORMAT", "one byte more");
    let fortran = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", &[0; 16]);
    assert!(refused_array(fortran).1.contains("Fortran order"));
}

#[test]
fn n43_archives_that_lie_are_refused() {
    let good = archive(&[("x.npy", array("'|u1'", "(2, 1)", &[1, 2])), labels()], CompressionMethod::Stored);
    assert!(matches!(data(&[("a.npz", &good)], npz_source()).unwrap().verdict, Verdict::Dataset(_)));
    let directory = good.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let changed = |places: &[(usize, u8)]| {
        let mut file = good.clone();
        places.iter().for_each(|(place, value)| file[*place] = *value);
        let refused = refused_archive(&file);
        refused.is(&refused.failure.reason, 0);
        refused.failure.message
    };
    // In an entry of the directory: flags at 8, method at 10, checksum at 16, sizes at 20 and 24, attributes at 38, the
    // place at 42, the name at 46. In the local header: flags at 6, method at 8, checksum at 14, sizes at 18 and 22.
    assert!(changed(&[(directory + 8, 1)]).contains("encrypted"));
    assert!(changed(&[(directory + 10, 99)]).contains("method 99"));
    assert!(changed(&[(directory + 16, good[directory + 16] ^ 1)]).contains("says something else than the header"));
    assert!(changed(&[(directory + 16, 0), (14, 0)]).contains("others than were packed"));
    assert!(
        changed(&[(directory + 24, 255), (directory + 25, 255), (directory + 26, 255), (directory + 27, 255)])
            .contains("zip64")
    );
    assert!(changed(&[(directory + 41, 0o240)]).contains("a link"));
    assert!(changed(&[(30, b'z')]).contains("no header of that name"));
    assert!(changed(&[(8, 8)]).contains("says something else than the header"));
    assert!(changed(&[(18, 3)]).contains("says something else than the header"));
}

#[test]
fn n43_names_in_archives_are_plain_and_stand_once() {
    let x = || array("'|u1'", "(2, 1)", &[1, 2]);
    for name in ["../x.npy", "/x.npy", "a/../x.npy", r"a\x.npy", "C:\\x.npy"] {
        let file = archive(&[("x.npy", x()), (name, x()), labels()], CompressionMethod::Stored);
        assert!(refused_archive(&file).failure.message.contains("no plain one"), "{name}");
    }
    let twins = archive(&[("x.npy", x()), ("X.npy", x()), labels()], CompressionMethod::Stored);
    assert!(refused_archive(&twins).failure.message.contains("in capitals alone"));
    let mut twice = archive(&[("x.npy", x()), ("z.npy", x()), labels()], CompressionMethod::Stored);
    while let Some(place) = twice.windows(5).position(|bytes| bytes == b"z.npy") {
        twice[place] = b'x';
    }
    assert!(refused_archive(&twice).failure.message.contains("two members of the name 'x.npy'"));
    // An archive in an archive is no array.
    let nested = archive(&[("x.npy", twice.clone()), labels()], CompressionMethod::Deflated);
    assert!(refused_archive(&nested).failure.message.contains("array 'x' is none"));
    let many: Vec<(String, Vec<u8>)> = (0..2000).map(|i| (format!("{i}.npy"), Vec::new())).collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let refused = refused_archive(&archive(&many, CompressionMethod::Stored));
    refused.is("DATASET_FORMAT", 0);
    assert!(refused.failure.message.contains("2000 members"));
}

#[test]
fn n43_a_bomb_unpacks_no_further_than_its_array() {
    let bomb = [array("'|u1'", "(2, 1)", &[1, 2]), vec![0; 500 << 20]].concat();
    let file = archive(&[("x.npy", bomb), labels()], CompressionMethod::Deflated);
    assert!(file.len() < 1 << 20);
    let refused = refused_archive(&file);
    refused.is("DATASET_FORMAT", 0);
    assert!(refused.failure.message.contains("bytes behind its values"));
}

#[test]
fn n44_members_that_share_their_bytes_are_refused_before_any_is_unpacked() {
    // A flat bomb: a directory with many entries for the same packed bytes. Here each says that it has 100 MB.
    let one = archive(&[("00.npy", vec![0; 100_000_000])], CompressionMethod::Deflated);
    let directory = one.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    let end = one.len() - 22;
    let mut bomb = one[..directory].to_vec();
    for i in 0..10u8 {
        let mut entry = one[directory..end].to_vec();
        entry[46 + 1] = b'0' + i;
        bomb.extend(entry);
    }
    let length = (bomb.len() - directory) as u32;
    let mut tail = one[end..].to_vec();
    tail[8..10].copy_from_slice(&10u16.to_le_bytes());
    tail[10..12].copy_from_slice(&10u16.to_le_bytes());
    tail[12..16].copy_from_slice(&length.to_le_bytes());
    bomb.extend(tail);
    let refused = refused_archive(&bomb);
    refused.is("DATASET_FORMAT", 0);
    assert!(refused.failure.message.contains("overlap"), "{}", refused.failure.message);
    // Members apart, of more than a data set may have: refused by the directory's sum.
    let members: Vec<(String, Vec<u8>)> = (0..12).map(|i| (format!("{i}.npy"), vec![0; 100_000_000])).collect();
    let members: Vec<(&str, Vec<u8>)> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let refused = refused_archive(&archive(&members, CompressionMethod::Deflated));
    refused.is("DATASET_SIZE", 0);
    assert_eq!(refused.failure.kind, Kind::ResourceExhausted);
}

/// An IDX file.
fn idx(dtype: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_be_bytes()).collect();
    [&[0, 0, dtype, (dims.len() / 4) as u8][..], &dims, values].concat()
}

#[test]
fn n45_idx_files_that_lie_are_refused() {
    let good = (idx(8, &[2, 1, 1], &[1, 2]), idx(8, &[2], &[0, 1]));
    let told = |inputs: &[u8], labels: &[u8]| {
        let pair = niwaki::data::IdxPair { inputs: "x".into(), labels: "y".into() };
        let refused = refused_data(&[("x", inputs), ("y", labels)], Some(DataSource::Idx(BySplit::train(pair))));
        refused.is(&refused.failure.reason, 0);
        refused.failure.reason
    };
    assert_eq!(told(&idx(7, &[2, 1, 1], &[1, 2]), &good.1), "DATASET_FORMAT", "a type that is none");
    assert_eq!(told(&[&[0, 0, 8, 255][..], &[0; 1020]].concat(), &good.1), "DATASET_FORMAT", "255 axes");
    assert_eq!(told(&idx(8, &[u32::MAX, u32::MAX, u32::MAX], &[1, 2]), &good.1), "TRUNCATED", "a product beyond 2^64");
    assert_eq!(told(&idx(8, &[u32::MAX, 1, 1], &[1, 2]), &good.1), "TRUNCATED");
    assert_eq!(told(&idx(8, &[2, 1, 1], &[1, 2, 3]), &good.1), "DATASET_FORMAT", "longer");
    assert_eq!(told(&good.0, &idx(8, &[3], &[0, 1, 1])), "LABELS", "more labels than samples");
    assert_eq!(told(&good.0, &idx(8, &[1], &[0])), "LABELS", "fewer");
    assert_eq!(told(&good.0, &idx(12, &[2], &[0, 0, 0, 0, 0x7f, 0, 0, 0])), "LABELS", "a label that is no class");
    assert_eq!(told(&good.0, &idx(12, &[2], &[0, 0, 0, 0, 0xff, 0, 0, 0])), "LABELS", "a label below 0");
}

/// What is said of a table.
#[track_caller]
fn refused_table(bytes: &[u8]) -> (String, String) {
    let source = DataSource::Csv {
        files: BySplit::train("t.csv".into()),
        header: Header::Detected,
        label: LabelColumn::Index(0),
        shape: vec![],
    };
    let refused = refused_data(&[("t.csv", bytes)], Some(source));
    // A row is the header of a table: what is refused is found while one is read.
    refused.is(&refused.failure.reason, 4 << 20);
    (refused.failure.reason, refused.failure.message)
}

#[test]
fn n46_tables_are_refused_by_line_and_column() {
    let rows = |n: usize| "1,0.5,0.25\n".repeat(n);
    for (bad, words) in [
        ("1,0.5\n", "line 3 has 2 fields"),
        ("1,0.5,x\n", "line 3, column 2: \"x\" is no number"),
        ("1,0.5,1e999\n", "line 3, column 2: \"1e999\" is not finite"),
        ("1,0.5,=cmd()\n", "line 3, column 2: \"=cmd()\" is no number"),
        ("1,0.5,0\0\n", "line 3, column 2"),
        ("1,\"0.5,0.25\n", "line 3 has 2 fields"),
        (",0.5,0.25\n", "the label \"\" is empty"),
        ("1,,0.25\n", "there is no value"),
    ] {
        let (reason, message) = refused_table([rows(2).as_str(), bad].concat().as_bytes());
        assert!(reason == "DATASET_FORMAT" && message.contains(words), "{bad:?}: {message}");
    }
    let utf16: Vec<u8> = rows(2).encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused_table(&utf16);
    refused_table(&[&b"\xff\xfe"[..], &utf16].concat());
    refused_table(&[0; 1000]);
}

#[test]
fn n46_lines_without_an_end_do_not_fill_the_memory() {
    for (start, what) in [("", "one line"), ("1,\"", "a quote that is never closed")] {
        let line = [start.as_bytes(), &vec![b'1'; 300 << 20]].concat();
        let (_, message) = refused_table(&line);
        assert!(message.contains("more than 4194304 bytes"), "{what}: {message}");
    }
    let (_, message) = refused_table(&b"1,".repeat(1_000_000));
    assert!(message.contains("at most 262144 are allowed"), "{message}");
}

/// What is said of a file of time series.
#[track_caller]
fn refused_series(bytes: &[u8]) -> (String, String) {
    let refused = refused_data(&[("a.ts", bytes)], Some(DataSource::Ts(BySplit::train("a.ts".into()))));
    refused.is(&refused.failure.reason, 16 << 20);
    (refused.failure.reason, refused.failure.message)
}

#[test]
fn n46_series_are_refused_by_line_dimension_and_step() {
    let header = "@dimensions 2\n@classLabel true a b\n@data\n";
    for (bad, words) in [
        ("1,?:3,4:a\n", "line 4, dimension 0, step 1: \"?\" stands for a missing value"),
        ("1,2:3,NaN:a\n", "line 4, dimension 1, step 1: \"NaN\" stands for a missing value"),
        ("1,2:1e999,4:a\n", "line 4, dimension 1, step 0: \"1e999\" is not finite"),
        ("(0,2):(1,4):a\n", "line 4, dimension 0, step 0: \"(0\" is no number"),
        ("1,2:3:a\n", "line 4 has 1 steps in dimension 1, 2 in dimension 0"),
        ("1,2:a\n", "line 4 has 1 dimensions instead of 2"),
        ("1,2:3,4:c\n", "line 4 ends with the class \"c\""),
        ("1,2,3,4\n", "line 4 has no ':'"),
        ("\0\0\0\n", "line 4 has no ':'"),
    ] {
        let (reason, message) = refused_series([header, bad].concat().as_bytes());
        assert!(reason == "DATASET_FORMAT" && message.contains(words), "{bad:?}: {message}");
    }
    for (bad, words) in [
        ("@classLabel true a b\n", "no line `@data`"),
        ("@timeStamps true\n@classLabel true a\n@data\n", "`@timeStamps` is true"),
        ("@classLabel false\n@data\n1:2:a\n", "`@classLabel` is false"),
        ("@data\n1:2:a\n", "no `@classLabel`"),
    ] {
        let (reason, message) = refused_series(bad.as_bytes());
        assert!(reason == "DATASET_FORMAT" && message.contains(words), "{bad:?}: {message}");
    }
    for start in ["#", "@problemName ", "@classLabel true a\n@data\n", "@classLabel true a\n@data\n1:"] {
        let (_, message) = refused_series(&[start.as_bytes(), &vec![b'1'; 100 << 20]].concat());
        assert!(message.contains("has more than 16777216 bytes"), "{start}: {message}");
    }
}

#[test]
fn n46_padding_does_not_fill_the_memory() {
    let long = format!("{}1:a\n", "1,".repeat(300_000));
    let text = format!("@classLabel true a b\n@data\n{}{long}", "1:b\n".repeat(10_000));
    let (reason, message) = refused_series(text.as_bytes());
    assert!(reason == "DATASET_SIZE" && message.contains("holds 12001240004 bytes"), "{message}");
}

#[test]
fn n46_byte_order_marks_and_mixed_line_ends_are_read() {
    let rows = b"\xef\xbb\xbf1,0.5\r\n0,0.25\n1,0.125\r0,1\n";
    let source = DataSource::Csv {
        files: BySplit::train("t.csv".into()),
        header: Header::Absent,
        label: LabelColumn::Index(0),
        shape: vec![],
    };
    let Verdict::Dataset(found) = data(&[("t.csv", rows)], Some(source)).unwrap().verdict else { panic!() };
    assert_eq!((found.train_samples, found.classes), (4, 2));
}

#[test]
fn n47_n49_n51_files_of_forms_that_are_not_read_are_no_data_set() {
    let deep = "[".repeat(100_000);
    let tar = {
        let mut block = vec![0; 1536];
        block[..9].copy_from_slice(b"../passwd");
        block[257..263].copy_from_slice(b"ustar\0");
        block
    };
    let wav = [b"RIFF\xff\xff\xff\xffWAVEfmt ", &[0; 100][..]].concat();
    let zstd = [b"\x28\xb5\x2f\xfd", &[0xff; 100][..]].concat();
    let files: [(&str, &[u8]); 9] = [
        ("a.jsonl", b"{\"x\": [1, 2], \"y\": 0}\n"),
        ("deep.jsonl", deep.as_bytes()),
        ("a.tar", &tar),
        ("a.wav", &wav),
        ("a.zst", &zstd),
        ("a.pkl", b"\x80\x04cos\nsystem\n(S'id'\ntR."),
        ("a.h5", b"\x89HDF\r\n\x1a\n"),
        ("a.gif", b"GIF89a"),
        ("empty", b""),
    ];
    for (name, bytes) in files {
        let refused = refused_data(&[(name, bytes)], None);
        refused.is("DATASET_EMPTY", 0);
        assert_eq!(refused.failure.kind, Kind::InvalidArgument);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn n50_gzip_streams_are_read_to_their_end_and_no_further() {
    let (inputs, labels) = (idx(8, &[2, 1, 1], &[1, 2]), idx(8, &[2], &[0, 1]));
    let told = |packed: Vec<u8>| {
        let pair = niwaki::data::IdxPair { inputs: "x.gz".into(), labels: "y".into() };
        data(&[("x.gz", &packed), ("y", &labels)], Some(DataSource::Idx(BySplit::train(pair))))
    };
    // One behind the other is what `cat` makes of two, and read as one.
    let joined = [gzip(&inputs[..7]), gzip(&inputs[7..])].concat();
    assert!(matches!(told(joined).unwrap().verdict, Verdict::Dataset(_)));
    let whole = gzip(&inputs);
    Refused::of(told(whole[..whole.len() - 9].to_vec()), "cut short").is("TRUNCATED", 0);
    let bomb = gzip(&[inputs.clone(), vec![0; 900 << 20]].concat());
    Refused::of(told(bomb), "a bomb").is("DATASET_FORMAT", 0);
    let declared = gzip(&idx(8, &[1 << 30, 1, 1], &[]));
    Refused::of(told(declared), "sizes that nothing comes for").is("TRUNCATED", 0);
}

#[test]
fn n52_labels_and_values_that_teach_nothing_are_refused() {
    let told = |shape: &str, values: &[u8], of_labels: (&str, &[u8])| {
        let labels = array("'|u1'", of_labels.0, of_labels.1);
        let file = archive(&[("x.npy", array("'<f4'", shape, values)), ("y.npy", labels)], CompressionMethod::Stored);
        let refused = refused_archive(&file);
        refused.is(&refused.failure.reason, 0);
        refused.failure.reason
    };
    assert_eq!(told("(0, 1)", &[], ("(0,)", &[])), "DATASET_EMPTY");
    assert_eq!(told("(2, 0)", &[], ("(2,)", &[0, 1])), "DATASET_EMPTY");
    let nan = [0f32, f32::NAN].map(f32::to_le_bytes).concat();
    assert_eq!(told("(2, 1)", &nan, ("(2,)", &[0, 1])), "NON_FINITE");
    assert_eq!(told("(2, 1)", &[0; 8], ("(2,)", &[3, 3])), "LABELS", "one class");
    assert_eq!(told("(1, 1)", &[0; 4], ("(1,)", &[1])), "LABELS", "one sample");
}
