//! Function addresses that mean something in another process.
//!
//! Every process loads programs and libraries where it likes, so an address is sent as *which object* and *how far from
//! its base*. Offsets are the same wherever the same build is loaded, and meaningless for any other build: so an object is
//! named by what it *is*, and its file name only helps to explain a mismatch.
//!
//! # What names a build
//! The linker's build id (`NT_GNU_BUILD_ID`), a hash of the linked file. A stripped copy has the same id, rightly: its
//! addresses are the same. Some toolchains write none (musl's, often). Then the id is a hash of the object's load map
//! and of its *code as it lies in memory*, which no relocation changes. Not the file's inode, size or time: the
//! file may have been replaced, be the same under two mounts, or be another with the same size; and the content is just what
//! has to be equal. It costs about a millisecond per megabyte, once, and only for an object that is asked for. A
//! breakpoint set meanwhile changes it, which gives an error, never a wrong jump.
//!
//! # What is promised
//! [`resolve`] returns an address only if it lies in an executable segment of an object of the same build. A location is a
//! peer's input (I6): a mangled one may name the middle of a function, never data.
//!
//! # Locks
//! The object that this code is in (nearly always the one asked for) is looked at first and without a lock. The table
//! of the others is rebuilt when the loader's counters have moved, and if its lock is taken (perhaps by a thread
//! that a fork left behind) we do without it.
//!
//! # Safety
//! The loader's callback hands out pointers that are valid during the callback, to headers of objects that it keeps mapped
//! meanwhile; reads from segments stay inside ranges that the headers declare as loaded and readable.
#![expect(unsafe_code)]

use super::set_once::SetOnce;
use serde::{Deserialize, Serialize};
use std::ffi::{CStr, c_int, c_void};
use std::ops::Range;
use std::sync::{Arc, RwLock};
use std::{ptr, slice};
use thiserror::Error;

/// Length of an object's id: that of the usual build id.
const ID_LENGTH: usize = 20;

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;

/// Which build of which object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct ObjectId {
    /// A hash of the file's name (of nothing for the main program). Tells "another build" from "not loaded".
    name: u64,
    build: [u8; ID_LENGTH],
}

/// An address, as every process that runs the same build can understand it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct Location {
    pub(crate) object: ObjectId,
    /// From the object's base.
    pub(crate) offset: u64,
}

/// Why a location is no address here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum ResolveError {
    /// No such object is loaded.
    #[error("the object that holds the function is not loaded in this process")]
    UnknownObject,
    /// An object of that name is loaded, but of another build.
    #[error("the object that holds the function is another build in this process")]
    MismatchedBuild,
    /// The offset is not in the object's code.
    #[error("the offset does not lie in the object's code")]
    OutOfRange,
}

/// Names a code address; `None` if it lies in no loaded object's code, or in code that cannot be identified.
pub(crate) fn locate(address: usize) -> Option<Location> {
    let here = Location::of(own_object(), address);
    here.or_else(|| {
        table()
            .objects
            .iter()
            .find_map(|object| Location::of(Some(object), address))
    })
}

/// The address that a location means in this process.
pub(crate) fn resolve(location: &Location) -> Result<usize, ResolveError> {
    let wanted = &location.object;
    if let Some(own) = own_object()
        && own.is(wanted)
    {
        return own.address_of(location.offset);
    }
    let table = table();
    if let Some(object) = table.objects.iter().find(|object| object.is(wanted)) {
        return object.address_of(location.offset);
    }
    match table
        .objects
        .iter()
        .any(|object| object.name == wanted.name)
    {
        true => Err(ResolveError::MismatchedBuild),
        false => Err(ResolveError::UnknownObject),
    }
}

impl Location {
    fn of(object: Option<&Object>, address: usize) -> Option<Self> {
        let object = object.filter(|object| object.has_code_at(address))?;
        let offset = u64::try_from(address.checked_sub(object.base)?).ok()?;
        Some(Self {
            object: ObjectId {
                name: object.name,
                build: *object.build()?,
            },
            offset,
        })
    }
}

