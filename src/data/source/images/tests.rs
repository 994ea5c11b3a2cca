//! Folders of pictures, right and wrong.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use proptest::prelude::*;

use crate::data::source::fixture::{open, refused};
use crate::data::{BySplit, Color, DataError, DataSource, Inputs};

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A grey PNG of 3 x 2 pixels (width by height), whose values are `first`, `first + 1`, ...
fn grey(first: u8) -> Vec<u8> {
    let pixels = (first..first + 6).collect();
    encoded(GrayImage::from_raw(3, 2, pixels).unwrap(), ImageFormat::Png)
}

fn colored(width: u32, height: u32, pixel: [u8; 3], format: ImageFormat) -> Vec<u8> {
    encoded(RgbImage::from_pixel(width, height, Rgb(pixel)), format)
}

fn source(train: &str, size: Option<(u32, u32)>, color: Color) -> DataSource {
    DataSource::Images { folders: BySplit::train(train.to_string()), size, color }
}

fn whole_tree(size: Option<(u32, u32)>, color: Color) -> DataSource {
    source("", size, color)
}

/// The start of a PNG that says it has these sizes.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let header = [b"IHDR", &width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    [b"\x89PNG\r\n\x1a\n", &13u32.to_be_bytes()[..], &header, &crc.sum().to_be_bytes(), b"\0\0\0\0IDAT"].concat()
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let dataset =
        open(&[("zebra/1.png", &grey(10)), ("ant/more/2.png", &grey(30)), ("ant/1.png", &grey(20))], None).unwrap();
    assert_eq!((dataset.source, dataset.classes), ("images", 2));
    assert_eq!(dataset.class_names, ["ant", "zebra"]);
    assert_eq!(
        (dataset.train.sample_shape.as_slice(), dataset.train.labels.as_slice()),
        (&[1, 2, 3][..], &[0, 0, 1][..])
    );
    let expected: Vec<u8> = (20..26).chain(30..36).chain(10..16).collect();
    assert_eq!(dataset.train.inputs, Inputs::U8(expected.into()));
}

#[test]
fn folders_of_splits_are_known_by_their_names_and_share_the_classes() {
    let picture = grey(0);
    let dataset = open(
        &[
            ("train/cat/1.png", &picture),
            ("train/dog/1.png", &picture),
            ("val/dog/1.png", &picture),
            ("test/dog/1.png", &picture),
            ("LICENSE", b"..."),
        ],
        None,
    )
    .unwrap();
    assert_eq!((dataset.train.labels.as_slice(), dataset.class_names.len()), (&[0, 1][..], 2));
    assert_eq!(
        (dataset.validation.unwrap().labels.as_slice(), dataset.test.unwrap().labels.as_slice()),
        (&[1][..], &[1][..])
    );
}

#[test]
fn folders_of_splits_beside_others_are_refused_until_it_is_said_what_they_are() {
    let picture = grey(0);
    let problem = |folders: &[&str]| {
        let names: Vec<String> = folders.iter().map(|folder| format!("{folder}/a/1.png")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), picture.as_slice())).collect();
        match open(&files, None) {
            Err(DataError::Unclear { problem }) => problem,
            other => panic!("{folders:?}: {other:?}"),
        }
    };
    let beside = problem(&["docs", "test", "train"]);
    assert!(beside.starts_with("the folder 'train' is for a split by its name, and 'docs' is for none: "), "{beside}");
    assert!(problem(&["car", "train"]).contains("'car' is for none"));
    for (one, other) in [("val", "validation"), ("Train", "train"), ("test", "testing")] {
        let twice = problem(&["train", one, other]);
        assert!(twice.starts_with(&format!("the folders '{one}' and '{other}' are for the same split")), "{twice}");
    }
    assert_eq!(problem(&["test", "val"]), "no folder of pictures is for training, by their names");
    // Cars and trains: said to be classes, they are.
    let classes = whole_tree(None, Color::Detected);
    let dataset = open(&[("train/1.png", &picture), ("car/1.png", &picture)], Some(&classes)).unwrap();
    assert_eq!(dataset.class_names, ["car", "train"]);
}

