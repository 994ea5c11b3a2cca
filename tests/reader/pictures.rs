//! Number 48: pictures.

use std::io::Cursor;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, GrayImage, ImageFormat};

use super::*;

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut writer = ZlibEncoder::new(Vec::new(), Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A grey PNG of 8 bits with these chunks before its pixels, which are all there.
fn png(width: u32, height: u32, before: &[Vec<u8>]) -> Vec<u8> {
    let head = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let pixels = vec![0; (width as usize + 1) * height as usize];
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &head));
    before.iter().for_each(|chunk| file.extend(chunk));
    file.extend(chunk(b"IDAT", &packed(&pixels)));
    file.extend(chunk(b"IEND", b""));
    file
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(GrayImage::from_pixel(8, 8, image::Luma([90]))).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// What is said of a picture beside one that is as it should be.
fn with(picture: &[u8]) -> Result<Answer, String> {
    data(&[("a/1", &png(8, 8, &[])), ("b/1", picture)], None)
}

#[track_caller]
fn refused(picture: &[u8]) -> (String, String) {
    let refused = Refused::of(with(picture), "a picture");
    refused.is(&refused.failure.reason, 0);
    (refused.failure.reason, refused.failure.message)
}

#[track_caller]
fn read(picture: &[u8]) {
    let answer = with(picture).unwrap();
    assert!(matches!(answer.verdict, Verdict::Dataset(_)), "{:?}", answer.verdict);
    assert!(answer.peak_bytes <= BASE, "{} MiB", answer.peak_bytes >> 20);
}

#[test]
fn n48_huge_pictures_are_refused_by_their_header() {
    let bits = [&60_000u32.to_be_bytes()[..], &60_000u32.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let claim = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &bits), chunk(b"IDAT", &[])].concat();
    assert!(refused(&claim).1.contains("more than 4096 pixels on a side"));
    let nothing = [&0u32.to_be_bytes()[..], &8u32.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let empty = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &nothing), chunk(b"IDAT", &[])].concat();
    assert_eq!(refused(&empty).0, "DATASET_FORMAT");
    // A JPEG that says it is as large as one can be.
    let mut large = jpeg();
    let frame = large.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
    large[frame + 5..frame + 9].fill(0xff);
    assert_eq!(refused(&large).0, "DATASET_FORMAT");
}

#[test]
fn n48_what_is_no_pixel_is_bounded_too() {
    let bomb = packed(&vec![0; 200 << 20]);
    for (kind, before) in [(b"iCCP", &b"p\0\0"[..]), (b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\x01\0\0\0")] {
        let answer = with(&png(8, 8, &[chunk(kind, &[before, &bomb].concat())])).unwrap();
        assert!(answer.peak_bytes <= BASE, "{} MiB", answer.peak_bytes >> 20);
    }
    // A JPEG with as much beside its pixels as one segment holds, many times.
    let whole = jpeg();
    let exif = [&[0xff, 0xe1, 0xff, 0xff][..], b"Exif\0\0", &[0; 65_527]].concat();
    let answer = with(&[&whole[..2], &exif.repeat(500), &whole[2..]].concat()).unwrap();
    assert!(answer.peak_bytes <= BASE + (exif.len() as u64 * 500 * 2), "{} MiB", answer.peak_bytes >> 20);
}

#[test]
fn n48_pictures_that_move_are_read_as_the_first() {
    let frames = [&1_000_000u32.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
    let first = [&0u32.to_be_bytes()[..], &8u32.to_be_bytes(), &8u32.to_be_bytes(), &[0; 14]].concat();
    read(&png(8, 8, &[chunk(b"acTL", &frames), chunk(b"fcTL", &first)]));
}

#[test]
fn n48_pictures_that_are_damaged_are_refused() {
    let good = png(8, 8, &[]);
    read(&good);
    let mut damaged = good.clone();
    let pixels = good.windows(4).position(|bytes| bytes == b"IDAT").unwrap();
    damaged[pixels + 6] ^= 0xff;
    assert_eq!(refused(&damaged).0, "DATASET_FORMAT", "a wrong checksum");
    for length in [9, 20, 33, good.len() - 20] {
        let (reason, message) = refused(&good[..length]);
        assert!(["TRUNCATED", "DATASET_FORMAT"].contains(&reason.as_str()), "{length}: {message}");
    }
    let whole = jpeg();
    assert_eq!(refused(&whole[..whole.len() - 3]).0, "TRUNCATED");
    // Seven passes over pixels that are not there.
    let head = [&8u32.to_be_bytes()[..], &8u32.to_be_bytes(), &[8, 0, 0, 0, 1]].concat();
    let interlaced =
        [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &head), chunk(b"IDAT", &packed(&[0; 4])), chunk(b"IEND", b"")];
    assert!(["TRUNCATED", "DATASET_FORMAT"].contains(&refused(&interlaced.concat()).0.as_str()));
}

#[test]
fn n48_a_jpeg_has_few_scans() {
    let whole = jpeg();
    let scan = whole.windows(2).position(|bytes| bytes == [0xff, 0xda]).unwrap();
    let end = whole.len() - 2;
    let many = [&whole[..end], &whole[scan..end].repeat(10_000), &whole[end..]].concat();
    assert!(refused(&many).1.contains("more than 64 scans"));
}

#[test]
fn n48_other_formats_of_pictures_are_not_read() {
    let others: [&[u8]; 7] = [
        b"II*\0\x08\0\0\0",
        b"GIF89a\x08\0\x08\0",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"BM\x10\0\0\0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
    ];
    for bytes in others {
        assert!(refused(bytes).1.contains("neither a PNG nor a JPEG"), "{bytes:?}");
    }
}
