//! Arrays as NumPy stores them: `numpy.lib.format`, versions 1 to 3, in C order.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use weightstream::Dtype;
use weightstream_source::open_regular;

use crate::CliError;

/// An array as its file has it.
pub struct Array {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// NumPy's own limit for a header is 10,000 bytes.
const MAX_HEADER: u64 = 1 << 16;

const DTYPES: [(&str, Dtype); 9] = [
    ("<f8", Dtype::F64),
    ("<f4", Dtype::F32),
    ("<f2", Dtype::F16),
    ("<i8", Dtype::I64),
    ("<i4", Dtype::I32),
    ("<i2", Dtype::I16),
    ("|i1", Dtype::I8),
    ("|u1", Dtype::U8),
    ("|b1", Dtype::BOOL),
];

/// Reads a file that `numpy.save` wrote.
pub fn read(path: &Path) -> Result<Array, CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let (mut file, length) = open_regular(path)?;
    let mut start = Vec::new();
    (&mut file)
        .take(MAX_HEADER)
        .read_to_end(&mut start)
        .map_err(failed)?;
    // Before there is memory for the data: the file must have as many bytes as its header says.
    let header = Header::parse(&start).filter(|header| header.end() == Some(length));
    let Some(Header {
        dtype,
        shape,
        data,
        bytes: size,
    }) = header
    else {
        return Err(CliError::Program(format!(
            "{}: expected a .npy file of numbers in C order, got something else",
            path.display()
        )));
    };
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size)
        .map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    file.seek(SeekFrom::Start(data)).map_err(failed)?;
    file.take(size as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(Array {
        dtype,
        shape,
        bytes,
    })
}

/// What a file says of the numbers behind its header.
struct Header {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Where they begin, from the start of the file.
    data: u64,
    /// Bytes that they take.
    bytes: usize,
}

impl Header {
    /// Where the file ends.
    fn end(&self) -> Option<u64> {
        self.data.checked_add(self.bytes as u64)
    }

    fn parse(start: &[u8]) -> Option<Self> {
        let rest = start.strip_prefix(b"\x93NUMPY")?;
        let (length, rest) = match rest.first()? {
            1 => (
                u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?) as usize,
                rest.get(4..)?,
            ),
            _ => (
                u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize,
                rest.get(6..)?,
            ),
        };
        let header = std::str::from_utf8(rest.get(..length)?).ok()?;
        let after = |key: &str| Some(header.split_once(key)?.1.trim_start_matches([':', ' ']));
        let descr = after("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
        if !after("'fortran_order'")?.starts_with("False") {
            return None;
        }
        let (sizes, _) = after("'shape'")?.strip_prefix('(')?.split_once(')')?;
        let shape = sizes
            .split(',')
            .map(str::trim)
            .filter(|size| !size.is_empty())
            .map(|size| size.parse().ok())
            .collect::<Option<Vec<usize>>>()?;
        let (_, dtype) = DTYPES.iter().find(|(name, _)| *name == descr)?;
        let bytes = shape
            .iter()
            .try_fold(dtype.bits() as usize / 8, |bytes, &size| {
                bytes.checked_mul(size)
            })?;
        Some(Header {
            dtype: *dtype,
            shape,
            data: (start.len() - rest.len() + length) as u64,
            bytes,
        })
    }
}

/// Writes a file that `numpy.load` reads.
pub fn write(path: &Path, array: &Array) -> Result<(), CliError> {
    let Some((descr, _)) = DTYPES.iter().find(|(_, dtype)| *dtype == array.dtype) else {
        return Err(CliError::Program(format!(
            "{}: NumPy has no dtype for {}",
            path.display(),
            array.dtype
        )));
    };
    let sizes: String = array.shape.iter().map(|size| format!("{size},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // The data begins at a multiple of 64 bytes; 10 bytes come before the header.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let save = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&(header.len() as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.write_all(&array.bytes)
    };
    save().map_err(|source| CliError::File {
        path: path.to_owned(),
        action: "write",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        for shape in [vec![], vec![3], vec![2, 3]] {
            let count: usize = shape.iter().product();
            let array = Array {
                dtype: Dtype::I16,
                shape: shape.clone(),
                bytes: (0..count as u8 * 2).collect(),
            };
            write(&path, &array).unwrap();
            let again = read(&path).unwrap();
            assert_eq!((again.dtype, &again.shape), (Dtype::I16, &shape));
            assert_eq!(again.bytes, array.bytes);
        }
        std::fs::write(&path, b"\x93NUMPY\x01\x00\xff\xff{}").unwrap();
        assert!(read(&path).is_err());
    }
}
