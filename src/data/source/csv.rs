//! Numbers in rows of text (RFC 4180): one row a sample, one column the label, all others its values.
//!
//! Fields are separated by commas, spaces around them are ignored. Labels that are all whole numbers are the classes
//! themselves; of other labels, as of names, the classes are all that the training samples have, in the order of their
//! bytes. A file may begin with a row of the columns' names. Numbers are read as f32 and must be finite.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::{Labels, MAX_BYTES, MAX_CLASSES, Samples, labels, part, unreadable};
use crate::data::{BySplit, DataError, Files, Header, Inputs, LabelColumn, Part};

/// The longest row, in bytes: a picture of 256 x 256 pixels in three channels takes less.
const MAX_ROW: usize = 4 << 20;
/// The most columns: a row has no more fields of one sign.
const MAX_COLUMNS: usize = 1 << 18;
/// The longest label, in bytes.
const MAX_WORD: usize = 256;
/// What a column of labels may be called where the recipe says nothing.
const LABEL_NAMES: [&str; 5] = ["label", "class", "target", "species", "y"];
/// So much of a bad field is shown.
const SHOWN: usize = 40;

/// What the rows are.
pub(super) struct Form<'s> {
    pub header: Header,
    pub label: &'s LabelColumn,
    pub shape: &'s [u32],
}

/// A file as it was read.
struct Table {
    file: String,
    /// The columns' names, if the file has any, without the label's.
    names: Option<Vec<String>>,
    /// Columns without the label's.
    columns: usize,
    values: Vec<f32>,
    /// For each row the place of its label among the words, and the line.
    labels: Vec<(u32, u64)>,
}

/// All labels there are, each once.
#[derive(Default)]
struct Words {
    places: HashMap<String, u32>,
    words: Vec<String>,
}

/// Reads these files, and the names of the classes where they are words.
pub(super) fn read(
    files: &Files,
    names: &BySplit<String>,
    form: &Form<'_>,
) -> Result<(BySplit<Part>, Vec<String>), DataError> {
    let mut words = Words::default();
    let tables = names.as_ref().try_map(|name| table(files, name, form, &mut words))?;
    let train = &tables.train;
    for (_, table) in tables.iter() {
        if table.columns != train.columns || table.names != train.names {
            let problem = format!("it has other columns than '{}'", train.file);
            return Err(DataError::Format { file: table.file.clone(), problem });
        }
    }
    let sample_shape: Vec<usize> = match form.shape {
        [] => vec![train.columns],
        shape => shape.iter().map(|dim| *dim as usize).collect(),
    };
    let product = sample_shape.iter().try_fold(1, |product: usize, dim| product.checked_mul(*dim));
    if product != Some(train.columns) {
        let problem = format!("is {sample_shape:?}; there are {} columns without the label", train.columns);
        return Err(DataError::Spec { field: "data.source.csv.shape".to_string(), problem });
    }
    let classes = Classes::of(&words.words, train)?;
    let names = match &classes {
        Classes::Numbers(_) => Vec::new(),
        Classes::Names(names, _) => names.clone(),
    };
    let parts = tables.try_map(|Table { file, values, labels: rows, .. }| {
        let labels = classes.labels(&file, &rows, &words.words)?;
        let samples =
            Samples { file, count: rows.len(), sample_shape: sample_shape.clone(), values: Inputs::F32(values) };
        part(samples, labels)
    })?;
    Ok((parts, names))
}

/// What labels stand for.
enum Classes {
    /// They are numbers: one for each word.
    Numbers(Vec<i128>),
    /// The classes' names in order, and the class of each word that has one.
    Names(Vec<String>, Vec<Option<u32>>),
}

impl Classes {
    fn of(words: &[String], train: &Table) -> Result<Self, DataError> {
        let numbers: Option<Vec<i128>> = words.iter().map(|word| word.parse().ok()).collect();
        if let Some(numbers) = numbers {
            return Ok(Classes::Numbers(numbers));
        }
        if words.iter().all(|word| word.parse::<f64>().is_ok()) {
            let word = words.iter().find(|word| word.parse::<i128>().is_err()).map_or("", String::as_str);
            let problem = format!("the labels are numbers, but {word:?} is no whole one; classes are needed");
            return Err(DataError::Format { file: train.file.clone(), problem });
        }
        let mut seen = vec![false; words.len()];
        train.labels.iter().for_each(|(word, _)| seen[*word as usize] = true);
        let mut names: Vec<String> =
            words.iter().zip(&seen).filter(|(_, seen)| **seen).map(|(w, _)| w.clone()).collect();
        names.sort_unstable();
        let class = |word: &String| names.binary_search(word).ok().map(|class| class as u32);
        let classes = words.iter().map(class).collect();
        Ok(Classes::Names(names, classes))
    }

