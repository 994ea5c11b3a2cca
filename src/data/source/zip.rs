//! As much of the zip format as `.npz` files have, read strictly: the directory stands at the very end, without a comment,
//! and tells the truth about what precedes it (PKWARE's APPNOTE.TXT, 4.3).
//!
//! ```text
//!   [ local header │ packed bytes ] ...   [ directory entry ] ...   [ end record ]
//! ```
//!
//! Members are stored or deflated. Encryption, zip64 (archives beyond 4 GiB) and several volumes are refused. Nothing is
//! searched for and no number is believed before it is compared with the bytes that are there: a hostile archive costs no
//! more memory than its directory, which is short. Members lie apart, and are no links. They are read into memory; their
//! names are never paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use flate2::CrcReader;
use flate2::bufread::DeflateDecoder;

use super::{MAX_BYTES, unreadable};
use crate::data::{DataError, Files};

const END: [u8; 4] = *b"PK\x05\x06";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
/// The lengths of these records, without names and the like.
const END_LENGTH: u64 = 22;
const ENTRY_LENGTH: usize = 46;
const LOCAL_LENGTH: usize = 30;

/// The flag of a local header whose sizes stand behind the member.
const NO_SIZES: u16 = 1 << 3;
/// The kind of file that Unix knows a link by, in the upper half of the attributes.
const LINK: u16 = 0o12_0000;
const FILE_KIND: u16 = 0o17_0000;
/// Arrays have one file each.
const MAX_MEMBERS: u16 = 1024;
/// The longest directory: as many members with names of ordinary length.
const MAX_DIRECTORY: u64 = 1 << 18;
/// Deflate encodes at most 258 bytes in 2 bits.
const MAX_RATIO: u64 = 1032;

/// An archive and what is in it, by name.
pub(super) struct Archive {
    name: String,
    file: File,
    members: BTreeMap<String, Member>,
}

/// A member as the directory has it.
#[derive(Clone, Copy)]
struct Member {
    packing: Packing,
    crc: u32,
    packed: u64,
    unpacked: u64,
    /// Where its local header begins.
    start: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Packing {
    Stored,
    Deflated,
}

impl Packing {
    fn method(self) -> u16 {
        match self {
            Packing::Stored => 0,
            Packing::Deflated => 8,
        }
    }
}

/// A member's bytes, unpacked as they are read.
pub(super) struct Unpacked<'a> {
    reader: CrcReader<Content<'a>>,
    crc: u32,
    /// The bytes that the directory says it has.
    pub size: u64,
}

