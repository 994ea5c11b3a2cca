//! What stands before the samples of a `.ts` file: lines of a word with an `@`, in letters of any size, and what it says.
//!
//! | word | what it says |
//! |---|---|
//! | `@problemName` | a name; passed over |
//! | `@timeStamps` | `false`; values with times are not read |
//! | `@missing` | passed over: whether values are missing is seen |
//! | `@univariate`, `@dimensions` | how many dimensions samples have |
//! | `@equalLength`, `@seriesLength` | whether all samples have one length, and which |
//! | `@classLabel` | `true` and the classes |
//! | `@targetLabel` | `false`; numbers in the place of classes are not read |
//! | `@data` | samples follow |

use std::collections::BTreeSet;

use super::{Lines, shown};
use crate::data::DataError;
use crate::data::source::MAX_CLASSES;

/// The words of a header.
const WORDS: [&str; 11] = [
    "@problemName",
    "@timeStamps",
    "@missing",
    "@univariate",
    "@dimension",
    "@dimensions",
    "@equalLength",
    "@seriesLength",
    "@classLabel",
    "@targetLabel",
    "@data",
];
/// The longest name of a class, in bytes.
const MAX_WORD: usize = 256;

/// What a header says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Header {
    /// The dimensions of each sample.
    pub dimensions: Option<usize>,
    /// Whether all samples have one length.
    pub equal: bool,
    /// The length of a sample.
    pub length: Option<usize>,
    /// The classes' names.
    pub classes: Vec<String>,
}

/// Whether a file that starts like this is one of time series.
pub(in crate::data::source) fn begins(start: &[u8]) -> bool {
    let mut lines = without_mark(start).split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !is_passed_over(line)).unwrap_or_default();
    word_of(line).is_some_and(|word| known(word).is_some())
}

/// Whether a line is empty or a comment.
pub(super) fn is_passed_over(line: &[u8]) -> bool {
    matches!(line.first(), None | Some(b'#' | b'%'))
}

/// A line without the byte order mark that a file may begin with.
pub(super) fn without_mark(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
}

/// The word that a line begins with, if it may be one of a header.
fn word_of(line: &[u8]) -> Option<&[u8]> {
    line.split(u8::is_ascii_whitespace).next().filter(|word| word.starts_with(b"@"))
}

/// The word of a header that this one is.
fn known(word: &[u8]) -> Option<&'static str> {
    WORDS.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(word))
}

impl Header {
    /// Reads up to `@data`.
    pub fn read(lines: &mut Lines) -> Result<Self, DataError> {
        let mut header = Self::default();
        let mut univariate = false;
        let mut seen = BTreeSet::new();
        while lines.next()? {
            let word =
                word_of(lines.text()).ok_or_else(|| lines.bad("is a sample, but there was no `@data` before"))?;
            let word = known(word).ok_or_else(|| lines.bad(&format!("has no word of a header: {}", shown(word))))?;
            if !seen.insert(word) {
                return Err(lines.bad(&format!("says `{word}` a second time")));
            }
            let values = Values { lines, word };
            match word {
                "@timeStamps" if values.truth()? => return Err(values.bad("is true; only false is supported")),
                "@targetLabel" if values.truth()? => return Err(values.bad("is true; classes are needed")),
                "@univariate" => univariate = values.truth()?,
                "@dimension" | "@dimensions" => header.dimensions = Some(values.whole()?),
                "@equalLength" => header.equal = values.truth()?,
                "@seriesLength" => header.length = Some(values.whole()?),
                "@classLabel" => header.classes = values.classes()?,
                "@data" => return header.checked(lines, univariate),
                _ => {}
            }
        }
        let problem = "it has no line `@data`".to_string();
        Err(DataError::Format { file: lines.file.clone(), problem })
    }

    fn checked(mut self, lines: &Lines, univariate: bool) -> Result<Self, DataError> {
        let bad = |problem: &str| DataError::Format { file: lines.file.clone(), problem: problem.to_string() };
        if self.classes.is_empty() {
            return Err(bad("its header has no `@classLabel`; classes are needed"));
        }
        if univariate && *self.dimensions.get_or_insert(1) != 1 {
            return Err(bad("its header says `@univariate true`, but not one dimension"));
        }
        Ok(self)
    }
}

/// What stands behind a word in the last line.
struct Values<'l> {
    lines: &'l Lines,
    word: &'static str,
}

impl Values<'_> {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.text().split(u8::is_ascii_whitespace).filter(|value| !value.is_empty()).skip(1)
    }

    fn first(&self) -> &[u8] {
        self.iter().next().unwrap_or_default()
    }

    fn bad(&self, problem: &str) -> DataError {
        DataError::Format {
            file: self.lines.file.clone(),
            problem: self.lines.placed(&format!(": `{}` {problem}", self.word)),
        }
    }

    fn truth(&self) -> Result<bool, DataError> {
        match self.first().to_ascii_lowercase().as_slice() {
            b"true" => Ok(true),
            b"false" => Ok(false),
            _ => Err(self.bad(&format!("is {}, neither true nor false", shown(self.first())))),
        }
    }

    /// A number above 0.
    fn whole(&self) -> Result<usize, DataError> {
        let number = std::str::from_utf8(self.first()).ok().and_then(|text| text.parse().ok());
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| self.bad(&format!("is {}, which is no whole number above 0", shown(self.first()))))
    }

    fn classes(&self) -> Result<Vec<String>, DataError> {
        if !self.truth()? {
            return Err(self.bad("is false; classes are needed"));
        }
        let mut classes = Vec::new();
        let mut seen = BTreeSet::new();
        for class in self.iter().skip(1) {
            let name = std::str::from_utf8(class).ok().filter(|name| name.len() <= MAX_WORD && !name.contains(':'));
            let name = name.ok_or_else(|| {
                self.bad(&format!(
                    "has the class {}, which is no UTF-8, has a ':' or is longer than {MAX_WORD} bytes",
                    shown(class)
                ))
            })?;
            if !seen.insert(name) {
                return Err(self.bad(&format!("has the class {} twice", shown(class))));
            }
            classes.push(name.to_string());
        }
        if classes.is_empty() || classes.len() > MAX_CLASSES as usize {
            return Err(self.bad(&format!("has {} classes; 1 to {MAX_CLASSES} are allowed", classes.len())));
        }
        Ok(classes)
    }
}
