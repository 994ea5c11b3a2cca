//! Finds out which files are what: by content (names lie), and only by name which split they are for, as nothing else tells.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{cifar, images, npz, ts, unreadable};
use crate::data::{
    BySplit, CifarForm, Color, DataError, DataSource, Files, Header, IdxPair, LabelColumn, Layout, NpzPair,
};

/// Bytes that tell one kind of file from another.
const START: u64 = 64;
/// Bytes of a gzip file that give as many.
const PACKED_START: u64 = 64 << 10;
/// Bytes that a file of time series may begin with until it is known by its header: its description.
const DESCRIPTION: u64 = 64 << 10;

/// What arrays for training, validation and testing are called in one `.npz` file.
const NPZ_TRAIN: [(&str, &str); 3] = [("x_train", "y_train"), ("X_train", "y_train"), ("train_images", "train_labels")];
const NPZ_VALIDATION: [(&str, &str); 5] = [
    ("x_val", "y_val"),
    ("X_val", "y_val"),
    ("x_valid", "y_valid"),
    ("val_images", "val_labels"),
    ("validation_images", "validation_labels"),
];
const NPZ_TEST: [(&str, &str); 3] = [("x_test", "y_test"), ("X_test", "y_test"), ("test_images", "test_labels")];
/// What they are called where a file has those of one split.
const NPZ_ANY: [(&str, &str); 7] = [
    ("inputs", "labels"),
    ("images", "labels"),
    ("data", "labels"),
    ("data", "target"),
    ("x", "y"),
    ("X", "y"),
    ("arr_0", "arr_1"),
];

/// What a file's first bytes look like.
enum Look {
    /// An IDX file with so many axes.
    Idx {
        rank: u8,
    },
    Safetensors,
    Cifar(CifarForm),
    /// A zip archive of arrays.
    Npz,
    /// A PNG or JPEG picture.
    Picture,
    /// Text, by its name in columns.
    Csv,
    /// Time series as text.
    Ts,
    /// Something else, by its first bytes, unpacked.
    Other {
        start: Vec<u8>,
    },
}

/// The files of a data set by what they look like.
#[derive(Default)]
struct Found<'f> {
    inputs: Vec<&'f str>,
    labels: Vec<&'f str>,
    containers: Vec<&'f str>,
    records: Vec<(&'f str, CifarForm)>,
    archives: Vec<&'f str>,
    pictures: Vec<&'f str>,
    tables: Vec<&'f str>,
    series: Vec<&'f str>,
    others: BTreeMap<&'f str, Vec<u8>>,
}

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Train,
    Validation,
    Selection,
    Test,
}

/// The source that the files make up. Files that are no samples (a README) are passed over.
pub(in super::super) fn detect(files: &Files) -> Result<DataSource, DataError> {
    let found = Found::of(files)?;
    let kinds = found.kinds();
    match kinds[..] {
        [] => Err(found.nothing()),
        ["IDX"] => found.arrays().map_err(|problem| unclear(problem + &found.suspects())),
        ["safetensors"] => found.tensors(),
        ["CIFAR"] => found.records(),
        ["npz"] => npz_source(files, &found.archives),
        ["PNG or JPEG"] => found.folders(),
        ["CSV"] => found.tables(),
        [".ts"] => found.series(),
        _ => Err(unclear(format!("there are {} files", kinds.join(" files as well as ")))),
    }
}

impl<'f> Found<'f> {
    fn of(files: &'f Files) -> Result<Self, DataError> {
        let mut found = Self::default();
        for (name, path) in &files.0 {
            match look(name, path).map_err(unreadable(name))? {
                Look::Idx { rank: 1 } => found.labels.push(name),
                Look::Idx { .. } => found.inputs.push(name),
                Look::Safetensors => found.containers.push(name),
                Look::Cifar(form) => found.records.push((name, form)),
                Look::Npz => found.archives.push(name),
                // A picture outside of all folders belongs to a description.
                Look::Picture if name.contains('/') => found.pictures.push(name),
                Look::Picture => {
                    found.others.insert(name, b"\x89PNG".to_vec());
                }
                Look::Csv => found.tables.push(name),
                Look::Ts => found.series.push(name),
                Look::Other { start } => {
                    found.others.insert(name, start);
                }
            }
        }
        Ok(found)
    }

    fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            ("IDX", self.inputs.len() + self.labels.len()),
            ("safetensors", self.containers.len()),
            ("CIFAR", self.records.len()),
            ("npz", self.archives.len()),
            ("PNG or JPEG", self.pictures.len()),
            ("CSV", self.tables.len()),
            (".ts", self.series.len()),
        ];
        kinds.into_iter().filter(|(_, count)| *count > 0).map(|(kind, _)| kind).collect()
    }

    fn nothing(&self) -> DataError {
        let told = self.others.iter().take(10).map(|(name, start)| match known(start) {
            Some(what) => format!("{name} ({what})"),
            None => name.to_string(),
        });
        let names = told.collect::<Vec<_>>().join(", ");
        let problem = format!(
            "there are no IDX, safetensors, CIFAR, npz, CSV or .ts files and no folders of pictures among these: {names}"
        );
        DataError::Empty { problem }
    }

    /// Pairs the arrays up, or says which one has no partner.
    fn arrays(&self) -> Result<DataSource, String> {
        let problem = |error: DataError| match error {
            DataError::Unclear { problem } => problem,
            other => other.to_string(),
        };
        let inputs = one_each(self.inputs.iter().copied()).map_err(problem)?;
        let mut labels = one_each(self.labels.iter().copied()).map_err(problem)?;
        let mut pairs = BTreeMap::new();
        for (part, inputs) in inputs {
            let labels = labels.remove(&part).ok_or_else(|| format!("no file has the labels of '{inputs}'"))?;
            pairs.insert(part, IdxPair { inputs: inputs.into(), labels: labels.into() });
        }
        if let Some(labels) = labels.values().next() {
            return Err(format!("no file has the inputs of '{labels}'"));
        }
        by_split(pairs).map(DataSource::Idx).ok_or_else(|| "no IDX files are for training, by their names".to_string())
    }

    fn tensors(&self) -> Result<DataSource, DataError> {
        let files = one_each(self.containers.iter().copied())?;
        let files = by_split(files.into_iter().map(|(part, file)| (part, file.to_string())).collect());
        Ok(DataSource::Safetensors {
            files: files.ok_or_else(|| none_for_training("safetensors file"))?,
            inputs: "inputs".to_string(),
            labels: "labels".to_string(),
        })
    }

    fn records(&self) -> Result<DataSource, DataError> {
        let (first, form) = self.records[0];
        if let Some((other, _)) = self.records.iter().find(|(_, other)| *other != form) {
            return Err(unclear(format!("'{first}' and '{other}' have records of different lengths")));
        }
        let mut files: BTreeMap<Use, Vec<String>> = BTreeMap::new();
        // A file of that kind that does not look like records is damaged: left out, its samples would be missed by nobody.
        let damaged = self.others.keys().copied().filter(|name| name.ends_with(".bin"));
        for name in self.records.iter().map(|(name, _)| *name).chain(damaged) {
            files.entry(use_of(name)).or_default().push(name.to_string());
        }
        let files = by_split(files).ok_or_else(|| none_for_training("CIFAR file"))?;
        Ok(DataSource::Cifar { files, form })
    }

    /// Folders for the splits, or the classes' folders are on top. A mixture is refused: one folder too many must not turn
    /// test pictures into training samples.
    fn folders(&self) -> Result<DataSource, DataError> {
        let mut parts = BTreeMap::new();
        let mut plain = None;
        for name in &self.pictures {
            let top = name.split('/').next().unwrap_or(name);
            let part = match top.to_ascii_lowercase().as_str() {
                "train" | "training" => Some(Use::Train),
                "val" | "valid" | "validation" => Some(Use::Validation),
                "selection" => Some(Use::Selection),
                "test" | "testing" => Some(Use::Test),
                _ => None,
            };
            let Some(part) = part else {
                plain = plain.or(Some(top));
                continue;
            };
            if let Some(other) = parts.insert(part, top.to_string()).filter(|other| other != top) {
                let problem = format!("the folders '{other}' and '{top}' are for the same split, by their names");
                return Err(unclear(format!("{problem}: put their pictures into one of them")));
            }
        }
        if let (Some(plain), Some(split)) = (plain, parts.values().next()) {
            let problem = format!("the folder '{split}' is for a split by its name, and '{plain}' is for none");
            let way = "leave pictures out that are no samples, and put folders of classes into those of the splits";
            return Err(unclear(format!("{problem}: {way}")));
        }
        let folders = if parts.is_empty() {
            BySplit::train(String::new())
        } else {
            by_split(parts).ok_or_else(|| none_for_training("folder of pictures"))?
        };
        Ok(DataSource::Images { folders, size: None, color: Color::Detected })
    }

    fn tables(&self) -> Result<DataSource, DataError> {
        let files = one_each(self.tables.iter().copied())?;
        let files = by_split(files.into_iter().map(|(part, file)| (part, file.to_string())).collect());
        Ok(DataSource::Csv {
            files: files.ok_or_else(|| none_for_training("CSV file"))?,
            header: Header::Detected,
            label: LabelColumn::Detected,
            shape: Vec::new(),
        })
    }

    fn series(&self) -> Result<DataSource, DataError> {
        let files = one_each(self.series.iter().copied())?;
        let files = by_split(files.into_iter().map(|(part, file)| (part, file.to_string())).collect());
        Ok(DataSource::Ts(files.ok_or_else(|| none_for_training(".ts file"))?))
    }

    /// Where an array is missing, the files that may have been meant.
    fn suspects(&self) -> String {
        let tell = |(name, start): (&&str, &Vec<u8>)| match known(start) {
            Some("empty") => format!("; '{name}' is no IDX file, it is empty"),
            Some(what) => format!("; '{name}' is no IDX file, it looks like {what}"),
            None => format!("; '{name}' is no IDX file, it begins with {:02x?}", &start[..start.len().min(4)]),
        };
        self.others.iter().take(4).map(tell).collect()
    }
}

