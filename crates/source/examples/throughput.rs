//! How fast each backend reads a file, and what it costs: `throughput [FOLDER] [GB]`.
//!
//! Reads a file of `GB` GB (1 by default) in `FOLDER` (the temporary folder by default) once per
//! row, into 2 MiB-aligned huge pages, past the page cache.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use weightstream_source::{Backend, Caching, Completion, Destination, Piece, Request, open_with};

const MIB: usize = 1 << 20;
const HUGE_PAGE: usize = 2 * MIB;
const ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let gigabytes: f64 = arguments
        .next()
        .map_or(1.0, |text| text.parse().expect("GB: a number"));
    let (path, size) = write_file(&folder, (gigabytes * 1e9) as usize);

    let direct = [Backend::Uring, Backend::Pread].map(|backend| (backend, Caching::Direct));
    let mut cases = Vec::new();
    for (backend, caching) in direct {
        for (request, depth) in [(4, 1), (4, 2), (4, 4), (4, 8), (4, 16), (2, 8), (2, 16)] {
            cases.push(Case {
                backend,
                caching,
                request: request * MIB,
                depth,
                shift: 0,
            });
        }
        cases.push(Case {
            backend,
            caching,
            request: 4 * MIB,
            depth: 8,
            shift: 1,
        });
    }
    for backend in [Backend::Uring, Backend::Pread] {
        let caching = Caching::Buffered;
        cases.push(Case {
            backend,
            caching,
            request: 4 * MIB,
            depth: 8,
            shift: 0,
        });
    }

    // Rounds are interleaved, so that a disk's moods meet every case.
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for (case, results) in cases.iter().zip(&mut results) {
            results.push(case.measure(&path, size));
        }
    }
    println!(
        "source             request  in flight  destination      GB/s (of {ROUNDS})      CPU ms/GB"
    );
    for (case, mut results) in cases.iter().zip(results) {
        results.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let [.., best] = results.as_slice() else {
            continue;
        };
        println!(
            "{:18} {:3} MiB  {:9}  {:15}  {:.2} to {:.2}  {:11.1}",
            best.name,
            case.request / MIB,
            case.depth,
            if case.shift == 0 {
                "huge page"
            } else {
                "off by a byte"
            },
            results[0].rate,
            best.rate,
            results.iter().map(|result| result.cost).sum::<f64>() / ROUNDS as f64,
        );
    }
    std::fs::remove_file(path).unwrap();
}

struct Case {
    backend: Backend,
    caching: Caching,
    request: usize,
    depth: usize,
    /// Bytes from a huge page's start to the destination.
    shift: usize,
}

#[derive(Clone)]
struct Outcome {
    name: &'static str,
    /// GB/s.
    rate: f64,
    /// Milliseconds of processor time per GB.
    cost: f64,
}

impl Case {
    fn measure(&self, path: &Path, size: usize) -> Outcome {
        let (sender, completions) = mpsc::channel::<Completion>();
        let listener = Arc::new(move |completion| drop(sender.send(completion)));
        let source = open_with(&[path.to_owned()], self.backend, self.caching, listener).unwrap();
        let stride = (self.request + self.shift).next_multiple_of(HUGE_PAGE);
        let memory = huge_pages(stride * self.depth);

        let submit = |slot: usize, offset: usize| {
            // SAFETY: each slot takes one request at a time, and nobody looks at its bytes.
            let destination = unsafe { Destination::new(memory.add(slot * stride + self.shift)) };
            let length = self.request.min(size - offset);
            let piece = Piece {
                file: 0,
                offset: offset as u64,
                destination,
                length,
                room: length,
            };
            source.submit(Request {
                token: slot as u64,
                pieces: vec![piece],
            });
        };
        let (start, processor) = (Instant::now(), processor_time());
        let mut offsets = (0..size).step_by(self.request);
        let mut in_flight = 0;
        for (slot, offset) in offsets.by_ref().take(self.depth).enumerate() {
            submit(slot, offset);
            in_flight += 1;
        }
        while in_flight > 0 {
            let completion = completions.recv().unwrap();
            completion.result.unwrap();
            match offsets.next() {
                Some(offset) => submit(completion.token as usize, offset),
                None => in_flight -= 1,
            }
        }
        let (elapsed, processor) = (start.elapsed(), processor_time() - processor);
        // SAFETY: mapped below with this size; no request is in flight.
        unsafe { libc::munmap(memory.cast(), stride * self.depth) };
        let gigabytes = size as f64 / 1e9;
        Outcome {
            name: source.name(),
            rate: gigabytes / elapsed.as_secs_f64(),
            cost: processor.as_secs_f64() * 1e3 / gigabytes,
        }
    }
}

/// Writes it to the disk, and nothing of it stays in the page cache.
fn write_file(folder: &Path, size: usize) -> (PathBuf, usize) {
    use std::os::fd::AsRawFd;

    let path = folder.join(format!("throughput-{}", std::process::id()));
    let size = size - size % (4 * MIB);
    let mut file = std::fs::File::create(&path).unwrap();
    let mut state = 1_u64;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(4 * MIB)
    .collect();
    for _ in 0..size / block.len() {
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    // SAFETY: a hint about a descriptor that is open.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED)
    };
    #[cfg(not(target_os = "linux"))]
    let _ = file.as_raw_fd();
    (path, size)
}

/// Memory that starts at a huge page and has been written to.
fn huge_pages(size: usize) -> *mut u8 {
    // SAFETY: a new mapping, of which the unaligned ends are left alone.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            size + HUGE_PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        );
        assert_ne!(start, libc::MAP_FAILED);
        let aligned = start
            .cast::<u8>()
            .add(start.cast::<u8>().align_offset(HUGE_PAGE));
        #[cfg(target_os = "linux")]
        libc::madvise(aligned.cast(), size, libc::MADV_HUGEPAGE);
        aligned.write_bytes(0, size);
        aligned
    }
}

fn processor_time() -> Duration {
    // SAFETY: a plain structure of integers, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec as u64) + Duration::from_micros(value.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
