//! Streams to a simulated device: every kernel finds its weights' bytes, no rule of the device is broken, nothing is
//! leaked, whatever order the device works in.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::disallowed_methods
)]

use std::path::PathBuf;
use std::sync::Arc;
use weightstream::cuda::{
    DeviceOptions, DeviceStream, Driver, Simulated, StreamHandle, define_decoder,
};
use weightstream::source::fault::{Effect, Fault, Faults, Faulty};
use weightstream::source::{ReadErrorKind, open};
use weightstream::{Parameter, Part, StreamError};
use weightstream_checkpoint::{Content, Extent, Form, StoredFile};
use weightstream_codec::{Element, encode};
use xxhash_rust::xxh3::xxh3_64;

const GRANULE: usize = 64 << 10;
const KIB: u64 = 1 << 10;

/// Bytes like those of bf16 weights: every second one has few values.
fn byte(at: u64) -> u8 {
    let random = (at.wrapping_mul(0x9E37_79B9) >> 13) as u8;
    if at % 2 == 1 { 60 + random % 3 } else { random }
}

struct Model {
    _folder: tempfile::TempDir,
    bytes: Arc<Vec<u8>>,
    files: Vec<PathBuf>,
    parameters: Vec<Parameter>,
    blocks: Vec<Vec<usize>>,
}

/// `sizes[b]` are the parameters of block b + 1 in bytes; the first list belongs to no block.
fn model(outside: &[u64], sizes: &[Vec<u64>]) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let mut end = 1000;
    let mut parameters = Vec::new();
    let mut blocks = Vec::new();
    for (block, sizes) in std::iter::once(&outside.to_vec()).chain(sizes).enumerate() {
        let mut members = Vec::new();
        for &length in sizes {
            members.push(parameters.len());
            parameters.push(Parameter {
                name: format!("block{block}.{}", members.len()),
                parts: vec![Part {
                    file: 0,
                    offset: end,
                    length,
                }],
                itemsize: 2,
                unit: 0,
            });
            end += length;
        }
        if block > 0 {
            blocks.push(members);
        }
    }
    let bytes: Vec<u8> = (0..end).map(byte).collect();
    std::fs::write(&path, &bytes).unwrap();
    Model {
        _folder: folder,
        bytes: Arc::new(bytes),
        files: vec![path],
        parameters,
        blocks,
    }
}

fn layers(count: usize) -> Model {
    let mut sizes = vec![vec![700 * KIB]];
    sizes.extend(vec![vec![200 * KIB, 300 * KIB, 6 * KIB]; count]);
    sizes.push(vec![650 * KIB + 22]);
    model(&[3 * KIB, 10], &sizes)
}

impl Model {
    fn options(&self, driver: &Arc<Simulated>, memory: u64, host_memory: u64) -> DeviceOptions {
        DeviceOptions {
            driver: Arc::clone(driver) as Arc<dyn Driver>,
            memory,
            host_memory,
            chunk_bytes: Some(GRANULE as u64),
            source: None,
        }
    }

    fn open(&self, driver: &Arc<Simulated>, memory: u64, host: u64) -> DeviceStream {
        let options = self.options(driver, memory, host);
        DeviceStream::open(&self.files, self.parameters.clone(), &self.blocks, options).unwrap()
    }

    /// Launches a kernel that reads these parameters.
    fn launch(
        &self,
        driver: &Simulated,
        stream: &DeviceStream,
        on: StreamHandle,
        indices: &[usize],
    ) {
        let ranges = indices
            .iter()
            .map(|&index| (stream.address(index), stream.length(index) as usize))
            .collect();
        let expected: Vec<Part> = indices
            .iter()
            .map(|&index| self.parameters[index].parts[0])
            .collect();
        let bytes = Arc::clone(&self.bytes);
        driver.kernel(on, ranges, move |views| {
            for (view, part) in views.iter().zip(&expected) {
                if **view != bytes[part.offset as usize..][..part.length as usize] {
                    return Err(format!("the weight at {} is wrong", part.offset));
                }
            }
            Ok(())
        });
    }

    fn block(&self, driver: &Simulated, stream: &DeviceStream, on: StreamHandle, block: usize) {
        let ticket = stream.enter(block as u32, on).unwrap();
        let mut members = self.blocks[block - 1].clone();
        // What belongs to no block may be used at any time.
        let first = self.blocks[0][0];
        members.extend(0..first);
        self.launch(driver, stream, on, &members);
        self.launch(driver, stream, on, &members[..1]);
        stream.leave(ticket, on).unwrap();
    }

    fn pass(&self, driver: &Simulated, stream: &DeviceStream, on: StreamHandle) {
        stream.begin_pass().unwrap();
        for block in 1..=self.blocks.len() {
            self.block(driver, stream, on, block);
        }
        stream.end_pass();
    }
}

