//! One process at a time writes into a folder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::PackError;

const LOCK: &str = ".weightstream.lock";

/// Holds a folder as long as it lives; the kernel lets go of what a killed process held.
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Takes `folder`.
    ///
    /// # Errors
    /// [`PackError::Busy`] where someone has it, and those of the file system.
    pub fn take(folder: &Path) -> Result<Self, PackError> {
        let path = folder.join(LOCK);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(PackError::io(&path, "open the lock"))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let folder = folder.to_owned();
                    return Err(PackError::Busy { folder });
                }
                Err(error) => return Err(PackError::io(&path, "lock")(error.into())),
            }
            // Whoever held it may have removed it between the opening and the locking.
            let locked = file.metadata().map_err(PackError::io(&path, "lock"))?;
            let named = std::fs::metadata(&path);
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // While it is still locked: nobody can have made another meanwhile.
        let _ = std::fs::remove_file(&self.path);
    }
}