#[test]
fn colours_are_planes_unless_all_pictures_are_grey_or_grey_is_wanted() {
    let red = colored(3, 2, [255, 0, 0], ImageFormat::Png);
    let files: [(&str, &[u8]); 2] = [("a/1.png", &grey(0)), ("b/1.png", &red)];
    let dataset = open(&files, None).unwrap();
    assert_eq!(dataset.train.sample_shape, [3, 2, 3]);
    let Inputs::U8(values) = &dataset.train.inputs else { panic!() };
    assert_eq!(values[18..], [[255; 6], [0; 6], [0; 6]].concat());
    assert_eq!(values[..18], [[0, 1, 2, 3, 4, 5]; 3].concat());
    let grey_ones = open(&files, Some(&whole_tree(None, Color::Grey))).unwrap();
    assert_eq!(grey_ones.train.sample_shape, [1, 2, 3]);
    let Inputs::U8(values) = &grey_ones.train.inputs else { panic!() };
    // The weight of red in Rec. 709 is 0.2126.
    assert_eq!(values[6..], [54; 6]);
    let rgb = open(&[("a/1.png", &grey(0)), ("b/1.png", &grey(0))], Some(&whole_tree(None, Color::Rgb))).unwrap();
    assert_eq!(rgb.train.sample_shape, [3, 2, 3]);
}

#[test]
fn png_of_any_depth_and_jpeg_are_known_by_their_content() {
    let deep = encoded(image::ImageBuffer::<Luma<u16>, _>::from_pixel(8, 8, Luma([0x8080])), ImageFormat::Png);
    let jpeg = colored(8, 8, [128, 128, 128], ImageFormat::Jpeg);
    let dataset = open(&[("a/jpeg.png", &jpeg), ("b/deep.jpg", &deep)], Some(&whole_tree(None, Color::Grey))).unwrap();
    let Inputs::U8(values) = &dataset.train.inputs else { panic!() };
    assert!(values.iter().all(|v| v.abs_diff(128) <= 1), "{values:?}");
}

#[test]
fn pictures_are_brought_to_one_size_where_that_is_asked_for() {
    let files: [(&str, &[u8]); 2] = [
        ("a/1.png", &colored(40, 20, [10, 20, 30], ImageFormat::Png)),
        ("b/1.png", &colored(4, 5, [40, 50, 60], ImageFormat::Png)),
    ];
    let (reason, message) = refused(&files, None);
    assert_eq!(reason, "DATASET_FORMAT");
    assert!(message.starts_with("file 'b/1.png': the picture has 5 x 4 pixels, 'a/1.png' has 20 x 40"), "{message}");
    let dataset = open(&files, Some(&whole_tree(Some((7, 9)), Color::Detected))).unwrap();
    assert_eq!(dataset.train.sample_shape, [3, 7, 9]);
    let expected = [10, 20, 30, 40, 50, 60].map(|value| [value; 63]).concat();
    assert_eq!(dataset.train.inputs, Inputs::U8(expected.into()));
}

#[test]
fn a_picture_that_shrinks_keeps_its_mean() {
    // Black and white by turns: a filter that is not widened would see one of the two.
    let stripes = GrayImage::from_fn(64, 64, |x, _| Luma([if x % 2 == 0 { 0 } else { 255 }]));
    let stripes = encoded(stripes, ImageFormat::Png);
    let files: [(&str, &[u8]); 2] = [("a/1.png", &stripes), ("b/1.png", &stripes)];
    let dataset = open(&files, Some(&whole_tree(Some((8, 8)), Color::Grey))).unwrap();
    let Inputs::U8(values) = &dataset.train.inputs else { panic!() };
    assert!(values.iter().all(|v| v.abs_diff(127) <= 8), "{values:?}");
}

