use crate::boundary::{answered, freed};
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ptr;
use weightstream::{CheckpointError, StreamError};
use weightstream_graph::{OperatorError, ProgramError};
use weightstream_text::TextError;

/// How a call went.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok = 0,
    /// What was given is not what is expected: NULL, a wrong count, dtype or shape, text that is not UTF-8.
    Argument = 1,
    /// A file can't be read.
    File = 2,
    /// A file is damaged, or is no program.
    Format = 3,
    /// A version, operator or form of weights that this library doesn't have.
    Unsupported = 4,
    /// The memory given for weights is too small; the message names the least that works.
    Budget = 5,
    /// The system has no memory left.
    Memory = 6,
    /// A weight could not be read while the program ran. It can be run again.
    Weight = 7,
    /// An operator can't compute with what came to it.
    Operator = 8,
    /// The run was cancelled.
    Cancelled = 9,
    /// A bug in this library, or a system that refuses what it needs. Free the program.
    Internal = 10,
}

/// Why a call failed.
#[derive(Debug)]
pub struct Error {
    status: Status,
    message: CString,
}

impl Error {
    pub(crate) fn new(status: Status, message: String) -> Self {
        // A zero inside would end the text for C.
        let bytes = message.into_bytes().into_iter().filter(|byte| *byte != 0);
        Self {
            status,
            message: CString::new(bytes.collect::<Vec<u8>>()).unwrap_or_default(),
        }
    }

    pub(crate) fn argument(message: String) -> Self {
        Self::new(Status::Argument, message)
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.to_string_lossy().fmt(formatter)
    }
}

impl std::error::Error for Error {}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        let status = match &error {
            ProgramError::Io { .. }
            | ProgramError::File(_)
            | ProgramError::Checkpoint(
                CheckpointError::Io { .. }
                | CheckpointError::File(_)
                | CheckpointError::NoCheckpoint { .. },
            ) => Status::File,
            ProgramError::Stream(error) => of_stream(error),
            ProgramError::Version { .. } | ProgramError::Unsupported(_) => Status::Unsupported,
            ProgramError::Model { .. }
            | ProgramError::InputCount { .. }
            | ProgramError::Input { .. } => Status::Argument,
            ProgramError::Operator { cause, .. } => of_operator(cause),
            ProgramError::Tensor(cause) => of_operator(cause),
            ProgramError::Cancelled => Status::Cancelled,
            // What remains is said about the file.
            _ => Status::Format,
        };
        Self::new(status, error.to_string())
    }
}

impl From<OperatorError> for Error {
    fn from(error: OperatorError) -> Self {
        Self::new(of_operator(&error), error.to_string())
    }
}

impl From<TextError> for Error {
    fn from(error: TextError) -> Self {
        let status = match error {
            TextError::Program(error) => return error.into(),
            TextError::TokenizerFile { .. } | TextError::File(_) => Status::File,
            TextError::GenerationConfig { .. } => Status::Format,
            TextError::Interface(_) => Status::Unsupported,
            TextError::NotFinite { .. } => Status::Operator,
            // What remains is said about the prompt and how tokens are chosen.
            _ => Status::Argument,
        };
        Self::new(status, error.to_string())
    }
}

fn of_stream(error: &StreamError) -> Status {
    match error {
        StreamError::Budget { .. } | StreamError::HostBudget { .. } => Status::Budget,
        StreamError::File { .. } | StreamError::Open(_) => Status::File,
        StreamError::Layout(_) | StreamError::Read(_) => Status::Format,
        StreamError::Weight(_) => Status::Weight,
        StreamError::Memory(_) | StreamError::Buffers { .. } => Status::Memory,
        _ => Status::Internal,
    }
}

fn of_operator(error: &OperatorError) -> Status {
    match error {
        OperatorError::Memory { .. } => Status::Memory,
        _ => Status::Operator,
    }
}

/// What kind of error it is; `WS_STATUS_OK` for NULL.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_error_status(error: *const Error) -> Status {
    answered(Status::Ok, || {
        // SAFETY: the caller's promise.
        unsafe { error.as_ref() }.map_or(Status::Ok, Error::status)
    })
}

/// What was expected, what was got and where, in UTF-8. It belongs to the error; NULL for NULL.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_error_message(error: *const Error) -> *const c_char {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let error = unsafe { error.as_ref() };
        error.map_or(ptr::null(), |error| CStr::as_ptr(&error.message))
    })
}

/// Frees an error. NULL is fine.
///
/// # Safety
/// `error` is NULL or an error that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_error_free(error: *mut Error) {
    // SAFETY: the caller's promise.
    unsafe { freed(error) };
}
