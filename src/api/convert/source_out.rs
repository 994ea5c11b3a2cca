//! Which files of a data set are what, to `niwaki.v1.DataSource`.

use crate::api::v1;
use crate::data::{BySplit, CifarForm, Color, DataSource, Header, IdxPair, LabelColumn, Layout, NpzPair};

pub fn source(source: &DataSource) -> v1::DataSource {
    use v1::data_source::Kind;
    let kind = match source {
        DataSource::Idx(pairs) => Kind::Idx(idx(pairs)),
        DataSource::Safetensors { files, inputs, labels } => {
            let BySplit { train, validation, selection, test } = files.clone();
            Kind::Safetensors(v1::SafetensorsSource {
                train,
                test: test.unwrap_or_default(),
                inputs: inputs.clone(),
                labels: labels.clone(),
                validation: validation.unwrap_or_default(),
                selection: selection.unwrap_or_default(),
            })
        }
        DataSource::Cifar { files, form } => {
            let BySplit { train, validation, selection, test } = files.clone();
            Kind::Cifar(v1::CifarSource {
                train,
                validation: validation.unwrap_or_default(),
                selection: selection.unwrap_or_default(),
                test: test.unwrap_or_default(),
                form: cifar_form(*form) as i32,
            })
        }
        DataSource::Npz { arrays, layout } => Kind::Npz(v1::NpzSource {
            train: Some(npz(&arrays.train)),
            validation: arrays.validation.as_ref().map(npz),
            selection: arrays.selection.as_ref().map(npz),
            test: arrays.test.as_ref().map(npz),
            layout: layout_of(*layout) as i32,
        }),
        DataSource::Images { folders, size, color } => {
            let BySplit { train, validation, selection, test } = folders.clone();
            Kind::Images(v1::ImagesSource {
                train,
                validation: validation.unwrap_or_default(),
                selection: selection.unwrap_or_default(),
                test: test.unwrap_or_default(),
                size: size.map_or_else(Vec::new, |(height, width)| vec![height, width]),
                color: color_of(*color) as i32,
            })
        }
        DataSource::Csv { files, header, label, shape } => {
            let BySplit { train, validation, selection, test } = files.clone();
            Kind::Csv(v1::CsvSource {
                train,
                validation: validation.unwrap_or_default(),
                selection: selection.unwrap_or_default(),
                test: test.unwrap_or_default(),
                header: header_of(*header) as i32,
                shape: shape.clone(),
                label: label_column(label),
            })
        }
        DataSource::Ts(files) => {
            let BySplit { train, validation, selection, test } = files.clone();
            Kind::Ts(v1::TsSource {
                train,
                validation: validation.unwrap_or_default(),
                selection: selection.unwrap_or_default(),
                test: test.unwrap_or_default(),
            })
        }
    };
    v1::DataSource { kind: Some(kind) }
}

fn idx(pairs: &BySplit<IdxPair>) -> v1::IdxSource {
    let inputs = |pair: &Option<IdxPair>| pair.as_ref().map(|pair| pair.inputs.clone()).unwrap_or_default();
    let labels = |pair: &Option<IdxPair>| pair.as_ref().map(|pair| pair.labels.clone()).unwrap_or_default();
    v1::IdxSource {
        train_inputs: pairs.train.inputs.clone(),
        train_labels: pairs.train.labels.clone(),
        test_inputs: inputs(&pairs.test),
        test_labels: labels(&pairs.test),
        validation_inputs: inputs(&pairs.validation),
        validation_labels: labels(&pairs.validation),
        selection_inputs: inputs(&pairs.selection),
        selection_labels: labels(&pairs.selection),
    }
}

fn npz(pair: &NpzPair) -> v1::NpzArrays {
    v1::NpzArrays { file: pair.file.clone(), inputs: pair.inputs.clone(), labels: pair.labels.clone() }
}

fn cifar_form(form: CifarForm) -> v1::cifar_source::Form {
    match form {
        CifarForm::Cifar10 => v1::cifar_source::Form::Cifar10,
        CifarForm::Cifar100Fine => v1::cifar_source::Form::Cifar100Fine,
        CifarForm::Cifar100Coarse => v1::cifar_source::Form::Cifar100Coarse,
    }
}

fn layout_of(layout: Layout) -> v1::npz_source::Layout {
    match layout {
        Layout::Detected => v1::npz_source::Layout::Unspecified,
        Layout::ChannelsFirst => v1::npz_source::Layout::ChannelsFirst,
        Layout::ChannelsLast => v1::npz_source::Layout::ChannelsLast,
    }
}

fn color_of(color: Color) -> v1::images_source::Color {
    match color {
        Color::Detected => v1::images_source::Color::Unspecified,
        Color::Grey => v1::images_source::Color::Grey,
        Color::Rgb => v1::images_source::Color::Rgb,
    }
}

fn header_of(header: Header) -> v1::csv_source::Header {
    match header {
        Header::Detected => v1::csv_source::Header::Unspecified,
        Header::Present => v1::csv_source::Header::Present,
        Header::Absent => v1::csv_source::Header::Absent,
    }
}

fn label_column(label: &LabelColumn) -> Option<v1::csv_source::Label> {
    match label {
        LabelColumn::Detected => None,
        LabelColumn::Name(name) => Some(v1::csv_source::Label::LabelName(name.clone())),
        LabelColumn::Index(index) => Some(v1::csv_source::Label::LabelIndex(*index)),
    }
}
