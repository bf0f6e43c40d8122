//! Which file it is, and whether it is still the same: what everything that is kept of a file is bound to.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::regular_file::open_regular;

/// What the file system says of a file at one moment, without a look at its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds since 1970. Whoever writes to the file can set this one as they like.
    modified: (i64, i64),
    /// When anything about it was last changed, the time of modification included: nobody can set this one back.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of an open file.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// What has become of a file with this stamp, in words.
    pub(crate) fn difference(&self, now: &Self) -> String {
        if self.length != now.length {
            return format!("it had {} bytes, now {}", self.length, now.length);
        }
        let seconds =
            |(seconds, nanoseconds): (i64, i64)| seconds as f64 + nanoseconds as f64 / 1e9;
        let (then, now) = if self.modified == now.modified {
            (self.changed, now.changed)
        } else {
            (self.modified, now.modified)
        };
        format!(
            "it was last written at {:.3}, now {:.3} seconds since 1970",
            seconds(then),
            seconds(now)
        )
    }
}

/// A file, by its [`Stamp`] and by a digest of its head, its tail and samples between them. A file of up to 1 MiB is
/// digested whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    stamp: Stamp,
    samples: [u8; 32],
}

/// Bytes of one sample, and what its offset and its memory are aligned to: direct reads ask for no more.
const SAMPLE: u64 = 64 << 10;

/// Samples of a file, head and tail among them.
const SAMPLES: u64 = 16;

impl Identity {
    /// The identity of an open file, which may have been opened for direct reads.
    ///
    /// # Errors
    /// Those of reading, and that someone changes the file meanwhile.
    pub fn of(file: &File) -> io::Result<Self> {
        let stamp = Stamp::of(file)?;
        let samples = samples(file, stamp.length)?;
        let after = Stamp::of(file)?;
        if stamp != after {
            let change = stamp.difference(&after);
            return Err(io::Error::other(format!(
                "expected a file that stays as it is, but {change}"
            )));
        }
        Ok(Self { stamp, samples })
    }

    /// The identity of the file at `path`.
    ///
    /// # Errors
    /// As [`of`](Self::of), and of opening.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::of(&open_regular(path)?.0)
    }

    /// The identity as a number, to keep with what is made of the file.
    pub fn digest(&self) -> [u8; 32] {
        let Stamp {
            device,
            inode,
            length,
            modified,
            changed,
        } = self.stamp;
        let mut hash = blake3::Hasher::new();
        for number in [device, inode, length] {
            hash.update(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in [modified, changed] {
            hash.update(&seconds.to_le_bytes());
            hash.update(&nanoseconds.to_le_bytes());
        }
        hash.update(&self.samples);
        *hash.finalize().as_bytes()
    }

    /// What the file was like.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Whether `file`, whose stamp is `now`, has the content that this one had: it is the same file of the same length
    /// and time of modification, and has not been touched since, or reads as it did wherever it was looked at. (The
    /// device's number is another where a device was taken away and came back.)
    pub fn is_content_of(&self, file: &File, now: &Stamp) -> bool {
        let then = &self.stamp;
        (then.inode, then.length, then.modified) == (now.inode, now.length, now.modified)
            && (then.changed == now.changed
                || samples(file, now.length).is_ok_and(|samples| samples == self.samples))
    }
}

fn samples(file: &File, length: u64) -> io::Result<[u8; 32]> {
    let mut hash = blake3::Hasher::new();
    let mut memory = vec![0; 2 * SAMPLE as usize];
    let skip = memory.as_ptr().align_offset(SAMPLE as usize);
    let buffer = memory
        .get_mut(skip..)
        .and_then(|aligned| aligned.get_mut(..SAMPLE as usize))
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let blocks = length.div_ceil(SAMPLE);
    let count = blocks.min(SAMPLES);
    for number in 0..count {
        let block = number * (blocks - 1) / (count - 1).max(1);
        let offset = block * SAMPLE;
        let expected = (length - offset).min(SAMPLE) as usize;
        let read = read(file, offset, buffer)?;
        crate::drop_from_page_cache(file, offset, read);
        let sample = buffer
            .get(..expected)
            .filter(|_| read >= expected)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        hash.update(sample);
    }
    Ok(*hash.finalize().as_bytes())
}

/// One call where the file has as many bytes: of direct reads no part can be read again from anywhere.
fn read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::time::SystemTime;

    /// A file of `length` bytes with times of its own.
    fn file(folder: &Path, name: &str, length: usize, time: SystemTime) -> File {
        let path = folder.join(name);
        std::fs::write(&path, vec![7; length]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        file.set_modified(time).unwrap();
        file
    }

    #[test]
    fn a_byte_that_is_written_and_times_that_are_put_back_make_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for (length, places) in [
            (1, vec![0]),
            (1 << 20, vec![0, 77_777, (1 << 20) - 1]),
            ((9 << 20) + 5, vec![0, (9 << 20) + 4]),
        ] {
            let file = file(folder.path(), "weights", length, time);
            let then = Identity::of(&file).unwrap();
            assert_eq!(then, Identity::at(&folder.path().join("weights")).unwrap());
            for place in places {
                for (byte, same) in [(8, false), (7, true)] {
                    file.write_all_at(&[byte], place as u64).unwrap();
                    file.set_modified(time).unwrap();
                    let now = Stamp::of(&file).unwrap();
                    assert_eq!(then.is_content_of(&file, &now), same, "{length} {place}");
                }
            }
        }
    }

    #[test]
    fn a_copy_that_keeps_everything_it_can_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let time = SystemTime::UNIX_EPOCH;
        let one = file(folder.path(), "one", 3 << 20, time);
        let then = Identity::of(&one).unwrap();
        let other = file(folder.path(), "other", 3 << 20, time);
        std::fs::rename(folder.path().join("other"), folder.path().join("one")).unwrap();
        let now = Identity::of(&other).unwrap();
        assert_eq!(then.samples, now.samples);
        assert_ne!(then.digest(), now.digest());
        assert!(!then.is_content_of(&other, now.stamp()));
    }
}
