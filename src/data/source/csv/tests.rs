//! Tables, right and wrong.

use proptest::prelude::*;

use super::MAX_ROW;
use crate::data::source::fixture::{open, refused};
use crate::data::{BySplit, DataSource, Dataset, Header, Inputs, LabelColumn};

fn source(header: Header, label: LabelColumn, shape: &[u32]) -> DataSource {
    DataSource::Csv { files: BySplit::train("a.csv".into()), header, label, shape: shape.into() }
}

fn read(text: &str) -> Dataset {
    open(&[("a.csv", text.as_bytes())], None).unwrap()
}

#[track_caller]
fn told(text: &str) -> String {
    refused(&[("a.csv", text.as_bytes())], None).1
}

fn values(dataset: &Dataset) -> &[f32] {
    let Inputs::F32(values) = &dataset.train.inputs else { panic!() };
    values
}

#[test]
fn words_are_classes_in_their_order() {
    let dataset = read("length,width,species\r\n5.1, 3.5 ,setosa\r\n7,3.2,\"versi, color\"\r\n\r\n4.9,3e0,setosa\r\n");
    assert_eq!((dataset.source, dataset.classes), ("csv", 2));
    assert_eq!(dataset.class_names, ["setosa", "versi, color"]);
    assert_eq!(dataset.train.labels, [0, 1, 0]);
    assert_eq!(
        (dataset.train.sample_shape.as_slice(), values(&dataset)),
        (&[2][..], &[5.1, 3.5, 7.0, 3.2, 4.9, 3.0][..])
    );
}

