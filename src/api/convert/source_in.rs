//! `niwaki.v1.DataSource` to what it means. The bounds and defaults are those of the comments in `data.proto`.

use super::{Checks, Path};
use crate::api::v1;
use crate::data::{BySplit, CifarForm, Color, DataSource, Header, IdxPair, LabelColumn, Layout, NpzPair};

/// What a source can be, as its fields are called.
const KINDS: &str = "idx, safetensors, cifar, npz, images, csv, ts";
/// Files with the records of one split.
const MAX_FILES: usize = 64;
/// Pixels on a side of a picture that others are brought to.
const MAX_SIDE: u32 = 1024;
/// Axes of a sample.
const MAX_RANK: usize = 8;

pub fn source(pb: v1::DataSource, at: &Path, checks: &mut Checks) -> Option<DataSource> {
    use v1::data_source::Kind;
    Some(match pb.kind {
        None => {
            checks.refuse(at, format!("says not what the files are: one of {KINDS} is needed"));
            return None;
        }
        Some(Kind::Idx(pb)) => DataSource::Idx(idx(pb, &at.field("idx"), checks)),
        Some(Kind::Safetensors(pb)) => {
            let at = at.field("safetensors");
            let files = [pb.train, pb.validation, pb.selection, pb.test];
            DataSource::Safetensors {
                files: by_split(files, &at, checks, Checks::name),
                inputs: checks.name(&at.field("inputs"), or(pb.inputs, "inputs")),
                labels: checks.name(&at.field("labels"), or(pb.labels, "labels")),
            }
        }
        Some(Kind::Cifar(pb)) => cifar(pb, &at.field("cifar"), checks),
        Some(Kind::Npz(pb)) => npz(pb, &at.field("npz"), checks),
        Some(Kind::Images(pb)) => images(pb, &at.field("images"), checks),
        Some(Kind::Csv(pb)) => csv(pb, &at.field("csv"), checks),
        Some(Kind::Ts(pb)) => {
            let files = [pb.train, pb.validation, pb.selection, pb.test];
            DataSource::Ts(by_split(files, &at.field("ts"), checks, Checks::name))
        }
    })
}

/// What each split has: the training split's is needed, an empty one of another is none.
fn by_split(
    [train, validation, selection, test]: [String; 4],
    at: &Path,
    checks: &mut Checks,
    needed: fn(&mut Checks, &Path, String) -> String,
) -> BySplit<String> {
    let train = needed(checks, &at.field("train"), train);
    let mut other = |name: &str, value: String| (!value.is_empty()).then(|| checks.name(&at.field(name), value));
    BySplit {
        train,
        validation: other("validation", validation),
        selection: other("selection", selection),
        test: other("test", test),
    }
}

fn or(text: String, usual: &str) -> String {
    if text.is_empty() { usual.to_string() } else { text }
}

fn idx(pb: v1::IdxSource, at: &Path, checks: &mut Checks) -> BySplit<IdxPair> {
    let mut pair = |split: &str, inputs: String, labels: String| IdxPair {
        inputs: checks.name(&at.field(&format!("{split}_inputs")), inputs),
        labels: checks.name(&at.field(&format!("{split}_labels")), labels),
    };
    let train = pair("train", pb.train_inputs, pb.train_labels);
    let mut other = |split: &str, inputs: String, labels: String| {
        (!inputs.is_empty() || !labels.is_empty()).then(|| pair(split, inputs, labels))
    };
    BySplit {
        train,
        validation: other("validation", pb.validation_inputs, pb.validation_labels),
        selection: other("selection", pb.selection_inputs, pb.selection_labels),
        test: other("test", pb.test_inputs, pb.test_labels),
    }
}

fn cifar(pb: v1::CifarSource, at: &Path, checks: &mut Checks) -> DataSource {
    use v1::cifar_source::Form;
    let mut files = |split: &str, files: Vec<String>, least: usize| {
        let at = at.field(split);
        if !(least..=MAX_FILES).contains(&files.len()) {
            checks.refuse(&at, format!("has {} files: {least} to {MAX_FILES} are allowed", files.len()));
            return Vec::new();
        }
        files.into_iter().enumerate().map(|(i, file)| checks.name(&at.index(i), file)).collect()
    };
    let train = files("train", pb.train, 1);
    let mut other = |split: &str, names: Vec<String>| (!names.is_empty()).then(|| files(split, names, 1));
    let files = BySplit {
        train,
        validation: other("validation", pb.validation),
        selection: other("selection", pb.selection),
        test: other("test", pb.test),
    };
    let form = match Form::try_from(pb.form) {
        Ok(Form::Unspecified | Form::Cifar10) => CifarForm::Cifar10,
        Ok(Form::Cifar100Fine) => CifarForm::Cifar100Fine,
        Ok(Form::Cifar100Coarse) => CifarForm::Cifar100Coarse,
        Err(_) => {
            checks.refuse(&at.field("form"), format!("{} is none of the forms", pb.form));
            CifarForm::Cifar10
        }
    };
    DataSource::Cifar { files, form }
}

