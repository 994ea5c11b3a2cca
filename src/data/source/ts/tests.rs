//! Time series, right and wrong.

use std::path::Path;

use proptest::prelude::*;

use super::MAX_LINE;
use crate::data::source::fixture::{open, refused};
use crate::data::{self, BySplit, DataSource, DataSpec, Dataset, Files, Inputs, Part, Transform};

const HEADER: &str = "#about\n\n@problemName P\n@timeStamps false\n@missing false\n@univariate false\n@dimensions 2\n\
    @equalLength false\n@classLabel true low high\n@data\n";

fn read(text: &str) -> Dataset {
    open(&[("a.ts", text.as_bytes())], None).unwrap()
}

/// The message for a file that is refused.
#[track_caller]
fn told(text: &str) -> String {
    let source = DataSource::Ts(BySplit::train("a.ts".into()));
    let (reason, message) = refused(&[("a.ts", text.as_bytes())], Some(&source));
    assert_eq!(reason, "DATASET_FORMAT", "{message}");
    message
}

/// The message for a file with this line behind a right one.
#[track_caller]
fn told_row(row: &str) -> String {
    told(&format!("{HEADER}1,2:3,4:low\n{row}\n"))
}

/// The message for a file with this line before the others of the header.
#[track_caller]
fn told_header(line: &str) -> String {
    told(&format!("{line}\n@classLabel true a b\n@data\n1,2:a\n"))
}

fn values(part: &Part) -> &[f32] {
    let Inputs::F32(values) = &part.inputs else { panic!() };
    values
}

#[test]
fn samples_are_time_first_and_as_long_as_the_longest_of_all_files() {
    let train = format!("{HEADER}1,2:3,4:high\n5:6:low\n");
    let test = format!("{HEADER}1,2,3 : 4 ,5,6e0:\tlow \r\n\r\n");
    let dataset = open(&[("x_TRAIN.ts", train.as_bytes()), ("x_TEST.ts", test.as_bytes())], None).unwrap();
    assert_eq!((dataset.source, dataset.classes, dataset.is_series()), ("ts", 2, true));
    assert_eq!(dataset.class_names, ["low", "high"]);
    assert_eq!((dataset.train.sample_shape.as_slice(), &dataset.train.labels[..]), (&[3, 2][..], &[1, 0][..]));
    assert_eq!(values(&dataset.train), [1., 3., 2., 4., 0., 0., 5., 6., 0., 0., 0., 0.]);
    let test = dataset.test.unwrap();
    assert_eq!((values(&test), &test.labels[..]), (&[1., 4., 2., 5., 3., 6.][..], &[0][..]));
}

#[test]
fn a_file_is_known_by_the_words_of_its_header_and_not_by_its_name() {
    let text = "\u{feff}%about\r\n@CLASSLABEL true b a\r\n@Data\r\n1:2:3:a\r\n4:5:6:b\r\n";
    for name in ["a.ts", "series.csv", "x"] {
        let dataset = open(&[(name, text.as_bytes()), ("README", b"#about\n")], None).unwrap();
        assert_eq!((dataset.source, &dataset.train.labels[..]), ("ts", &[1, 0][..]), "{name}");
        assert_eq!(dataset.train.sample_shape, [1, 3]);
    }
    let long = format!("#{}\n{HEADER}1:2:low\n3:4:high\n", "about ".repeat(5000));
    assert_eq!(read(&long).source, "ts");
    for other in ["%about\n@relation x\n@data\n1,2,a\n", "#about\n", "@", "const a = 1;\n"] {
        let (reason, message) = refused(&[("a.ts", other.as_bytes())], None);
        assert_eq!(reason, "DATASET_EMPTY", "{other}: {message}");
    }
    let both = refused(&[("a.ts", HEADER.as_bytes()), ("b.csv", b"1,a\n")], None).1;
    assert!(both.contains("there are CSV files as well as .ts files"), "{both}");
    let two = refused(&[("a.ts", HEADER.as_bytes()), ("b.ts", HEADER.as_bytes())], None).1;
    assert!(two.contains("'a.ts' and 'b.ts' may both be meant"), "{two}");
    let test = refused(&[("test.ts", HEADER.as_bytes())], None).1;
    assert!(test.contains("no .ts file is for training, by their names"), "{test}");
}