/// The arrays of one file with all splits, or of a file for each split.
fn npz_source(files: &Files, archives: &[&str]) -> Result<DataSource, DataError> {
    let mut pairs = BTreeMap::new();
    for (part, file) in one_each(archives.iter().copied())? {
        let names = npz::names(files, file)?;
        let pick = |known: &[(&str, &str)]| {
            let has = |name: &str| names.iter().any(|other| other == name);
            let (inputs, labels) = known.iter().find(|(inputs, labels)| has(inputs) && has(labels))?;
            Some(NpzPair { file: file.to_string(), inputs: inputs.to_string(), labels: labels.to_string() })
        };
        if archives.len() == 1
            && let Some(train) = pick(&NPZ_TRAIN)
        {
            let arrays = BySplit { train, validation: pick(&NPZ_VALIDATION), selection: None, test: pick(&NPZ_TEST) };
            return Ok(DataSource::Npz { arrays, layout: Layout::Detected });
        }
        let pair = pick(&NPZ_ANY).ok_or_else(|| {
            unclear(format!("which arrays of '{file}' are inputs and labels? It has {}", names.join(", ")))
        })?;
        pairs.insert(part, pair);
    }
    let arrays = by_split(pairs).ok_or_else(|| none_for_training("npz file"))?;
    Ok(DataSource::Npz { arrays, layout: Layout::Detected })
}

/// The only file for each use.
fn one_each<'f>(names: impl Iterator<Item = &'f str>) -> Result<BTreeMap<Use, &'f str>, DataError> {
    let mut files = BTreeMap::new();
    for name in names {
        if let Some(other) = files.insert(use_of(name), name) {
            return Err(unclear(format!("'{other}' and '{name}' may both be meant")));
        }
    }
    Ok(files)
}

/// What there is for each use; `None` if there is nothing for training.
fn by_split<T>(mut parts: BTreeMap<Use, T>) -> Option<BySplit<T>> {
    Some(BySplit {
        train: parts.remove(&Use::Train)?,
        validation: parts.remove(&Use::Validation),
        selection: parts.remove(&Use::Selection),
        test: parts.remove(&Use::Test),
    })
}

