//! Pictures in a folder for each class: `cat/001.png`, `dog/x/7.jpg`, ... The classes are the folders' names in order; a
//! folder's name is all that labels its pictures.
//!
//! Every file in a class's folder is a PNG or a JPEG, whatever its name says. Samples are bytes `[c, h, w]`: 16 bits become
//! 8, transparency is ignored, grey is made of colours by the weights of Rec. 709, and the orientation that a camera notes is
//! not looked at. A `size` brings every picture to one height and width by the triangle filter (bilinear, widened where
//! pictures shrink so that every pixel counts), without keeping proportions; without it all pictures must have one size.
//!
//! Headers are read first, so that sizes are known, and refused, before memory is taken. Pictures are decoded in parallel,
//! each to its own place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Seek};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use super::{MAX_BYTES, Samples, labels, part, unreadable};
use crate::data::{BySplit, Color, DataError, Files, Inputs, Part};

/// The most pixels on a side. Bounds what one picture may take while it is decoded; nobody trains on larger ones.
const MAX_SIDE: u32 = 4096;
/// The most memory that what is no pixel may take, such as a colour profile.
const MAX_BESIDES: u64 = 8 << 20;
/// The most memory for a pixel: four channels of 16 bits.
const PIXEL: u64 = 8;
/// The most pixels of all pictures together. Bounds the time: a picture of one colour takes a thousandth of its pixels.
const MAX_PIXELS: u64 = 1 << 32;
/// The most scans of a JPEG; a progressive one has about ten. Each goes over all pixels, and may take a few bytes alone.
const MAX_SCANS: usize = 64;
/// The most bytes of one file.
const MAX_PACKED: u64 = 64 << 20;

/// Names and paths of files, by the names of their classes.
type ByClass<'f> = BTreeMap<&'f str, Vec<(&'f str, &'f Path)>>;

/// A picture that is to be read.
struct Picture<'f> {
    name: &'f str,
    path: &'f Path,
    label: u32,
}

/// What a picture's header says.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Head {
    width: u32,
    height: u32,
    grey: bool,
}

/// Reads the pictures below these folders, and the names of their classes.
pub(super) fn read(
    files: &Files,
    folders: &BySplit<String>,
    size: Option<(u32, u32)>,
    color: Color,
) -> Result<(BySplit<Part>, Vec<String>), DataError> {
    let found = folders.as_ref().try_map(|folder| by_class(files, folder))?;
    let names: Vec<String> = found.train.keys().map(|class| class.to_string()).collect();
    if names.len() < 2 {
        let (folder, class) = (&folders.train, names.join(", "));
        let problem = format!("pictures in '{folder}' lie in the folder of one class alone: '{class}'");
        return Err(DataError::Unclear { problem });
    }
    let pictures = found.try_map(|classes| labelled(classes, &names))?;
    let all: Vec<&Picture<'_>> = pictures.iter().flat_map(|(_, pictures)| pictures).collect();
    let heads: Vec<Result<Head, DataError>> = all.par_iter().map(|picture| head(picture)).collect();
    // Of several errors always the first is told.
    let heads: Vec<Head> = heads.into_iter().collect::<Result<_, _>>()?;
    let pixels: u64 = heads.iter().map(|head| u64::from(head.width) * u64::from(head.height)).sum();
    if pixels > MAX_PIXELS {
        let problem = format!("the pictures have {pixels} pixels together, at most {MAX_PIXELS} are allowed");
        return Err(DataError::Format { file: folders.train.clone(), problem });
    }
    let grey = match color {
        Color::Detected => heads.iter().all(|head| head.grey),
        Color::Grey => true,
        Color::Rgb => false,
    };
    let (height, width) = match size {
        Some(size) => size,
        None => one_size(&all, &heads)?,
    };
    let channels = if grey { 1 } else { 3 };
    let bytes = u64::from(height) * u64::from(width) * channels as u64 * all.len() as u64;
    if bytes > MAX_BYTES {
        let file = folders.train.clone();
        return Err(DataError::TooLarge { file, bytes, limit: MAX_BYTES });
    }
    let form = Form { shape: [channels, height as usize, width as usize], grey };
    Ok((pictures.try_map(|pictures| decoded(&pictures, form))?, names))
}

