//! The files of a data set, by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::DataError;

/// More files than any data set of ours has; a folder with more is the wrong folder.
const MAX_FILES: usize = 10_000;

/// The files of a data set: name to path. A name inside a recipe is a key of this table and never reaches the file
/// system.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files(pub BTreeMap<String, PathBuf>);

impl Files {
    /// The file at `path`, or the plain files of the folder at `path`: no folders below it, nothing hidden. Links to plain
    /// files are followed, all others are passed over: data sets are often kept elsewhere and linked.
    pub fn from_path(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source: io::Error| DataError::Unreadable { file: path.display().to_string(), source };
        if !path.metadata().map_err(unreadable)?.is_dir() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Self([(name, path.to_path_buf())].into()));
        }
        let mut files = BTreeMap::new();
        for entry in path.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Follows links; one that leads nowhere has no metadata.
            if name.starts_with('.') || !entry.path().metadata().is_ok_and(|target| target.is_file()) {
                continue;
            }
            files.insert(name, entry.path());
            if files.len() > MAX_FILES {
                let problem = format!("the folder '{}' has more than {MAX_FILES} files", path.display());
                return Err(DataError::Unclear { problem });
            }
        }
        if files.is_empty() {
            return Err(DataError::Empty { problem: format!("there are no files in the folder '{}'", path.display()) });
        }
        Ok(Self(files))
    }

    /// The path of the file of that name.
    pub(super) fn path(&self, name: &str) -> Result<&Path, DataError> {
        let known = || self.0.keys().take(20).cloned().collect();
        let path = self.0.get(name).ok_or_else(|| DataError::UnknownFile { file: name.to_string(), known: known() })?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Classify;
    use std::fs;

    #[test]
    fn a_folder_gives_its_plain_files_only() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.gz", "b", ".hidden"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("below")).unwrap();
        let files = Files::from_path(folder.path()).unwrap();
        assert_eq!(files.0.keys().collect::<Vec<_>>(), ["a.gz", "b"]);
        let one = Files::from_path(&folder.path().join("b")).unwrap();
        assert_eq!(one.0.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    #[cfg(unix)]
    fn links_to_files_are_followed_and_others_passed_over() {
        use std::os::unix::fs::symlink;
        let (kept, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(kept.path().join("digits"), "x").unwrap();
        symlink(kept.path().join("digits"), folder.path().join("linked")).unwrap();
        symlink(kept.path(), folder.path().join("folder")).unwrap();
        symlink(kept.path().join("none"), folder.path().join("dangling")).unwrap();
        let files = Files::from_path(folder.path()).unwrap();
        assert_eq!(files.0.keys().collect::<Vec<_>>(), ["linked"]);
    }

    #[test]
    fn an_empty_folder_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Files::from_path(folder.path()).unwrap_err();
        assert_eq!(error.reason(), "DATASET_EMPTY");
        assert!(error.to_string().starts_with("there are no files in the folder"));
        assert_eq!(Files::from_path(&folder.path().join("none")).unwrap_err().reason(), "UNREADABLE");
    }

    #[test]
    fn a_name_is_a_key_and_no_path() {
        let files = Files([("a".to_string(), PathBuf::from("/x/a"))].into());
        assert_eq!(files.path("a").unwrap(), Path::new("/x/a"));
        let error = files.path("../x/a").unwrap_err();
        assert_eq!(error.reason(), "UNKNOWN_FILE");
        assert_eq!(error.to_string(), "there is no file '../x/a' in the data set; its files are a");
    }
}