#[test]
fn transforms_know_the_channels_and_leave_the_padding() {
    let dataset = read(&format!("{HEADER}1,2:3,4:high\n5:6:low\n"));
    let transforms = |mean: &[f64]| vec![Transform::Normalize { mean: mean.into(), std: vec![2.0] }];
    let spec = |mean: &[f64]| DataSpec { transforms: transforms(mean), ..DataSpec::default() };
    let dataset = Dataset { test: Some(dataset.train.clone()), ..dataset };
    let test = data::test_split(&dataset, &spec(&[1.0, 10.0]), 1).unwrap();
    assert_eq!(test.batch([0, 1]).inputs, [0.0, -3.5, 0.5, -3.0, 2.0, -2.0, 0.0, 0.0]);
    let message = data::test_split(&dataset, &spec(&[1.0; 3]), 1).unwrap_err().to_string();
    assert_eq!(message, "`data.transforms[0].normalize.mean` has 3 numbers; the samples have 2 channels");
}

#[test]
fn a_value_that_is_no_finite_number_is_named_by_its_place() {
    let field = |field: &str| told_row(&format!("1,2,3:4,{field},6:low"));
    let place = "file 'a.ts': line 12, dimension 1, step 1";
    for missing in ["?", "NaN", " nan "] {
        let shown = missing.trim();
        let wanted = format!("{place}: {shown:?} stands for a missing value, which a sample may not have");
        assert_eq!(field(missing), wanted);
    }
    assert_eq!(field(""), format!("{place}: there is no value"));
    for infinite in ["inf", "-Infinity", "1e999"] {
        assert_eq!(field(infinite), format!("{place}: {infinite:?} is not finite"));
    }
    assert_eq!(field("(0"), format!("{place}: \"(0\" is no number"));
    assert!(field(&"9z".repeat(1000)).len() < 200);
}

#[test]
fn samples_of_another_form_are_named_by_their_line() {
    let at = |problem: &str| format!("file 'a.ts': line 12 {problem}");
    assert_eq!(told_row("1,2:3:low"), at("has 1 steps in dimension 1, 2 in dimension 0"));
    assert_eq!(told_row("1,2:low"), at("has 1 dimensions instead of 2"));
    assert_eq!(told_row("1:2:3:low"), at("has 3 dimensions instead of 2"));
    assert_eq!(told_row("1,2"), at("has no ':' with a class behind it"));
    assert_eq!(told_row("1:2:Low"), at("ends with the class \"Low\", which is none of `@classLabel`"));
    assert_eq!(told_row("1:2:"), at("ends with the class \"\", which is none of `@classLabel`"));
    assert_eq!(told_row("1::low"), "file 'a.ts': line 12, dimension 1, step 0: there is no value");
    // Without a header's word the first sample says how many dimensions there are.
    let free = "@classLabel true a\n@data\n1:2:a\n1:a\n";
    assert_eq!(told(free), "file 'a.ts': line 4 has 1 dimensions instead of 2");
    let equal = |header: &str| told(&format!("@equalLength true\n{header}@classLabel true a\n@data\n1,2:a\n1:a\n"));
    assert_eq!(equal(""), "file 'a.ts': line 5 has 1 steps instead of 2; `@equalLength` is true");
    let said = equal("@seriesLength 3\n");
    assert_eq!(said, "file 'a.ts': line 5 has 2 steps instead of 3; `@equalLength` is true");
}

