//! The functions as Rust sees them: what a C compiler can't easily be brought to do.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use weightstream_ffi::*;

const TOTALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/totals.pt2");

/// A program, freed at the end.
struct Opened(*mut Program);

// SAFETY: a program may be used from any thread.
unsafe impl Sync for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it.
        unsafe { ws_program_free(self.0) };
    }
}

fn opened() -> Opened {
    let path = CString::new(TOTALS).unwrap();
    let (mut program, mut error) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: text that ends, and places that can be written.
    let status = unsafe { ws_program_open(path.as_ptr(), ptr::null(), &mut program, &mut error) };
    assert_eq!(status, Status::Ok);
    assert!(error.is_null());
    Opened(program)
}

fn tensor<T>(dtype: u32, shape: &[usize], data: &[T]) -> Result<*mut Tensor, String> {
    let (mut tensor, mut error) = (ptr::null_mut(), ptr::null_mut());
    let bytes = size_of_val(data);
    // SAFETY: the lengths are those of the slices.
    let status = unsafe {
        let (rank, shape, data) = (shape.len(), shape.as_ptr(), data.as_ptr().cast());
        ws_tensor_new(dtype, shape, rank, data, bytes, &mut tensor, &mut error)
    };
    if status == Status::Ok {
        Ok(tensor)
    } else {
        Err(message(error))
    }
}

fn message(error: *mut Error) -> String {
    // SAFETY: an error that was just given, freed once.
    unsafe {
        let words = CStr::from_ptr(ws_error_message(error))
            .to_str()
            .unwrap()
            .to_owned();
        ws_error_free(error);
        words
    }
}

/// The totals after a run of one row of ones.
fn totals(program: &Opened, options: &RunOptions) -> Result<[f32; 2], String> {
    let x = tensor(Dtype::F32 as u32, &[1, 3], &[1.0_f32; 3]).unwrap();
    let scale = tensor(Dtype::I64 as u32, &[], &[1_i64]).unwrap();
    let inputs = [x, scale, ptr::null_mut()];
    let (mut outputs, mut error) = ([ptr::null_mut(); 3], ptr::null_mut());
    // SAFETY: three of each, which live until they are freed below.
    unsafe {
        let status = ws_program_run(
            program.0,
            inputs.as_ptr(),
            3,
            outputs.as_mut_ptr(),
            3,
            options,
            &mut error,
        );
        let result = if status == Status::Ok {
            Ok(ws_tensor_data(outputs[1]).cast::<[f32; 2]>().read())
        } else {
            Err(message(error))
        };
        for tensor in inputs.into_iter().chain(outputs) {
            ws_tensor_free(tensor);
        }
        result
    }
}

fn plainly() -> RunOptions {
    RunOptions {
        size: size_of::<RunOptions>(),
        cancel: ptr::null_mut(),
        state: ptr::null_mut(),
        progress: None,
        user: ptr::null_mut(),
    }
}

#[test]
fn threads_share_a_program_and_its_state() {
    let program = opened();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    totals(&program, &plainly()).unwrap();
                }
            });
        }
    });
    assert_eq!(
        totals(&program, &plainly()).unwrap(),
        [33.0 * 6.5, 33.0 * 14.5]
    );
    // SAFETY: the program is open.
    unsafe { ws_program_reset(program.0) };
    assert_eq!(totals(&program, &plainly()).unwrap(), [6.5, 14.5]);
}

#[test]
fn a_flag_set_by_another_thread_ends_a_run() {
    let program = opened();
    let cancel = ws_cancel_new();
    let options = RunOptions {
        cancel,
        ..plainly()
    };
    assert_eq!(totals(&program, &options).unwrap(), [6.5, 14.5]);
    let address = cancel as usize;
    let setter = std::thread::spawn(move || {
        // SAFETY: the flag is freed after this thread has ended.
        unsafe { ws_cancel_set(address as *mut Cancel) };
    });
    setter.join().unwrap();
    assert_eq!(
        totals(&program, &options).unwrap_err(),
        "the run was cancelled"
    );
    // SAFETY: nobody has it any more.
    unsafe { ws_cancel_free(cancel) };
}

#[test]
fn shapes_that_are_none_are_refused() {
    let float = Dtype::F32 as u32;
    let refused = |shape: &[usize]| tensor::<f32>(float, shape, &[]).unwrap_err();
    assert!(refused(&[usize::MAX, 2]).contains("fits into memory"));
    assert!(refused(&[usize::MAX, 2, 0]).contains("fits into memory"));
    assert!(refused(&[1 << 61]).contains("fits into memory"));
    assert!(refused(&[1 << 40]).contains("got 0"));
    assert!(refused(&[1; 65]).contains("64 dimensions"));
    assert!(refused(&[]).contains("4 bytes"));
    for number in [0, 11, u32::MAX] {
        assert!(
            tensor(number, &[1], &[0_u8])
                .unwrap_err()
                .contains("ws_dtype")
        );
    }
    // SAFETY: tensors that were just made, freed once.
    unsafe {
        let empty = tensor::<f32>(float, &[3, 0], &[]).unwrap();
        assert_eq!((ws_tensor_rank(empty), ws_tensor_bytes(empty)), (2, 0));
        ws_tensor_free(empty);
        // Python's True is 1; C's may be any byte.
        let truths = tensor(Dtype::Bool as u32, &[3], &[0_u8, 1, 7]).unwrap();
        assert_eq!(ws_tensor_data(truths).cast::<[u8; 3]>().read(), [0, 1, 1]);
        ws_tensor_free(truths);
    }
}

