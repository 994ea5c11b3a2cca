//! Time series as text, the form of the UEA and UCR archives (`.ts`): one line a sample.
//!
//! ```text
//!   # a description
//!   @dimensions 2                          what stands here: `header`
//!   @classLabel true low high
//!   @data
//!   0.5,0.25,0.75:1,2,3:high               dimension 0 : dimension 1 : class, one value a step
//! ```
//!
//! Samples become `[length, channels]`, f32: time first, and the dimensions are the channels. All samples of a data set have
//! the length of its longest, over the files of all splits: shorter ones are followed by steps of zeros. Steps of zeros at a
//! sample's end are padding, whoever put them there. Classes are those of `@classLabel`, in its order.

mod header;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::{MAX_BYTES, Samples, labels, part, unreadable};
use crate::data::{BySplit, DataError, Files, Inputs, Part};
use header::Header;

pub(super) use header::begins;

/// The name of the form.
pub(in super::super) const NAME: &str = "ts";

/// The longest line, in bytes: a sample of 1.5 million values.
const MAX_LINE: usize = 16 << 20;
/// So much of a bad field is shown.
const SHOWN: usize = 40;

/// A file as it was read.
struct Series {
    file: String,
    classes: Vec<String>,
    channels: usize,
    /// The steps of each sample.
    lengths: Vec<usize>,
    labels: Vec<u32>,
    /// One sample after the other, in each one dimension after the other.
    values: Vec<f32>,
}

/// Reads these files, and the names of the classes.
pub(super) fn read(files: &Files, names: &BySplit<String>) -> Result<(BySplit<Part>, Vec<String>), DataError> {
    let found = names.as_ref().try_map(|name| series(files, name))?;
    let train = &found.train;
    for (_, other) in found.iter() {
        let bad = |problem: String| Err(DataError::Format { file: other.file.clone(), problem });
        if other.classes != train.classes {
            return bad(format!("its `@classLabel` has other classes than that of '{}'", train.file));
        }
        if other.channels != train.channels {
            let (own, its) = (other.channels, train.channels);
            return bad(format!("its samples have {own} dimensions, those of '{}' have {its}", train.file));
        }
    }
    let classes = train.classes.clone();
    let longest = found.iter().flat_map(|(_, series)| &series.lengths).copied().max().unwrap_or(0);
    Ok((found.try_map(|series| series.padded(longest))?, classes))
}

fn series(files: &Files, name: &str) -> Result<Series, DataError> {
    let path = files.path(name)?;
    let bytes = path.metadata().map_err(unreadable(name))?.len();
    if bytes > MAX_BYTES {
        return Err(DataError::TooLarge { file: name.to_string(), bytes, limit: MAX_BYTES });
    }
    let mut lines = Lines::open(name, File::open(path).map_err(unreadable(name))?);
    let header = Header::read(&mut lines)?;
    let places: HashMap<&[u8], u32> = header.classes.iter().map(|class| class.as_bytes()).zip(0..).collect();
    let mut series = Series {
        file: name.to_string(),
        classes: header.classes.clone(),
        channels: header.dimensions.unwrap_or(0),
        lengths: Vec::new(),
        labels: Vec::new(),
        values: Vec::new(),
    };
    while lines.next()? {
        series.add(&lines, &header, &places)?;
    }
    if series.lengths.is_empty() {
        return Err(DataError::Empty { problem: format!("file '{name}' has no samples") });
    }
    Ok(series)
}

impl Series {
    /// Adds the sample that is in the line that was read last.
    fn add(&mut self, lines: &Lines, header: &Header, places: &HashMap<&[u8], u32>) -> Result<(), DataError> {
        let mut dimensions: Vec<&[u8]> = lines.text().split(|byte| *byte == b':').collect();
        let label = dimensions.pop().filter(|_| !dimensions.is_empty());
        let label = label.ok_or_else(|| lines.bad("has no ':' with a class behind it"))?.trim_ascii();
        let class = places.get(label).ok_or_else(|| {
            lines.bad(&format!("ends with the class {}, which is none of `@classLabel`", shown(label)))
        })?;
        // What no header says the first sample does.
        if self.channels == 0 {
            self.channels = dimensions.len();
        }
        if dimensions.len() != self.channels {
            let problem = format!("has {} dimensions instead of {}", dimensions.len(), self.channels);
            return Err(lines.bad(&problem));
        }
        let mut length = None;
        for (dimension, text) in dimensions.iter().enumerate() {
            let start = self.values.len();
            for (step, field) in text.split(|byte| *byte == b',').enumerate() {
                let value = number(field).map_err(|problem| {
                    let place = format!("dimension {dimension}, step {step}");
                    DataError::Format {
                        file: self.file.clone(),
                        problem: lines.placed(&format!(", {place}: {problem}")),
                    }
                })?;
                self.values.push(value);
            }
            let steps = self.values.len() - start;
            let first = *length.get_or_insert(steps);
            if steps != first {
                return Err(lines.bad(&format!("has {steps} steps in dimension {dimension}, {first} in dimension 0")));
            }
        }
        let length = length.unwrap_or(0);
        let wanted = header.length.or(self.lengths.first().copied()).unwrap_or(length);
        if header.equal && length != wanted {
            return Err(lines.bad(&format!("has {length} steps instead of {wanted}; `@equalLength` is true")));
        }
        self.lengths.push(length);
        self.labels.push(*class);
        self.check_size(self.values.len() as u64)
    }

