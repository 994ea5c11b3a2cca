//! Records, right and wrong.

use std::path::Path;

use crate::data::source::fixture::{open, refused};
use crate::data::{self, BySplit, CifarForm, DataSource, Files, Inputs};

/// A record with these labels, whose pixels are all `pixel`.
fn record(labels: &[u8], pixel: u8) -> Vec<u8> {
    [labels, &[pixel; 3072]].concat()
}

fn source(train: &[&str], form: CifarForm) -> DataSource {
    DataSource::Cifar { files: BySplit::train(train.iter().map(ToString::to_string).collect()), form }
}

#[test]
fn files_with_whole_records_are_taken_together_in_the_order_of_their_names() {
    let (first, second) = ([record(&[3], 1), record(&[9], 2)].concat(), record(&[0], 3));
    let dataset = open(
        &[
            ("data_batch_2.bin", &second),
            ("data_batch_1.bin", &first),
            ("test_batch.bin", &record(&[4], 4)),
            ("readme.html", b"<html>"),
        ],
        None,
    )
    .unwrap();
    assert_eq!((dataset.source, dataset.classes), ("cifar", 10));
    assert_eq!(
        (dataset.train.sample_shape.as_slice(), dataset.train.labels.as_slice()),
        (&[3, 32, 32][..], &[3, 9, 0][..])
    );
    let Inputs::U8(pixels) = &dataset.train.inputs else { panic!() };
    assert_eq!((pixels.len(), pixels[0], pixels[3072], pixels[2 * 3072]), (3 * 3072, 1, 2, 3));
    assert_eq!(dataset.test.unwrap().labels, [4]);
    assert!(dataset.class_names.is_empty());
}

#[test]
fn a_damaged_file_beside_sound_ones_is_refused_and_not_left_out() {
    let cut = &record(&[1], 0)[..3072];
    let (reason, message) = refused(&[("data_batch_1.bin", &record(&[3], 1)), ("test_batch.bin", cut)], None);
    assert!(message.contains("'test_batch.bin'"), "{reason}: {message}");
}

#[test]
fn names_of_the_classes_come_from_the_file_beside_the_records() {
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    let with =
        |names: &str| open(&[("x/a.bin", &record(&[1], 0)), ("x/batches.meta.txt", names.as_bytes())], None).unwrap();
    let dataset = with(names);
    assert_eq!((dataset.classes, dataset.class_names[9].as_str()), (10, "truck"));
    // Others are no names of these classes.
    assert!(with("airplane\n").class_names.is_empty());
}

#[test]
fn cifar_100_is_told_by_its_record_length_and_labelled_as_asked() {
    let records = [record(&[19, 99], 0), record(&[2, 40], 0)].concat();
    let dataset = open(&[("train.bin", &records)], None).unwrap();
    assert_eq!(dataset.train.labels, [99, 40]);
    let coarse = open(&[("train.bin", &records)], Some(&source(&["train.bin"], CifarForm::Cifar100Coarse))).unwrap();
    assert_eq!(coarse.train.labels, [19, 2]);
}

#[test]
fn what_are_no_whole_records_is_refused() {
    let whole = record(&[1], 7);
    let source = source(&["a.bin"], CifarForm::Cifar10);
    for length in [1, 1000, 3072] {
        let (reason, message) = refused(&[("a.bin", &whole[..length])], Some(&source));
        assert_eq!(reason, "TRUNCATED");
        assert!(message.contains("whole records of 3073"), "{message}");
        assert_eq!(refused(&[("a.bin", &whole[..length])], None).0, "DATASET_EMPTY");
    }
    assert_eq!(refused(&[("a.bin", b"")], Some(&source)).0, "DATASET_EMPTY");
}

#[test]
fn a_label_that_is_no_class_is_named_with_its_sample() {
    let bad = [record(&[1], 0), record(&[10], 0)].concat();
    let (reason, message) = refused(&[("a.bin", &bad)], Some(&source(&["a.bin"], CifarForm::Cifar10)));
    assert_eq!((reason, message.as_str()), ("LABELS", "file 'a.bin': label 10 of sample 1 is not between 0 and 9"));
    let fine = source(&["a.bin"], CifarForm::Cifar100Fine);
    assert!(refused(&[("a.bin", &record(&[0, 100], 0))], Some(&fine)).1.contains("label 100"));
    // Such a file is not taken for CIFAR's in the first place.
    assert_eq!(refused(&[("a.bin", &bad)], None).0, "DATASET_EMPTY");
}

#[test]
fn records_of_two_lengths_make_no_data_set() {
    let (reason, message) = refused(&[("a.bin", &record(&[1], 0)), ("b.bin", &record(&[1, 1], 0))], None);
    assert_eq!(reason, "DATASET_FORMAT");
    assert!(message.contains("'a.bin' and 'b.bin' have records of different lengths"), "{message}");
}

/// The real CIFAR-10, where `NIWAKI_TEST_DATA` names a folder that has it under `cifar10`.
#[test]
fn cifar_10_is_read() {
    let Some(folder) = std::env::var_os("NIWAKI_TEST_DATA") else {
        eprintln!("skipped: NIWAKI_TEST_DATA is not set");
        return;
    };
    let dataset = data::open(&Files::from_path(&Path::new(&folder).join("cifar10")).unwrap(), None).unwrap();
    let test = dataset.test.unwrap();
    assert_eq!((dataset.source, dataset.classes, test.labels.len()), ("cifar", 10, 10_000));
    assert_eq!(
        (dataset.class_names[0].as_str(), dataset.train.sample_shape.as_slice()),
        ("airplane", &[3, 32, 32][..])
    );
    // The test set has a thousand pictures of each class.
    assert!((0..10).all(|class| test.labels.iter().filter(|label| **label == class).count() == 1000));
}