#[test]
fn whole_numbers_are_classes_as_they_are() {
    let dataset = read("\u{feff}label,a,b\n3,0,1\n0,2,3\n");
    assert_eq!((dataset.train.labels.as_slice(), dataset.classes), (&[3, 0][..], 4));
    assert!(dataset.class_names.is_empty());
    assert_eq!(values(&dataset), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn without_a_header_the_label_is_the_column_of_words_or_the_one_that_is_named() {
    assert_eq!(read("1,2,b\n3,4,a\n").train.labels, [1, 0]);
    let message = told("1,2,3\n4,5,6\n");
    assert!(message.contains("which column of 'a.csv' has the label cannot be told"), "{message}");
    let first = source(Header::Detected, LabelColumn::Index(0), &[]);
    let dataset = open(&[("a.csv", b"1,2,3\n4,5,6\n")], Some(&first)).unwrap();
    assert_eq!((dataset.train.labels.as_slice(), values(&dataset)), (&[1, 4][..], &[2.0, 3.0, 5.0, 6.0][..]));
    let named = source(Header::Detected, LabelColumn::Name("2".into()), &[]);
    assert_eq!(open(&[("a.csv", b"1,2,3\n4,5,6\n")], Some(&named)).unwrap().train.labels, [5]);
    let present = source(Header::Present, LabelColumn::Index(2), &[]);
    assert_eq!(open(&[("a.csv", b"1,2,3\n4,5,6\n")], Some(&present)).unwrap().train.labels, [6]);
}

#[test]
fn a_shape_makes_images_of_rows() {
    let with = |shape: &[u32]| source(Header::Absent, LabelColumn::Index(4), shape);
    let rows: [(&str, &[u8]); 1] = [("a.csv", b"1,2,3,4,0\n5,6,7,8,1\n")];
    assert_eq!(open(&rows, Some(&with(&[1, 2, 2]))).unwrap().train.sample_shape, [1, 2, 2]);
    let (_, message) = refused(&rows, Some(&with(&[1, 2, 3])));
    assert_eq!(message, "`data.source.csv.shape` is [1, 2, 3]; there are 4 columns without the label");
    assert!(refused(&rows, Some(&with(&[1 << 31; 8]))).1.contains("there are 4 columns"));
}

#[test]
fn files_of_splits_have_the_same_columns_and_classes() {
    let train: (&str, &[u8]) = ("train.csv", b"a,b,class\n1,2,x\n3,4,y\n");
    let with = |test: &[u8]| open(&[train, ("test.csv", test)], None);
    let dataset = with(b"a,b,class\n5,6,y\n").unwrap();
    assert_eq!((dataset.train.labels.as_slice(), dataset.test.unwrap().labels.as_slice()), (&[0, 1][..], &[1][..]));
    let message = |test: &[u8]| with(test).unwrap_err().to_string();
    assert_eq!(message(b"b,a,class\n5,6,y\n"), "file 'test.csv': it has other columns than 'train.csv'");
    assert_eq!(message(b"a,b,c,class\n5,6,7,y\n"), "file 'test.csv': it has other columns than 'train.csv'");
    assert_eq!(
        message(b"a,b,class\n5,6,y\n5,6,z\n"),
        "file 'test.csv': line 3: no training sample has its class, \"z\""
    );
    assert!(refused(&[train, ("more.csv", train.1)], None).1.contains("may both be meant"));
}

#[test]
fn a_field_that_is_no_finite_number_is_named_by_line_and_column() {
    let cell = |field: &str| told(&format!("a,b,label\n1,2,0\n3,{field},1\n"));
    assert_eq!(cell("x"), "file 'a.csv', line 3, column \"b\": \"x\" is no number");
    assert_eq!(cell(" "), "file 'a.csv', line 3, column \"b\": there is no value");
    for field in ["nan", "inf", "-Infinity", "1e999"] {
        assert_eq!(cell(field), format!("file 'a.csv', line 3, column \"b\": {field:?} is not finite"));
    }
    assert!(cell("=cmd()").contains("\"=cmd()\" is no number"));
    assert!(cell(&"9z".repeat(1000)).len() < 200);
    assert_eq!(told("1,2,a\n1,,b\n"), "file 'a.csv', line 2, column 1: there is no value");
    let utf16: Vec<u8> = "1,2,a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let index = source(Header::Absent, LabelColumn::Index(2), &[]);
    assert!(refused(&[("a.csv", &utf16)], Some(&index)).1.contains("line 1, column 0"));
}

#[test]
fn labels_that_are_no_classes_are_refused() {
    assert!(told("a,label\n1,0.5\n2,1\n").contains("the labels are numbers, but \"0.5\" is no whole one"));
    assert_eq!(told("a,label\n1,0\n2,-1\n"), "file 'a.csv': label -1 of sample 1 is not between 0 and 1048575");
    assert!(told("a,label\n1,0\n2,99999999999\n").contains("label 99999999999 of sample 1"));
    assert!(told("a,label\n1,0\n2,\n").contains("line 3, column \"label\": the label \"\" is empty"));
    let bad: &[u8] = b"a,label\n1,x\n2,\xff\n";
    assert!(refused(&[("a.csv", bad)], None).1.contains("line 3, column \"label\""));
}

#[test]
fn ragged_rows_are_named_by_line() {
    assert_eq!(told("a,b,label\n1,2,0\n1,2\n"), "file 'a.csv': line 3 has 2 fields, the first row has 3");
    assert_eq!(told("a,b,label\n1,2,0,4\n"), "file 'a.csv': line 2 has 4 fields, the first row has 3");
}

#[test]
fn columns_that_are_not_there_are_named() {
    let with = |header, label, text: &str| refused(&[("a.csv", text.as_bytes())], Some(&source(header, label, &[]))).1;
    let named = |name: &str| LabelColumn::Name(name.into());
    assert!(with(Header::Detected, named("c"), "a,b\n1,2\n").contains("is column 'c', which file 'a.csv' has not"));
    assert!(with(Header::Detected, named("a"), "a,a\n1,2\n").contains("'a', which file 'a.csv' has twice"));
    assert!(with(Header::Absent, named("a"), "1,2\n").contains("has no row of names"));
    assert!(with(Header::Detected, LabelColumn::Index(2), "a,b\n1,2\n").contains("has columns 0 to 1"));
    assert!(with(Header::Detected, LabelColumn::Index(0), "label\n1\n").contains("one column alone"));
}

#[test]
fn files_without_samples_are_refused() {
    let index = source(Header::Detected, LabelColumn::Index(0), &[]);
    for text in ["", "\n\n", "a,b\n"] {
        let (reason, _) = refused(&[("a.csv", text.as_bytes())], Some(&index));
        assert_eq!(reason, "DATASET_EMPTY", "{text:?}");
    }
}

#[test]
fn a_row_or_a_quote_without_an_end_does_not_fill_the_memory() {
    let index = source(Header::Absent, LabelColumn::Index(0), &[]);
    let row = format!("1,2\n3,{}", "4".repeat(2 * MAX_ROW));
    let quote = format!("1,2\n3,\"{}", "4\n".repeat(MAX_ROW));
    for text in [row, quote] {
        let (reason, message) = refused(&[("a.csv", text.as_bytes())], Some(&index));
        assert_eq!(
            (reason, message.as_str()),
            ("DATASET_FORMAT", "file 'a.csv': the row after line 1 has more than 4194304 bytes")
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in prop::collection::vec((0u32..5, any::<[f32; 3]>()), 1..20)) {
        prop_assume!(rows.iter().all(|(_, values)| values.iter().all(|v| v.is_finite())));
        let text: String = rows.iter().map(|(label, [a, b, c])| format!("{a:e},{b},{label},{c:?}\n")).collect();
        let dataset = open(&[("a.csv", text.as_bytes())], Some(&source(Header::Absent, LabelColumn::Index(2), &[]))).unwrap();
        prop_assert_eq!(&dataset.train.labels, &rows.iter().map(|(label, _)| *label).collect::<Vec<_>>());
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(values(&dataset)), bits(&rows.iter().flat_map(|(_, values)| *values).collect::<Vec<_>>()));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop_oneof![Just(b','), Just(b'\n'), Just(b'"'), any::<u8>()], 0..100)) {
        let _ = open(&[("a.csv", &bytes)], Some(&source(Header::Detected, LabelColumn::Detected, &[])));
    }
}
