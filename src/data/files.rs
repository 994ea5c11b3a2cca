//! The files of a data set, by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::DataError;

/// More files than a data set that fits into memory has; a folder with more is the wrong folder.
const MAX_FILES: usize = 200_000;
/// Folders in folders: split, class, and some more.
const MAX_DEPTH: usize = 8;

/// The files of a data set: name to path. A file in a folder has the folder in its name, `train/cat/001.png`, on every
/// system. A name inside a recipe is a key of this table and never reaches the file system.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Files(pub BTreeMap<String, PathBuf>);

impl Files {
    /// The file at `path`, or the plain files of the folder at `path` and of the folders below it, nothing hidden. Links to
    /// plain files are followed, all others are passed over: data sets are often kept elsewhere and linked. A folder without
    /// files is refused: it may be a class whose pictures are missing.
    pub fn from_path(path: &Path) -> Result<Self, DataError> {
        if !path.metadata().map_err(unreadable(path))?.is_dir() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            return Ok(Self([(name, path.to_path_buf())].into()));
        }
        let mut files = Self::default();
        files.add(path, "", 0)?;
        Ok(files)
    }

    /// Adds what is in `folder`, which has the name `prefix`.
    fn add(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), DataError> {
        if depth > MAX_DEPTH {
            let problem = format!("the folder '{}' is more than {MAX_DEPTH} folders deep", folder.display());
            return Err(DataError::Unclear { problem });
        }
        let before = self.0.len();
        for entry in folder.read_dir().map_err(unreadable(folder))? {
            let entry = entry.map_err(unreadable(folder))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{name}");
            // The type is that of a link itself, so that no folder is walked through twice.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path(), &format!("{name}/"), depth + 1)?;
            } else if entry.path().metadata().is_ok_and(|target| target.is_file()) {
                self.0.insert(name, entry.path());
            }
            if self.0.len() > MAX_FILES {
                let problem = format!("the folder '{}' has more than {MAX_FILES} files", folder.display());
                return Err(DataError::Unclear { problem });
            }
        }
        if self.0.len() == before {
            let problem = format!("there are no files in the folder '{}'", folder.display());
            return Err(DataError::Empty { problem });
        }
        Ok(())
    }

    /// The path of the file of that name.
    pub(super) fn path(&self, name: &str) -> Result<&Path, DataError> {
        let known = || self.0.keys().take(20).cloned().collect();
        let path = self.0.get(name).ok_or_else(|| DataError::UnknownFile { file: name.to_string(), known: known() })?;
        Ok(path)
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> DataError + '_ {
    move |source| DataError::Unreadable { file: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Classify;
    use std::fs;

    #[test]
    fn a_folder_gives_its_plain_files_and_those_of_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.gz", "b", ".hidden"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir_all(folder.path().join("train/cat")).unwrap();
        fs::create_dir_all(folder.path().join(".git/x")).unwrap();
        fs::write(folder.path().join("train/cat/1.png"), "x").unwrap();
        let files = Files::from_path(folder.path()).unwrap();
        assert_eq!(files.0.keys().collect::<Vec<_>>(), ["a.gz", "b", "train/cat/1.png"]);
        assert_eq!(files.path("train/cat/1.png").unwrap(), folder.path().join("train/cat/1.png"));
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
        fs::create_dir_all(folder.path().join("train/dog")).unwrap();
        fs::write(folder.path().join("train/1.png"), "x").unwrap();
        assert!(Files::from_path(folder.path()).unwrap_err().to_string().contains("dog"));
        assert!(error.to_string().starts_with("there are no files in the folder"));
        assert_eq!(Files::from_path(&folder.path().join("none")).unwrap_err().reason(), "UNREADABLE");
    }

    #[test]
    fn folders_without_an_end_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/a/a/a/a/a/a/a/a")).unwrap();
        assert_eq!(Files::from_path(folder.path()).unwrap_err().reason(), "DATASET_FORMAT");
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
