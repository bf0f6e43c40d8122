//! Whole files, by their names.

use std::path::Path;
use std::sync::LazyLock;

use tempfile::TempDir;
use weightstream_checkpoint::Checkpoint;

/// In memory where there is such a folder: a target runs thousands of times a second.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder for the inputs")
});

/// The folder for inputs, this process' own.
pub(crate) fn folder() -> &'static Path {
    FOLDER.path()
}

/// Files of safetensors.
pub fn safetensors(bytes: &[u8]) {
    open("model.safetensors", bytes);
}

/// The index of a sharded checkpoint, beside two shards: it may name any file, and none outside is opened.
pub fn index(bytes: &[u8]) {
    for name in ["a", "b"] {
        let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([1, 2, 3, 4]);
        std::fs::write(folder().join(format!("{name}.safetensors")), file).expect("a shard");
    }
    open("model.safetensors.index.json", bytes);
}

/// Files that torch.save has written: a zip with a pickle, which is read without running it.
pub fn torch(bytes: &[u8]) {
    open("pytorch_model.bin", bytes);
}

/// Archives of torch.export.
pub fn export(bytes: &[u8]) {
    open("model.pt2", bytes);
}

/// GGUF files.
pub fn gguf(bytes: &[u8]) {
    open("model.gguf", bytes);
}

/// Opens `bytes` as a file of that name. Whatever they are, it ends, and what it accepts lies within the files.
pub(crate) fn open(name: &str, bytes: &[u8]) {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("writing the input");
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        check(&checkpoint);
    }
}

pub(crate) fn check(checkpoint: &Checkpoint) {
    let folder = folder().canonicalize().expect("the folder");
    for path in checkpoint.paths() {
        let whole = path.canonicalize().expect("a file that was opened");
        assert!(whole.starts_with(&folder), "{} is outside", whole.display());
    }
    for content in &checkpoint.contents {
        for extent in content.extents(0..u64::MAX) {
            let file = &content.files()[extent.file as usize];
            let length = std::fs::metadata(&file.path).expect("its length").len();
            let end = extent.offset.checked_add(extent.stored);
            assert!(
                end.is_some_and(|end| end <= length),
                "{extent:?} is outside"
            );
        }
    }
    for tensor in &checkpoint.tensors {
        let content = &checkpoint.contents[tensor.file as usize];
        let end = tensor.offset.checked_add(tensor.length);
        assert!(
            end.is_some_and(|end| end <= content.length()),
            "{tensor:?} is outside"
        );
        assert!(
            checkpoint.get(&tensor.name).is_some(),
            "{tensor:?} is not found"
        );
    }
}
