//! Files that are there whole or not at all, whenever the process or the machine ends.
//!
//! A file is written under another name, synced, renamed, and the rename is synced with the folder. What a killed process
//! leaves is at most the file of the other name, which the next one overwrites.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is written and has not got its name yet. It is removed if it never gets it.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    part: PathBuf,
}

impl Staged {
    /// Writes what is to become the file `path`.
    pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let staged = Self { path: path.to_path_buf(), part };
        let mut file = File::create(&staged.part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Where its bytes are now.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Gives the file its name. If another had it, that one is gone.
    pub(super) fn publish(self) -> io::Result<()> {
        fs::rename(&self.part, &self.path)?;
        sync_folder(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing to remove.
        let _ = fs::remove_file(&self.part);
    }
}

/// Writes a file, or puts it in the place of one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Staged::write(path, bytes)?.publish()
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_folder(path)),
    }
}

/// Syncs the folder that a file is in: its names are bytes of its own.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_once_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        let staged = Staged::write(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(staged.part()).unwrap()), (b"old".to_vec(), b"new".to_vec()));
        staged.publish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        drop(Staged::write(&path, b"never").unwrap());
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