#[test]
fn headers_that_are_not_supported_or_contradict_themselves_are_refused() {
    let at = |problem: &str| format!("file 'a.ts': line 1: {problem}");
    assert_eq!(told_header("@timeStamps true"), at("`@timeStamps` is true; only false is supported"));
    assert_eq!(told_header("@targetLabel true"), at("`@targetLabel` is true; classes are needed"));
    assert_eq!(told_header("@timeStamps"), at("`@timeStamps` is \"\", neither true nor false"));
    for number in ["0", "-1", "1.5", "x", "99999999999999999999"] {
        let wanted = at(&format!("`@dimensions` is {number:?}, which is no whole number above 0"));
        assert_eq!(told_header(&format!("@dimensions {number}")), wanted);
    }
    assert!(told_header("@dimensions 18446744073709551615").contains("line 4 has 1 dimensions instead of"));
    assert_eq!(told_header("@data\n1,2:a"), "file 'a.ts': its header has no `@classLabel`; classes are needed");
    let contradiction = "file 'a.ts': its header says `@univariate true`, but not one dimension";
    assert_eq!(told_header("@univariate true\n@dimensions 2"), contradiction);
    assert_eq!(told_header("@missing true\n@missing true"), "file 'a.ts': line 2 says `@missing` a second time");
    assert!(told_header("@frequency 3").contains("line 1 has no word of a header: \"@frequency\""));
    assert_eq!(told_header("1,2:a"), "file 'a.ts': line 1 is a sample, but there was no `@data` before");
    assert_eq!(told("@classLabel true a b\n"), "file 'a.ts': it has no line `@data`");
    let classes = |said: &str| told(&format!("@classLabel {said}\n@data\n1:a\n"));
    assert!(classes("false").contains("`@classLabel` is false; classes are needed"));
    assert!(classes("true").contains("`@classLabel` has 0 classes; 1 to 1048576 are allowed"));
    assert!(classes("true a b a").contains("`@classLabel` has the class \"a\" twice"));
    assert!(classes("true a:b").contains("has a ':'"));
    assert!(classes(&format!("true {}", "a".repeat(257))).contains("longer than 256 bytes"));
}

#[test]
fn files_of_splits_have_the_same_classes_and_dimensions() {
    let told = |test: &str| {
        let train = format!("{HEADER}1:2:low\n3:4:high\n");
        refused(&[("train.ts", train.as_bytes()), ("test.ts", test.as_bytes())], None).1
    };
    let other = told("@classLabel true high low\n@data\n1:2:low\n");
    assert_eq!(other, "file 'test.ts': its `@classLabel` has other classes than that of 'train.ts'");
    let wider = told("@classLabel true low high\n@data\n1:2:3:low\n");
    assert_eq!(wider, "file 'test.ts': its samples have 3 dimensions, those of 'train.ts' have 2");
}

#[test]
fn files_without_samples_are_refused() {
    let source = DataSource::Ts(BySplit::train("a.ts".into()));
    let (reason, message) = refused(&[("a.ts", HEADER.as_bytes())], Some(&source));
    assert_eq!((reason, message.as_str()), ("DATASET_EMPTY", "file 'a.ts' has no samples"));
    assert_eq!(told(""), "file 'a.ts': it has no line `@data`");
}