fn npz(pb: v1::NpzSource, at: &Path, checks: &mut Checks) -> DataSource {
    use v1::npz_source::Layout as PbLayout;
    let mut pair = |split: &str, pb: v1::NpzArrays| {
        let at = at.field(split);
        NpzPair {
            file: checks.name(&at.field("file"), pb.file),
            inputs: checks.name(&at.field("inputs"), or(pb.inputs, "inputs")),
            labels: checks.name(&at.field("labels"), or(pb.labels, "labels")),
        }
    };
    let arrays = BySplit {
        // Without it, its file is missing.
        train: pair("train", pb.train.unwrap_or_default()),
        validation: pb.validation.map(|pb| pair("validation", pb)),
        selection: pb.selection.map(|pb| pair("selection", pb)),
        test: pb.test.map(|pb| pair("test", pb)),
    };
    let layout = match PbLayout::try_from(pb.layout) {
        Ok(PbLayout::Unspecified) => Layout::Detected,
        Ok(PbLayout::ChannelsFirst) => Layout::ChannelsFirst,
        Ok(PbLayout::ChannelsLast) => Layout::ChannelsLast,
        Err(_) => {
            checks.refuse(&at.field("layout"), format!("{} is none of the layouts", pb.layout));
            Layout::Detected
        }
    };
    DataSource::Npz { arrays, layout }
}

fn images(pb: v1::ImagesSource, at: &Path, checks: &mut Checks) -> DataSource {
    use v1::images_source::Color as PbColor;
    let folders = [pb.train, pb.validation, pb.selection, pb.test].map(|folder| match folder.strip_suffix('/') {
        Some(folder) => folder.to_string(),
        None => folder,
    });
    // The top has no name.
    let folders = by_split(folders, at, checks, |checks, at, folder| checks.text(at, folder, 512));
    let size = match pb.size[..] {
        [] => None,
        [height, width] => {
            let at = at.field("size");
            let height = checks.whole(&at.index(0), height, 1, MAX_SIDE);
            Some((height, checks.whole(&at.index(1), width, 1, MAX_SIDE)))
        }
        _ => {
            let given = pb.size.len();
            checks.refuse(&at.field("size"), format!("has {given} numbers: height and width are two"));
            None
        }
    };
    let color = match PbColor::try_from(pb.color) {
        Ok(PbColor::Unspecified) => Color::Detected,
        Ok(PbColor::Grey) => Color::Grey,
        Ok(PbColor::Rgb) => Color::Rgb,
        Err(_) => {
            checks.refuse(&at.field("color"), format!("{} is none of the colors", pb.color));
            Color::Detected
        }
    };
    DataSource::Images { folders, size, color }
}

fn csv(pb: v1::CsvSource, at: &Path, checks: &mut Checks) -> DataSource {
    use v1::csv_source::{Header as PbHeader, Label};
    let files = by_split([pb.train, pb.validation, pb.selection, pb.test], at, checks, Checks::name);
    let header = match PbHeader::try_from(pb.header) {
        Ok(PbHeader::Unspecified) => Header::Detected,
        Ok(PbHeader::Present) => Header::Present,
        Ok(PbHeader::Absent) => Header::Absent,
        Err(_) => {
            checks.refuse(&at.field("header"), format!("{} is none of the kinds of header", pb.header));
            Header::Detected
        }
    };
    let label = match pb.label {
        None => LabelColumn::Detected,
        Some(Label::LabelName(name)) => LabelColumn::Name(checks.name(&at.field("label_name"), name)),
        Some(Label::LabelIndex(index)) => LabelColumn::Index(index),
    };
    if header == Header::Absent && matches!(label, LabelColumn::Name(_)) {
        checks.refuse(&at.field("label_name"), "names a column, but there is no header");
    }
    if pb.shape.len() > MAX_RANK {
        checks.refuse(&at.field("shape"), format!("has {} axes, at most {MAX_RANK} are allowed", pb.shape.len()));
    }
    let shape = pb.shape.into_iter().take(MAX_RANK).enumerate();
    let shape = shape.map(|(i, dim)| checks.whole(&at.field("shape").index(i), dim, 1, 1 << 24)).collect();
    DataSource::Csv { files, header, label, shape }
}
