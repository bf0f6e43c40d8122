//! The files, opened, and how each may be read.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::aligned::{BOUNCE, STRICTEST};
use crate::error::{OpenError, ReadErrorKind};
use crate::extent::Alignment;
use crate::identity::{Identity, Stamp};
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::regular_file::open_with_flags;
use crate::regular_file::{FileError, open_regular};
use crate::{Caching, lock};

/// The alignment for direct I/O where the kernel doesn't tell: no device in use asks for more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const USUAL: Alignment = Alignment {
    offset: 4096,
    memory: 4096,
};

/// All files of a source.
pub(crate) struct Files(Vec<Arc<SourceFile>>);

impl Files {
    pub(crate) fn open(paths: &[PathBuf], caching: Caching) -> Result<Self, OpenError> {
        let open = |path: &PathBuf| Ok(Arc::new(SourceFile::open(path, caching)?));
        paths.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Arc<SourceFile>> {
        self.0.get(index as usize)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether any file is read past the page cache.
    pub(crate) fn any_direct(&self) -> bool {
        self.0.iter().any(|file| file.is_direct())
    }
}

/// A file that is open for reading.
pub(crate) struct SourceFile {
    path: Arc<Path>,
    /// Replaced where a device went away and came back; reads in flight keep the one they began with.
    file: Mutex<Arc<File>>,
    identity: Identity,
    /// The last stamp that was found to be of the same content.
    seen: Mutex<Stamp>,
    direct: AtomicBool,
    alignment: Option<Alignment>,
}

impl SourceFile {
    fn open(path: &Path, caching: Caching) -> Result<Self, FileError> {
        let direct = match caching {
            Caching::Direct => open_direct(path)?,
            Caching::Buffered => None,
        };
        let (file, mut direct, alignment) = match direct {
            Some((file, alignment)) => (file, true, alignment),
            None => (open_regular(path)?.0, false, None),
        };
        let identity = match Identity::of(&file) {
            Err(error) if direct && is_refusal(&error) => {
                direct = false;
                clear_direct(&file);
                Identity::of(&file)
            }
            identity => identity,
        }
        .map_err(|cause| FileError::Io {
            path: path.to_owned(),
            action: "read",
            cause,
        })?;
        Ok(Self {
            path: Arc::from(path),
            identity,
            seen: Mutex::new(*identity.stamp()),
            file: Mutex::new(Arc::new(file)),
            direct: AtomicBool::new(direct),
            alignment,
        })
    }

    pub(crate) fn path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// The open file; whoever reads from it keeps this until the read is over.
    pub(crate) fn opened(&self) -> Arc<File> {
        Arc::clone(&lock(&self.file))
    }

    /// Why bytes that were just read from `opened`, which was as `before` says when that began, can't be trusted:
    /// someone has written to the file since the source was opened, or was at it meanwhile.
    pub(crate) fn distrust(&self, opened: &File, before: Option<&Stamp>) -> Option<ReadErrorKind> {
        if cfg!(feature = "unchecked") {
            return None;
        }
        match Stamp::of(opened) {
            Ok(now) if before == Some(&now) && self.is_same_content(opened, &now) => None,
            Ok(now) => Some(ReadErrorKind::Changed {
                change: self.identity.stamp().difference(&now),
            }),
            Err(error) => Some(error.into()),
        }
    }

    fn is_same_content(&self, file: &File, now: &Stamp) -> bool {
        if *lock(&self.seen) == *now {
            return true;
        }
        let same = self.identity.is_content_of(file, now);
        if same {
            *lock(&self.seen) = *now;
        }
        same
    }

    /// After an error: the device may have been taken away and have come back, which an open file never notices.
    /// Nothing happens where the path now leads to something else.
    pub(crate) fn reopen(&self) {
        let again = if self.is_direct() {
            open_direct(&self.path).map(|opened| opened.map(|(file, _)| file))
        } else {
            open_regular(&self.path).map(|(file, _)| Some(file))
        };
        if let Ok(Some(file)) = again
            && Stamp::of(&file).is_ok_and(|now| self.is_same_content(&file, &now))
        {
            *lock(&self.file) = Arc::new(file);
        }
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Acquire)
    }

    /// What reads must be aligned to; `None` if to nothing.
    pub(crate) fn alignment(&self) -> Option<Alignment> {
        self.alignment.filter(|_| self.is_direct())
    }

    /// Reads through the page cache from now on: some file systems take the flag at open and refuse
    /// the reads. Those in flight are not disturbed.
    pub(crate) fn give_up_direct(&self) {
        if self.direct.swap(false, Ordering::AcqRel) {
            log::debug!("{} can't be read past the page cache", self.path.display());
            clear_direct(&self.opened());
        }
    }

    /// Drops a range that was read from the page cache, if it went through there.
    pub(crate) fn forget(&self, offset: u64, length: usize) {
        if !self.is_direct() {
            drop_cached(&self.opened(), offset, length);
        }
    }
}

/// Whether a direct read was refused for being one.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// `None` if the file system refuses.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_direct(path: &Path) -> Result<Option<(File, Option<Alignment>)>, FileError> {
    let file = match open_with_flags(path, libc::O_DIRECT) {
        Ok((file, _)) => file,
        Err(FileError::Io { cause, .. }) if cause.raw_os_error() == Some(libc::EINVAL) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let alignment = alignment_of(&file).unwrap_or(USUAL);
    let usable = alignment.offset.is_power_of_two()
        && alignment.offset <= BOUNCE
        && alignment.memory.is_power_of_two()
        && alignment.memory <= STRICTEST;
    Ok(usable.then_some((file, Some(alignment))))
}

/// What the kernel says (Linux 6.1 and later); zeros mean that it refuses direct I/O.
#[cfg(target_os = "linux")]
fn alignment_of(file: &File) -> Option<Alignment> {
    // SAFETY: a plain structure of integers.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string, empty for the descriptor itself; `status` is writable.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut status,
        )
    };
    (result == 0 && status.stx_mask & libc::STATX_DIOALIGN != 0).then_some(Alignment {
        offset: status.stx_dio_offset_align as usize,
        memory: status.stx_dio_mem_align as usize,
    })
}