/// A number from a program header, whose width is the machine's.
fn wide(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// A loaded object.
#[derive(Debug)]
struct Object {
    base: usize,
    name: u64,
    /// The linker's id, if it wrote one.
    note: Option<[u8; ID_LENGTH]>,
    /// The id without it, once computed; `None` inside if the code cannot be read.
    content: SetOnce<Option<[u8; ID_LENGTH]>>,
    /// A hash of the program headers.
    map: u64,
    /// The executable segments.
    code: Vec<Range<usize>>,
}

impl Object {
    fn has_code_at(&self, address: usize) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    fn address_of(&self, offset: u64) -> Result<usize, ResolveError> {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.base.checked_add(offset))
            .filter(|address| self.has_code_at(*address))
            .ok_or(ResolveError::OutOfRange)
    }

    /// Whether this is the build that `id` names. The name need not be equal (a program may be renamed) unless the id
    /// would have to be computed: then it spares us the reading of every object's code.
    fn is(&self, id: &ObjectId) -> bool {
        match &self.note {
            Some(note) => *note == id.build,
            None => self.name == id.name && self.build() == Some(&id.build),
        }
    }

    fn build(&self) -> Option<&[u8; ID_LENGTH]> {
        if let Some(note) = &self.note {
            return Some(note);
        }
        self.content.get_or_make(|| self.hash_code()).as_ref()
    }

    /// See "what names a build".
    fn hash_code(&self) -> Option<[u8; ID_LENGTH]> {
        let mut id = None;
        // Read in the callback, where the loader keeps the object mapped.
        iterate(&mut |info| {
            let same = info.base() == self.base && info.map() == self.map;
            if same {
                id = info.hash_code();
            }
            !same
        });
        id
    }
}

/// A small, fast hash for telling builds apart (nobody here attacks it). Stable: never change it without need, for
/// processes of one family compare its results.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn add(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn of_bytes(bytes: &[u8]) -> u64 {
        let mut hash = Self::new(bytes.len() as u64);
        for chunk in bytes.chunks(size_of::<u64>()) {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.add(u64::from_ne_bytes(word));
        }
        hash.0
    }
}

/// The object that this very code is in. It cannot be unloaded while we run, so this needs no upkeep.
fn own_object() -> Option<&'static Object> {
    static OWN: SetOnce<Option<Object>> = SetOnce::new();
    let own = OWN.get_or_make(|| {
        let here = own_object as fn() -> Option<&'static Object> as usize;
        let mut own = None;
        // Nearly always the first: reading the others would cost a page fault each.
        iterate(&mut |info| {
            own = Some(Object::from(info)).filter(|object| object.has_code_at(here));
            own.is_none()
        });
        own
    });
    own.as_ref()
}

/// All loaded objects, as the loader's counters stood.
struct Table {
    version: Version,
    objects: Vec<Object>,
}

/// How many objects the loader has loaded and unloaded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Version {
    loaded: u64,
    unloaded: u64,
}

/// The objects that are loaded now.
///
/// Another thread may unload one at any later time: addresses in the table are compared, never read.
fn table() -> Arc<Table> {
    static TABLE: RwLock<Option<Arc<Table>>> = RwLock::new(None);
    let now = Version::read();
    if let Ok(cached) = TABLE.try_read()
        && let Some(table) = cached.as_ref().filter(|table| table.version == now)
    {
        return Arc::clone(table);
    }
    let fresh = Arc::new(Table::read());
    if let Ok(mut cached) = TABLE.try_write() {
        *cached = Some(Arc::clone(&fresh));
    }
    fresh
}

impl Table {
    fn read() -> Self {
        let mut table = Self {
            version: Version::default(),
            objects: Vec::new(),
        };
        iterate(&mut |info| {
            table.version = Version::of(info);
            table.objects.push(Object::from(info));
            true
        });
        table
    }
}

impl Version {
    fn read() -> Self {
        let mut version = Self::default();
        iterate(&mut |info| {
            version = Self::of(info);
            false
        });
        version
    }