#[test]
fn an_input_too_many_is_refused() {
    let program = opened();
    let x = tensor(Dtype::F32 as u32, &[1, 3], &[0.0_f32; 3]).unwrap();
    let inputs = [x; 4];
    let (mut outputs, mut error) = ([ptr::null_mut(); 3], ptr::null_mut());
    // SAFETY: as many as is said.
    unsafe {
        let (given, taken) = (inputs.as_ptr(), outputs.as_mut_ptr());
        let status = ws_program_run(program.0, given, 4, taken, 3, ptr::null(), &mut error);
        assert_eq!(status, Status::Argument);
        assert!(message(error).contains("got 4"));
        ws_tensor_free(x);
    }
}

const WORDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/words");

/// What `words.py` made: a program, and a text's model that outlives it.
fn words() -> *mut Text {
    let [program, tokenizer] = ["model.pt2", "tokenizer.json"]
        .map(|name| CString::new(format!("{WORDS}/{name}")).unwrap());
    let (mut opened, mut text, error) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: text that ends, and places that can be written.
    unsafe {
        let status = ws_program_open(program.as_ptr(), ptr::null(), &mut opened, error);
        assert_eq!(status, Status::Ok);
        let status = ws_text_new(opened, tokenizer.as_ptr(), &mut text, error);
        assert_eq!(status, Status::Ok);
        ws_program_free(opened);
    }
    text
}

unsafe extern "C" fn collect(user: *mut c_void, added: *const c_char) {
    // SAFETY: the test's own list, and text that ends.
    unsafe {
        let texts = &mut *user.cast::<Vec<String>>();
        texts.push(CStr::from_ptr(added).to_str().unwrap().to_owned());
    }
}

fn generate(
    text: *const Text,
    prompt: &CStr,
    options: TextOptions,
) -> (Result<(), (Status, String)>, String) {
    let mut texts: Vec<String> = Vec::new();
    let options = TextOptions {
        show: Some(collect),
        user: (&raw mut texts).cast(),
        ..options
    };
    let mut error = ptr::null_mut();
    // SAFETY: all of it lives until the call is over.
    let status = unsafe { ws_text_generate(text, prompt.as_ptr(), &options, &mut error) };
    let result = if status == Status::Ok {
        assert!(error.is_null());
        Ok(())
    } else {
        Err((status, message(error)))
    };
    (result, texts.concat())
}

const PLAIN: TextOptions = TextOptions {
    size: size_of::<TextOptions>(),
    tokens: 16,
    top_k: 0,
    seed: 0,
    temperature: 0.0,
    top_p: 0.0,
    cancel: ptr::null_mut(),
    show: None,
    user: ptr::null_mut(),
};

#[test]
fn a_text_is_what_torch_says_and_can_be_had_again_at_once() {
    let said = std::fs::read_to_string(format!("{WORDS}/said.txt")).unwrap();
    let text = words();
    for _ in 0..2 {
        let (result, shown) = generate(text, c"w3 w1 w4", PLAIN);
        assert_eq!((result, shown.trim()), (Ok(()), &said[..]));
    }
    let sampled = TextOptions {
        temperature: 2.0,
        top_k: 40,
        seed: 7,
        ..PLAIN
    };
    let (first, again) = (
        generate(text, c"w3 w1 w4", sampled).1,
        generate(text, c"w3 w1 w4", sampled).1,
    );
    assert_eq!(first, again);
    assert_ne!(first.trim(), said);
    // SAFETY: nobody else has it.
    unsafe { ws_text_free(text) };
}

#[test]
fn a_text_that_can_not_be_is_refused_or_ended_and_says_why() {
    let text = words();
    let refused = |prompt: &CStr, options| generate(text, prompt, options).0.unwrap_err();
    let (status, words) = refused(
        c"w3",
        TextOptions {
            temperature: -1.0,
            ..PLAIN
        },
    );
    assert!(
        status == Status::Argument && words.contains("temperature"),
        "{words}"
    );
    let (status, words) = refused(c"", PLAIN);
    assert!(
        status == Status::Argument && words.contains("prompt"),
        "{words}"
    );
    let cancel = ws_cancel_new();
    // SAFETY: the flag was just made, and is freed after its last use.
    unsafe { ws_cancel_set(cancel) };
    let (status, _) = refused(c"w3", TextOptions { cancel, ..PLAIN });
    assert_eq!(status, Status::Cancelled);
    // SAFETY: nobody else has them.
    unsafe {
        ws_cancel_free(cancel);
        ws_text_free(text);
    }

    let totals = opened();
    let tokenizer = CString::new(format!("{WORDS}/tokenizer.json")).unwrap();
    let (mut made, mut error) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as above.
    let status = unsafe { ws_text_new(totals.0, tokenizer.as_ptr(), &mut made, &mut error) };
    assert!(made.is_null());
    assert_eq!(status, Status::Unsupported);
    assert!(message(error).contains("a program of a language model"));
}
