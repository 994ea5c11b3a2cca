//! What the targets have in common, and the seeds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use niwaki::data::{self, DataError, DataSource, Dataset, Files};
use niwaki::error::{Classify, Kind};

pub mod seeds;

/// Opens a data set of these files, which lie in memory for as long. An error must be one that a client can be told.
pub fn open(files: &[(&str, &[u8])], source: Option<&DataSource>) -> Option<Dataset> {
    let folder = folder();
    let mut paths = BTreeMap::new();
    for (place, (name, bytes)) in files.iter().enumerate() {
        let path = folder.join(place.to_string());
        std::fs::write(&path, bytes).expect("a file in memory can be written");
        paths.insert(name.to_string(), path);
    }
    told(data::open(&Files(paths), source))
}

/// What was read, if it was.
fn told(read: Result<Dataset, DataError>) -> Option<Dataset> {
    match read {
        Ok(dataset) => {
            let samples = dataset.train.labels.len();
            assert!(samples > 0 && dataset.train.labels.iter().all(|label| *label < dataset.classes));
            Some(dataset)
        }
        Err(error) => {
            refused(&error);
            None
        }
    }
}

/// A refusal that blames this program, or says too much, is a defect.
pub fn refused(error: &impl Classify) {
    assert_ne!(error.kind(), Kind::Internal, "{error}");
    assert!(error.to_string().len() < 4000, "a message of {} bytes", error.to_string().len());
}

/// A folder in memory that this process has for itself.
fn folder() -> PathBuf {
    let folder = PathBuf::from(format!("/dev/shm/niwaki-fuzz-{}", std::process::id()));
    if !folder.exists() {
        std::fs::create_dir_all(&folder).expect("there is room in memory");
    }
    folder
}

/// An archive with these members, stored, with checksums that are right.
pub fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let size = (bytes.len() as u32).to_le_bytes();
        let start = (file.len() as u32).to_le_bytes();
        let (length, crc) = ((name.len() as u16).to_le_bytes(), crc.sum().to_le_bytes());
        // Flags, method, time and date are 0; then checksum, both sizes, the lengths of the name and of what is extra.
        let common = [&[0; 8][..], &crc, &size, &size, &length, &[0; 2]].concat();
        file.extend([b"PK\x03\x04\x14\x00", &common[..], name.as_bytes(), bytes].concat());
        let place = [&[0; 10][..], &start].concat();
        directory.extend([b"PK\x01\x02\x14\x00\x14\x00", &common[..], &place[..], name.as_bytes()].concat());
    }
    let (count, length, start) = (members.len() as u16, directory.len() as u32, file.len() as u32);
    file.extend(directory);
    let counts = [count.to_le_bytes(), count.to_le_bytes()].concat();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &counts, &length.to_le_bytes(), &start.to_le_bytes(), &[0; 2]].concat();
    file.extend(end);
    file
}