fn settled(driver: &Simulated, stream: DeviceStream) {
    driver.finish().unwrap();
    drop(stream);
    assert_eq!(driver.broken(), Vec::<String>::new());
    assert_eq!(driver.live(), weightstream::cuda::Live::default());
}

const USER: StreamHandle = StreamHandle(0);

#[test]
fn kernels_find_their_weights_whatever_the_order_of_work() {
    let model = layers(8);
    for seed in 0..8 {
        let driver = Simulated::new(GRANULE, 1 << 30, seed, false).unwrap();
        let stream = model.open(&driver, 1700 * KIB, 16 << 20);
        for _ in 0..4 {
            model.pass(&driver, &stream, USER);
        }
        let (stats, device) = stream.stats();
        assert!(device.held <= 1700 * KIB && stats.used <= device.held);
        assert!(device.host_holds_all);
        settled(&driver, stream);
    }
}

#[test]
fn what_fits_device_and_host_is_read_once() {
    let model = layers(8);
    let driver = Simulated::new(GRANULE, 1 << 30, 7, false).unwrap();
    let stream = model.open(&driver, 1700 * KIB, 16 << 20);
    for _ in 0..3 {
        model.pass(&driver, &stream, USER);
    }
    let before = stream.stats().0.bytes_read;
    // How far a pass reaches ahead, into the one after it, is a matter of when threads run: the least tells.
    let copied = (0..6).map(|_| {
        model.pass(&driver, &stream, USER);
        stream.stats().1.pass_copied_bytes
    });
    let copied = copied.min().unwrap();
    let (stats, device) = stream.stats();
    assert_eq!(stats.bytes_read, before);
    // What is copied in a pass is what the device doesn't keep, and little more.
    let streamed = stats.model_bytes - stats.kept_bytes;
    let most = streamed + streamed / 8 + 4 * GRANULE as u64;
    assert!(
        (streamed - streamed / 4..=most).contains(&copied),
        "{copied} {device:?} {stats:?}"
    );
    settled(&driver, stream);
}

#[test]
fn a_small_host_reads_only_what_both_can_not_keep() {
    let model = layers(12);
    let driver = Simulated::new(GRANULE, 1 << 30, 3, false).unwrap();
    let stream = model.open(&driver, 1700 * KIB, 5 << 20);
    for _ in 0..3 {
        model.pass(&driver, &stream, USER);
    }
    let before = stream.stats().0.bytes_read;
    for _ in 0..4 {
        model.pass(&driver, &stream, USER);
    }
    let (stats, device) = stream.stats();
    assert!(!device.host_holds_all && device.host_used <= 5 << 20);
    let each = (stats.bytes_read - before) / 4;
    // A host slot is a little larger than a chunk, and one in eight is for what streams.
    let kept_on_host = (5 << 20) * 7 / 8 * 8 / 9;
    let must = stats.model_bytes - stats.kept_bytes - kept_on_host;
    assert!(
        each < stats.model_bytes - stats.kept_bytes,
        "{each} {stats:?}"
    );
    assert!(
        each <= must + must / 8 + 8 * GRANULE as u64,
        "{each} {must}"
    );
    settled(&driver, stream);
}

#[test]
fn all_on_the_device_needs_no_copy_after_the_first_pass() {
    let model = layers(3);
    let driver = Simulated::new(GRANULE, 1 << 30, 3, false).unwrap();
    let stream = model.open(&driver, 64 << 20, 1 << 20);
    model.pass(&driver, &stream, USER);
    let copied = stream.stats().1.copied_bytes;
    for _ in 0..5 {
        model.pass(&driver, &stream, USER);
    }
    assert_eq!(stream.stats().1.copied_bytes, copied);
    settled(&driver, stream);
}

#[test]
fn callers_with_streams_of_their_own_share_the_device() {
    let model = layers(6);
    for seed in 0..6 {
        let driver = Simulated::new(GRANULE, 1 << 30, seed, false).unwrap();
        let stream = model.open(&driver, 1700 * KIB, 16 << 20);
        std::thread::scope(|scope| {
            for caller in 0..3 {
                let (model, driver, stream) = (&model, &driver, &stream);
                scope.spawn(move || {
                    let on = StreamHandle(caller);
                    let mut random = seed * 7 + caller + 1;
                    for _ in 0..3 {
                        stream.begin_pass().unwrap();
                        for block in 1..=model.blocks.len() {
                            random = random
                                .wrapping_mul(6_364_136_223_846_793_005)
                                .wrapping_add(1);
                            // Callers skip blocks: routes differ.
                            if random >> 33 & 3 > 0 {
                                model.block(driver, stream, on, block);
                            }
                        }
                        stream.end_pass();
                    }
                });
            }
        });
        settled(&driver, stream);
    }
}