/// Whether the folder or file `name` is `folder` or lies in it.
pub(super) fn is_in(name: &str, folder: &str) -> bool {
    let rest = name.strip_prefix(folder);
    rest.is_some_and(|rest| folder.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// The files below a folder, by the name of the class's folder they lie in. Files outside of all classes are passed over,
/// but not pictures.
fn by_class<'f>(files: &'f Files, folder: &str) -> Result<ByClass<'f>, DataError> {
    let mut classes = ByClass::new();
    for (name, path) in files.0.iter().filter(|(name, _)| is_in(name, folder)) {
        let rest = name[folder.len()..].trim_start_matches('/');
        match rest.split_once('/') {
            Some((class, _)) => classes.entry(class).or_default().push((name, path)),
            None if kind(path).map_err(unreadable(name))?.is_some() => {
                let problem = "it lies in no folder that would name its class".to_string();
                return Err(DataError::Format { file: name.clone(), problem });
            }
            None => {}
        }
    }
    if classes.is_empty() {
        let problem = format!("there are no folders with pictures in the folder '{folder}'");
        return Err(DataError::Empty { problem });
    }
    Ok(classes)
}

/// The pictures with their labels: places in `names`, which are in order.
fn labelled<'f>(classes: ByClass<'f>, names: &[String]) -> Result<Vec<Picture<'f>>, DataError> {
    let mut pictures = Vec::new();
    for (class, files) in classes {
        let Ok(label) = names.binary_search_by(|name| name.as_str().cmp(class)) else {
            let problem = format!("no training picture is of its class, '{class}'");
            let file = files.first().map_or("", |(name, _)| name).to_string();
            return Err(DataError::Format { file, problem });
        };
        pictures.extend(files.into_iter().map(|(name, path)| Picture { name, path, label: label as u32 }));
    }
    Ok(pictures)
}

/// What a file is by its first bytes, if it is a picture that can be read.
pub(super) fn kind(path: &Path) -> std::io::Result<Option<ImageFormat>> {
    let mut reader = ImageReader::new(BufReader::with_capacity(64, File::open(path)?));
    reader = reader.with_guessed_format()?;
    Ok(reader.format().filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg)))
}

/// What a picture's file is.
fn format_of(picture: &Picture<'_>) -> Result<ImageFormat, DataError> {
    let bytes = picture.path.metadata().map_err(unreadable(picture.name))?.len();
    if bytes > MAX_PACKED {
        return Err(DataError::TooLarge { file: picture.name.to_string(), bytes, limit: MAX_PACKED });
    }
    kind(picture.path).map_err(unreadable(picture.name))?.ok_or_else(|| {
        let problem = "it is neither a PNG nor a JPEG picture, but lies in the folder of a class".to_string();
        DataError::Format { file: picture.name.to_string(), problem }
    })
}

fn head(picture: &Picture<'_>) -> Result<Head, DataError> {
    let format = format_of(picture)?;
    let file = File::open(picture.path).map_err(unreadable(picture.name))?;
    head_of(picture.name, BufReader::new(file), format)
}

/// Reads the header of the picture `name`.
fn head_of(name: &str, bytes: impl BufRead + Seek, format: ImageFormat) -> Result<Head, DataError> {
    let decoder = bounded(bytes, format, MAX_BESIDES).into_decoder().map_err(broken(name))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        let problem = format!("the picture has {width} x {height} pixels");
        return Err(DataError::Format { file: name.to_string(), problem });
    }
    let grey = matches!(decoder.color_type(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16);
    Ok(Head { width, height, grey })
}

/// A reader that takes no more memory than `memory`, as far as the decoders heed it.
fn bounded<R: BufRead + Seek>(bytes: R, format: ImageFormat, memory: u64) -> ImageReader<R> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(memory);
    let mut reader = ImageReader::with_format(bytes, format);
    reader.limits(limits);
    reader
}

