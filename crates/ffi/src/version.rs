use crate::boundary::answered;
use std::ffi::c_char;

/// The version of this library, "0.1.0". Never NULL; it is not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn ws_version() -> *const c_char {
    answered(c"", || {
        let text = concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes();
        std::ffi::CStr::from_bytes_with_nul(text).unwrap_or_default()
    })
    .as_ptr()
}