#[test]
fn neither_a_line_without_an_end_nor_padding_fills_the_memory() {
    let message = told_row(&"1,".repeat(MAX_LINE / 2 + 1));
    assert_eq!(message, format!("file 'a.ts': line 12 has more than {MAX_LINE} bytes"));
    assert!(told(&"#".repeat(MAX_LINE + 1)).contains("line 1 has more than"));
    // One long sample makes all the others as long.
    let long = format!("{}1:a\n", "1,".repeat(300_000));
    let text = format!("@classLabel true a\n@data\n{}{long}", "1:a\n".repeat(1000));
    let source = DataSource::Ts(BySplit::train("a.ts".into()));
    let (reason, message) = refused(&[("a.ts", text.as_bytes())], Some(&source));
    assert_eq!(reason, "DATASET_SIZE");
    assert_eq!(message, "file 'a.ts' holds 1201204004 bytes, at most 1073741824 are allowed");
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in prop::collection::vec((0usize..2, prop::collection::vec(any::<[f32; 2]>(), 1..5)), 1..9)) {
        prop_assume!(rows.iter().flat_map(|(_, steps)| steps).flatten().all(|v| v.is_finite()));
        let dimension = |steps: &[[f32; 2]], i: usize| steps.iter().map(|s| format!("{:e}", s[i])).collect::<Vec<_>>().join(",");
        let line = |(class, steps): &(usize, Vec<[f32; 2]>)| {
            format!("{}:{}:{}\n", dimension(steps, 0), dimension(steps, 1), ["low", "high"][*class])
        };
        let dataset = read(&format!("{HEADER}{}", rows.iter().map(line).collect::<String>()));
        let longest = rows.iter().map(|(_, steps)| steps.len()).max().unwrap();
        let labels: Vec<u32> = rows.iter().map(|(class, _)| *class as u32).collect();
        prop_assert_eq!(&dataset.train.labels, &labels);
        let padded = |(_, steps): &(usize, Vec<[f32; 2]>)| {
            let mut steps = steps.clone();
            steps.resize(longest, [0.0; 2]);
            steps.concat()
        };
        prop_assert_eq!(values(&dataset.train), rows.iter().flat_map(padded).collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b':'), Just(b'1'), Just(b'a'), any::<u8>()], 0..100)) {
        let source = DataSource::Ts(BySplit::train("a.ts".into()));
        for start in [&b""[..], b"@classLabel true a 1\n", b"@classLabel true a 1\n@data\n1:1:a\n"] {
            let _ = open(&[("a.ts", &[start, &bytes].concat())], Some(&source));
            let _ = open(&[("a.ts", &[start, &bytes].concat())], None);
        }
    }
}

/// The real JapaneseVowels, where `NIWAKI_TEST_DATA` names a folder that has it under `timeseries`.
#[test]
fn japanese_vowels_are_read() {
    let Some(folder) = std::env::var_os("NIWAKI_TEST_DATA") else {
        eprintln!("skipped: NIWAKI_TEST_DATA is not set");
        return;
    };
    let dataset = data::open(&Files::from_path(&Path::new(&folder).join("timeseries")).unwrap(), None).unwrap();
    let test = dataset.test.unwrap();
    assert_eq!((dataset.source, dataset.train.labels.len(), test.labels.len()), ("ts", 270, 370));
    assert_eq!((dataset.classes, dataset.class_names.join(" ").as_str()), (9, "1 2 3 4 5 6 7 8 9"));
    assert!(dataset.train.sample_shape == [29, 12] && test.sample_shape == [29, 12]);
    let count =
        |part: &Part| (0..9).map(|class| part.labels.iter().filter(|l| **l == class).count()).collect::<Vec<_>>();
    // The counts that are published with the data set.
    assert_eq!(count(&dataset.train), [30; 9]);
    assert_eq!(count(&test), [31, 35, 88, 44, 29, 24, 40, 50, 29]);
    let lengths = |part: &Part| -> Vec<usize> {
        let steps = |sample: &[f32]| sample.chunks(12).rposition(|step| step.iter().any(|v| *v != 0.0)).unwrap() + 1;
        values(part).chunks(29 * 12).map(steps).collect()
    };
    let (train, test) = (lengths(&dataset.train), lengths(&test));
    assert_eq!((train.iter().min(), train.iter().max()), (Some(&7), Some(&26)));
    assert_eq!((test.iter().min(), test.iter().max()), (Some(&7), Some(&29)));
    // The first and the last number of the file.
    assert_eq!((values(&dataset.train)[0], values(&dataset.train)[12 * train[0] - 1]), (1.860936, -0.175986));
}