/// The height and width that all pictures have.
fn one_size(pictures: &[&Picture<'_>], heads: &[Head]) -> Result<(u32, u32), DataError> {
    let first = &heads[0];
    let size = |head: &Head| (head.height, head.width);
    if let Some(i) = heads.iter().position(|head| size(head) != size(first)) {
        let ((h, w), (height, width)) = (size(&heads[i]), size(first));
        let problem = format!(
            "the picture has {h} x {w} pixels, '{}' has {height} x {width}; `data.source.images.size` brings all to one",
            pictures[0].name
        );
        return Err(DataError::Format { file: pictures[i].name.to_string(), problem });
    }
    Ok(size(first))
}

/// What pictures become.
#[derive(Clone, Copy)]
struct Form {
    /// Channels, height and width.
    shape: [usize; 3],
    grey: bool,
}

/// Decodes pictures into one array.
fn decoded(pictures: &[Picture<'_>], form: Form) -> Result<Part, DataError> {
    let size = form.shape.iter().product();
    let mut values = vec![0; size * pictures.len()];
    let places: Vec<(&Picture<'_>, &mut [u8])> = pictures.iter().zip(values.chunks_exact_mut(size)).collect();
    let errors = places.into_par_iter().map(|(picture, place)| decode(picture, form, place).err());
    if let Some(error) = errors.find_map_first(|error| error) {
        return Err(error);
    }
    let file = pictures.first().map_or("", |picture| picture.name).to_string();
    let labels = labels(&file, pictures.iter().map(|picture| i128::from(picture.label)))?;
    part(
        Samples { file, count: pictures.len(), sample_shape: form.shape.to_vec(), values: Inputs::U8(values.into()) },
        labels,
    )
}

/// Decodes a picture to `place`, channel by channel.
fn decode(picture: &Picture<'_>, form: Form, place: &mut [u8]) -> Result<(), DataError> {
    let format = format_of(picture)?;
    let bytes = std::fs::read(picture.path).map_err(unreadable(picture.name))?;
    if format == ImageFormat::Jpeg {
        check_scans(picture.name, &bytes)?;
    }
    let Head { width: across, height: down, .. } = head_of(picture.name, Cursor::new(&bytes), format)?;
    let memory = u64::from(across) * u64::from(down) * PIXEL + MAX_BESIDES;
    let image = bounded(Cursor::new(&bytes), format, memory).decode().map_err(broken(picture.name))?;
    let [channels, height, width] = form.shape;
    let (w, h) = (width as u32, height as u32);
    let as_it_is = (image.width(), image.height()) == (w, h);
    let triangle = FilterType::Triangle;
    let pixels = match (form.grey, as_it_is) {
        (true, true) => image.into_luma8().into_raw(),
        (true, false) => imageops::resize(&image.into_luma8(), w, h, triangle).into_raw(),
        (false, true) => image.into_rgb8().into_raw(),
        (false, false) => imageops::resize(&image.into_rgb8(), w, h, triangle).into_raw(),
    };
    for (channel, plane) in place.chunks_exact_mut(height * width).enumerate() {
        plane.iter_mut().zip(pixels[channel..].iter().step_by(channels)).for_each(|(to, from)| *to = *from);
    }
    Ok(())
}

/// Refuses a JPEG with more scans than anybody needs, or without the mark of its end: the decoder would fill with grey what is
/// missing. Where there are no pixels it says so itself.
fn check_scans(name: &str, jpeg: &[u8]) -> Result<(), DataError> {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    // Segments: 0xff, a kind, and the length of what follows, its own two bytes included.
    while let [0xff, kind, high, low, ..] = *rest {
        if kind == 0xda {
            let marks = |mark: u8| rest.windows(2).filter(move |pair| **pair == [0xff, mark]);
            if marks(0xd9).next().is_none() {
                let problem = "the picture ends in the middle".to_string();
                return Err(DataError::Truncated { file: name.to_string(), problem });
            }
            if marks(0xda).count() > MAX_SCANS {
                let problem = format!("the picture has more than {MAX_SCANS} scans");
                return Err(DataError::Format { file: name.to_string(), problem });
            }
            return Ok(());
        }
        let length = if kind == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

fn broken(file: &str) -> impl Fn(ImageError) -> DataError + '_ {
    move |error| {
        let file = file.to_string();
        match error {
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                DataError::Truncated { file, problem: "the picture ends in the middle".to_string() }
            }
            ImageError::IoError(source) if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::Other) => {
                DataError::Unreadable { file, source }
            }
            ImageError::Limits(_) => {
                let problem =
                    format!("the picture has more than {MAX_SIDE} pixels on a side, or needs too much memory");
                DataError::Format { file, problem }
            }
            other => DataError::Format { file, problem: format!("the picture cannot be decoded: {other}") },
        }
    }
}

#[cfg(test)]
mod tests;
