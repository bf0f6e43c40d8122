//! The one way to open a file that someone else has written.
//!
//! Opening a pipe waits for its writer, and a device may have no end: only regular files are opened, and what is read
//! whole has a limit that the caller names.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Why a file can't be opened, or read whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot {action} it: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It is a folder, a pipe, a device or a socket.
    #[error("{}: expected a regular file, got {got}", path.display())]
    NotRegular {
        /// What is there.
        path: PathBuf,
        /// What kind of thing that is.
        got: &'static str,
    },
    /// It has more bytes than any file of its kind.
    #[error("{}: expected at most {limit} bytes, got {got}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that its reader takes, in bytes.
        limit: u64,
        /// Bytes that it has.
        got: u64,
    },
}

impl FileError {
    /// Whether there is nothing at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { cause, .. } => cause,
            error => io::Error::other(error),
        }
    }
}

/// Opens the regular file at `path` for reading and gives its length in bytes. Never waits for another process.
///
/// # Errors
/// There is none, it can't be opened, or something else is there.
pub fn open_regular(path: &Path) -> Result<(File, u64), FileError> {
    open_with_flags(path, 0)
}

/// As [`open_regular`], with further flags of the system's `open`.
pub(crate) fn open_with_flags(path: &Path, flags: i32) -> Result<(File, u64), FileError> {
    // Asked of what is open: between a look at the path and the opening it may have become another.
    let open = || {
        let file = File::options()
            .read(true)
            .custom_flags(flags | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    };
    let failed = |cause: io::Error| FileError::Io {
        path: path.to_owned(),
        action: "open",
        cause,
    };
    let (file, metadata) = open().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular {
            path: path.to_owned(),
            got: kind(metadata.file_type()),
        });
    }
    // Only the opening must not wait: some kernels fail reads of such a file that would.
    fcntl_getfl(&file)
        .and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK))
        .map_err(|error| failed(error.into()))?;
    Ok((file, metadata.len()))
}

/// The bytes of the regular file at `path`, which has at most `limit` of them.
///
/// # Errors
/// It can't be opened or read, is no regular file, or larger.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, length) = open_regular(path)?;
    let too_large = |got| FileError::TooLarge {
        path: path.to_owned(),
        limit,
        got,
    };
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that grows meanwhile is noticed.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|cause| FileError::Io {
            path: path.to_owned(),
            action: "read",
            cause,
        })?;
    match bytes.len() as u64 {
        got if got > limit => Err(too_large(got)),
        _ => Ok(bytes),
    }
}

fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_a_byte_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_small(&path, 100).unwrap(), [7; 100]);
        let error = read_small(&path, 99).unwrap_err();
        assert!(
            matches!(
                error,
                FileError::TooLarge {
                    limit: 99,
                    got: 100,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            read_small(&folder.path().join("none"), 1)
                .unwrap_err()
                .is_missing()
        );
    }

    #[test]
    fn what_has_no_end_or_no_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let linked = folder.path().join("linked");
        std::os::unix::fs::symlink("/dev/zero", &linked).unwrap();
        for (path, expected) in [
            (pipe.as_path(), "a pipe"),
            (Path::new("/dev/zero"), "a device"),
            (linked.as_path(), "a device"),
            (folder.path(), "a folder"),
        ] {
            let error = read_small(path, 100).unwrap_err();
            assert!(
                matches!(error, FileError::NotRegular { got, .. } if got == expected),
                "{error}"
            );
        }
    }

    /// Files of the kernel say that they are empty and are not.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_length_that_a_file_claims_is_not_believed() {
        let path = Path::new("/proc/self/status");
        assert!(read_small(path, 1 << 20).unwrap().starts_with(b"Name:"));
        assert!(matches!(
            read_small(path, 10).unwrap_err(),
            FileError::TooLarge {
                limit: 10,
                got: 11,
                ..
            }
        ));
    }

    #[test]
    fn reads_of_an_opened_file_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, [7; 100]).unwrap();
        let (file, length) = open_regular(&path).unwrap();
        assert_eq!(length, 100);
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
    }
}
