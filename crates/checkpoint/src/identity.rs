//! Which files tensors lie in, as one number.

use std::collections::HashSet;

use weightstream_source::Identity;

use crate::{CheckpointError, Content};

/// The digest of the [`Identity`] of each file of `contents`, in their order; where they are found doesn't count.
///
/// # Errors
/// A file that can't be read, or that someone writes to meanwhile.
pub fn identity(contents: &[Content]) -> Result<[u8; 32], CheckpointError> {
    let mut hash = blake3::Hasher::new();
    let mut seen = HashSet::new();
    for file in contents.iter().flat_map(Content::files) {
        if seen.insert(&file.path) {
            let identity = Identity::at(&file.path).map_err(|source| CheckpointError::Io {
                file: file.path.clone(),
                action: "identify the file",
                source,
            })?;
            hash.update(&identity.digest());
        }
    }
    Ok(*hash.finalize().as_bytes())
}
