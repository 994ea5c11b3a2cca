//! How a data set is read, transformed and split: the recipe's `data` section.

use serde::{Deserialize, Serialize};

/// How a data set is read, transformed and split.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DataSpec {
    /// Which files are what; `None`: found out by looking.
    pub source: Option<DataSource>,
    /// The classes that are kept; the first becomes class 0, and so on. Empty: all, as they are.
    pub classes: Vec<u32>,
    /// What each class becomes, after `classes`: class `i` becomes `relabel[i]`. Empty: all stay what they are.
    pub relabel: Vec<u32>,
    /// What happens to training samples, before the transforms, in this order.
    pub augment: Vec<Augmentation>,
    /// What happens to every sample, in this order.
    pub transforms: Vec<Transform>,
    /// How samples are divided.
    pub split: SplitSpec,
}

/// Something for each split. What is not declared is drawn from the training samples.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BySplit<T> {
    /// For the training samples, and all that is drawn from them.
    pub train: T,
    /// For the validation samples.
    pub validation: Option<T>,
    /// For the samples that choices between candidates are made by.
    pub selection: Option<T>,
    /// For the test samples.
    pub test: Option<T>,
}

/// Which files are what. A file has one place only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DataSource {
    /// IDX files, gzip-compressed or not.
    Idx(BySplit<IdxPair>),
    /// `.safetensors` files.
    Safetensors {
        /// Names of the files.
        files: BySplit<String>,
        /// Name of the tensor with the inputs, `[n, ...]`.
        inputs: String,
        /// Name of the tensor with the labels, `[n]`.
        labels: String,
    },
    /// CIFAR's binary files.
    Cifar {
        /// Names of the files; a split's samples may be in several.
        files: BySplit<Vec<String>>,
        /// What the records are.
        form: CifarForm,
    },
    /// Arrays in `.npz` files.
    Npz {
        /// Names of the arrays.
        arrays: BySplit<NpzPair>,
        /// Where images have their channels.
        layout: Layout,
    },
    /// PNG and JPEG files in a folder for each class.
    Images {
        /// The folders that have the classes' folders in them; the empty name is the top.
        folders: BySplit<String>,
        /// Height and width that every picture is brought to; `None`: they all have one size.
        size: Option<(u32, u32)>,
        /// The channels.
        color: Color,
    },
    /// Numbers and a label in rows of text.
    Csv {
        /// Names of the files.
        files: BySplit<String>,
        /// Whether the first row has the columns' names.
        header: Header,
        /// The column with the label.
        label: LabelColumn,
        /// Shape of one sample; its product is the number of columns without the label. Empty: a plain vector.
        shape: Vec<u32>,
    },
    /// Time series in the text form of the UEA and UCR archives, by the names of the files.
    Ts(BySplit<String>),
}

/// Inputs and labels, by file name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdxPair {
    /// The file with the inputs.
    pub inputs: String,
    /// The file with the labels.
    pub labels: String,
}

/// Inputs and labels, by the names of arrays in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NpzPair {
    /// The file.
    pub file: String,
    /// The array with the inputs, `[n, ...]`.
    pub inputs: String,
    /// The array with the labels, `[n]` or `[n, 1]`.
    pub labels: String,
}

/// What the records of CIFAR files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CifarForm {
    /// CIFAR-10: a label, and the picture.
    Cifar10,
    /// CIFAR-100, labelled by its 100 fine classes: a coarse label, a fine label, and the picture.
    Cifar100Fine,
    /// CIFAR-100, labelled by its 20 coarse classes.
    Cifar100Coarse,
}

/// Where arrays of images have their channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `[n, h, w, c]` if the last of four axes is 1, 3 or 4 and the second is not, else `[n, c, h, w]`.
    Detected,
    /// `[n, c, h, w]`.
    ChannelsFirst,
    /// `[n, h, w, c]`.
    ChannelsLast,
}

/// The channels of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Color {
    /// Grey if all pictures are grey, else red, green and blue.
    Detected,
    /// One channel.
    Grey,
    /// Three channels.
    Rgb,
}

/// Whether the first row of a CSV file has the columns' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header {
    /// It has where the label's column is given by name, and else where none of its fields is a number.
    Detected,
    /// It has.
    Present,
    /// It is a sample.
    Absent,
}

/// The column of a CSV file that has the label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelColumn {
    /// The one that is called `label`, `class`, `target`, `species` or `y`, or else the only one that is no number.
    Detected,
    /// The one of this name.
    Name(String),
    /// The one at this place, counted from 0.
    Index(u32),
}

/// One thing that happens to every sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// `x * factor`.
    Scale {
        /// The factor; finite, not 0.
        factor: f64,
    },
    /// `(x - mean) / std`, one number for all channels or one a channel (the first axis of a sample, of time series the last).
    Normalize {
        /// The means.
        mean: Vec<f64>,
        /// The standard deviations; above 0.
        std: Vec<f64>,
    },
    /// 1 where `x > threshold`, else 0.
    Binarise {
        /// The threshold; finite.
        threshold: f64,
    },
}

/// One thing that happens to training samples, by chance. Samples are images, `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Augmentation {
    /// Mirrored left and right, with probability 1/2.
    Flip,
    /// Moved up or down and left or right by at most so many pixels, each way by chance; what comes in is 0: the same as
    /// a border of zeros and a crop of the original size.
    ShiftCrop {
        /// Pixels; below height and width.
        pixels: u32,
    },
}

/// How samples are divided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitSpec {
    /// Share of the training samples that is set aside for validation, where the data set has none. `None`: a tenth.
    pub validation_fraction: Option<f64>,
    /// Share of the training samples that is set aside for choices between candidates. `None`: these are made by the
    /// validation samples.
    pub selection_fraction: Option<f64>,
    /// Share of the samples that becomes the test split where the data set has none of its own. `None`: a fifth, where
    /// it is needed.
    pub test_fraction: Option<f64>,
    /// The most samples to train on. `None`: all.
    pub train_samples: Option<u32>,
}

impl<T> BySplit<T> {
    /// Training samples alone.
    pub fn train(train: T) -> Self {
        Self { train, validation: None, selection: None, test: None }
    }

    /// Each split's with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let others = [("validation", &self.validation), ("selection", &self.selection), ("test", &self.test)];
        let declared = others.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        std::iter::once(("train", &self.train)).chain(declared)
    }

    /// The same for each split's.
    pub fn try_map<U, E>(self, mut to: impl FnMut(T) -> Result<U, E>) -> Result<BySplit<U>, E> {
        Ok(BySplit {
            train: to(self.train)?,
            validation: self.validation.map(&mut to).transpose()?,
            selection: self.selection.map(&mut to).transpose()?,
            test: self.test.map(&mut to).transpose()?,
        })
    }

    /// The same of each split's, without owning it.
    pub fn as_ref(&self) -> BySplit<&T> {
        BySplit {
            train: &self.train,
            validation: self.validation.as_ref(),
            selection: self.selection.as_ref(),
            test: self.test.as_ref(),
        }
    }
}