#[cfg(target_os = "android")]
fn alignment_of(_file: &File) -> Option<Alignment> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn clear_direct(file: &File) {
    let descriptor = file.as_raw_fd();
    // SAFETY: reads and sets the status flags of a descriptor that is open.
    unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        if flags != -1 {
            libc::fcntl(descriptor, libc::F_SETFL, flags & !libc::O_DIRECT);
        }
    }
}

/// Apple's way past the page cache asks for no alignment.
#[cfg(target_vendor = "apple")]
fn open_direct(path: &Path) -> Result<Option<(File, Option<Alignment>)>, FileError> {
    let (file, _) = open_regular(path)?;
    // SAFETY: sets a flag of a descriptor that is open.
    let accepted = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 1) } != -1;
    Ok(accepted.then_some((file, None)))
}

#[cfg(target_vendor = "apple")]
fn clear_direct(file: &File) {
    // SAFETY: sets a flag of a descriptor that is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_NOCACHE, 0) };
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn open_direct(_path: &Path) -> Result<Option<(File, Option<Alignment>)>, FileError> {
    Ok(None)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn clear_direct(_file: &File) {}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
/// Drops a range that was read from the page cache: there it counts against a cgroup.
pub fn drop_cached(file: &File, offset: u64, length: usize) {
    // The kernel keeps pages that the range covers in part, and with reading ahead they get large.
    // So reach back to where the largest may start; what reaches beyond the end may be wanted next,
    // but for the rest of a page. (No reading ahead would leave nothing, at a quarter of the speed
    // and three times the processor time.)
    const LARGEST: u64 = 2 << 20;
    const PAGE: u64 = 64 << 10;
    let start = offset - offset % LARGEST;
    let end = (offset + length as u64).next_multiple_of(PAGE);
    // SAFETY: a hint about a descriptor that is open.
    unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            start as libc::off_t,
            (end - start) as libc::off_t,
            libc::POSIX_FADV_DONTNEED,
        )
    };
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
/// Nothing is to be dropped here.
pub fn drop_cached(_file: &File, _offset: u64, _length: usize) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What a device that went away leaves: a descriptor from which nothing can be read.
    fn cut_off(file: &SourceFile) {
        let nowhere = File::options().write(true).open("/dev/null").unwrap();
        *lock(&file.file) = Arc::new(nowhere);
    }

    #[test]
    fn a_file_that_comes_back_is_opened_again_and_another_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, [7; 5000]).unwrap();
        let file = SourceFile::open(&path, Caching::Direct).unwrap();
        cut_off(&file);
        file.reopen();
        let now = Stamp::of(&file.opened()).unwrap();
        assert_eq!(file.distrust(&file.opened(), Some(&now)), None);

        cut_off(&file);
        std::fs::write(&path, [7; 5001]).unwrap();
        file.reopen();
        assert!(file.distrust(&file.opened(), Some(&now)).is_some());
    }
}
