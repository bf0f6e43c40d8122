//! Packed checkpoints. Digest and checksums are made right, so that what they guard is reached.

use std::fs::{read, write};

use weightstream_checkpoint::Checkpoint;
use weightstream_checkpoint::packed::{MANIFEST, Manifest, Packed, checksum};

use crate::files::{check, folder};

/// More than a seed has.
const MOST_DATA: u64 = 1 << 20;

/// The length of a manifest in four bytes, the manifest, and what its data files hold.
pub fn packed(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let (manifest, data) = bytes.split_at(length.min(bytes.len()));
    let _ = Manifest::from_bytes(manifest);
    let Some(content) = manifest.len().checked_sub(blake3::OUT_LEN) else {
        return;
    };
    let mut signed = manifest[..content].to_vec();
    signed.extend(blake3::hash(&signed).as_bytes());
    if let Ok(manifest) = Manifest::from_bytes(&signed) {
        // What is understood is written again as something that means the same.
        let again =
            Manifest::from_bytes(&manifest.to_bytes()).expect("its own bytes are understood");
        assert_eq!(again.to_bytes(), manifest.to_bytes());
        decode(manifest, data);
    }
}

fn decode(mut manifest: Manifest, data: &[u8]) {
    let lengths = manifest.files.iter().map(|file| file.length);
    let total = lengths.fold(0_u64, u64::saturating_add);
    if total > MOST_DATA || manifest.files.len() > 4 {
        return;
    }
    for file in &manifest.files {
        let mut data = data.to_vec();
        data.resize(file.length as usize, 0);
        if write(folder().join(&file.name), data).is_err() {
            return; // a name that is too long
        }
    }
    let path = folder().join(MANIFEST);
    write(&path, manifest.to_bytes()).expect("writing the manifest");
    let Ok(opened) = Packed::open(&path) else {
        return;
    };
    let stored: Vec<Vec<u8>> = (opened.files().iter())
        .map(|file| read(file).expect("a data file"))
        .collect();
    let frames: Vec<_> = (0..opened.chunks())
        .flat_map(|chunk| opened.frames_of(chunk))
        .collect();
    assert_eq!(frames.len(), manifest.frames.len());
    for (row, frame) in manifest.frames.iter_mut().zip(&frames) {
        let file = &stored[frame.file as usize];
        let begin = frame.offset as usize;
        let stored = &file[begin..begin + frame.stored_length as usize];
        let mut weights = vec![0; frame.length as usize];
        assert!(
            checksum(stored) == frame.checksum || frame.decode(stored, &mut weights).is_err(),
            "damage is not seen"
        );
        row.checksum = checksum(stored);
        let mut frame = *frame;
        frame.checksum = row.checksum;
        let _ = frame.decode(stored, &mut weights);
    }
    write(&path, manifest.to_bytes()).expect("writing the manifest");
    check(&Checkpoint::open(&path).expect("only checksums have changed"));
}
