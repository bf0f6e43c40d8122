use crate::boundary::{delivered, freed, required, shared, text, told};
use crate::versioned::{self, Versioned};
use crate::{Cancel, Error, Program, Status};
use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::sync::Arc;
use weightstream_text::{Request, Sampling, TextModel, Tokenizer};

/// A language model and its tokenizer. Several threads may have it write at once.
pub struct Text {
    model: TextModel,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
}

const _: () = shared::<Text>();

/// Is told, in the thread that generates, what each token adds to the text, in UTF-8: nothing where it ends within a
/// character. `user` is the pointer of the text's options. It must return: no exception, no `longjmp`.
pub type Show = Option<unsafe extern "C" fn(user: *mut c_void, text: *const c_char)>;

/// How a text is to be. Begin with `ws_text_options options = {sizeof options};`: fields that are zero have their
/// defaults, and the size tells which fields the caller knows. What it points to stays the caller's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct TextOptions {
    /// `sizeof(ws_text_options)`.
    pub size: usize,
    /// How many tokens at most; 0 is 128.
    pub tokens: usize,
    /// Chooses among so many of the likeliest tokens; 0 among all.
    pub top_k: usize,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Logits are divided by it; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Chooses among the likeliest tokens that together have this probability; 0 is 1, all of them.
    pub top_p: f32,
    /// Ends the text when it is set; may be NULL.
    pub cancel: *mut Cancel,
    /// Is told the text as it comes; may be NULL.
    pub show: Show,
    /// For `show`.
    pub user: *mut c_void,
}

// SAFETY: numbers and pointers that may be zero, the size first, no padding.
unsafe impl Versioned for TextOptions {}

/// A language model of a program that `weightstream.export_text` wrote. `tokenizer` is the path, in UTF-8, of its
/// `tokenizer.json`; the tokens that end a text are those of the `generation_config.json` beside that. The caller frees
/// it, before or after the program; the program can be resized and asked for its stats as ever.
///
/// # Safety
/// `program` is NULL or a program that was not freed; `tokenizer` is NULL or ends with a zero; `made` and `error` are
/// NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_text_new(
    program: *const Program,
    tokenizer: *const c_char,
    made: *mut *mut Text,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let program = unsafe { required(program, "the program")? };
        // SAFETY: the caller's promise.
        let path = Path::new(unsafe { text(tokenizer, "the tokenizer's path")? });
        Ok(Text {
            model: TextModel::new(Arc::clone(&program.program))?,
            tokenizer: Tokenizer::open(path)?,
            ends: Tokenizer::ends(path)?,
        })
    };
    // SAFETY: the caller's promise.
    unsafe { delivered(made, error, work) }
}

/// Goes on after `prompt`, UTF-8 with the model's control tokens where it is a chat, until the model ends the text, its
/// cache is full, or there are as many tokens as were wanted. `options` may be NULL, but then nobody is told the text.
/// Each call is a conversation of its own.
///
/// # Safety
/// `text` is NULL or was not freed; `prompt` is NULL or ends with a zero; `options` is NULL, or has the size that it
/// says and what it points to was not freed; `error` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_text_generate(
    text: *const Text,
    prompt: *const c_char,
    options: *const TextOptions,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let (model, prompt) = unsafe {
            (
                required(text, "the text's model")?,
                self::text(prompt, "the prompt")?,
            )
        };
        // SAFETY: the caller's promise.
        unsafe { generate(model, prompt, options) }
    };
    // SAFETY: the caller's promise.
    unsafe { told(error, work) }
}

/// # Safety
/// As [`ws_text_generate`].
unsafe fn generate(text: &Text, prompt: &str, options: *const TextOptions) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let options = unsafe { versioned::read(options, "the text's options")? };
    let defaults = Request::default();
    let request = Request {
        tokens: if options.tokens == 0 {
            defaults.tokens
        } else {
            options.tokens
        },
        sampling: Sampling {
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: if options.top_p == 0.0 {
                defaults.sampling.top_p
            } else {
                options.top_p
            },
            seed: options.seed,
        },
        stop: text.ends.clone(),
    };
    let mut conversation = text.model.begin()?;
    // SAFETY: the caller's promise.
    if let Some(cancel) = unsafe { options.cancel.as_ref() } {
        conversation = conversation.cancelled_by(&cancel.0);
    }
    let mut show = |added: &str| {
        if let Some(show) = options.show {
            // A zero inside would end the text for C.
            let added = CString::new(added.replace('\0', "")).unwrap_or_default();
            // SAFETY: the caller's promise.
            unsafe { show(options.user, added.as_ptr()) }
        }
    };
    let prompt = text.tokenizer.encode(prompt)?;
    weightstream_text::generate(
        &mut conversation,
        &text.tokenizer,
        &prompt,
        &request,
        &mut show,
    )?;
    Ok(())
}

/// Frees a text's model. NULL is fine.
///
/// # Safety
/// `text` is NULL or was not freed, and no other call is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_text_free(text: *mut Text) {
    // SAFETY: the caller's promise.
    unsafe { freed(text) };
}