enum Content<'a> {
    Stored(Take<&'a mut File>),
    Deflated(DeflateDecoder<BufReader<Take<&'a mut File>>>),
}

impl Archive {
    /// Opens the archive of that name and reads its directory.
    pub fn open(files: &Files, name: &str) -> Result<Self, DataError> {
        let mut file = File::open(files.path(name)?).map_err(unreadable(name))?;
        let size = file.metadata().map_err(unreadable(name))?.len();
        let members = directory(&mut file, size, name)?;
        let bytes = members.values().map(|member| member.unpacked).sum();
        if bytes > MAX_BYTES {
            return Err(DataError::TooLarge { file: name.to_string(), bytes, limit: MAX_BYTES });
        }
        Ok(Self { name: name.to_string(), file, members })
    }

    /// The names of the members.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// A member, to be read to its end; `None` if there is none of that name.
    pub fn member(&mut self, member: &str) -> Result<Option<Unpacked<'_>>, DataError> {
        let Some(&Member { packing, crc, packed, unpacked, start }) = self.members.get(member) else {
            return Ok(None);
        };
        let bad = |problem: &str| {
            let problem = format!("{problem} before its member '{member}'");
            Err(DataError::Format { file: self.name.clone(), problem })
        };
        let mut header = [0; LOCAL_LENGTH];
        self.file.seek(SeekFrom::Start(start)).map_err(unreadable(&self.name))?;
        self.file.read_exact(&mut header).map_err(unreadable(&self.name))?;
        let (flags, name_length, more) = (u16_at(&header, 6), u16_at(&header, 26), u16_at(&header, 28));
        // The directory was found behind a header with this name, so that as much is there to be read.
        let mut name = vec![0; member.len()];
        self.file.read_exact(&mut name).map_err(unreadable(&self.name))?;
        if !header.starts_with(&LOCAL) || usize::from(name_length) != name.len() || name != member.as_bytes() {
            return bad("it has no header of that name");
        }
        // What stands twice says the same twice, or another program reads something else here. A header that was written
        // before its member was packed has no sizes, and says so.
        let mut extra = vec![0; usize::from(more)];
        self.file.read_exact(&mut extra).map_err(unreadable(&self.name))?;
        let [said_crc, short_packed, short_unpacked] = [14, 18, 22].map(|at| u32_at(&header, at));
        let said = match (short_packed, short_unpacked) {
            // NumPy writes sizes of 64 bits, however small a member is.
            (u32::MAX, u32::MAX) => wide_sizes(&extra),
            (packed, unpacked) => Some([unpacked, packed].map(u64::from)),
        };
        let same = said_crc == crc && said == Some([unpacked, packed]);
        if u16_at(&header, 8) != packing.method() || (!same && flags & NO_SIZES == 0) {
            return bad("its directory says something else than the header");
        }
        let content = (&mut self.file).take(packed);
        let content = match packing {
            Packing::Stored => Content::Stored(content),
            Packing::Deflated => Content::Deflated(DeflateDecoder::new(BufReader::new(content))),
        };
        Ok(Some(Unpacked { reader: CrcReader::new(content), crc, size: unpacked }))
    }
}

impl Unpacked<'_> {
    /// Whether everything was read, and is what was packed.
    pub fn is_whole(&mut self) -> io::Result<bool> {
        let at_end = self.reader.read(&mut [0])? == 0;
        Ok(at_end && u64::from(self.reader.crc().amount()) == self.size && self.reader.crc().sum() == self.crc)
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Stored(reader) => reader.read(buffer),
            Content::Deflated(reader) => reader.read(buffer),
        }
    }
}

/// The sizes, unpacked and packed, in the field of a header that has them in 64 bits (ZIP64, field 1).
fn wide_sizes(mut extra: &[u8]) -> Option<[u64; 2]> {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            let at = |start: usize| field.get(start..start + 8)?.try_into().ok().map(u64::from_le_bytes);
            return Some([at(0)?, at(8)?]);
        }
        extra = &extra[4 + length..];
    }
    None
}