#[test]
fn a_block_inside_another_is_served_or_refused_but_never_waited_for() {
    let model = layers(4);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let stream = model.open(&driver, 1400 * KIB, 16 << 20);
    let outer = stream.enter(2, USER).unwrap();
    let inner = stream.enter(3, USER).unwrap();
    model.launch(&driver, &stream, USER, &model.blocks[1]);
    model.launch(&driver, &stream, USER, &model.blocks[2]);
    stream.leave(inner, USER).unwrap();
    // The large first block does not fit beside two held ones.
    let third = stream.enter(4, USER).unwrap();
    let error = stream.enter(1, USER).unwrap_err();
    assert!(
        matches!(error, StreamError::Budget { least, .. } if least > 1400 * KIB),
        "{error}"
    );
    stream.leave(third, USER).unwrap();
    stream.leave(outer, USER).unwrap();
    model.pass(&driver, &stream, USER);
    settled(&driver, stream);
}

#[test]
fn budgets_change_while_passes_run() {
    let model = layers(8);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let stream = model.open(&driver, 3000 * KIB, 16 << 20);
    for memory in [1500, 4000, 1300, 8000, 1600] {
        model.pass(&driver, &stream, USER);
        std::thread::scope(|scope| {
            // Somebody must look at the device for its work to go on.
            scope.spawn(|| model.pass(&driver, &stream, StreamHandle(5)));
            stream.resize(memory * KIB).unwrap();
        });
        model.pass(&driver, &stream, USER);
        let (stats, device) = stream.stats();
        assert!(
            device.held <= memory * KIB,
            "{} of {memory} KiB {stats:?}",
            device.held
        );
    }
    assert!(matches!(
        stream.resize(100 * KIB),
        Err(StreamError::Budget { .. })
    ));
    settled(&driver, stream);
}

#[test]
fn what_is_kept_may_be_used_anywhere() {
    let model = layers(8);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let stream = model.open(&driver, 1700 * KIB, 16 << 20);
    model.pass(&driver, &stream, USER);
    let odd = model.blocks[3][1];
    stream.keep(&[odd], USER).unwrap();
    for block in 1..=model.blocks.len() {
        model.block(&driver, &stream, USER, block);
        model.launch(&driver, &stream, USER, &[odd]);
    }
    assert!(stream.keep(&model.blocks.concat(), USER).is_err());
    model.pass(&driver, &stream, USER);
    settled(&driver, stream);
}

#[test]
fn a_ticket_holds_weights_outside_of_passes() {
    let model = layers(8);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let stream = model.open(&driver, 1700 * KIB, 16 << 20);
    for index in 0..model.parameters.len() {
        let ticket = stream.hold(&[index], USER).unwrap();
        model.launch(&driver, &stream, USER, &[index]);
        stream.leave(ticket, USER).unwrap();
    }
    settled(&driver, stream);
}

#[test]
fn a_weight_that_can_not_be_read_is_an_error_before_any_kernel() {
    let model = layers(4);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let mut options = model.options(&driver, 1700 * KIB, 16 << 20);
    let at = model.parameters[model.blocks[2][1]].parts[0].offset + 5000;
    let faults = Faults::default();
    faults.add(Fault {
        range: at..at + 1,
        ..Fault::always(Effect::Fail(ReadErrorKind::Abandoned))
    });
    let shared = faults.clone();
    options.source = Some(Box::new(|files, listener| {
        Faulty::open(files, shared, listener, |listener| open(files, listener))
    }));
    let stream = DeviceStream::open(
        &model.files,
        model.parameters.clone(),
        &model.blocks,
        options,
    )
    .unwrap();
    model.block(&driver, &stream, USER, 1);
    model.block(&driver, &stream, USER, 2);
    let error = stream.enter(3, USER).unwrap_err();
    assert!(
        matches!(error, StreamError::Weight(_)) && error.to_string().contains("block3"),
        "{error}"
    );
    model.block(&driver, &stream, USER, 4);
    faults.clear();
    model.pass(&driver, &stream, USER);
    settled(&driver, stream);
}

#[test]
fn too_small_budgets_name_the_least() {
    let model = layers(4);
    let driver = Simulated::new(GRANULE, 1 << 30, 5, false).unwrap();
    let open = |memory, host| {
        let options = model.options(&driver, memory, host);
        DeviceStream::open(
            &model.files,
            model.parameters.clone(),
            &model.blocks,
            options,
        )
    };
    let Err(StreamError::Budget { least, .. }) = open(300 * KIB, 16 << 20) else {
        panic!("accepted")
    };
    assert!(open(least - 1, 16 << 20).is_err());
    let stream = open(least, 16 << 20).unwrap();
    model.pass(&driver, &stream, USER);
    settled(&driver, stream);
    let Err(StreamError::HostBudget { least: host, .. }) = open(least, 64 * KIB) else {
        panic!("accepted")
    };
    let stream = open(least, host).unwrap();
    model.pass(&driver, &stream, USER);
    settled(&driver, stream);
}

