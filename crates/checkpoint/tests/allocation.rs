//! A file can't make a reader take much memory, whatever lengths and counts it claims, and whatever it repeats.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use weightstream_checkpoint::Checkpoint;
use weightstream_checkpoint::packed::{MANIFEST, Manifest};

/// The system's allocator; remembers the largest single request, and the most memory that was in use.
struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn count(more: usize, less: usize) {
    LARGEST.fetch_max(more, Ordering::Relaxed);
    let used = USED.fetch_add(more, Ordering::Relaxed) + more;
    PEAK.fetch_max(used, Ordering::Relaxed);
    USED.fetch_sub(less, Ordering::Relaxed);
}

// SAFETY: passes everything on to the system's allocator as it is.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Opens the file, damaged in every place by numbers that are too large, and returns the largest request.
fn largest_request(path: &Path, sign: impl Fn(&mut Vec<u8>)) -> usize {
    let valid = fs::read(path).unwrap();
    assert!(Checkpoint::open(path).is_ok());
    LARGEST.store(0, Ordering::Relaxed);
    for (width, value) in [
        (4, 0x7FFF_FFFF_u64),
        (8, 1 << 29),
        (8, 0x00FF_FFFF_FFFF_FFFF),
    ] {
        for place in 0..valid.len() - width {
            let mut bytes = valid.clone();
            bytes[place..place + width].copy_from_slice(&value.to_le_bytes()[..width]);
            sign(&mut bytes);
            fs::write(path, bytes).unwrap();
            let _ = Checkpoint::open(path);
        }
    }
    LARGEST.load(Ordering::Relaxed)
}

/// Opens a file of torch.save whose pickle repeats `operation`, and returns the memory that this took for each byte.
fn memory_for_each_byte(path: &Path, operation: &[u8]) -> usize {
    let mut pickle = b"\x80\x02)".to_vec();
    while pickle.len() < 2 << 20 {
        pickle.extend(operation);
    }
    pickle.push(b'.');
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options: zip::write::SimpleFileOptions = Default::default();
    let stored = options.compression_method(zip::CompressionMethod::Stored);
    archive.start_file("archive/data.pkl", stored).unwrap();
    archive.write_all(&pickle).unwrap();
    archive.finish().unwrap();
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let _ = Checkpoint::open(path);
    (PEAK.load(Ordering::Relaxed) - before) / pickle.len()
}

/// One test, so that no other one's requests are seen.
#[test]
fn requests_are_in_proportion_to_the_file() {
    const LIMIT: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();

    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend([0; 8]);
    let path = folder.path().join("model.safetensors");
    fs::write(&path, &file).unwrap();
    assert!(largest_request(&path, |_| ()) < LIMIT, "safetensors");

    let path = folder.path().join("state.pt");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state.pt");
    fs::copy(fixture, &path).unwrap();
    assert!(largest_request(&path, |_| ()) < LIMIT, "torch");

    // What an operation puts on the stack, remembers, or makes: 16 to 60 times its byte, were it let.
    let repeated: [&[u8]; 10] = [
        b"N",
        b"(",
        b"]",
        b"}",
        b")",
        b"\x85",
        b"0)\x94",
        b"]a",
        b"\x8c\x00",
        b"ca\nb\n",
    ];
    for operation in repeated {
        let taken = memory_for_each_byte(&path, operation);
        assert!(taken < 40, "{taken} times the pickle of {operation:?}");
    }

    let empty = Manifest {
        files: Vec::new(),
        tensors: Vec::new(),
        chunk_bytes: 256 << 10,
        chunks: Vec::new(),
        frames: Vec::new(),
        metadata: [("format".to_owned(), "pt".to_owned())].into(),
        origin: None,
    };
    let path = folder.path().join(MANIFEST);
    fs::write(&path, empty.to_bytes()).unwrap();
    let sign = |bytes: &mut Vec<u8>| {
        let content = bytes.len() - 32;
        let digest = blake3::hash(&bytes[..content]);
        bytes[content..].copy_from_slice(digest.as_bytes());
    };
    assert!(largest_request(&path, sign) < LIMIT, "packed");
}
