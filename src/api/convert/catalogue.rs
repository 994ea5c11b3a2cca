//! Uploads, models and data sets to their messages.

use prost_types::Timestamp;

use super::source_to_pb;
use crate::api::names::Collection;
use crate::api::{status, v1};
use crate::format::Architecture;
use crate::store::{DatasetDetail, Entry, EntryState, FileRef, ModelDetail, Upload, UploadState, etag};

/// The message of an upload.
pub fn upload(upload: Upload) -> v1::Upload {
    let state = match upload.state {
        UploadState::Open => v1::upload::State::Open,
        UploadState::Complete => v1::upload::State::Complete,
    };
    v1::Upload {
        name: Collection::Uploads.name(&upload.tenant, &upload.id),
        file_name: upload.file_name,
        size_bytes: upload.size_bytes,
        digest: upload.digest.to_string(),
        committed_size: upload.committed_size,
        state: state as i32,
        create_time: Some(timestamp(upload.create_ms)),
        expire_time: upload.expire_ms.map(timestamp),
        etag: etag(upload.revision),
    }
}

/// The message of a model.
pub fn model(model: Entry<ModelDetail>) -> v1::Model {
    let detail = model.detail;
    let state = match model.state {
        EntryState::Validating => v1::model::State::Validating,
        EntryState::Ready => v1::model::State::Ready,
        EntryState::Rejected => v1::model::State::Rejected,
        EntryState::Deleted => v1::model::State::Unspecified,
    };
    let ready = model.state == EntryState::Ready;
    v1::Model {
        name: Collection::Models.name(&model.tenant, &model.id),
        display_name: model.display_name,
        files: model.files.into_iter().map(|file| reference(&model.tenant, file)).collect(),
        architecture: detail.architecture.map(architecture),
        state: state as i32,
        summary: ready.then_some(v1::ModelSummary {
            params: detail.params,
            nonzero_params: detail.nonzero_params,
            macs: detail.macs,
            nodes: detail.nodes,
            input_shape: detail.input_shape,
            output_shape: detail.output_shape,
        }),
        create_time: Some(timestamp(model.create_ms)),
        error: model.failure.as_ref().map(status::failure),
        etag: etag(model.revision),
    }
}

/// The message of a data set.
pub fn dataset(dataset: Entry<DatasetDetail>) -> v1::Dataset {
    let detail = dataset.detail;
    let state = match dataset.state {
        EntryState::Validating => v1::dataset::State::Validating,
        EntryState::Ready => v1::dataset::State::Ready,
        EntryState::Rejected => v1::dataset::State::Rejected,
        EntryState::Deleted => v1::dataset::State::Unspecified,
    };
    let ready = dataset.state == EntryState::Ready;
    v1::Dataset {
        name: Collection::Datasets.name(&dataset.tenant, &dataset.id),
        display_name: dataset.display_name,
        files: dataset.files.into_iter().map(|file| reference(&dataset.tenant, file)).collect(),
        state: state as i32,
        summary: ready.then_some(v1::DatasetSummary {
            source: detail.source,
            train_samples: detail.train_samples,
            test_samples: detail.test_samples,
            classes: detail.classes,
            sample_shape: detail.sample_shape,
            validation_samples: detail.validation_samples,
            selection_samples: detail.selection_samples,
            class_names: detail.class_names,
        }),
        create_time: Some(timestamp(dataset.create_ms)),
        source: detail.data_source.as_ref().map(source_to_pb),
        error: dataset.failure.as_ref().map(status::failure),
        etag: etag(dataset.revision),
    }
}

/// The message of an architecture.
pub fn architecture(architecture: Architecture) -> v1::Architecture {
    use v1::architecture::Kind;
    let kind = match architecture {
        Architecture::Preset(name) => Kind::Preset(name),
        Architecture::GraphJson(json) => Kind::GraphJson(json),
    };
    v1::Architecture { kind: Some(kind) }
}

/// A time in milliseconds since 1970.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: (ms.rem_euclid(1000) * 1_000_000) as i32 }
}

fn reference(tenant: &str, file: FileRef) -> v1::FileReference {
    v1::FileReference {
        upload: Collection::Uploads.name(tenant, &file.upload),
        file_name: file.file_name,
        size_bytes: file.size_bytes,
        digest: file.digest,
    }
}