    /// All samples with so many steps.
    fn padded(self, length: usize) -> Result<Part, DataError> {
        let Self { channels, .. } = self;
        let count = self.lengths.len();
        let size = length * channels;
        self.check_size((count as u64).saturating_mul(size as u64))?;
        let mut values = vec![0.0; count * size];
        let mut rest = &self.values[..];
        for (sample, steps) in values.chunks_exact_mut(size).zip(&self.lengths) {
            let (own, others) = rest.split_at(steps * channels);
            rest = others;
            for (channel, dimension) in own.chunks_exact(*steps).enumerate() {
                sample[channel..].iter_mut().step_by(channels).zip(dimension).for_each(|(to, from)| *to = *from);
            }
        }
        let labels = labels(&self.file, self.labels.into_iter().map(i128::from))?;
        let sample_shape = vec![length, channels];
        part(Samples { file: self.file, count, sample_shape, values: Inputs::F32(values) }, labels)
    }

    fn check_size(&self, values: u64) -> Result<(), DataError> {
        let bytes = values.saturating_mul(4);
        if bytes > MAX_BYTES {
            return Err(DataError::TooLarge { file: self.file.clone(), bytes, limit: MAX_BYTES });
        }
        Ok(())
    }
}

/// A value, or what is wrong with it.
fn number(field: &[u8]) -> Result<f32, String> {
    let field = field.trim_ascii();
    if field.is_empty() {
        return Err("there is no value".to_string());
    }
    let value = std::str::from_utf8(field).ok().and_then(|text| text.parse::<f32>().ok());
    match value {
        Some(value) if value.is_finite() => Ok(value),
        Some(value) if !value.is_nan() => Err(format!("{} is not finite", shown(field))),
        None if field != b"?" => Err(format!("{} is no number", shown(field))),
        _ => Err(format!("{} stands for a missing value, which a sample may not have", shown(field))),
    }
}

/// A field as messages show it.
fn shown(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short:?}...") } else { format!("{short:?}") }
}

/// The lines of a file that say something, one after the other: no empty ones and no comments.
struct Lines {
    file: String,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// The number of the last line, counted from 1.
    number: u64,
}

impl Lines {
    fn open(name: &str, file: File) -> Self {
        Self { file: name.to_string(), reader: BufReader::new(file), line: Vec::new(), number: 0 }
    }

    /// Reads the next line; false at the end. A line without an end must not fill the memory.
    fn next(&mut self) -> Result<bool, DataError> {
        loop {
            self.line.clear();
            let mut bounded = (&mut self.reader).take(MAX_LINE as u64 + 1);
            bounded.read_until(b'\n', &mut self.line).map_err(unreadable(&self.file))?;
            if self.line.is_empty() {
                return Ok(false);
            }
            self.number += 1;
            if self.line.len() > MAX_LINE {
                return Err(self.bad(&format!("has more than {MAX_LINE} bytes")));
            }
            if !header::is_passed_over(self.text()) {
                return Ok(true);
            }
        }
    }

    /// The last line, without spaces around it.
    fn text(&self) -> &[u8] {
        header::without_mark(&self.line).trim_ascii()
    }

    /// A text about the last line.
    fn placed(&self, text: &str) -> String {
        format!("line {}{text}", self.number)
    }

    /// What the last line has done wrong.
    fn bad(&self, problem: &str) -> DataError {
        DataError::Format { file: self.file.clone(), problem: self.placed(&format!(" {problem}")) }
    }
}

#[cfg(test)]
mod tests;
