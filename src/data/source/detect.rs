//! Finds out which files are what: by content (names lie), and only train from test by name, as nothing else tells them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::unreadable;
use crate::data::{DataError, DataSource, Files, IdxPair};

/// Bytes that tell one kind of file from another.
const START: u64 = 32;

/// What a file's first bytes look like.
enum Look {
    /// An IDX file with so many axes.
    Idx { rank: u8 },
    /// A safetensors file.
    Safetensors,
    /// Something else, by its first bytes, unpacked.
    Other { start: Vec<u8> },
}

/// At most one file for training and at most one for testing.
#[derive(Default)]
struct Pick<'f> {
    train: Option<&'f str>,
    test: Option<&'f str>,
}

/// The source that the files make up. Files that are no samples (a README) are passed over.
pub(in super::super) fn detect(files: &Files) -> Result<DataSource, DataError> {
    let (mut inputs, mut labels, mut containers) = (Pick::default(), Pick::default(), Pick::default());
    let mut others = BTreeMap::new();
    for (name, path) in &files.0 {
        match look(path).map_err(unreadable(name))? {
            Look::Idx { rank: 1 } => labels.add(name)?,
            Look::Idx { .. } => inputs.add(name)?,
            Look::Safetensors => containers.add(name)?,
            Look::Other { start } => {
                others.insert(name.as_str(), start);
            }
        }
    }
    match (inputs.is_empty() && labels.is_empty(), containers.is_empty()) {
        (false, true) => arrays(&inputs, &labels).map_err(|problem| unclear(&(problem + &suspects(&others)))),
        (true, false) => tensors(&containers),
        (false, false) => Err(unclear("there are IDX files as well as safetensors files")),
        (true, true) => {
            let told = others.iter().take(10).map(|(name, start)| match known(start) {
                Some(what) => format!("{name} ({what})"),
                None => name.to_string(),
            });
            let names = told.collect::<Vec<_>>().join(", ");
            Err(DataError::Empty { problem: format!("there are no IDX or safetensors files among these: {names}") })
        }
    }
}

fn tensors(containers: &Pick<'_>) -> Result<DataSource, DataError> {
    let Some(train) = containers.train else {
        return Err(unclear("the only safetensors file is for testing, by its name"));
    };
    Ok(DataSource::Safetensors {
        train: train.to_string(),
        test: containers.test.map(str::to_string),
        inputs: "inputs".to_string(),
        labels: "labels".to_string(),
    })
}

/// Pairs the arrays up, or says which one has no partner.
fn arrays(inputs: &Pick<'_>, labels: &Pick<'_>) -> Result<DataSource, String> {
    let pair = |inputs: Option<&str>, labels: Option<&str>| match (inputs, labels) {
        (None, None) => Ok(None),
        (Some(inputs), Some(labels)) => Ok(Some(IdxPair { inputs: inputs.into(), labels: labels.into() })),
        (Some(inputs), None) => Err(format!("no file has the labels of '{inputs}'")),
        (None, Some(labels)) => Err(format!("no file has the inputs of '{labels}'")),
    };
    let test = pair(inputs.test, labels.test)?;
    match pair(inputs.train, labels.train)? {
        Some(train) => Ok(DataSource::Idx { train, test }),
        None => Err("all IDX files are for testing, by their names".to_string()),
    }
}

/// Where an array is missing, the files that may have been meant.
fn suspects(others: &BTreeMap<&str, Vec<u8>>) -> String {
    let tell = |(name, start): (&&str, &Vec<u8>)| match known(start) {
        Some("empty") => format!("; '{name}' is no IDX file, it is empty"),
        Some(what) => format!("; '{name}' is no IDX file, it looks like {what}"),
        None => format!("; '{name}' is no IDX file, it begins with {:02x?}", &start[..start.len().min(4)]),
    };
    others.iter().take(4).map(tell).collect()
}

/// What a file that is no data is, where its first bytes tell.
fn known(start: &[u8]) -> Option<&'static str> {
    match start {
        [] => Some("empty"),
        [b'<', ..] => Some("HTML"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [0x89, b'P', b'N', b'G', ..] => Some("a PNG picture"),
        [0x1f, 0x8b, ..] => Some("a damaged gzip file"),
        start if start.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer, not the file itself"),
        _ => None,
    }
}

fn unclear(problem: &str) -> DataError {
    DataError::Unclear { problem: problem.to_string() }
}

impl<'f> Pick<'f> {
    fn add(&mut self, name: &'f str) -> Result<(), DataError> {
        let place = if is_test(name) { &mut self.test } else { &mut self.train };
        match place.replace(name) {
            None => Ok(()),
            Some(other) => Err(unclear(&format!("'{other}' and '{name}' may both be meant"))),
        }
    }

    fn is_empty(&self) -> bool {
        self.train.is_none() && self.test.is_none()
    }
}

/// Whether a word of the name begins with `test`, or is MNIST's `t10k`; `latest` and `contest` are no tests.
fn is_test(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word.starts_with("test") || word == "t10k")
}

fn look(path: &Path) -> std::io::Result<Look> {
    let mut start = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut start)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        // A few bytes are enough; a stream that is damaged later is found out when it is read.
        let mut head = Vec::new();
        let read = MultiGzDecoder::new(start.as_slice()).take(START).read_to_end(&mut head);
        // What cannot be unpacked at all is judged by its own first bytes.
        if read.is_ok() || !head.is_empty() {
            start = head;
        }
    }
    Ok(match start.as_slice() {
        [0, 0, 8 | 9 | 0x0b..=0x0e, rank, ..] if *rank > 0 => Look::Idx { rank: *rank },
        [_, _, _, _, _, _, _, _, b'{', ..] => Look::Safetensors,
        _ => {
            start.truncate(START as usize);
            Look::Other { start }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::is_test;

    #[test]
    fn only_whole_words_say_that_a_file_is_for_testing() {
        for name in ["t10k-images-idx3-ubyte.gz", "test.safetensors", "digits_Test.safetensors", "testset.idx"] {
            assert!(is_test(name), "{name}");
        }
        for name in ["train-images-idx3-ubyte", "latest.safetensors", "contest", "digits.safetensors"] {
            assert!(!is_test(name), "{name}");
        }
    }
}
