//! Where the names lead that a checkpoint's files give of other files: into its folder, and nowhere else.

use std::path::{Component, Path, PathBuf};

/// A name, or a link behind it, that leads out of a checkpoint's folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: expected the name of a file in this folder, or of a link to one or to its hub cache's blobs, got {name:?}, \
     {got}",
    folder.display()
)]
pub struct OutsideError {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// What was to be found in it.
    pub name: String,
    /// Where it leads.
    pub got: String,
}

/// The path of what is called `name` in `folder`, which a file of the checkpoint or a listing of the folder named.
/// It need not be there.
///
/// Names are relative and don't go back up. Links lead to a file in `folder`, or to one of the blobs that a hub's cache
/// keeps beside its snapshots; a folder that is linked is none of the checkpoint's.
///
/// # Errors
/// The name leads elsewhere.
pub fn inside(folder: &Path, name: impl AsRef<Path>) -> Result<PathBuf, OutsideError> {
    let name = name.as_ref();
    let outside = |got: String| OutsideError {
        folder: folder.to_owned(),
        name: name.to_string_lossy().into_owned(),
        got,
    };
    let mut path = folder.to_owned();
    let mut parts = name.components().peekable();
    if parts.peek().is_none() {
        return Err(outside("which is empty".to_owned()));
    }
    while let Some(part) = parts.next() {
        if part == Component::CurDir && parts.peek().is_some() {
            continue;
        }
        let Component::Normal(part) = part else {
            return Err(outside("which is not one".to_owned()));
        };
        path.push(part);
        let linked = path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_symlink());
        // Where a broken link leads whoever opens it is told.
        if let (true, Ok(target)) = (linked, path.canonicalize()) {
            if parts.peek().is_some() || target.is_dir() {
                return Err(outside(format!(
                    "a link to the folder {}",
                    target.display()
                )));
            }
            if !is_within(&target, folder) && !is_blob(&target, folder) {
                return Err(outside(format!("a link to {}", target.display())));
            }
        }
    }
    Ok(path)
}

/// The folder as the system names it; a file's parent may be empty.
fn canonical(folder: &Path) -> Option<PathBuf> {
    if folder.as_os_str().is_empty() {
        return Path::new(".").canonicalize().ok();
    }
    folder.canonicalize().ok()
}

fn is_within(target: &Path, folder: &Path) -> bool {
    canonical(folder).is_some_and(|folder| target.starts_with(folder))
}

/// Whether `folder` is a snapshot in a hub's cache, or in one, and `target` a blob of the same repository:
/// `models--x--y/snapshots/REVISION` and `models--x--y/blobs/HASH`.
fn is_blob(target: &Path, folder: &Path) -> bool {
    let blobs = canonical(folder).and_then(|folder| {
        let snapshots = folder
            .ancestors()
            .skip(1)
            .find(|above| above.file_name().is_some_and(|name| name == "snapshots"))?;
        Some(snapshots.parent()?.join("blobs"))
    });
    blobs.is_some() && target.parent() == blobs.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    fn got(folder: &Path, name: &str) -> String {
        inside(folder, name).unwrap_err().got
    }

    #[test]
    fn names_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "a/b", "./a"] {
            assert_eq!(
                inside(folder.path(), name).unwrap(),
                folder.path().join(name)
            );
        }
        for name in ["", ".", "./..", "..", "../a", "/etc/passwd", "a/../b"] {
            let error = inside(folder.path(), name).unwrap_err();
            assert_eq!(error.name, name);
        }
    }

    #[test]
    fn links_lead_to_files_of_the_folder() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (folder.path(), other.path());
        write(here.join("a"), "").unwrap();
        write(there.join("secret"), "").unwrap();
        create_dir_all(here.join("part")).unwrap();
        symlink("a", here.join("to-a")).unwrap();
        symlink(there.join("secret"), here.join("to-secret")).unwrap();
        symlink(there, here.join("docs")).unwrap();
        symlink("part", here.join("to-part")).unwrap();
        symlink(here.join("to-secret"), here.join("twice")).unwrap();
        symlink("nowhere", here.join("broken")).unwrap();

        for name in ["a", "to-a", "part", "part/none", "broken"] {
            assert_eq!(inside(here, name).unwrap(), here.join(name));
        }
        assert!(got(here, "to-secret").ends_with("secret"));
        assert!(got(here, "twice").ends_with("secret"));
        for name in ["docs", "docs/secret", "to-part", "to-part/none"] {
            assert!(got(here, name).starts_with("a link to the folder"));
        }
    }

    #[test]
    fn a_snapshot_links_to_the_blobs_of_its_repository_alone() {
        let cache = tempfile::tempdir().unwrap();
        let (ours, theirs) = (cache.path().join("ours"), cache.path().join("theirs"));
        let snapshot = ours.join("snapshots/main");
        create_dir_all(snapshot.join("unet")).unwrap();
        for repository in [&ours, &theirs] {
            create_dir_all(repository.join("blobs/deep")).unwrap();
            write(repository.join("blobs/1"), "").unwrap();
            write(repository.join("blobs/deep/1"), "").unwrap();
        }
        symlink("../../blobs/1", snapshot.join("a")).unwrap();
        symlink("../../../blobs/1", snapshot.join("unet/a")).unwrap();
        symlink("../../../theirs/blobs/1", snapshot.join("b")).unwrap();
        symlink("../../blobs/deep/1", snapshot.join("c")).unwrap();

        for (folder, name) in [
            (&snapshot, "a"),
            (&snapshot, "unet/a"),
            (&snapshot.join("unet"), "a"),
        ] {
            assert_eq!(inside(folder, name).unwrap(), folder.join(name));
        }
        for name in ["b", "c"] {
            assert!(got(&snapshot, name).starts_with("a link to /"));
        }
    }
}