    fn of(info: &Info<'_>) -> Self {
        Self {
            loaded: info.raw.dlpi_adds,
            unloaded: info.raw.dlpi_subs,
        }
    }
}

/// What the loader tells about one object, valid during the callback.
struct Info<'a> {
    raw: &'a libc::dl_phdr_info,
    headers: &'a [ProgramHeader],
}

/// Calls `visit` for every loaded object, until it returns `false`. The loader's lock is held meanwhile.
fn iterate(visit: &mut dyn FnMut(&Info<'_>) -> bool) {
    let mut visit = visit;
    let data = ptr::from_mut(&mut visit).cast::<c_void>();
    // SAFETY: `callback` takes `data` for what it is, a `&mut &mut dyn FnMut`, which lives until the call returns; the
    // loader passes it on unchanged and calls on this thread only.
    unsafe { libc::dl_iterate_phdr(Some(callback), data) };
}

/// Never unwinds into the loader: a panic in an `extern "C"` function aborts.
extern "C" fn callback(raw: *mut libc::dl_phdr_info, size: usize, data: *mut c_void) -> c_int {
    if size < size_of::<libc::dl_phdr_info>() {
        return 1;
    }
    // SAFETY: the loader passes a valid structure, at least as large as the size it also passes, which was checked.
    let raw = unsafe { &*raw };
    let headers = if raw.dlpi_phdr.is_null() {
        &[]
    } else {
        // SAFETY: the loader keeps the object mapped during the callback, and with it its table of program headers,
        // `dlpi_phnum` long, which nobody writes.
        unsafe { slice::from_raw_parts(raw.dlpi_phdr, usize::from(raw.dlpi_phnum)) }
    };
    // SAFETY: `iterate` passed exactly this type, alive and borrowed by nobody else until it returns.
    let visit = unsafe { &mut *data.cast::<&mut dyn FnMut(&Info<'_>) -> bool>() };
    c_int::from(!visit(&Info { raw, headers }))
}

impl Info<'_> {
    fn base(&self) -> usize {
        self.raw.dlpi_addr as usize
    }

    /// Where a segment lies, without the part that the file does not fill.
    fn range(&self, header: &ProgramHeader) -> Range<usize> {
        let start = self.base().wrapping_add(header.p_vaddr as usize);
        start..start.saturating_add(header.p_filesz as usize)
    }

    fn loaded(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD)
    }

    fn file_name(&self) -> &[u8] {
        if self.raw.dlpi_name.is_null() {
            return b"";
        }
        // SAFETY: the loader's name of a loaded object is a C string, unchanged during the callback.
        let path = unsafe { CStr::from_ptr(self.raw.dlpi_name) }.to_bytes();
        path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
    }

    /// The linker's build id.
    fn build_id(&self) -> Option<[u8; ID_LENGTH]> {
        self.headers
            .iter()
            .filter(|header| header.p_type == libc::PT_NOTE)
            .find_map(|header| {
                let range = self.range(header);
                let inside = |load: &ProgramHeader| {
                    let load_range = self.range(load);
                    load.p_flags & libc::PF_R != 0
                        && load_range.start <= range.start
                        && range.end <= load_range.end
                };
                if !self.loaded().any(inside) {
                    return None;
                }
                let start = ptr::with_exposed_provenance::<u8>(range.start);
                // SAFETY: the range lies in a loaded, readable segment (checked above) of an object that stays mapped during
                // the callback; notes are constant data that nobody writes.
                let notes = unsafe { slice::from_raw_parts(start, range.len()) };
                find_build_id(notes, header.p_align as usize).map(fit)
            })
    }

    /// A hash of the executable segments; `None` if one cannot be read.
    fn hash_code(&self) -> Option<[u8; ID_LENGTH]> {
        let mut hashes = [Hash::new(1), Hash::new(2), Hash::new(3)];
        for header in self
            .loaded()
            .filter(|header| header.p_flags & libc::PF_X != 0)
        {
            if header.p_flags & libc::PF_R == 0 {
                return None;
            }
            let range = self.range(header);
            for address in range.clone().step_by(size_of::<u64>()) {
                let mut word = [0u8; size_of::<u64>()];
                let length = (range.end - address).min(word.len());
                let code = ptr::with_exposed_provenance::<u8>(address);
                // SAFETY: the bytes lie in a loaded, readable segment (checked above) of an object that stays mapped during
                // the callback. Nobody holds a `&mut` to code; a debugger's change meanwhile is not an access of ours.
                unsafe { ptr::copy_nonoverlapping(code, word.as_mut_ptr(), length) };
                for hash in &mut hashes {
                    hash.add(u64::from_ne_bytes(word));
                }
            }
        }
        let mut id = [0; ID_LENGTH];
        for (bytes, mut hash) in id.chunks_mut(size_of::<u64>()).zip(hashes) {
            hash.add(self.map());
            let hash = hash.0.to_ne_bytes();
            bytes.copy_from_slice(&hash[..bytes.len()]);
        }
        Some(id)
    }

    /// A hash of how the object is laid out.
    fn map(&self) -> u64 {
        let mut hash = Hash::new(0);
        for header in self.loaded() {
            for word in [
                u64::from(header.p_flags),
                wide(header.p_offset),
                wide(header.p_vaddr),
                wide(header.p_filesz),
            ] {
                hash.add(word);
            }
        }
        hash.0
    }
}

impl From<&Info<'_>> for Object {
    fn from(info: &Info<'_>) -> Self {
        let code = info
            .loaded()
            .filter(|header| header.p_flags & libc::PF_X != 0);
        Self {
            base: info.base(),
            name: Hash::of_bytes(info.file_name()),
            note: info.build_id(),
            content: SetOnce::new(),
            map: info.map(),
            code: code.map(|header| info.range(header)).collect(),
        }
    }
}