    fn labels(&self, file: &str, rows: &[(u32, u64)], words: &[String]) -> Result<Labels, DataError> {
        match self {
            Classes::Numbers(numbers) => labels(file, rows.iter().map(|(word, _)| numbers[*word as usize])),
            Classes::Names(_, classes) => {
                let class = |(word, line): &(u32, u64)| {
                    classes[*word as usize].ok_or_else(|| {
                        let word = shown(words[*word as usize].as_bytes());
                        let problem = format!("line {line}: no training sample has its class, {word}");
                        DataError::Format { file: file.to_string(), problem }
                    })
                };
                let values = rows.iter().map(class).collect::<Result<_, _>>()?;
                Ok(Labels { file: file.to_string(), values })
            }
        }
    }
}

fn table(files: &Files, name: &str, form: &Form<'_>, words: &mut Words) -> Result<Table, DataError> {
    let path = files.path(name)?;
    let bytes = path.metadata().map_err(unreadable(name))?.len();
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge { file: name.to_string(), bytes, limit: MAX_BYTES });
    }
    let mut rows = Rows::open(name, File::open(path).map_err(unreadable(name))?);
    if !rows.next()? {
        return Err(DataError::Empty { problem: format!("file '{name}' has no rows") });
    }
    let columns = rows.row.len();
    if columns > MAX_COLUMNS {
        let problem = format!("line 1 has {columns} fields, at most {MAX_COLUMNS} are allowed");
        return Err(DataError::Format { file: name.to_string(), problem });
    }
    let header = match (form.header, form.label) {
        (Header::Present, _) => true,
        (Header::Absent, _) => false,
        (Header::Detected, LabelColumn::Name(_)) => true,
        (Header::Detected, _) => !rows.row.iter().any(|field| number(field).is_some()),
    };
    let text = |field: &[u8]| String::from_utf8_lossy(field.trim_ascii()).into_owned();
    let names: Option<Vec<String>> = header.then(|| rows.row.iter().map(text).collect());
    let mut more = if header { rows.next()? } else { true };
    let label = label_column(name, form.label, names.as_deref(), more.then_some(&rows.row), columns)?;

    let value_names = |names: &Vec<String>| {
        let of_values = names.iter().enumerate().filter(|(column, _)| *column != label);
        of_values.map(|(_, name)| name.clone()).collect()
    };
    let mut table = Table {
        file: name.to_string(),
        columns: columns - 1,
        values: Vec::new(),
        labels: Vec::new(),
        names: names.as_ref().map(value_names),
    };
    while more {
        table.add(&rows, label, names.as_deref(), words)?;
        more = rows.next()?;
    }
    Ok(table)
}

impl Table {
    /// Adds the row that was read last.
    fn add(&mut self, rows: &Rows, label: usize, names: Option<&[String]>, words: &mut Words) -> Result<(), DataError> {
        let Rows { row, line, .. } = rows;
        let line = *line;
        if row.len() != self.columns + 1 {
            let problem = format!("line {line} has {} fields, the first row has {}", row.len(), self.columns + 1);
            return Err(DataError::Format { file: self.file.clone(), problem });
        }
        let bad = |column: usize, problem: String| {
            let name = names.and_then(|names| names.get(column));
            let column = name.map_or_else(|| column.to_string(), |name| shown(name.as_bytes()));
            DataError::Cell { file: self.file.clone(), line, column, problem }
        };
        for (column, field) in row.iter().enumerate() {
            if column == label {
                let place =
                    std::str::from_utf8(field.trim_ascii()).ok().filter(|word| (1..=MAX_WORD).contains(&word.len()));
                let place = place.and_then(|word| words.place(word));
                let place = place.ok_or_else(|| {
                    bad(
                        column,
                        format!(
                            "the label {} is empty, no UTF-8, longer than {MAX_WORD} bytes, or one of too many",
                            shown(field)
                        ),
                    )
                })?;
                self.labels.push((place, line));
                continue;
            }
            match number(field) {
                Some(value) if value.is_finite() => self.values.push(value),
                Some(_) => return Err(bad(column, format!("{} is not finite", shown(field)))),
                None if field.trim_ascii().is_empty() => return Err(bad(column, "there is no value".to_string())),
                None => return Err(bad(column, format!("{} is no number", shown(field)))),
            }
        }
        let bytes = self.values.len() as u64 * 4;
        if bytes > MAX_BYTES {
            return Err(DataError::TooLarge { file: self.file.clone(), bytes, limit: MAX_BYTES });
        }
        Ok(())
    }
}

