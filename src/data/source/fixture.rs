//! Data sets of a test's own making.

use crate::data::{self, DataError, DataSource, Dataset, Files};
use crate::error::Classify;

/// Opens files of these names and contents.
pub(super) fn open(contents: &[(&str, &[u8])], source: Option<&DataSource>) -> Result<Dataset, DataError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in contents {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    data::open(&Files::from_path(folder.path()).unwrap(), source)
}

/// The reason and the message for files that are refused.
#[track_caller]
pub(super) fn refused(contents: &[(&str, &[u8])], source: Option<&DataSource>) -> (&'static str, String) {
    let error = open(contents, source).unwrap_err();
    (error.reason(), error.to_string())
}