/// What a file is for, by the words of its name: `latest` and `contest` are no tests; MNIST's test files are called `t10k`.
fn use_of(name: &str) -> Use {
    let name = name.to_ascii_lowercase();
    let is = |meant: &dyn Fn(&str) -> bool| name.split(|c: char| !c.is_ascii_alphanumeric()).any(meant);
    if is(&|word| word.starts_with("test") || word == "t10k") {
        Use::Test
    } else if is(&|word| word == "selection") {
        Use::Selection
    } else if is(&|word| matches!(word, "val" | "valid" | "validation")) {
        Use::Validation
    } else {
        Use::Train
    }
}

/// What a file that is no data is, where its first bytes tell.
fn known(start: &[u8]) -> Option<&'static str> {
    match start {
        [] => Some("empty"),
        [b'<', ..] => Some("HTML"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [0x89, b'P', b'N', b'G', ..] => Some("a picture in no folder"),
        [0x1f, 0x8b, ..] => Some("a damaged gzip file"),
        start if start.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer, not the file itself"),
        _ => None,
    }
}

fn none_for_training(kind: &str) -> DataError {
    unclear(format!("no {kind} is for training, by their names"))
}

fn unclear(problem: String) -> DataError {
    DataError::Unclear { problem }
}

fn look(name: &str, path: &Path) -> std::io::Result<Look> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut start = Vec::new();
    (&mut file).take(START).read_to_end(&mut start)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        (&mut file).take(PACKED_START).read_to_end(&mut start)?;
        // A few bytes are enough; a stream that is damaged later is found out when it is read.
        let mut head = Vec::new();
        let read = MultiGzDecoder::new(start.as_slice()).take(START).read_to_end(&mut head);
        // What cannot be unpacked at all is judged by its own first bytes.
        if read.is_ok() || !head.is_empty() {
            start = head;
        }
    }
    match start.as_slice() {
        // Few axes and short headers, so that pictures without a header are not taken for them.
        [0, 0, 8 | 9 | 0x0b..=0x0e, rank @ 1..=8, ..] => return Ok(Look::Idx { rank: *rank }),
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return Ok(Look::Safetensors),
        _ => {}
    }
    if is_npz(&start) {
        return Ok(Look::Npz);
    }
    if images::kind(path)?.is_some() {
        return Ok(Look::Picture);
    }
    if may_be_series(&start) {
        let mut description = Vec::new();
        file.rewind()?;
        (&mut file).take(DESCRIPTION).read_to_end(&mut description)?;
        if ts::begins(&description) {
            return Ok(Look::Ts);
        }
    }
    file.rewind()?;
    if let Some(form) = cifar::form_of(std::io::BufReader::new(file), size)? {
        return Ok(Look::Cifar(form));
    }
    if name.to_ascii_lowercase().ends_with(".csv") && !start.is_empty() && !start.contains(&0) {
        return Ok(Look::Csv);
    }
    start.truncate(START as usize);
    Ok(Look::Other { start })
}

/// Whether a header or a description of time series may begin like this; of other files no more than that is read.
fn may_be_series(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    !start.is_empty() && matches!(text.trim_ascii_start().first(), None | Some(b'#' | b'%' | b'@'))
}

/// Whether a zip archive's first member is called like an array.
fn is_npz(start: &[u8]) -> bool {
    let [b'P', b'K', 3, 4, header @ ..] = start else { return false };
    let Some(length) = header.get(22..24) else { return false };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    // Of a long name the beginning alone is here.
    header.get(26..26 + length).map_or(header.len() >= 26, |name| name.ends_with(b".npy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_say_that_a_file_is_for_testing() {
        let is = |name: &str, wanted: Use| assert!(use_of(name) == wanted, "{name}");
        for name in
            ["t10k-images-idx3-ubyte.gz", "test.safetensors", "digits_Test.safetensors", "testset.idx", "test/a"]
        {
            is(name, Use::Test);
        }
        for name in ["train-images-idx3-ubyte", "latest.safetensors", "contest", "digits.safetensors", "valley.csv"] {
            is(name, Use::Train);
        }
        is("iris-val.csv", Use::Validation);
        is("validation/inputs", Use::Validation);
        is("selection.npz", Use::Selection);
    }
}
