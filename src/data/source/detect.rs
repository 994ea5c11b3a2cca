//! Finds out which files are what: by content (names lie), and only train from test by name, as nothing else tells them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::unreadable;
use crate::data::{DataError, DataSource, Files, IdxPair};

/// What a file's first bytes look like.
enum Look {
    /// An IDX file with so many axes.
    Idx { rank: u8 },
    /// A safetensors file.
    Safetensors,
    /// Something else.
    Other,
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
    for (name, path) in &files.0 {
        match look(path).map_err(unreadable(name))? {
            Look::Idx { rank: 1 } => labels.add(name)?,
            Look::Idx { .. } => inputs.add(name)?,
            Look::Safetensors => containers.add(name)?,
            Look::Other => {}
        }
    }
    match (inputs.is_empty() && labels.is_empty(), containers.is_empty()) {
        (false, true) => arrays(&inputs, &labels),
        (true, false) => tensors(&containers),
        (false, false) => Err(unclear("there are IDX files as well as safetensors files")),
        (true, true) => {
            let names: Vec<&str> = files.0.keys().map(String::as_str).take(10).collect();
            let names = names.join(", ");
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

fn arrays(inputs: &Pick<'_>, labels: &Pick<'_>) -> Result<DataSource, DataError> {
    let pair = |inputs: Option<&str>, labels: Option<&str>| match (inputs, labels) {
        (None, None) => Ok(None),
        (Some(inputs), Some(labels)) => Ok(Some(IdxPair { inputs: inputs.into(), labels: labels.into() })),
        (Some(inputs), None) => Err(unclear(&format!("no file has the labels of '{inputs}'"))),
        (None, Some(labels)) => Err(unclear(&format!("no file has the inputs of '{labels}'"))),
    };
    let test = pair(inputs.test, labels.test)?;
    match pair(inputs.train, labels.train)? {
        Some(train) => Ok(DataSource::Idx { train, test }),
        None => Err(unclear("all IDX files are for testing, by their names")),
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
        // Four bytes are enough; a stream that is damaged later is found out when it is read.
        let mut head = Vec::new();
        let _ = GzDecoder::new(start.as_slice()).take(4).read_to_end(&mut head);
        start = head;
    }
    Ok(match start.as_slice() {
        [0, 0, 8 | 9 | 0x0b..=0x0e, rank, ..] if *rank > 0 => Look::Idx { rank: *rank },
        [_, _, _, _, _, _, _, _, b'{', ..] => Look::Safetensors,
        _ => Look::Other,
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