impl Words {
    /// The place of a word; `None` if there are more words than classes may be.
    fn place(&mut self, word: &str) -> Option<u32> {
        if let Some(place) = self.places.get(word) {
            return Some(*place);
        }
        let place = u32::try_from(self.words.len()).ok().filter(|place| *place < MAX_CLASSES)?;
        self.places.insert(word.to_string(), place);
        self.words.push(word.to_string());
        Some(place)
    }
}

/// Which column has the label.
fn label_column(
    file: &str,
    label: &LabelColumn,
    names: Option<&[String]>,
    sample: Option<&ByteRecord>,
    columns: usize,
) -> Result<usize, DataError> {
    let spec = |problem: String| DataError::Spec { field: "data.source.csv.label".to_string(), problem };
    let found = match (label, names) {
        (LabelColumn::Index(index), _) => {
            let index = *index as usize;
            if index >= columns {
                return Err(spec(format!("is column {index}; file '{file}' has columns 0 to {}", columns - 1)));
            }
            index
        }
        (LabelColumn::Name(name), None) => {
            return Err(spec(format!("is column '{name}', but file '{file}' has no row of names")));
        }
        (LabelColumn::Name(name), Some(names)) => {
            let mut places = names.iter().enumerate().filter(|(_, other)| *other == name);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => place,
                (None, _) => return Err(spec(format!("is column '{name}', which file '{file}' has not"))),
                (Some(_), Some(_)) => return Err(spec(format!("is column '{name}', which file '{file}' has twice"))),
            }
        }
        (LabelColumn::Detected, names) => {
            let named = |names: &[String]| {
                let is_label = |name: &String| LABEL_NAMES.contains(&name.to_ascii_lowercase().as_str());
                only(names.iter().map(is_label))
            };
            let word = |sample: &ByteRecord| only(sample.iter().map(|field| number(field).is_none()));
            let found = names.and_then(named).or_else(|| sample.and_then(word));
            found.ok_or_else(|| DataError::Unclear {
                problem: format!("which column of '{file}' has the label cannot be told"),
            })?
        }
    };
    if columns < 2 {
        let problem = "it has one column alone; a label and values are needed".to_string();
        return Err(DataError::Format { file: file.to_string(), problem });
    }
    Ok(found)
}

/// The place of the only one that is true.
fn only(marks: impl Iterator<Item = bool>) -> Option<usize> {
    let mut places = marks.enumerate().filter(|(_, mark)| *mark).map(|(place, _)| place);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

fn number(field: &[u8]) -> Option<f32> {
    std::str::from_utf8(field.trim_ascii()).ok()?.parse().ok()
}

/// A field as messages show it.
fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field.trim_ascii());
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

/// The rows of a file, one after the other.
struct Rows {
    file: String,
    reader: Reader<Bounded<File>>,
    row: ByteRecord,
    /// The line that the last row began in, counted from 1.
    line: u64,
}

impl Rows {
    fn open(name: &str, file: File) -> Self {
        let bounded = Bounded { reader: file, left: MAX_ROW };
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bounded);
        Self { file: name.to_string(), reader, row: ByteRecord::new(), line: 0 }
    }

    /// Reads the next row; false at the end.
    fn next(&mut self) -> Result<bool, DataError> {
        self.reader.get_mut().left = MAX_ROW;
        match self.reader.read_byte_record(&mut self.row) {
            Ok(more) => {
                self.line = self.row.position().map_or(0, |position| position.line());
                Ok(more)
            }
            Err(error) => Err(match error.into_kind() {
                ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => DataError::Format {
                    file: self.file.clone(),
                    problem: format!("the row after line {} has more than {MAX_ROW} bytes", self.line),
                },
                ErrorKind::Io(error) => unreadable(&self.file)(error),
                other => DataError::Format { file: self.file.clone(), problem: format!("{other:?}") },
            }),
        }
    }
}

/// A reader that hands out so many bytes and no more: a row without an end, or a quote that is never closed, must not fill
/// the memory.
struct Bounded<R> {
    reader: R,
    left: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.reader.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
