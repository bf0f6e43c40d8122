//! What the targets that read checkpoints share.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use weightstream_checkpoint::Checkpoint;

/// A folder in memory for this process alone.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("weightstream-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the inputs");
    folder
});

/// Opens `bytes` as a file of that name, in a folder that holds nothing else but what is in `beside`.
///
/// Whatever they are, it ends, and what it accepts lies within the files.
pub fn open(name: &str, bytes: &[u8], beside: &[(&str, &[u8])]) {
    for (other, bytes) in beside {
        std::fs::write(FOLDER.join(other), bytes).expect("writing an input");
    }
    let path = FOLDER.join(name);
    std::fs::write(&path, bytes).expect("writing the input");
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        check(&checkpoint, &FOLDER);
    }
}

fn check(checkpoint: &Checkpoint, folder: &Path) {
    for path in checkpoint.paths() {
        let whole = path.canonicalize().expect("a file that was opened");
        let folder = folder.canonicalize().expect("the folder");
        assert!(whole.starts_with(folder), "{} is outside", whole.display());
    }
    for tensor in &checkpoint.tensors {
        let content = &checkpoint.contents[tensor.file as usize];
        let end = tensor.offset.checked_add(tensor.length);
        assert!(
            end.is_some_and(|end| end <= content.length),
            "{tensor:?} is outside"
        );
        assert!(
            checkpoint.get(&tensor.name).is_some(),
            "{tensor:?} is not found"
        );
    }
}