/// Reads the directory of an archive of `size` bytes.
fn directory(file: &mut File, size: u64, name: &str) -> Result<BTreeMap<String, Member>, DataError> {
    let bad = |problem: &str| DataError::Format { file: name.to_string(), problem: problem.to_string() };
    let no_end = || bad("it does not end as a zip archive without a comment does; it may be cut short");
    let end_at = size.checked_sub(END_LENGTH).ok_or_else(no_end)?;
    let mut end = [0; END_LENGTH as usize];
    file.seek(SeekFrom::Start(end_at)).map_err(unreadable(name))?;
    file.read_exact(&mut end).map_err(unreadable(name))?;
    if !end.starts_with(&END) || u16_at(&end, 20) != 0 {
        return Err(no_end());
    }
    let count = u16_at(&end, 10);
    let (length, start) = (u64::from(u32_at(&end, 12)), u64::from(u32_at(&end, 16)));
    if u16_at(&end, 4) != 0 || u16_at(&end, 6) != 0 || u16_at(&end, 8) != count {
        return Err(bad("it is one of several volumes"));
    }
    if count > MAX_MEMBERS || length > MAX_DIRECTORY {
        return Err(bad(&format!("its directory has {count} members in {length} bytes; it may be a zip64 archive")));
    }
    if start.checked_add(length) != Some(end_at) {
        return Err(bad("its directory is not where its end says"));
    }
    let mut entries = vec![0; length as usize];
    file.seek(SeekFrom::Start(start)).map_err(unreadable(name))?;
    file.read_exact(&mut entries).map_err(unreadable(name))?;
    let (mut members, mut rest) = (BTreeMap::new(), entries.as_slice());
    for _ in 0..count {
        let (member_name, member, after) = entry(rest).map_err(|problem| bad(&problem))?;
        // Name, header and bytes fit before the directory: what is packed is there.
        let needed = member.start + (LOCAL_LENGTH + member_name.len()) as u64 + member.packed;
        let limit = match member.packing {
            Packing::Stored => member.packed,
            Packing::Deflated => member.packed.saturating_mul(MAX_RATIO),
        };
        if needed > start || member.unpacked > limit {
            let problem = format!("member '{member_name}' cannot have the {} bytes it claims", member.unpacked);
            return Err(DataError::Truncated { file: name.to_string(), problem });
        }
        if members.insert(member_name.clone(), member).is_some() {
            return Err(bad(&format!("it has two members of the name '{member_name}'")));
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Err(bad("its directory is longer than its members need"));
    }
    check_apart(&members).map_err(|problem| bad(&problem))?;
    Ok(members)
}

/// No two members have bytes in common, which is how a small archive gives the same bytes many times; and no two names are
/// one where capitals are not told apart.
fn check_apart(members: &BTreeMap<String, Member>) -> Result<(), String> {
    let mut places: Vec<(u64, u64, &str)> = Vec::new();
    let mut names = BTreeSet::new();
    for (name, member) in members {
        places.push((member.start, member.start + (LOCAL_LENGTH + name.len()) as u64 + member.packed, name));
        if !names.insert(name.to_lowercase()) {
            return Err(format!("it has two members whose names differ from '{name}' in capitals alone"));
        }
    }
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(format!("its members '{}' and '{}' overlap", pair[0].2, pair[1].2)),
        None => Ok(()),
    }
}

/// The first of the directory's entries, and what follows it.
fn entry(bytes: &[u8]) -> Result<(String, Member, &[u8]), String> {
    let cut = || "its directory ends in the middle of an entry".to_string();
    let (head, rest) = bytes.split_at_checked(ENTRY_LENGTH).ok_or_else(cut)?;
    if !head.starts_with(&ENTRY) {
        return Err("its directory has something else than entries".to_string());
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(head, at)));
    let (name, rest) = rest.split_at_checked(name).ok_or_else(cut)?;
    let (_, rest) = rest.split_at_checked(extra + comment).ok_or_else(cut)?;
    let name = std::str::from_utf8(name).map_err(|_| "the name of a member is no UTF-8".to_string())?;
    // Nothing is ever unpacked to a name; an archive that tries to lead elsewhere is no file of arrays.
    let leads_elsewhere = |part: &str| matches!(part, "" | "." | "..");
    if name.contains('\\') || name.chars().any(char::is_control) || name.split('/').any(leads_elsewhere) {
        return Err(format!("a member has the name {name:?}, which is no plain one"));
    }
    if u16_at(head, 40) & FILE_KIND == LINK {
        return Err(format!("member '{name}' is a link"));
    }
    if u16_at(head, 8) & 1 != 0 {
        return Err(format!("member '{name}' is encrypted"));
    }
    let packing = match u16_at(head, 10) {
        0 => Packing::Stored,
        8 => Packing::Deflated,
        other => return Err(format!("member '{name}' is packed by method {other}; stored and deflated are supported")),
    };
    let [packed, unpacked, start] = [20, 24, 42].map(|at| u64::from(u32_at(head, at)));
    if [packed, unpacked, start].contains(&u64::from(u32::MAX)) {
        return Err(format!("member '{name}' has zip64 sizes"));
    }
    Ok((name.to_string(), Member { packing, crc: u32_at(head, 16), packed, unpacked, start }, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