/// The type of the note that holds the build id.
const NT_GNU_BUILD_ID: u32 = 3;

/// Finds the build id in a note segment. Notes are three words (lengths of name and content, type), name, content.
fn find_build_id(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (words, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| {
            let bytes = words.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_length, length, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = rest.get(..name_length)?;
        let begin = (words.len() + name_length).next_multiple_of(align) - words.len();
        let content = rest.get(begin..begin.checked_add(length)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !content.is_empty() {
            return Some(content);
        }
        notes = rest.get((begin + length).next_multiple_of(align)..)?;
    }
}

/// A build id of any length in ours: shorter ones padded, longer ones (nobody's default) with the rest folded in.
fn fit(id: &[u8]) -> [u8; ID_LENGTH] {
    let mut fitted = [0u8; ID_LENGTH];
    for (byte, index) in id.iter().zip((0..ID_LENGTH).cycle()) {
        fitted[index] = fitted[index].rotate_left(3) ^ byte;
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_function() -> u32 {
        std::hint::black_box(42)
    }

    fn some_address() -> usize {
        some_function as fn() -> u32 as usize
    }

    fn here() -> Location {
        locate(some_address()).expect("our own function")
    }

    #[test]
    fn own_function_and_back() {
        let location = here();
        assert_eq!(resolve(&location), Ok(some_address()));
        let bytes = postcard::to_stdvec(&location).expect("encode");
        assert_eq!(
            postcard::from_bytes::<Location>(&bytes).as_ref(),
            Ok(&location)
        );
    }

    #[test]
    fn library_function_and_back() {
        let address = libc::getpid as *const () as usize;
        // Through the table, not the own object.
        let location = locate(address).expect("the C library");
        assert_ne!(location.object, here().object);
        assert_eq!(resolve(&location), Ok(address));
    }

    #[test]
    fn data_is_not_code() {
        static DATA: u32 = 1;
        let local = 1;
        let heap = Box::new(1);
        for data in [&raw const DATA, &raw const local, &raw const *heap] {
            assert_eq!(locate(data.addr()), None);
        }
        assert_eq!((locate(0), locate(usize::MAX)), (None, None));
        let base = own_object().expect("own object").base;
        let offset = (&raw const DATA).addr().wrapping_sub(base) as u64;
        for offset in [offset, 0, u64::MAX, u64::MAX - base as u64, 1 << 47] {
            assert_eq!(
                resolve(&Location { offset, ..here() }),
                Err(ResolveError::OutOfRange),
                "{offset:#x}"
            );
        }
    }

    #[test]
    fn another_build_and_another_object() {
        let mut location = here();
        location.object.build[0] ^= 1;
        assert_eq!(resolve(&location), Err(ResolveError::MismatchedBuild));
        location.object.name ^= 1;
        assert_eq!(resolve(&location), Err(ResolveError::UnknownObject));
    }

    #[test]
    fn works_without_a_build_id() {
        let objects = || Table::read().objects;
        let code = some_address();
        let [first, second] = [(); 2].map(|()| {
            let mut object = objects()
                .into_iter()
                .find(|object| object.has_code_at(code))
                .expect("own object");
            object.note = None;
            object
        });
        let build = *first.build().expect("readable code");
        assert_eq!(second.build(), Some(&build));
        assert!(first.is(&ObjectId {
            name: first.name,
            build
        }));
        assert!(!first.is(&ObjectId {
            name: first.name,
            build: [0; ID_LENGTH]
        }));
        let others = objects()
            .into_iter()
            .filter(|object| !object.has_code_at(code));
        for mut other in others {
            other.note = None;
            assert_ne!(other.build(), Some(&build));
        }
    }

    #[test]
    fn the_table_is_kept_until_something_is_loaded() {
        let first = table();
        assert!(first.version.loaded > 0);
        assert!(Version::read() != first.version || first.objects.len() == table().objects.len());
    }

    #[test]
    fn another_process_finds_it_elsewhere() {
        // Run only with address space randomisation does the base differ; the answer must be right either way.
        let name = "sys::object::tests::helper_that_locates";
        let output = std::process::Command::new("/proc/self/exe")
            .args(["--exact", name, "--ignored", "--nocapture"])
            .output()
            .expect("start ourselves");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .find_map(|line| line.split("LOCATION ").nth(1))
            .expect("a location");
        let bytes: Vec<u8> = line
            .split(' ')
            .filter_map(|byte| byte.parse().ok())
            .collect();
        let location: Location = postcard::from_bytes(&bytes).expect("decode");
        assert_eq!(resolve(&location), Ok(some_address()));
    }

    #[test]
    #[ignore = "a helper of another test"]
    fn helper_that_locates() {
        let bytes: Vec<_> = postcard::to_stdvec(&here())
            .expect("encode")
            .iter()
            .map(ToString::to_string)
            .collect();
        println!("LOCATION {}", bytes.join(" "));
    }

    fn note(name: &[u8], kind: u32, content: &[u8], align: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, content.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        bytes
    }

    #[test]
    fn finds_the_note_among_others() {
        for align in [4, 8] {
            let notes = [
                note(b"GNU\0", 1, &[0; 16], align),
                note(b"stapsdt\0", 3, &[9; 5], align),
                note(b"GNU\0", 3, &[7; 20], align),
            ]
            .concat();
            assert_eq!(find_build_id(&notes, align), Some([7; 20].as_slice()));
            for end in 0..notes.len() {
                // A cut note is never read past its end.
                let found = find_build_id(&notes[..end], align);
                assert!(found.is_none_or(|id| id == [7; 20]), "{end}");
            }
        }
        assert_eq!(find_build_id(&[0xff; 64], 4), None);
    }

    #[test]
    fn fits_ids_of_any_length() {
        assert_eq!(fit(&[1; 20]), [1; 20]);
        assert_eq!(fit(&[1, 2])[..3], [1, 2, 0]);
        let long = [5; 32];
        let mut other = long;
        other[31] = 6;
        assert_ne!(fit(&long), fit(&other));
    }
}