#[test]
fn a_full_device_is_an_error_at_open() {
    let model = layers(4);
    let driver = Simulated::new(GRANULE, 1 << 20, 5, false).unwrap();
    let options = model.options(&driver, 1700 * KIB, 16 << 20);
    let opened = DeviceStream::open(
        &model.files,
        model.parameters.clone(),
        &model.blocks,
        options,
    );
    let error = opened.err().unwrap().to_string();
    assert!(
        error.contains("CUDA_ERROR_OUT_OF_MEMORY") && error.contains("are free"),
        "{error}"
    );
    assert_eq!(driver.live(), weightstream::cuda::Live::default());
}

/// The model's file, coded in frames of so many bytes, some of them kept as they are and checked.
fn coded(model: &Model, frame: usize) -> Content {
    let path = model._folder.path().join("coded");
    let (mut stored, mut extents) = (Vec::new(), Vec::new());
    for (number, raw) in model.bytes.chunks(frame).enumerate() {
        let mut kept = Vec::new();
        let mut coded = 0;
        if number % 5 == 2 {
            kept.extend_from_slice(raw);
        } else {
            encode(Element::Bf16, raw, &mut kept);
            coded = kept.len() as u32;
        }
        kept.resize(kept.len().next_multiple_of(64), 0);
        let checksum = xxh3_64(&kept);
        extents.push(Extent {
            start: (number * frame) as u64,
            length: raw.len() as u64,
            file: 0,
            offset: stored.len() as u64,
            stored: kept.len() as u64,
            form: if coded > 0 {
                Form::Coded { coded, checksum }
            } else {
                Form::Checked { checksum }
            },
        });
        stored.extend(kept);
    }
    std::fs::write(&path, &stored).unwrap();
    let length = stored.len() as u64;
    Content::new(vec![StoredFile { path, length }], extents).unwrap()
}

#[test]
fn coded_weights_are_decoded_on_their_way_to_the_host() {
    let model = layers(8);
    let content = coded(&model, 100_000);
    assert!(content.files()[0].length < content.length() * 4 / 5);
    for host in [16 << 20, 5 << 20] {
        let driver = Simulated::new(GRANULE, 1 << 30, 9, false).unwrap();
        let options = model.options(&driver, 1700 * KIB, host);
        let contents = [content.clone()];
        let stream =
            DeviceStream::over(&contents, model.parameters.clone(), &model.blocks, options)
                .unwrap();
        for _ in 0..3 {
            model.pass(&driver, &stream, USER);
        }
        assert!(stream.stats().1.host_used <= host);
        settled(&driver, stream);
    }
}

#[test]
fn coded_weights_cross_the_bus_as_they_are_stored() {
    let model = layers(8);
    for seed in 0..6 {
        let driver = Simulated::new(GRANULE, 1 << 30, seed, false).unwrap();
        define_decoder(&driver);
        let mut options = model.options(&driver, 3 << 20, 16 << 20);
        options.chunk_bytes = Some(4 * GRANULE as u64);
        let contents = [coded(&model, if seed % 2 == 0 { 10_000 } else { 100_000 })];
        let stream =
            DeviceStream::over(&contents, model.parameters.clone(), &model.blocks, options)
                .unwrap();
        for _ in 0..4 {
            model.pass(&driver, &stream, USER);
        }
        let (stats, device) = stream.stats();
        // What waits to be decoded is in the budget.
        assert!(device.held <= 3 << 20);
        if seed % 2 == 0 {
            // Large frames, which chunks cut, come twice.
            let streamed = stats.model_bytes - stats.kept_bytes + 6 * stats.chunk_bytes;
            assert!(
                device.pass_copied_bytes < streamed * 85 / 100,
                "{device:?} {stats:?}"
            );
        }
        settled(&driver, stream);
    }
}

#[test]
fn damaged_codes_are_an_error_before_any_kernel() {
    damaged(false);
    damaged(true);
}

fn damaged(on_device: bool) {
    let model = layers(4);
    let content = coded(&model, 100_000);
    let path = content.files()[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let driver = Simulated::new(GRANULE, 1 << 30, 9, false).unwrap();
    if on_device {
        define_decoder(&driver);
    }
    let options = model.options(&driver, 2100 * KIB, 16 << 20);
    let stream =
        DeviceStream::over(&[content], model.parameters.clone(), &model.blocks, options).unwrap();
    let failed = (1..=model.blocks.len()).filter(|&block| match stream.enter(block as u32, USER) {
        Ok(ticket) => {
            stream.leave(ticket, USER).unwrap();
            false
        }
        Err(error) => matches!(error, StreamError::Weight(_)),
    });
    assert!(failed.count() > 0);
    settled(&driver, stream);
}