#[test]
fn what_is_no_picture_is_named() {
    let picture = grey(0);
    let with = |bad: &[u8]| refused(&[("a/1.png", &picture), ("b/1.png", &picture), ("b/2.png", bad)], None);
    let (reason, message) = with(b"this is a text");
    assert_eq!(reason, "DATASET_FORMAT");
    assert_eq!(message, "file 'b/2.png': it is neither a PNG nor a JPEG picture, but lies in the folder of a class");
    assert!(with(b"").1.contains("'b/2.png': it is neither"));
    assert!(with(b"GIF89a").1.contains("'b/2.png': it is neither"));
    for length in [9, 20, 40, picture.len() / 2, picture.len() - 20] {
        let (reason, message) = with(&picture[..length]);
        assert!(["TRUNCATED", "DATASET_FORMAT"].contains(&reason), "{length}: {reason}");
        assert!(message.contains("'b/2.png'"), "{message}");
    }
    let mut damaged = picture.clone();
    damaged[20] ^= 1;
    assert!(with(&damaged).1.contains("the picture cannot be decoded"), "{:?}", with(&damaged));
    let jpeg = colored(3, 2, [1, 2, 3], ImageFormat::Jpeg);
    assert!(with(&jpeg[..30]).1.contains("'b/2.png'"));
    assert_eq!(with(&jpeg[..jpeg.len() - 2]).1, "file 'b/2.png' is cut short: the picture ends in the middle");
}

#[test]
fn a_picture_that_says_it_is_huge_is_refused_before_memory_is_taken() {
    let picture = grey(0);
    let with = |bad: &[u8]| refused(&[("a/1.png", &picture), ("b/1.png", bad)], None).1;
    for (width, height) in [(100_000, 100_000), (u32::MAX >> 1, 1), (1, 4097)] {
        let message = with(&claiming(width, height));
        assert!(message.contains("'b/1.png': the picture has more than 4096 pixels on a side"), "{message}");
    }
    assert!(with(&claiming(0, 5)).contains("'b/1.png'"));
    // Within the limits, but there are no such bytes.
    assert!(with(&claiming(4096, 4096)).contains("'b/1.png'"));
}

#[test]
fn more_pixels_than_fit_into_memory_are_refused_by_the_headers_alone() {
    let wide = claiming(4096, 4096);
    let files: Vec<(String, &[u8])> = (0..22).map(|i| (format!("c{i:02}/1.png"), wide.as_slice())).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let (reason, message) = refused(&files, None);
    assert_eq!(reason, "DATASET_SIZE", "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn no_changed_byte_makes_the_reader_panic(place: prop::sample::Index, value: u8, jpeg: bool) {
        let mut bytes = if jpeg { colored(9, 9, [1, 200, 3], ImageFormat::Jpeg) } else { grey(0) };
        let place = place.index(bytes.len());
        bytes[place] = value;
        let _ = open(&[("a/1", &bytes), ("b/1", &grey(0))], Some(&whole_tree(Some((3, 3)), Color::Rgb)));
    }
}

#[test]
fn pictures_are_labelled_by_a_folder() {
    let picture = grey(0);
    let told = |files: &[(&str, &[u8])], source: Option<&DataSource>| refused(files, source).1;
    let message = told(&[("a/1.png", &picture), ("b/1.png", &picture), ("1.png", &picture)], None);
    assert_eq!(message, "file '1.png': it lies in no folder that would name its class");
    let message = told(&[("a/1.png", &picture), ("a/2.png", &picture)], None);
    assert!(message.contains("lie in the folder of one class alone: 'a'"), "{message}");
    let unknown: [(&str, &[u8]); 3] =
        [("train/a/1.png", &picture), ("train/b/1.png", &picture), ("test/c/1.png", &picture)];
    assert_eq!(told(&unknown, None), "file 'test/c/1.png': no training picture is of its class, 'c'");
    let nowhere = source("other", None, Color::Detected);
    assert_eq!(
        told(&[("a/1.png", &picture)], Some(&nowhere)),
        "there are no folders with pictures in the folder 'other'"
    );
    assert!(told(&[("1.png", &picture), ("2.png", &picture)], None).contains("1.png (a picture in no folder)"));
}
