//! Why files are no data set, or a data set cannot be used as the recipe says.

use std::io;

use thiserror::Error;

use crate::error::{Classify, Kind, Violation};
use crate::format::FormatError;

/// Why files are no data set, or a data set cannot be used as the recipe says.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("'{file}' cannot be read: {source}")]
    Unreadable {
        /// The file's name, or the folder's path.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error("{problem}")]
    Empty {
        /// What is empty.
        problem: String,
    },
    /// A name that stands for no file.
    #[error("there is no file '{file}' in the data set; its files are {}", known.join(", "))]
    UnknownFile {
        /// The name.
        file: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// It is not clear which files are what.
    #[error("which files are what is not clear: {problem}; a recipe's `data.source` can say it")]
    Unclear {
        /// Why.
        problem: String,
    },
    /// A file with other content than it should have.
    #[error("file '{file}': {problem}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that ends too early.
    #[error("file '{file}' is cut short: {problem}")]
    Truncated {
        /// The file.
        file: String,
        /// What is missing.
        problem: String,
    },
    /// A file beyond the limit.
    #[error("file '{file}' holds {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The file.
        file: String,
        /// Its bytes, unpacked.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A file that is no safetensors file.
    #[error("file '{file}': {source}")]
    Container {
        /// The file.
        file: String,
        /// Why not.
        source: Box<FormatError>,
    },
    /// A label that is no class.
    #[error("file '{file}': label {value} of sample {sample} is not between 0 and {}", limit - 1)]
    Label {
        /// The file.
        file: String,
        /// The sample, counted from 0.
        sample: usize,
        /// The label.
        value: i128,
        /// The number of classes there may be.
        limit: u32,
    },
    /// Training samples that are all of one class.
    #[error("{samples} training samples, all with the label {label}: there is nothing to tell apart")]
    OneClass {
        /// The label.
        label: u32,
        /// The training samples.
        samples: usize,
    },
    /// Not one label a sample.
    #[error("{inputs} samples in '{inputs_file}', but {labels} labels in '{labels_file}'")]
    Count {
        /// The file with the inputs.
        inputs_file: String,
        /// Its samples.
        inputs: usize,
        /// The file with the labels.
        labels_file: String,
        /// Its labels.
        labels: usize,
    },
    /// An input that is no number.
    #[error("file '{file}': sample {sample} holds a value that is NaN or infinite")]
    NonFinite {
        /// The file.
        file: String,
        /// The sample, counted from 0.
        sample: usize,
    },
    /// A field of a table with something else than it should have.
    #[error("file '{file}', line {line}, column {column}: {problem}")]
    Cell {
        /// The file.
        file: String,
        /// The line that the row begins in, counted from 1.
        line: u64,
        /// The column's name, or its place, counted from 0.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A field of the recipe's `data` section that does not suit the data set.
    #[error("`{field}` {problem}")]
    Spec {
        /// The field's path.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

impl Classify for DataError {
    fn kind(&self) -> Kind {
        match self {
            DataError::Unreadable { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => {
                Kind::ResourceExhausted
            }
            DataError::Unreadable { .. } => Kind::Internal,
            DataError::TooLarge { .. } => Kind::ResourceExhausted,
            DataError::Container { source, .. } => source.kind(),
            _ => Kind::InvalidArgument,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            DataError::Unreadable { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => "OUT_OF_MEMORY",
            DataError::Unreadable { .. } => "UNREADABLE",
            DataError::Empty { .. } => "DATASET_EMPTY",
            DataError::UnknownFile { .. } => "UNKNOWN_FILE",
            DataError::Unclear { .. } | DataError::Format { .. } | DataError::Cell { .. } => "DATASET_FORMAT",
            DataError::Truncated { .. } => "TRUNCATED",
            DataError::TooLarge { .. } => "DATASET_SIZE",
            DataError::Container { source, .. } => source.reason(),
            DataError::Label { .. } | DataError::Count { .. } | DataError::OneClass { .. } => "LABELS",
            DataError::NonFinite { .. } => "NON_FINITE",
            DataError::Spec { .. } => "DATA_SPEC",
        }
    }

    fn violations(&self) -> Vec<Violation> {
        match self {
            DataError::Spec { field, problem } => vec![Violation::new(field, problem)],
            DataError::UnknownFile { .. } | DataError::Unclear { .. } => {
                vec![Violation::new("data.source", self.to_string())]
            }
            DataError::Container { file, .. }
            | DataError::Format { file, .. }
            | DataError::Truncated { file, .. }
            | DataError::TooLarge { file, .. }
            | DataError::Label { file, .. }
            | DataError::NonFinite { file, .. }
            | DataError::Cell { file, .. } => vec![Violation::new(file, self.to_string())],
            DataError::Count { labels_file, .. } => vec![Violation::new(labels_file, self.to_string())],
            DataError::Unreadable { .. } | DataError::Empty { .. } | DataError::OneClass { .. } => Vec::new(),
        }
    }
}
